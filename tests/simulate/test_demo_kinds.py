"""Each kind of event is raised by the first pings of the demo at any hour, and by the machine that was cast for it."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from telemetry_svc.app import Wiring
from telemetry_svc.cli.demo_edition import in_seconds
from telemetry_svc.codec.ping import decode
from telemetry_svc.events import Event
from telemetry_svc.policies import diff, load_file, load_policies
from telemetry_svc.privacy import Keyring, new_keyring_text
from telemetry_svc.rules import MachineState, Policy, step
from telemetry_svc.simulate.delivery import iter_deliveries
from telemetry_svc.simulate.demo import SCRIPTS, SECONDS_EDITION, demo_fleet, demo_works
from telemetry_svc.simulate.fleet import Fleet
from telemetry_svc.stream.kafka import KafkaSettings
from telemetry_svc.telemetry import EditionId, Input, InspectionDone, MachineId, Ping, Reading, Registration, Tick

EARLY_PINGS = 800
SOON = timedelta(seconds=15)
EPISODES = ("hour_meter", "speed", "geofence", "engine_off_movement", "outside_hours", "storm")
SENSORS = ("coolant_temperature_c", "oil_pressure_kpa", "battery_v", "fuel_level_pct")
KINDS = {
    *(f"inspection {stage}" for stage in ("upcoming", "due", "overdue", "completed", "superseded")),
    *(f"warranty {stage}" for stage in ("expiring", "expired")),
    *(f"checkup {stage}" for stage in ("due", "completed")),
    *(f"fault {stage}" for stage in ("opened", "worsened-major", "cleared")),
    *(f"{rule} {phase}" for rule in EPISODES + SENSORS for phase in ("opened", "cleared")),
    "silence opened",
}
CAST = {
    21: {"fault opened", "fault worsened-major", "fault cleared"},
    22: {"fault opened", "storm opened", "storm cleared", "fault cleared"},
    23: {f"{field} {phase}" for field in SENSORS[:2] for phase in ("opened", "cleared")},
    24: {f"{field} {phase}" for field in SENSORS[2:] for phase in ("opened", "cleared")},
    25: {"hour_meter opened", "hour_meter cleared"},
    26: {"speed opened", "speed cleared"},
    27: {"engine_off_movement opened", "engine_off_movement cleared"},
    28: {"geofence opened", "geofence cleared"},
    29: {"outside_hours opened", "outside_hours cleared"},
    20: {"silence opened"},
}


def kind_of(event: Event) -> str:
    return f"{getattr(event.data, 'rule', event.rule)} {event.stage}"


class Service:
    """The rules over a whole fleet, as ingest gives it to them."""

    def __init__(self, policies: dict[EditionId, Policy]) -> None:
        self.policies = policies
        self.states: dict[MachineId, MachineState] = {}
        self.events: list[Event] = []

    def give(self, machine_id: MachineId, edition: EditionId, given: Input) -> None:
        done = step(self.policies[edition], self.states.get(machine_id), given)
        assert done.rejected is None
        self.states[machine_id] = done.state
        self.events.extend(done.events)


def lived(now: datetime, seed: int, policies: dict[EditionId, Policy]) -> tuple[Fleet, list[Event]]:
    """Registered at `now`, its past sent within a second, two visits reported, and then some seconds of waiting."""
    fleet, service = demo_fleet(seed, now), Service(policies)
    edition = {machine.machine_id: machine.policy_edition for machine in fleet.machines}
    for machine in fleet.machines:
        service.give(machine.machine_id, machine.policy_edition, Registration(UUID(int=1), machine, now, now))
    for delivery in islice(iter_deliveries(fleet), EARLY_PINGS):
        ping = decode(msgspec.json.encode(delivery.ping))
        assert isinstance(ping, Ping)
        service.give(ping.machine_id, edition[ping.machine_id], Reading(ping, now))
    for work in demo_works(fleet):
        assert work.after in {
            (event.rule, event.subject, event.stage) for event in service.events if event.machine_id == work.machine_id
        }
        done = InspectionDone(UUID(int=2), work.machine_id, work.performed_at, now, work.milestone_h, work.checkup_no)
        service.give(work.machine_id, edition[work.machine_id], done)
    for machine_id, state in list(service.states.items()):
        if state.next_check_at is not None and state.next_check_at <= now + SOON:
            service.give(machine_id, edition[machine_id], Tick(now + SOON))
    return fleet, service.events


@cache
def early(hour: int) -> tuple[Fleet, list[Event]]:
    revised = load_policies()[EditionId("zoomlion-2011-rev1")]
    hasty = msgspec.structs.replace(
        revised,
        silence=msgspec.structs.replace(revised.silence, after=timedelta(seconds=5), min_span=timedelta(0)),
    )
    now = datetime(2026, 6, 3, hour, 17, tzinfo=UTC) + timedelta(days=hour)
    return lived(now, hour, {**load_policies(), SECONDS_EDITION: hasty})


@pytest.mark.parametrize("hour", range(24))
def test_each_kind_comes_up_and_no_other(hour: int) -> None:
    _, events = early(hour)
    assert {kind_of(event) for event in events} == KINDS


@pytest.mark.parametrize("hour", range(0, 24, 5))
def test_each_mishap_raises_what_it_was_written_for_and_nothing_else(hour: int) -> None:
    fleet, events = early(hour)
    assert CAST.keys() == SCRIPTS.keys()
    for index, kinds in CAST.items():
        machine_id = fleet.machines[index].machine_id
        assert {kind_of(event) for event in events if event.machine_id == machine_id} == kinds, index


def test_a_silent_machine_is_never_heard_again_and_the_others_go_on() -> None:
    now = datetime(2026, 6, 3, 9, tzinfo=UTC)
    fleet = demo_fleet(1, now)
    heard = [one.machine_id for one in islice(iter_deliveries(fleet), 5_000)]
    silent = fleet.machines[20].machine_id
    assert heard.count(silent) in (3, 4), "three readings, one perhaps repeated"
    assert all(heard.count(fleet.machines[index].machine_id) > 50 for index in SCRIPTS if index != 20)


def test_the_edition_in_seconds_is_the_revised_one_with_another_silence(tmp_path: Path) -> None:
    revised = load_policies()[EditionId("zoomlion-2011-rev1")]
    in_seconds_of(tmp_path)
    own = load_file(tmp_path / "policies" / "demo-in-seconds.yaml")
    assert own.edition == SECONDS_EDITION
    assert [str(one) for one in diff(revised, own) if not one.where.startswith("clauses")] == [
        "silence.after: 72 h -> 5 s",
        "silence.min_span: 72 h -> 0 s",
    ]
    assert {one.where.split(".")[1] for one in diff(revised, own) if one.where.startswith("clauses")} == {"silence"}


def in_seconds_of(home: Path) -> None:
    keyring = Keyring.parse(new_keyring_text())
    wiring = Wiring(frozenset(), "postgresql://nowhere/none", KafkaSettings("nowhere:1"), load_policies(), keyring)
    assert in_seconds(wiring, home).policies.keys() == {*load_policies(), SECONDS_EDITION}
