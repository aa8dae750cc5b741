"""Dead letters as people see them: found by a filter, looked at one by one, and wanted tried again.

Wanting is a mark on the letter's own row, so it is the same whether it is said once or five times; ingest takes the
letter up, in the transaction of its partition's owner, and takes the mark away.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    exists,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc import topics
from telemetry_svc.store.cursor import Cursor, between, committed_end
from telemetry_svc.store.dead_letters import Coordinates
from telemetry_svc.store.outbox import StoredHeaders
from telemetry_svc.store.schema.telemetry import dead_letter, parked_machine
from telemetry_svc.telemetry import MachineId

STATUSES = ("open", "requested", "parked", "replayed", "repeated", "refused")
"""open: never tried again. requested: ingest has not taken it up yet. parked: its machine waits behind it and it is
tried by itself. replayed, repeated: done. refused: tried again, and refused again."""

_DONE = ("replayed", "repeated")
_MAY_COME_THROUGH = ("open", "refused", "requested")
_ID = re.compile(r"([A-Za-z0-9._-]{1,249}):([0-9]{1,9}):([0-9]{1,18})")
_READ_HERE = topics.READ_BY[topics.INGEST_GROUP]


class BadLetterIdError(ValueError):
    """The text is no id of a dead letter."""


class LetterFilter(Struct, frozen=True):
    """Which letters; None = any. `since` and `until` (not included) are about when the record was received.

    `numbers`: those that were found before, whatever they have become since.
    """

    ids: tuple[Coordinates, ...] | None = None
    error_class: str | None = None
    machine_id: str | None = None
    topic: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    numbers: tuple[int, ...] | None = None


class Letter(Struct, frozen=True):
    """One letter without its bytes. `tried_why`: why it was refused once more."""

    where: Coordinates
    error_class: str
    error_message: str
    machine_id: MachineId | None
    received_at: datetime
    created_at: datetime
    status: str
    tried_as: str | None
    tried_why: str | None

    @property
    def id(self) -> str:
        return letter_id(self.where)


class WholeLetter(Struct, frozen=True):
    """A letter with the original record. `original_length` where `value` was cut; values of headers are base64."""

    letter: Letter
    key: bytes | None
    value: bytes | None
    original_length: int | None
    headers: StoredHeaders

    def encoded(self) -> dict[str, Any]:
        """The record as JSON can hold it: bytes in base64."""
        return {
            "key_base64": _base64(self.key),
            "value_base64": _base64(self.value),
            "original_length": self.original_length,
            "headers_base64": self.headers,
        }


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


class LeftOut(Struct, frozen=True):
    """An id that was asked for and is not tried. `why`: `missing` (no letter has it), `replayed` or `repeated` (came
    through before), `elsewhere` (of a topic that ingest does not read), `filtered` (it does not fit the rest)."""

    where: Coordinates
    why: str

    @property
    def id(self) -> str:
        return letter_id(self.where)


class Wanted(Struct, frozen=True):
    """What became of the wish to have letters tried again. `requested`: taken up by ingest in a moment. `parked`: tried
    now, as their machine's. `done`: came through before. `elsewhere`: of topics that ingest does not read. `left_out`:
    of the ids asked for."""

    requested: tuple[int, ...] = ()
    parked: int = 0
    done: int = 0
    elsewhere: int = 0
    left_out: tuple[LeftOut, ...] = ()


class TriedAgain(Struct, frozen=True):
    """So many letters are this now; `tried_as` and `tried_why` are of their last try.

    `behind`: requested, but their machine is parked; `tried_why` is then the id of the letter that it waits behind.
    """

    status: str
    tried_as: str | None
    tried_why: str | None
    letters: int


def letter_id(where: Coordinates) -> str:
    """`TOPIC:PARTITION:OFFSET` of the original record."""
    return ":".join(map(str, where))


def parse_letter_id(given: str) -> Coordinates:
    """Raises `BadLetterIdError`."""
    found = _ID.fullmatch(given)
    if found is None:
        raise BadLetterIdError("an id of a dead letter is TOPIC:PARTITION:OFFSET")
    return found[1], int(found[2]), int(found[3])


_BEHIND_IT = exists().where(
    parked_machine.c.machine_id == dead_letter.c.machine_id,
    parked_machine.c.topic == dead_letter.c.topic,
    parked_machine.c.partition == dead_letter.c.partition,
    parked_machine.c.topic_offset == dead_letter.c.topic_offset,
)
_STATUS: ColumnElement[str] = case(
    (_BEHIND_IT, "parked"),
    (dead_letter.c.requested_at.is_not(None), "requested"),
    (dead_letter.c.taken_up_as.in_(_DONE), dead_letter.c.taken_up_as),
    (dead_letter.c.taken_up_as.is_not(None), "refused"),
    else_="open",
)
_KEY = (dead_letter.c.topic, dead_letter.c.partition, dead_letter.c.topic_offset)
_COLUMNS = (
    *_KEY,
    dead_letter.c.error_class,
    dead_letter.c.error_message,
    dead_letter.c.machine_id,
    dead_letter.c.record_timestamp,
    dead_letter.c.created_at,
    _STATUS.label("status"),
    dead_letter.c.taken_up_as,
    dead_letter.c.taken_up_why,
)


async def newest(connection: AsyncConnection, which: LetterFilter, limit: int) -> list[Letter]:
    """The letters written last, newest first."""
    query = select(*_COLUMNS).where(*_conditions(which)).order_by(dead_letter.c.xid.desc(), dead_letter.c.n.desc())
    return [_letter(row) for row in await connection.execute(query.limit(limit))]


async def page(
    connection: AsyncConnection, which: LetterFilter, after: Cursor, limit: int
) -> list[tuple[Cursor, Letter]]:
    """Up to `limit` letters after a cursor, in the order in which they were committed."""
    rows = await connection.execute(page_query(which, after, await committed_end(connection), limit))
    return [(Cursor(row[-2], row[-1]), _letter(row)) for row in rows]


def page_query(which: LetterFilter, after: Cursor, end: Cursor, limit: int) -> Select[Any]:
    """The rows of a page: a letter's columns, then xid and n."""
    xid, n = dead_letter.c.xid, dead_letter.c.n
    return between(select(*_COLUMNS, xid, n).where(*_conditions(which)), xid, n, after, end, limit)


async def get(connection: AsyncConnection, where: Coordinates) -> WholeLetter | None:
    """One letter with its bytes."""
    record = (
        dead_letter.c.record_key,
        dead_letter.c.record_value,
        dead_letter.c.original_length,
        dead_letter.c.record_headers,
    )
    query = select(*_COLUMNS, *record).where(*_conditions(LetterFilter(ids=(where,))))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else WholeLetter(_letter(row), *row[len(_COLUMNS) :])


async def by_status(connection: AsyncConnection, which: LetterFilter) -> dict[str, list[int]]:
    """The numbers of the letters by status, and as `elsewhere` where ingest does not read their topic."""
    kind = case((dead_letter.c.topic.in_(_READ_HERE), _STATUS), else_="elsewhere").label("kind")
    found = select(kind, func.array_agg(dead_letter.c.n)).where(*_conditions(which)).group_by(kind)
    return {row[0]: row[1] for row in await connection.execute(found)}


async def foreseen(connection: AsyncConnection, which: LetterFilter) -> Wanted:
    """What would become of the wish; nothing is marked."""
    found = await by_status(connection, which)
    counts = _counts(found)
    again = tuple(n for status in _MAY_COME_THROUGH for n in found.get(status, ()))
    return Wanted(again, *counts, await left_out(connection, which, found))


async def left_out(
    connection: AsyncConnection, which: LetterFilter, found: Mapping[str, Sequence[int]]
) -> tuple[LeftOut, ...]:
    """Of the ids asked for, each once and in their order, those that are not tried. `found`: what fits the filter."""
    ids = tuple(dict.fromkeys(which.ids or ()))
    if not ids:
        return ()
    fits = {n for numbers in found.values() for n in numbers}
    rows = await connection.execute(select(dead_letter.c.n, _STATUS, *_KEY).where(_named(ids)))
    why = {tuple(where): _why_not(where[0], status, n in fits) for n, status, *where in rows}
    return tuple(LeftOut(where, reason) for where in ids if (reason := why.get(where, "missing")) is not None)


def _why_not(topic: str, status: str, fits: bool) -> str | None:
    """Why a letter is not tried; None where it is."""
    if topic not in _READ_HERE:
        return "elsewhere"
    if status in _DONE:
        return status
    return None if fits else "filtered"


def _counts(found: Mapping[str, Sequence[int]]) -> tuple[int, int, int]:
    """Parked, done and elsewhere."""
    parked, elsewhere, *done = (len(found.get(status, ())) for status in ("parked", "elsewhere", *_DONE))
    return parked, sum(done), elsewhere


async def want_again(connection: AsyncConnection, which: LetterFilter) -> Wanted:
    """Marks the letters that may come through now. Those of a parked machine are tried at once, by themselves.

    Others may do the same meanwhile: each letter that was found is counted once, as what it is after the marking.
    """
    found = await by_status(connection, which)
    these = found_before(which, found)
    conditions = [*_conditions(these), dead_letter.c.topic.in_(_READ_HERE)]
    behind = await connection.scalars(select(dead_letter.c.machine_id).where(*conditions, _STATUS == "parked"))
    at_once = update(parked_machine).values(next_try_at=func.clock_timestamp())
    await connection.execute(at_once.where(parked_machine.c.machine_id == any_(cast(behind.all(), ARRAY(Text)))))
    mark = update(dead_letter).values(requested_at=func.coalesce(dead_letter.c.requested_at, func.now()))
    free = mark.where(*conditions, _STATUS.in_(_MAY_COME_THROUGH)).returning(dead_letter.c.n)
    requested = tuple(await connection.scalars(free))
    counts = _counts(await by_status(connection, these))
    return Wanted(requested, *counts, await left_out(connection, which, found))


def found_before(which: LetterFilter, found: Mapping[str, Sequence[int]]) -> LetterFilter:
    """The same letters, also when their status is another one or more would fit."""
    return replace(which, status=None, numbers=tuple(n for numbers in found.values() for n in numbers))


async def what_became(connection: AsyncConnection, requested: Sequence[int]) -> list[TriedAgain]:
    """Of letters that were requested: what they are now, the same ones counted together."""
    parked = parked_machine.alias("parked")
    waits = and_(_STATUS == "requested", parked.c.machine_id.is_not(None))
    first = func.concat_ws(":", parked.c.topic, parked.c.partition, parked.c.topic_offset)
    behind = case((parked.c.topic.is_not(None), first))
    columns = (
        case((waits, "behind"), else_=_STATUS).label("status"),
        dead_letter.c.taken_up_as,
        case((waits, behind), else_=dead_letter.c.taken_up_why).label("why"),
    )
    same = dead_letter.outerjoin(parked, parked.c.machine_id == dead_letter.c.machine_id)
    query = select(*columns, func.count()).select_from(same).where(_numbered(requested))
    most_first = query.group_by(*columns).order_by(func.count().desc())
    return [TriedAgain(*row) for row in await connection.execute(most_first)]


def _named(ids: Sequence[Coordinates]) -> ColumnElement[bool]:
    """By arrays: PostgreSQL nests a list of rows as deep as it is long, and as many may be named as one likes."""
    columns = ((ARRAY(Text), 0), (ARRAY(Integer), 1), (ARRAY(BigInteger), 2))
    arrays = (cast([one[place] for one in ids], kind) for kind, place in columns)
    named = func.unnest(*arrays).table_valued("topic", "partition", "topic_offset", name="named").render_derived()
    return tuple_(*_KEY).in_(select(named.c.topic, named.c.partition, named.c.topic_offset))


def _numbered(numbers: Sequence[int]) -> ColumnElement[bool]:
    return dead_letter.c.n == any_(cast(numbers, ARRAY(BigInteger)))


def _conditions(which: LetterFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if which.ids is not None:
        conditions.append(_named(which.ids))
    if which.numbers is not None:
        conditions.append(_numbered(which.numbers))
    for column, value in (
        (dead_letter.c.error_class, which.error_class),
        (dead_letter.c.machine_id, which.machine_id),
        (dead_letter.c.topic, which.topic),
        (_STATUS, which.status),
    ):
        if value is not None:
            conditions.append(column == value)
    if which.since is not None:
        conditions.append(dead_letter.c.record_timestamp >= which.since)
    if which.until is not None:
        conditions.append(dead_letter.c.record_timestamp < which.until)
    return conditions


def _letter(row: Sequence[Any]) -> Letter:
    return Letter((row[0], row[1], row[2]), *row[3 : len(_COLUMNS)])
