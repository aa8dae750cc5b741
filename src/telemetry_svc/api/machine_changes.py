"""What the fields of a registration do to a machine: absent keeps, null clears or brings the default back. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from telemetry_svc.api.machine_fields import MachineFields, centihours_of
from telemetry_svc.store.contacts import CUSTOMER, Contact, Contacts
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.telemetry import EditionId, Geofence, Machine, MachineId, MachineStatus, PermittedHours

DEFAULT_TIME_ZONE = "Asia/Shanghai"
CONTACT_FIELDS = frozenset({"customer_name", "customer_phone", "contacts"})


def new_row(given: MachineFields, tonnage_t: float, edition: EditionId, now: datetime) -> MachineRow:
    """The registration of a machine that is not known yet."""
    blank = Machine(MachineId(given.machine_id), tonnage_t, edition, time_zone=DEFAULT_TIME_ZONE)
    return replace(changed_row(MachineRow(blank, now, now), given, now), changed_at=now)


def changed_row(row: MachineRow, given: MachineFields, now: datetime) -> MachineRow:
    """The registration with the given fields laid over it; equal to `row` where they change nothing."""
    machine = replace(row.machine, **_given(given, _rules_fields(given)))
    changed = replace(row, machine=machine, **_given(given, _people_fields(given)))
    return row if changed == row else replace(changed, changed_at=now)


def changed_contacts(stored: Contacts, given: MachineFields) -> dict[int, Contact]:
    """The contacts with the given fields laid over them. The customer and the others are kept apart."""
    contacts = dict(stored)
    customer = replace(contacts.get(CUSTOMER, Contact()), **_given(given, _customer_fields(given)))
    contacts[CUSTOMER] = customer
    if customer == Contact():
        del contacts[CUSTOMER]
    if "contacts" in given.model_fields_set:
        contacts = {ordinal: person for ordinal, person in contacts.items() if ordinal == CUSTOMER}
        contacts |= {
            CUSTOMER + 1 + place: Contact(**one.model_dump()) for place, one in enumerate(given.contacts or ())
        }
    return contacts


Laid = tuple[str, str, Any]
"""A field as it came, the attribute it becomes, and its value there."""


def _given(given: MachineFields, laid: Iterator[Laid]) -> dict[str, Any]:
    return {attribute: value for field, attribute, value in laid if field in given.model_fields_set}


def _rules_fields(given: MachineFields) -> Iterator[Laid]:
    windows = [window.model_dump() for window in given.permitted_hours or ()]
    geofence = None if given.geofence is None else msgspec.convert(given.geofence.model_dump(), Geofence)
    yield "tonnage_t", "tonnage_t", given.tonnage_t
    yield "time_zone", "time_zone", given.time_zone or DEFAULT_TIME_ZONE
    yield "delivered_on", "delivered_on", given.delivered_on
    yield "initial_hours_h", "initial_ch", centihours_of(given.initial_hours_h or 0)
    yield "status", "status", MachineStatus(given.status or MachineStatus.ACTIVE)
    yield "customer_id", "customer_id", given.customer_id
    yield "geofence", "geofence", geofence
    yield "permitted_hours", "permitted_hours", msgspec.convert(windows, tuple[PermittedHours, ...])


def _people_fields(given: MachineFields) -> Iterator[Laid]:
    yield "model", "model", given.model
    yield "device_ids", "device_ids", tuple(given.device_ids or ())
    yield "expert_id", "expert_id", given.expert_id
    yield "team_id", "team_id", given.team_id


def _customer_fields(given: MachineFields) -> Iterator[Laid]:
    yield "customer_name", "name", given.customer_name
    yield "customer_phone", "phone", given.customer_phone
