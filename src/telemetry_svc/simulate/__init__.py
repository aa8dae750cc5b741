"""Seeded fleets with a ground truth, for tests, benchmarks and the demo.

A test that compares what the service raised with what is true needs both: pings that look like a working fleet's
(shifts, lunch, rest days, faults, repeats, late and reversed deliveries), and the facts that follow from them, computed
without the rules. So this package stands apart: it knows the nouns of the house and the policy's text, not its rules.

`spec` says what is asked for, `fleet` draws the machines, `delivery` lets them send, `truth` tells what must come of
it, `journal` writes both down, `demo` is the fleet that the demo shows.
"""
