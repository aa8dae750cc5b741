"""`GET /v1/alerts/{alert_id}/why`: one decision told to a person, as fields and as a story (issue: why).

Nothing is judged again: what is told stands in the event, in the readings kept beside it and in the edition that
decided it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Header, Query, Response
from msgspec.structs import replace
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.api import why_texts
from telemetry_svc.api.languages import chosen
from telemetry_svc.codec import cloudevent
from telemetry_svc.codec.rejected import Rejected
from telemetry_svc.events import Anomaly, Event, Evidence
from telemetry_svc.policies import Language, load_catalogue, why
from telemetry_svc.policies.catalogue import Text
from telemetry_svc.rules import Policy, decode_state
from telemetry_svc.rules.warranty import CoverageState
from telemetry_svc.store import machines
from telemetry_svc.store.decisions import Decision, decision
from telemetry_svc.telemetry import EditionId
from telemetry_svc.web import problem_responses
from telemetry_svc.web.problems import not_found

Policies = Mapping[EditionId, Policy]


class ReadingView(BaseModel):
    """A reading that decided. `values`: what of it counted, units in the names."""

    recorded_at: datetime = Field(examples=["2026-11-22T04:20:31Z"])
    values: dict[str, float | int | str | None] = Field(examples=[{"hour_meter_h": 250.3, "true_hours_h": 250.3}])


class ClauseView(BaseModel):
    """A clause of the policy, or the block that says what "abnormal" means, in one plain sentence."""

    clause: str = Field(examples=["I1"])
    sentence: str = Field(examples=["Twelve inspections by hours remind the customer …"])


class EditionView(BaseModel):
    """Which edition decided, and the sha256 of its file. `is_todays`: the file loaded now is that very file."""

    edition: str = Field(examples=["zoomlion-2011-rev1"])
    digest: str = Field(examples=["9f1ee611e27510f7135796302383a07a76f5e472f1553b7693e83847a6b6601e"])
    is_todays: bool


class WhyView(BaseModel):
    """Why an alert was raised. `story` tells the same in lines, for a person."""

    id: UUID = Field(examples=["e59ca73e-d80d-5236-a163-2bc15288643e"])
    machine_id: str = Field(examples=["ZE215-000017"])
    language: str = Field(examples=["en"])
    what: str = Field(examples=["The inspection at 250 h is due, as of 2026-11-22 04:20:31 UTC."])
    became_true_at: datetime = Field(examples=["2026-11-22T04:20:31Z"])
    noticed_at: datetime = Field(examples=["2026-11-22T04:20:33Z"])
    by_replay: bool
    rule: str = Field(examples=["inspection"])
    rule_version: int | None = Field(description="raised when the rule decides otherwise", examples=[1])
    service_version: str | None = Field(examples=["0.1.0"])
    severity: str | None = Field(description="of an anomaly", examples=["critical"])
    readings: list[ReadingView]
    clauses: list[ClauseView]
    edition: EditionView
    meaning: str | None = Field(description="of a fault code", examples=["Engine Coolant Temperature: above normal"])
    advice: str | None = Field(description="what the expert asks first", examples=["Ask whether it still runs hot …"])
    free_of_charge: bool | None = Field(description="of an inspection: labour and mileage", examples=[True])
    free: str = Field(examples=["Labour and mileage of this inspection are free of charge (I2); parts are not."])
    story: str = Field(examples=["The inspection at 250 h is due, as of 2026-11-22 04:20:31 UTC.\nIt was noticed …"])


class Told(msgspec.Struct, frozen=True):
    """A decision as the rules gave it, and the warranties of its machine as they stand now."""

    decision: Decision
    event: Event
    covers: tuple[CoverageState, ...]


def create_router(engine: AsyncEngine, policies: Policies) -> APIRouter:
    """`GET /v1/alerts/{alert_id}/why`."""
    router = APIRouter(tags=["alerts"])

    @router.get(
        "/v1/alerts/{alert_id}/why",
        summary="Why an alert was raised, in words",
        responses=problem_responses(HTTPStatus.NOT_FOUND),
    )
    async def why_alert(
        alert_id: UUID,
        response: Response,
        language: Annotated[Language | None, Query(description="goes before Accept-Language")] = None,
        accept_language: Annotated[str | None, Header(max_length=200)] = None,
    ) -> WhyView:
        told = await _told(engine, alert_id)
        speaking = language or chosen(accept_language)
        response.headers.update({"Content-Language": speaking, "Vary": "Accept-Language"})
        return view_of(told, policies, speaking)

    return router


async def _told(engine: AsyncEngine, alert_id: UUID) -> Told:
    async with engine.connect() as connection:
        found = await decision(connection, alert_id)
        state = None if found is None else await machines.state_of(connection, found.machine_id)
    event = None if found is None else _event(found)
    if found is None or event is None:
        raise not_found("alert")
    return Told(found, event, () if state is None else decode_state(state).maintenance.warranty)


def _event(found: Decision) -> Event | None:
    """The fact as it was decided; None for one that no rule of ours decides."""
    alert = cloudevent.decode(msgspec.json.encode(found.body))
    if isinstance(alert, Rejected):
        return None
    evidence = msgspec.convert(found.evidence or [], tuple[Evidence, ...])
    return Event(found.machine_id, found.rule, found.subject, found.stage, found.time, alert.data, evidence)


def view_of(told: Told, policies: Policies, language: Language) -> WhyView:
    """The decision in one language."""
    found, event = told.decision, told.event
    data = event.data
    policy = policies.get(data.policy_edition)
    is_todays = policy is not None and policy.digest == data.policy_digest
    lines = why(policy or _nameless(policies), event, language)
    meaning, advice = (_in(text, language) for text in why_texts.meaning(data, load_catalogue()))
    free = why_texts.in_language(why_texts.free(data, told.covers), language)
    story = _found(found, data.rule if isinstance(data, Anomaly) else event.rule, lines, language)
    if not is_todays:
        story.append(why_texts.other_file(data.policy_edition, is_loaded=policy is not None, language=language))
    story += [*_counsel(meaning, advice, language), free]
    return WhyView(
        id=event.id,
        machine_id=event.machine_id,
        language=language,
        what=lines[0],
        became_true_at=event.time,
        noticed_at=found.decided_at,
        by_replay=found.by_replay,
        rule=event.rule,
        rule_version=found.rule_version,
        service_version=found.service_version,
        severity=data.severity if isinstance(data, Anomaly) else None,
        readings=[ReadingView(recorded_at=one.recorded_at, values=one.values) for one in event.evidence],
        clauses=_clauses(policy, lines, language),
        edition=EditionView(edition=data.policy_edition, digest=data.policy_digest, is_todays=is_todays),
        meaning=meaning,
        advice=advice,
        free_of_charge=None if isinstance(data, Anomaly) else data.free_of_charge,
        free=free,
        story="\n".join(story),
    )


def _found(found: Decision, rule: str, lines: Sequence[str], language: Language) -> list[str]:
    """The story of the edition, with when it was noticed after the fact, and the rule at its end."""
    noticed = why_texts.noticed(found.decided_at, by_replay=found.by_replay, language=language)
    decided_by = why_texts.decided_by(rule, found.rule_version, found.service_version, language)
    return [lines[0], noticed, *lines[1:], decided_by]


def _counsel(meaning: str | None, advice: str | None, language: Language) -> Iterator[str]:
    """What a code means and what to do about it, where the tables know."""
    if meaning is not None:
        yield why_texts.meaning_line(meaning, language)
    if advice is not None:
        yield why_texts.advice_line(advice, language)


def _nameless(policies: Policies) -> Policy:
    """Stands for an edition that is no longer loaded: it has no sentence for any clause."""
    return replace(next(iter(policies.values())), clauses=())


def _clauses(policy: Policy | None, lines: Sequence[str], language: Language) -> list[ClauseView]:
    """The clauses that the story tells."""
    told = []
    for one in () if policy is None else policy.clauses:
        sentence = one.sentence_en if language == "en" else one.sentence_zh
        if f"{one.clause}: {sentence}" in lines:
            told.append(ClauseView(clause=one.clause, sentence=sentence))
    return told


def _in(text: Text | None, language: Language) -> str | None:
    return None if text is None else why_texts.in_language(text, language)
