"""`/v1/dead-letters`: what could not be taken, and having ingest try it once more.

Trying again is a wish: ingest takes the letters up in its own order and transaction (`ingest/trying.py`), each once
however often it is wished for. The letter then tells what became of it.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.codec.printable import printable_line
from telemetry_svc.codec.rejected import ErrorClass
from telemetry_svc.store import dead_letter_list
from telemetry_svc.store.dead_letter_list import (
    BadLetterIdError,
    Letter,
    LetterFilter,
    Wanted,
    WholeLetter,
    parse_letter_id,
)
from telemetry_svc.store.dead_letters import Coordinates
from telemetry_svc.web import JsonRoute, body_problems, problem_responses
from telemetry_svc.web.fields import Instant, Name, StrictBody
from telemetry_svc.web.paging import DEFAULT_LIMIT, CursorText, Limit, cursor_from, next_cursor
from telemetry_svc.web.problems import field_problem, not_found

IDS_AT_ONCE = 1_000
_AN_ID = "excavator.pings:3:81234"

Status = Literal["open", "requested", "parked", "replayed", "repeated", "refused"]
LetterId = Annotated[str, Field(max_length=300, examples=[_AN_ID])]
LetterIdPath = Annotated[
    str, Path(max_length=300, description="TOPIC:PARTITION:OFFSET of the original record", examples=[_AN_ID])
]


class LetterView(BaseModel):
    """A dead letter without its bytes. `tried_as`, `tried_why`: what became of its last try."""

    id: str = Field(description="TOPIC:PARTITION:OFFSET of the original record", examples=[_AN_ID])
    error_class: str = Field(examples=["invalid"])
    error_message: str = Field(examples=["hour_meter_h: Expected `float`, got `str`"])
    machine_id: str | None = Field(description="where it could be read", examples=["ZE215-000017"])
    received_at: datetime
    created_at: datetime
    status: Status
    tried_as: str | None = Field(examples=["replayed"])
    tried_why: str | None = Field(examples=["the machine is not registered"])


class WholeLetterView(LetterView):
    """With the original record: `value_text` shows it with everything that is not printable escaped."""

    key_base64: str | None = Field(examples=["WkUyMTUtMDAwMDE3"])
    value_base64: str | None = Field(examples=["aGVsbG8="])
    value_text: str | None = Field(examples=["hello"])
    original_length: int | None = Field(description="where the value was cut", examples=[2_000_000])
    headers_base64: list[tuple[str, str | None]] = Field(examples=[[["content-type", "YXBwbGljYXRpb24vanNvbg=="]]])


class LetterPage(BaseModel):
    """Letters in the order in which they were committed."""

    items: list[LetterView]
    next_cursor: str | None = Field(description="null: nothing more for now", examples=["AAAAAAAAA_QAAAAAAAAAKg"])


class ReplayFields(StrictBody):
    """Which letters: by id, or all that fit every field given; at least one field is needed."""

    ids: list[LetterId] | None = Field(default=None, min_length=1, max_length=IDS_AT_ONCE)
    error_class: str | None = Field(default=None, max_length=40, examples=["internal"])
    machine_id: Name | None = None
    topic: str | None = Field(default=None, max_length=249, examples=["excavator.pings"])
    status: Status | None = None
    since: Instant | None = None
    until: Instant | None = None
    dry_run: bool = False


class LeftOutView(BaseModel):
    """An id that was asked for and is not tried. `missing`: no letter has it; `replayed`, `repeated`: came through
    before; `elsewhere`: of a topic that ingest does not read; `filtered`: it does not fit the other fields."""

    id: str = Field(examples=[_AN_ID])
    why: Literal["missing", "replayed", "repeated", "elsewhere", "filtered"]


class ReplayAnswer(BaseModel):
    """How many letters. `requested`: ingest takes them up next; `parked`: tried at once, for their machine waits behind
    them; `done`: came through before; `elsewhere`: of topics that ingest does not read. `left_out` names each of `ids`
    that is not tried."""

    requested: int = Field(examples=[3])
    parked: int = Field(examples=[0])
    done: int = Field(examples=[1])
    elsewhere: int = Field(examples=[0])
    left_out: list[LeftOutView]


def _filter(
    error_class: ErrorClass | None = None,
    machine_id: Name | None = None,
    topic: Annotated[str | None, Query(max_length=249, examples=["excavator.pings"])] = None,
    status: Status | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
) -> LetterFilter:
    return LetterFilter(None, error_class, machine_id, topic, status, since, until)


def create_router(engine: AsyncEngine) -> APIRouter:
    """`GET /v1/dead-letters`, `GET …/{letter_id}`, `POST …/replay`."""
    router = APIRouter(tags=["dead letters"], route_class=JsonRoute)

    @router.get("/v1/dead-letters", summary="List dead letters", responses=problem_responses())
    async def list_letters(
        which: Annotated[LetterFilter, Depends(_filter)], cursor: CursorText = None, limit: Limit = DEFAULT_LIMIT
    ) -> LetterPage:
        async with engine.connect() as connection:
            found = await dead_letter_list.page(connection, which, cursor_from(cursor), limit)
        last = found[-1][0] if found else None
        return LetterPage(items=[_view(one) for _, one in found], next_cursor=next_cursor(last, len(found), limit))

    @router.get(
        "/v1/dead-letters/{letter_id}",
        summary="A dead letter with its original bytes",
        responses=problem_responses(HTTPStatus.NOT_FOUND),
    )
    async def show_letter(letter_id: LetterIdPath) -> WholeLetterView:
        where = _where(letter_id, "letter_id")
        async with engine.connect() as connection:
            found = await dead_letter_list.get(connection, where)
        if found is None:
            raise not_found("dead letter")
        return _whole_view(found)

    @router.post(
        "/v1/dead-letters/replay",
        summary="Have ingest try dead letters once more",
        status_code=HTTPStatus.ACCEPTED,
        responses=body_problems(),
    )
    async def replay(given: ReplayFields) -> ReplayAnswer:
        which = _wanted(given)
        said = dead_letter_list.foreseen if given.dry_run else dead_letter_list.want_again
        async with engine.begin() as connection:
            return _answer(await said(connection, which))

    return router


def _wanted(given: ReplayFields) -> LetterFilter:
    ids = None if given.ids is None else tuple(_where(one, "ids") for one in given.ids)
    fields = (given.error_class, given.machine_id, given.topic, given.status, given.since, given.until)
    which = LetterFilter(ids, *fields)
    if which == LetterFilter():
        raise field_problem("ids", "the letters must be named, or a filter")
    return which


def _answer(wanted: Wanted) -> ReplayAnswer:
    return ReplayAnswer(
        requested=len(wanted.requested),
        parked=wanted.parked,
        done=wanted.done,
        elsewhere=wanted.elsewhere,
        left_out=[LeftOutView.model_validate({"id": one.id, "why": one.why}) for one in wanted.left_out],
    )


def _where(letter_id: str, field: str) -> Coordinates:
    try:
        return parse_letter_id(letter_id)
    except BadLetterIdError as error:
        raise field_problem(field, str(error)) from None


def _view(letter: Letter) -> LetterView:
    return LetterView.model_validate(_fields(letter))


def _whole_view(found: WholeLetter) -> WholeLetterView:
    text = None if found.value is None else printable_line(found.value)
    return WholeLetterView.model_validate(_fields(found.letter) | found.encoded() | {"value_text": text})


def _fields(letter: Letter) -> dict[str, object]:
    return {"id": letter.id} | {name: getattr(letter, name) for name in letter.__struct_fields__ if name != "where"}
