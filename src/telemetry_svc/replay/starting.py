"""Where a machine's replay begins: at its registration or at a snapshot of its state, never at an empty state.

A registration counts only if it is the machine's first one and history still holds what came after it: a replay over a
part of the pings would raise what never was.
"""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.replay.inputs import BadCommand, command_of
from telemetry_svc.rules import MachineState, decode_state
from telemetry_svc.store.history import history_begins_at
from telemetry_svc.store.replay_rows import applied_commands
from telemetry_svc.store.snapshots import last_snapshot
from telemetry_svc.telemetry import MachineId, Registration


class Start(Struct, frozen=True):
    """`state` before the first input, which is decided after `after_seq`; facts up to `event_n` were decided before.

    `at`: when the registration was received, the snapshot taken. `state` None: the first input is the registration.
    """

    kind: Literal["registration", "snapshot"]
    at: datetime
    after_seq: int = 0
    event_n: int = 0
    state: MachineState | None = None


async def find_start(
    connection: AsyncConnection,
    machine_id: MachineId,
    before: datetime,
    *,
    registered_at: datetime,
    registration_first: bool,
) -> Start | str:
    """The snapshot last taken by `before`, else the registration (or the other way round); or why there is neither.

    `registered_at`: when the rules say that the machine was first registered.
    """
    begins_at = await history_begins_at(connection)
    snapshot = await _snapshot(connection, machine_id, before)
    registration = await _registration(connection, machine_id, registered_at)
    wanted = [registration, snapshot] if registration_first else [snapshot, registration]
    whole = [one for one in wanted if isinstance(one, Start) and (begins_at is None or one.at >= begins_at)]
    if whole:
        return whole[0]
    reasons = [one for one in wanted if isinstance(one, str)]
    if len(reasons) < len(wanted):
        reasons.append(f"history begins at {begins_at:%F}, after it was registered")
    return "; ".join(reasons)


async def _snapshot(connection: AsyncConnection, machine_id: MachineId, before: datetime) -> Start | str:
    found = await last_snapshot(connection, machine_id, before)
    if found is None:
        return f"no snapshot by {before:%FT%TZ}"
    try:
        state = decode_state(found.state)
    except msgspec.DecodeError as error:
        return f"the snapshot of {found.taken_at:%FT%TZ} cannot be read: {error}"
    return Start("snapshot", found.taken_at, found.apply_seq, found.event_n, state)


async def _registration(connection: AsyncConnection, machine_id: MachineId, registered_at: datetime) -> Start | str:
    commands = await applied_commands(connection, machine_id, 0)
    try:
        first = command_of(commands[0]) if commands else None
    except BadCommand as error:
        return str(error)
    if not isinstance(first, Registration) or first.effective_at != registered_at:
        return "its registration is not stored"
    return Start("registration", first.received_at, commands[0].apply_seq - 1)
