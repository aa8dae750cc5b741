"""What experts reported of their calls. Free text may hold a name or a number, so it is sealed like the contacts."""

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.calls import AlertId, CallTask, Change
from telemetry_svc.privacy import Keyring
from telemetry_svc.store.schema.calls import call_outcome


class Appointment(Struct, frozen=True):
    """What was agreed: RFC 3339 time, place, and whom to meet (personal data)."""

    at: str
    place: str | None = None
    contact: str | None = None


class Words(Struct, frozen=True, omit_defaults=True):
    """The free text of a report; all of it may be personal, so its repr shows nothing."""

    note: str | None = None
    appointment: Appointment | None = None
    usage: str | None = None
    feedback: str | None = None
    complaint: str | None = None

    def __repr__(self) -> str:
        return "Words(…)"


class Told(Struct, frozen=True):
    """A report's plain facts and its words."""

    outcome: str
    words: Words
    reasons_done: frozenset[AlertId] | None = None
    solved_by_phone: bool | None = None
    satisfaction: int | None = None


async def keep(connection: AsyncConnection, keyring: Keyring, before: CallTask, change: Change, told: Told) -> None:
    """Writes one report of the call that `before` was leased for; `change` is what became of the task."""
    row: dict[str, Any] = {
        "machine_id": before.machine_id,
        "task_id": before.task_id,
        "at": change.at,
        "outcome": told.outcome,
        "expert_id": before.leased_to,
        "reasons_done": None if told.reasons_done is None else sorted(told.reasons_done),
        "callback_at": change.task.callback_at,
        "solved_by_phone": told.solved_by_phone,
        "satisfaction": told.satisfaction,
    }
    if told.words != Words():
        sealed = keyring.seal(msgspec.json.encode(told.words), bound_to(before))
        row |= {"key_id": sealed.key_id, "sealed": sealed.box}
    await connection.execute(call_outcome.insert().values(row))


def bound_to(task: CallTask) -> bytes:
    """What a sealed report is tied to: it opens for no other task."""
    return f"call_outcome|{task.machine_id}|{task.task_id}".encode()
