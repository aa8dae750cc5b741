"""What must have come of a run: the fleet's truth in the order of the broker's log, and what people change of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from telemetry_svc.simulate.delivery import Delivery
from telemetry_svc.simulate.fleet import Fleet, build_fleet
from telemetry_svc.simulate.spec import FleetSpec
from telemetry_svc.simulate.truth import Fact, truth
from tests.chaos.clerk import Clerk, late_ones
from tests.chaos.office import Office
from tests.chaos.plan import Scale
from tests.chaos.records import Hours, Journal, Observed, Order, Sent
from tests.chaos.traffic import digest_of, key_of

FUTURE_AFTER = timedelta(minutes=5)
PINGS_PER_MACHINE_AND_DAY = 45


class Said(NamedTuple):
    """What people did: the experts of the office, and the clerk."""

    office: Office
    clerk: Clerk


def fleet_of(seed: int, scale: Scale, now: datetime) -> Fleet:
    """A fleet that lived in the past, the same at any hour of a day; all that it sends arrives now."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = 2 + scale.pings // (scale.machines * PINGS_PER_MACHINE_AND_DAY) * 2
    return build_fleet(
        FleetSpec(
            seed=seed,
            machines=scale.machines,
            start=midnight - timedelta(days=days + 1),
            hours=days * 24,
            duplicates=0.05,
            late=0.1,
            faults=3.0,
            clock_faults=scale.machines // 10,
            meter_spikes=scale.machines // 10,
            ping_every_s=900,
        )
    )


def journal_of(
    fleet: Fleet,
    deliveries: Sequence[Delivery],
    sent: tuple[Sent, ...],
    seen: Observed,
    said: Said,
    registered_at: datetime,
) -> Journal:
    """What must have come of it, judged by the order that the broker's log has."""
    encode = msgspec.json.Encoder().encode
    by_digest = {digest_of(encode(one.ping)): one for one in deliveries}
    logged = [by_digest[one.digest] for one in seen.log if one.digest in by_digest]
    now = datetime.now(UTC)
    must, may = (
        truth(fleet.machines, logged, registered_at=registered_at, until=until) for until in (registered_at, now)
    )
    must, more = with_inspections(must, said.clerk.orders)
    return Journal(
        sent=sent,
        must=tuple(must),
        may=(*may, *more),
        machines=remembered(logged, registered_at),
        leases=tuple(said.office.leases),
        settlements=tuple(said.office.settlements),
        orders=tuple(said.clerk.orders),
        late=frozenset(plan.machine.machine_id for plan in late_ones(fleet)),
    )


def with_inspections(must: Sequence[Fact], orders: Sequence[Order]) -> tuple[list[Fact], list[Fact]]:
    """(must, may): an inspection reported done is completed, and its other stages may have come before that or not."""
    done = {
        (one.machine_id, str(one.milestone_h)): Fact(
            one.machine_id, "inspection", str(one.milestone_h), "completed", one.performed_at
        )
        for one in orders
    }
    acknowledged = {(one.machine_id, str(one.milestone_h)) for one in orders if one.command_id is not None}
    may = [fact for fact in must if fact.rule == "inspection" and (fact.machine_id, fact.subject) in done]
    sure = [completed for where, completed in done.items() if where in acknowledged]
    unsure = [completed for where, completed in done.items() if where not in acknowledged]
    return sorted({*must} - {*may}) + sure, may + unsure


def remembered(logged: Sequence[Delivery], received_at: datetime) -> dict[str, Hours]:
    """What each machine's readings leave behind: the newest instant, and the highest true hours not dated ahead."""
    found: dict[str, Hours] = {}
    for one in logged:
        _, recorded_at, meter_ch, _, _ = key_of(one)
        before = found.get(one.machine_id, Hours(recorded_at, None))
        counts = meter_ch is not None and one.meter_true and recorded_at <= received_at + FUTURE_AFTER
        true_ch = max(meter_ch or 0, before.true_ch or 0) if counts else before.true_ch
        found[one.machine_id] = Hours(max(before.newest, recorded_at), true_ch)
    return found
