"""Deliberately broken builds: each module's `apply` takes one promise away, in a process that is about to be a role.

They exist to show that the checker fails where it must (`make chaos-broken`), and are laid on nowhere else.
"""
