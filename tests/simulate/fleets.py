"""Small fleets and hand-made deliveries that the tests of the simulator share."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from hypothesis import strategies as st

from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.truth import Fact, truth
from telemetry_svc.telemetry import EditionId, Machine, MachineId
from telemetry_svc.units import Centihours

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
ME = "ZE215-000017"

specs = st.builds(
    FleetSpec,
    seed=st.integers(0, 2**32),
    machines=st.integers(1, 6),
    start=st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),  # noqa: DTZ001
    hours=st.integers(1, 72),
    duplicates=st.sampled_from((0.0, 0.3)),
    late=st.sampled_from((0.0, 0.5)),
    faults=st.sampled_from((0.0, 4.0)),
    ping_every_s=st.sampled_from((120, 900)),
)


def excavator(
    *,
    tonnage_t: float = 21.5,
    edition: str = "zoomlion-2011-rev1",
    initial_h: float = 0.0,
    delivered_on: date | None = None,
    time_zone: str = "Asia/Shanghai",
) -> Machine:
    """The machine of the contract's test vectors."""
    return Machine(
        machine_id=MachineId(ME),
        tonnage_t=tonnage_t,
        policy_edition=EditionId(edition),
        time_zone=time_zone,
        delivered_on=delivered_on,
        initial_ch=Centihours(round(initial_h * 100)),
    )


def reading(hour_meter_h: float, at: datetime, received_at: datetime | None = None) -> Delivery:
    return Delivery(
        received_at or at,
        ME,
        {"machine_id": ME, "recorded_at": at.isoformat(), "hour_meter_h": hour_meter_h, "engine_running": True},
    )


def readings(*hours_h: float) -> list[Delivery]:
    """One reading a day, from Monday noon UTC on."""
    return [reading(hours, MONDAY + timedelta(hours=12, days=day)) for day, hours in enumerate(hours_h)]


def keys(facts: Iterable[Fact]) -> list[str]:
    return [f"{fact.rule} {fact.subject} {fact.stage}" for fact in facts]


def raised(
    machine: Machine,
    deliveries: Iterable[Delivery],
    *,
    registered_at: datetime = MONDAY,
    until: datetime = MONDAY + timedelta(days=30),
) -> list[str]:
    return keys(truth([machine], deliveries, registered_at=registered_at, until=until))
