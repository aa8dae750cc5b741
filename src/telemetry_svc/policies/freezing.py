"""From a validated file to the frozen `Policy` that the rules are given: the one place where the two shapes meet."""

from collections.abc import Iterator

from msgspec import convert
from msgspec.structs import replace
from pydantic import BaseModel

from telemetry_svc.policies.catalogue import load_catalogue
from telemetry_svc.policies.clauses import ClauseText
from telemetry_svc.policies.document import Document, FaultCode, Sensors
from telemetry_svc.rules.checkups import CheckupsBlock
from telemetry_svc.rules.fault_codes import FaultCodesBlock
from telemetry_svc.rules.hour_meter import HourMeterBlock
from telemetry_svc.rules.inspections import InspectionsBlock
from telemetry_svc.rules.movement import MovementBlock
from telemetry_svc.rules.policy import Clause, Policy
from telemetry_svc.rules.position import GeofenceBlock, SpeedBlock
from telemetry_svc.rules.sensors import SensorBlock, SensorsBlock, bands_of
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
from telemetry_svc.rules.warranty import CoverageBlock, WarrantyBlock
from telemetry_svc.telemetry import EditionId


def freeze(document: Document, digest: str) -> Policy:
    """The edition; `digest` is the sha256 (hex) of the file's bytes."""
    clauses, anomalies = document.clauses, document.anomalies
    return Policy(
        edition=EditionId(document.edition),
        digest=digest,
        title_en=document.title.en,
        title_zh=document.title.zh_cn,
        in_force_from=document.in_force.from_,
        in_force_until=document.in_force.until,
        clauses=tuple(_clauses(document)),
        inspections=convert(_values(clauses.I1, clauses.I2), InspectionsBlock),
        warranty=WarrantyBlock(
            machine=convert(_values(clauses.W1), CoverageBlock),
            structure=convert(_values(clauses.W2), CoverageBlock),
        ),
        checkups=convert(_values(clauses.R4), CheckupsBlock),
        fault_codes=_fault_codes(anomalies.fault_code),
        hour_meter=convert(_values(anomalies.hour_meter), HourMeterBlock),
        silence=convert(_values(anomalies.silence), SilenceBlock),
        speed=convert(_values(anomalies.speed), SpeedBlock),
        geofence=convert(_values(anomalies.geofence), GeofenceBlock),
        movement=convert(_values(anomalies.movement), MovementBlock),
        sensors=_sensors(anomalies.sensors),
        storm=convert(_values(anomalies.storm), StormBlock),
        service_levels=convert(_values(clauses.S1, clauses.S2, clauses.S3, clauses.S4), ServiceLevelBlock),
        compensation=convert(_values(clauses.C1), CompensationBlock),
        entitlements=convert(
            _values(
                *(clauses.W3, clauses.E1, clauses.R2, clauses.R3, clauses.T1),
                *(clauses.V1, clauses.V2, clauses.A1, clauses.V3),
            ),
            EntitlementsBlock,
        ),
        mass_event=convert(_values(anomalies.mass_event), MassEventBlock),
        call_queue=convert(_values(document.call_queue), CallQueueBlock),
        cases=convert(_values(document.cases), CasesBlock),
    )


def _fault_codes(block: FaultCode) -> FaultCodesBlock:
    """With the names that stand in events; they belong to the package, not to the edition."""
    catalogue = load_catalogue()
    frozen = convert(_values(block), FaultCodesBlock)
    spn_names = {one.spn: one.name.en for one in catalogue.spns.values()}
    return replace(frozen, spn_names=spn_names, fmi_names={fmi: text.en for fmi, text in catalogue.fmis.items()})


def _sensors(block: Sensors) -> SensorsBlock:
    sensors = tuple(convert(one.model_dump(), SensorBlock) for one in block.sensors)
    running, stopped = bands_of(sensors, engine_running=True), bands_of(sensors, engine_running=False)
    return SensorsBlock(sensors, running, stopped, block.enabled)


def _values(*blocks: BaseModel) -> dict[str, object]:
    """The values of several clauses that one block of the rules is made of."""
    return {key: value for block in blocks for key, value in block.model_dump().items()}


def _clauses(document: Document) -> Iterator[Clause]:
    for group in (document.clauses, document.anomalies):
        for name in type(group).model_fields:
            text = getattr(group, name)
            if isinstance(text, ClauseText):
                yield Clause(name, text.en, text.zh_cn)
