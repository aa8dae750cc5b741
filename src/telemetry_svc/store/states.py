"""What is remembered of each machine, as the bytes the rules gave: loaded and saved for a whole batch at once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.telemetry import MachineId


class StateRow(Struct, frozen=True, gc=False):
    """One machine's state to be saved. `next_check_at`: when time alone may decide something."""

    machine_id: MachineId
    partition: int
    next_check_at: datetime | None
    state: bytes


_LOAD = text("SELECT machine_id, state FROM machine_state WHERE machine_id = ANY(CAST(:machine_ids AS text[]))")

_DUE = text(
    """
    SELECT machine_id FROM machine_state s
    WHERE partition = :partition AND next_check_at <= :at
      AND NOT EXISTS (SELECT FROM parked_machine p WHERE p.machine_id = s.machine_id OFFSET 0)
    ORDER BY next_check_at LIMIT :at_most
    """
)

_ROWS = """unnest(CAST(:machine_ids AS text[]), CAST(:partitions AS smallint[]), CAST(:checks AS timestamptz[]),
                  CAST(:states AS bytea[])) AS s (machine_id, partition, next_check_at, state)"""

_UPDATE = text(
    f"""
    UPDATE machine_state m SET next_check_at = s.next_check_at, state = s.state
    FROM {_ROWS} WHERE m.machine_id = s.machine_id
    """
)

_INSERT = text(
    f"""
    INSERT INTO machine_state (machine_id, partition, next_check_at, state)
    SELECT * FROM {_ROWS}
    ON CONFLICT (machine_id) DO UPDATE SET next_check_at = excluded.next_check_at, state = excluded.state
    """
)


async def load_states(connection: AsyncConnection, machine_ids: Iterable[MachineId]) -> Mapping[MachineId, bytes]:
    """The states of those machines that are registered."""
    wanted = list(machine_ids)
    if not wanted:
        return {}
    rows = await connection.execute(_LOAD, {"machine_ids": wanted})
    return {MachineId(row[0]): row[1] for row in rows}


async def due_machines(
    connection: AsyncConnection, partition: int, at: datetime, *, at_most: int
) -> Sequence[MachineId]:
    """Machines of a partition for which time alone may have decided something by `at`, the longest waiting first.

    Not those parked: what is held of them comes before.
    """
    rows = await connection.execute(_DUE, {"partition": partition, "at": at, "at_most": at_most})
    return [MachineId(row[0]) for row in rows]


async def save_states(connection: AsyncConnection, rows: Sequence[StateRow], *, new: bool) -> None:
    """Writes the states; `new`: some of the machines have no row yet."""
    if rows:
        await connection.execute(
            _INSERT if new else _UPDATE,
            {
                "machine_ids": [row.machine_id for row in rows],
                "partitions": [row.partition for row in rows],
                "checks": [row.next_check_at for row in rows],
                "states": [row.state for row in rows],
            },
        )
