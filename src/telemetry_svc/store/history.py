"""Every ping once, by machine and time: partitions of a week, and one table for clocks gone astray (decision 8).

Pings that are known to be new come in by COPY; the consumer looks only the others up (`known_pings`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.schema.telemetry import ping as ping_table
from telemetry_svc.telemetry import Ping, Sensors

KEPT = timedelta(days=400)
AHEAD = timedelta(days=2)
WEEK = timedelta(days=7)
_MONDAY = datetime(2000, 1, 3, tzinfo=UTC)

_COLUMNS = [column.name for column in ping_table.columns]
_FAULTS = msgspec.json.Encoder()
_NO_SENSORS = Sensors()


class StoredPing(Struct, frozen=True, gc=False):
    """A ping on its way into history. `apply_seq` is its place among all inputs of its partition."""

    ping: Ping
    dedupe: int
    received_at: datetime
    future: bool
    partition: int
    topic_offset: int
    apply_seq: int


PingKey = tuple[str, datetime, int]
"""machine id, recorded_at, dedupe number."""


class Weeks(Struct, frozen=True):
    """The half-open range of `recorded_at` that has partitions; everything outside is an outlier."""

    first: datetime
    end: datetime

    def hold(self, recorded_at: datetime) -> bool:
        return self.first <= recorded_at < self.end


def weeks_around(now: datetime) -> Weeks:
    """Whole weeks (from Monday 00:00 UTC) that cover 400 days back to 2 days ahead."""
    return Weeks(_week_start(now - KEPT), _week_start(now + AHEAD) + WEEK)


def _week_start(moment: datetime) -> datetime:
    return _MONDAY + (moment - _MONDAY) // WEEK * WEEK


async def make_weeks(connection: AsyncConnection, wanted: Weeks) -> list[str]:
    """Makes the missing partitions of `ping`, by ATTACH so that nobody waits for open writers. Returns their names."""
    if not await _missing(connection, wanted):
        return []
    await connection.execute(_ONE_AT_A_TIME)
    missing = await _missing(connection, wanted)
    for name, start in missing.items():
        await connection.execute(text(f"CREATE TABLE {name} (LIKE ping INCLUDING ALL)"))
        await connection.execute(
            text(f"ALTER TABLE ping ATTACH PARTITION {name} FOR VALUES FROM ('{start:%F}') TO ('{start + WEEK:%F}')")
        )
    return list(missing)


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('ping partitions'))")
_PARTITIONS = text(
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'ping'::regclass"
)


async def _missing(connection: AsyncConnection, wanted: Weeks) -> dict[str, datetime]:
    """Name and beginning of each week without a partition. A scan, not `to_regclass`: that may answer from a cache."""
    there = {row[0] for row in await connection.execute(_PARTITIONS)}
    starts = (wanted.first + place * WEEK for place in range((wanted.end - wanted.first) // WEEK))
    weeks = {f"ping_{start:%Y%m%d}": start for start in starts}
    return {name: start for name, start in weeks.items() if name not in there}


async def history_begins_at(connection: AsyncConnection) -> datetime | None:
    """The first instant that has a partition: pings recorded before it may be gone. None: there is no history yet."""
    names = [row[0] for row in await connection.execute(_PARTITIONS)]
    return min((datetime.strptime(name, "ping_%Y%m%d").replace(tzinfo=UTC) for name in names), default=None)


async def add_pings(connection: AsyncConnection, table: str, pings: Sequence[StoredPing]) -> None:
    """COPY into `ping` or `ping_outlier` inside an open transaction (decision 11: never its first statement).

    Raises the driver's errors bare; 23505 where one of them was stored before.
    """
    if not pings:
        return
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None  # noqa: S101 - a checked-out connection has a driver
    await raw.copy_records_to_table(table, records=map(_row, pings), columns=_COLUMNS)


def _row(stored: StoredPing) -> tuple[object, ...]:
    ping = stored.ping
    sensors = ping.sensors or _NO_SENSORS
    position = ping.position
    fix = (
        (None, None, None, None, None)
        if position is None
        else (
            position.latitude_deg,
            position.longitude_deg,
            position.altitude_m,
            position.speed_kmh,
            position.heading_deg,
        )
    )
    return (
        ping.machine_id,
        ping.recorded_at,
        stored.dedupe,
        stored.received_at,
        stored.future,
        ping.hour_meter_ch,
        *fix,
        sensors.coolant_temperature_c,
        sensors.oil_pressure_kpa,
        sensors.fuel_level_pct,
        sensors.battery_v,
        None if ping.faults is None else _FAULTS.encode(ping.faults).decode(),
        ping.engine_running,
        ping.device_id,
        ping.sequence,
        stored.partition,
        stored.topic_offset,
        stored.apply_seq,
    )


_KNOWN = text(
    """
    SELECT w.place
    FROM unnest(CAST(:machine_ids AS text[]), CAST(:recorded_ats AS timestamptz[]), CAST(:dedupes AS bigint[]))
         WITH ORDINALITY AS w (machine_id, recorded_at, dedupe, place)
    WHERE EXISTS (SELECT FROM ping p WHERE p.machine_id = w.machine_id AND p.recorded_at = w.recorded_at
                  AND p.dedupe = w.dedupe OFFSET 0)
       OR EXISTS (SELECT FROM ping_outlier p WHERE p.machine_id = w.machine_id AND p.recorded_at = w.recorded_at
                  AND p.dedupe = w.dedupe OFFSET 0)
    """
)


async def known_pings(connection: AsyncConnection, keys: Sequence[PingKey]) -> set[PingKey]:
    """Those of `keys` that are in history already, in either table."""
    if not keys:
        return set()
    rows = await connection.execute(
        _KNOWN,
        {
            "machine_ids": [key[0] for key in keys],
            "recorded_ats": [key[1] for key in keys],
            "dedupes": [key[2] for key in keys],
        },
    )
    return {keys[row[0] - 1] for row in rows}
