"""The rules: what one input and what is remembered of a machine decide, as pure functions over frozen policy data.

Imports the nouns, msgspec and the standard library, nothing else: no clock, no IO, no framework (design.md, Rooms). One
rule is one file with its policy block, its state and its step; `engine` calls them in one visible order.
"""

from telemetry_svc.rules.engine import step
from telemetry_svc.rules.policy import Clause, Policy
from telemetry_svc.rules.state import MachineState, Step, decode_state, encode_state

__all__ = ["Clause", "MachineState", "Policy", "Step", "decode_state", "encode_state", "step"]
