"""One edition of the service policy as frozen data: what every rule is told, and nothing it could change.

The structs of the rules' own blocks stand with their rules; `policies/` reads and validates the files and builds
this object. `digest` is the sha256 of the file's bytes and goes into every event, so that a decision can be traced
to the very file that took it.
"""

from datetime import date

from msgspec import Struct

from telemetry_svc.rules.checkups import CheckupsBlock
from telemetry_svc.rules.fault_codes import FaultCodesBlock
from telemetry_svc.rules.hour_meter import HourMeterBlock
from telemetry_svc.rules.inspections import InspectionsBlock
from telemetry_svc.rules.movement import MovementBlock
from telemetry_svc.rules.position import GeofenceBlock, SpeedBlock
from telemetry_svc.rules.sensors import SensorsBlock
from telemetry_svc.rules.service_terms import (
    CallQueueBlock,
    CasesBlock,
    CompensationBlock,
    EntitlementsBlock,
    MassEventBlock,
    ServiceLevelBlock,
)
from telemetry_svc.rules.silence import SilenceBlock
from telemetry_svc.rules.storm import StormBlock
from telemetry_svc.rules.warranty import WarrantyBlock
from telemetry_svc.telemetry import EditionId


class Clause(Struct, frozen=True):
    """A row of the policy in one plain sentence of each language; `sentence_zh` is simplified Chinese."""

    clause: str
    sentence_en: str
    sentence_zh: str


class Policy(Struct, frozen=True):
    """One edition. `in_force_until` None = no end; `clauses` in the order of the file."""

    edition: EditionId
    digest: str
    title_en: str
    title_zh: str
    in_force_from: date
    in_force_until: date | None
    clauses: tuple[Clause, ...]
    inspections: InspectionsBlock
    warranty: WarrantyBlock
    checkups: CheckupsBlock
    fault_codes: FaultCodesBlock
    hour_meter: HourMeterBlock
    silence: SilenceBlock
    speed: SpeedBlock
    geofence: GeofenceBlock
    movement: MovementBlock
    sensors: SensorsBlock
    storm: StormBlock
    service_levels: ServiceLevelBlock
    compensation: CompensationBlock
    entitlements: EntitlementsBlock
    mass_event: MassEventBlock
    call_queue: CallQueueBlock
    cases: CasesBlock

    def clause(self, name: str) -> Clause | None:
        """The clause of that name (`W1`, `fault_code` …), or `None`."""
        return next((one for one in self.clauses if one.clause == name), None)
