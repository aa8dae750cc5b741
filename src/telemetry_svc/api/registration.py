"""Registering machines: the one way in, for HTTP and for `machines import`.

A batch is a handful of set-based statements. A machine that is named twice in a batch is changed twice, in order: its
second mention goes into a second round. Whatever the rules may know of is told to them by a command, in the same
transaction, and only when it changed.
"""

import zoneinfo
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from datetime import datetime
from uuid import uuid4

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.api import command_outbox
from telemetry_svc.api.machine_changes import CONTACT_FIELDS, changed_contacts, changed_row, new_row
from telemetry_svc.api.machine_fields import MachineFields
from telemetry_svc.clock import Clock
from telemetry_svc.privacy import Keyring
from telemetry_svc.store import contacts, machines
from telemetry_svc.store.contacts import Contacts
from telemetry_svc.store.machines import MachineRow
from telemetry_svc.telemetry import EditionId, MachineId, Registration

ContactsChanged = Callable[[AsyncConnection, Sequence[MachineId]], Awaitable[None]]
"""Told, in the transaction, which machines have other contacts or another registration now: waiting calls may go on."""


class Desk(Struct, frozen=True):
    """What registering needs: `editions` that are loaded, `zones` that exist here, and whom to tell."""

    keyring: Keyring
    clock: Clock
    editions: Set[EditionId]
    default_edition: EditionId
    zones: Set[str]
    contacts_changed: ContactsChanged


def time_zones() -> frozenset[str]:
    """The IANA zones that this installation knows."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "posixrules", "Factory"})


class Registered(Struct, frozen=True):
    """The machine as it is registered now; `new`: it was not known before."""

    row: MachineRow
    new: bool


class Refused(Struct, frozen=True):
    """The machine was left as it was; `field` does not fit because of what is known."""

    field: str
    message: str


Outcome = Registered | Refused


class _Change(Struct, frozen=True):
    given: MachineFields
    before: MachineRow | None
    after: MachineRow


async def register(
    connection: AsyncConnection, desk: Desk, given: Sequence[MachineFields], *, quiet: bool = False
) -> list[Outcome]:
    """Registers or changes each machine, in order; one outcome each. `quiet` settles what the first reading shows."""
    outcomes: dict[int, Outcome] = {}
    for round_ in _rounds(given):
        batch = {MachineId(given[index].machine_id): given[index] for index in round_}
        settled = await _register_batch(connection, desk, batch, quiet=quiet)
        outcomes |= {index: settled[MachineId(given[index].machine_id)] for index in round_}
    return [outcomes[index] for index in range(len(given))]


def _rounds(given: Sequence[MachineFields]) -> list[list[int]]:
    """The indexes of first mentions, then of second ones, and so on."""
    rounds: list[list[int]] = []
    mentions: Counter[str] = Counter()
    for index, one in enumerate(given):
        if mentions[one.machine_id] == len(rounds):
            rounds.append([])
        rounds[mentions[one.machine_id]].append(index)
        mentions[one.machine_id] += 1
    return rounds


async def _register_batch(
    connection: AsyncConnection, desk: Desk, batch: Mapping[MachineId, MachineFields], *, quiet: bool
) -> dict[MachineId, Outcome]:
    now = desk.clock.now()
    editions = {machine_id: _edition(desk, given) for machine_id, given in batch.items()}
    refused = {machine_id: no for machine_id, given in batch.items() if (no := _unknown_name(desk, given))}
    taken = {machine_id: given for machine_id, given in batch.items() if machine_id not in refused}
    fresh = {
        machine_id: new_row(given, given.tonnage_t, editions[machine_id], now)
        for machine_id, given in taken.items()
        if given.tonnage_t is not None
    }
    added = await machines.insert_new(connection, list(fresh.values()))
    known = await machines.lock(connection, taken.keys() - added)
    stored = await contacts.load_for_change(
        connection, desk.keyring, [one for one in taken if _tells_contacts(taken[one])]
    )
    steps = {
        machine_id: _cannot_lay_over(stored.closed, given)
        or _step(given, known.get(machine_id), fresh.get(machine_id), editions[machine_id], now)
        for machine_id, given in taken.items()
    }
    changes = [step for step in steps.values() if isinstance(step, _Change)]
    await _write(connection, desk, changes, stored.opened, now, quiet=quiet)
    return {**refused, **{machine_id: _outcome(step) for machine_id, step in steps.items()}}


def _unknown_name(desk: Desk, given: MachineFields) -> Refused | None:
    if given.time_zone is not None and given.time_zone not in desk.zones:
        return Refused("time_zone", "no IANA time zone that is known here")
    if _edition(desk, given) not in desk.editions:
        return Refused("policy_edition", "no edition that is loaded here")
    return None


def _tells_contacts(given: MachineFields) -> bool:
    return not CONTACT_FIELDS.isdisjoint(given.model_fields_set)


def _cannot_lay_over(closed: Set[MachineId], given: MachineFields) -> Refused | None:
    """Contacts that do not open with this keyring can only be replaced as a whole: half of them would be lost."""
    if MachineId(given.machine_id) not in closed or given.model_fields_set >= CONTACT_FIELDS:
        return None
    [field, *_] = sorted(CONTACT_FIELDS & given.model_fields_set)
    needed = ", ".join(sorted(CONTACT_FIELDS))
    return Refused(field, f"the stored contacts do not open with this keyring; only all of {needed} take their place")


def _edition(desk: Desk, given: MachineFields) -> EditionId:
    return desk.default_edition if given.policy_edition is None else EditionId(given.policy_edition)


def _step(
    given: MachineFields, known: MachineRow | None, fresh: MachineRow | None, edition: EditionId, now: datetime
) -> _Change | Refused:
    if known is not None:
        if "policy_edition" in given.model_fields_set and edition != known.machine.policy_edition:
            return Refused("policy_edition", "a machine is bound to its edition for good")
        return _Change(given, known, changed_row(known, given, now))
    if fresh is None:
        return Refused("tonnage_t", "required for a new machine")
    return _Change(given, None, fresh)


def _outcome(step: _Change | Refused) -> Outcome:
    return step if isinstance(step, Refused) else Registered(step.after, new=step.before is None)


async def _write(
    connection: AsyncConnection,
    desk: Desk,
    changes: Sequence[_Change],
    stored: Mapping[MachineId, Contacts],
    now: datetime,
    *,
    quiet: bool,
) -> None:
    changed = [change for change in changes if change.after is not change.before]
    await machines.change(connection, [change.after for change in changed if change.before is not None])
    called_elsewhere = await _write_contacts(connection, desk, changes, stored)
    news = [_registration(change.after, now, quiet=quiet) for change in changed if _news_to_rules(change)]
    await command_outbox.submit(connection, news)
    concerned = called_elsewhere | {change.after.machine.machine_id for change in changed}
    if concerned:
        await desk.contacts_changed(connection, sorted(concerned))


async def _write_contacts(
    connection: AsyncConnection, desk: Desk, changes: Sequence[_Change], stored: Mapping[MachineId, Contacts]
) -> frozenset[MachineId]:
    """Writes the contacts that were given; returns whose are different now."""
    given = {change.after.machine.machine_id: change.given for change in changes if _tells_contacts(change.given)}
    wanted = {machine_id: changed_contacts(stored.get(machine_id, {}), fields) for machine_id, fields in given.items()}
    different = {machine_id: people for machine_id, people in wanted.items() if people != stored.get(machine_id, {})}
    await contacts.replace(connection, desk.keyring, different)
    return frozenset(different)


def _news_to_rules(change: _Change) -> bool:
    return change.before is None or change.before.machine != change.after.machine


def _registration(row: MachineRow, now: datetime, *, quiet: bool) -> Registration:
    return Registration(uuid4(), row.machine, effective_at=now, received_at=now, quiet=quiet)
