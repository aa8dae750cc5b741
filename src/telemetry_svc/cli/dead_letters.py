"""`dead-letters list|show|replay`: what could not be taken, shown so that nothing in it acts, and tried once more.

`replay` marks the letters; ingest takes them up in its own transaction, as it does after a late registration, so it may
be said twice, and nothing is produced to a topic again. The command waits and tells what became of them.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer
from msgspec import Struct, to_builtins
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc.cli.addresses import resolve_database
from telemetry_svc.cli.moments import moment
from telemetry_svc.cli.running import run, settings_with_logs
from telemetry_svc.clock import SystemClock
from telemetry_svc.codec.printable import printable_line, printable_text
from telemetry_svc.codec.rejected import ErrorClass
from telemetry_svc.store import dead_letter_list
from telemetry_svc.store.dead_letter_list import (
    STATUSES,
    BadLetterIdError,
    LeftOut,
    Letter,
    LetterFilter,
    TriedAgain,
    Wanted,
    WholeLetter,
    found_before,
    parse_letter_id,
)
from telemetry_svc.store.engine import create_engine
from telemetry_svc.store.outbox import headers_from
from telemetry_svc.units import rfc3339_ms

T = TypeVar("T")

SHOWN_BYTES = 4_096
LOOK_EVERY_S = 0.5
_CLOCK = SystemClock()

ClassOption = Annotated[ErrorClass | None, typer.Option("--class", help="why they were refused")]
MachineOption = Annotated[str | None, typer.Option("--machine", help="the machine, where it could be read")]
TopicOption = Annotated[str | None, typer.Option("--topic", help="the topic they came from")]
StatusOption = Annotated[str | None, typer.Option("--status", help=", ".join(STATUSES))]
SinceOption = Annotated[str | None, typer.Option("--since", metavar="TIME", help="received from then on (RFC 3339)")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="received before then (RFC 3339)")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object per line")]


def dead_letters_app() -> typer.Typer:
    """The sub-commands of `dead-letters`."""
    app = typer.Typer(help="Records that could not be taken.", no_args_is_help=True)
    app.command("list")(_list)
    app.command("show")(_show)
    app.command("replay")(_replay)
    return app


def _list(
    error_class: ClassOption = None,
    machine: MachineOption = None,
    topic: TopicOption = None,
    status: StatusOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="how many, the newest first")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest first."""
    which = _filter(error_class, machine, topic, status, since, until)
    letters = _on_database(lambda engine: _newest(engine, which, limit))
    for line in map(_json_of, letters) if as_json else _table(letters):
        typer.echo(line)


def _show(letter_id: Annotated[str, typer.Argument(help="as `list` shows it")], as_json: JsonOption = False) -> None:
    """Show one dead letter with its original bytes; what is not printable in them is escaped."""
    [where] = _ids([letter_id])
    found = _on_database(lambda engine: _get(engine, where))
    if found is None:
        typer.echo("there is no such dead letter", err=True)
        raise typer.Exit(1)
    for line in [_json_of_whole(found)] if as_json else _lines(found):
        typer.echo(line)


def _replay(  # noqa: PLR0913, PLR0917 - one for each option
    letter_id: Annotated[list[str] | None, typer.Argument(help="as `list` shows them; else name a filter")] = None,
    error_class: ClassOption = None,
    machine: MachineOption = None,
    topic: TopicOption = None,
    status: StatusOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say how many there are")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask whether so many are meant")] = False,
    wait: Annotated[float, typer.Option(min=0, max=3_600, help="seconds to wait for ingest")] = 30.0,
) -> None:
    """Have ingest try dead letters once more, in its own order, with their original time and coordinates.

    Exit code 1 where one is refused again, was not taken up in time, or was named and is neither tried nor done.
    """
    which = _filter(error_class, machine, topic, status, since, until)
    if letter_id:
        which = replace(which, ids=tuple(_ids(letter_id)))
    if which == LetterFilter():
        raise typer.BadParameter("name the letters, or a filter", param_hint="LETTER_ID")
    found = _on_database(lambda engine: _find(engine, which))
    for one in found.left_out:
        typer.echo(_not_tried(one), err=True)
    for line in _counted(found):
        typer.echo(line)
    again = sum(len(found.numbers.get(status, ())) for status in ("open", "requested", "parked", "refused"))
    if dry_run or not again:
        raise typer.Exit(0 if found.good else 1)
    if not yes:
        typer.confirm(f"have ingest try {again} once more?", abort=True)
    these = found_before(which, found.numbers)
    wanted, became = _on_database(lambda engine: _tried(engine, these, wait))
    for line in _told(wanted, became, found.total):
        typer.echo(line)
    good = found.good and all(one.status in {"replayed", "repeated"} for one in became)
    raise typer.Exit(0 if good else 1)


class Found(Struct, frozen=True):
    """The numbers of the letters by status, and the ids that were named and are not tried."""

    numbers: Mapping[str, Sequence[int]]
    left_out: Sequence[LeftOut] = ()

    @property
    def good(self) -> bool:
        """Whether each that was named is tried, or came through before."""
        return all(one.why in {"replayed", "repeated"} for one in self.left_out)

    @property
    def total(self) -> int:
        return sum(map(len, self.numbers.values()))


async def _newest(engine: AsyncEngine, which: LetterFilter, limit: int) -> list[Letter]:
    async with engine.connect() as connection:
        return await dead_letter_list.newest(connection, which, limit)


async def _get(engine: AsyncEngine, where: tuple[str, int, int]) -> WholeLetter | None:
    async with engine.connect() as connection:
        return await dead_letter_list.get(connection, where)


async def _find(engine: AsyncEngine, which: LetterFilter) -> Found:
    async with engine.connect() as connection:
        numbers = await dead_letter_list.by_status(connection, which)
        return Found(numbers, await dead_letter_list.left_out(connection, which, numbers))


async def _tried(engine: AsyncEngine, which: LetterFilter, wait_s: float) -> tuple[Wanted, Sequence[TriedAgain]]:
    """Marks them and waits until ingest has taken all of them up, or until the time is over."""
    async with engine.begin() as connection:
        wanted = await dead_letter_list.want_again(connection, which)
    ends_at_s = _CLOCK.monotonic_s() + wait_s
    while True:
        async with engine.connect() as connection:
            became = await dead_letter_list.what_became(connection, wanted.requested)
        waits = any(one.status in {"requested", "behind"} for one in became)
        if not waits or _CLOCK.monotonic_s() >= ends_at_s:
            return wanted, became
        await asyncio.sleep(LOOK_EVERY_S)


def _on_database(job: Callable[[AsyncEngine], Coroutine[Any, Any, T]]) -> T:
    return run(_with_engine(job))


async def _with_engine(job: Callable[[AsyncEngine], Coroutine[Any, Any, T]]) -> T:
    engine = create_engine(resolve_database(settings_with_logs()), application_name="telemetry-dead-letters")
    try:
        return await job(engine)
    finally:
        await engine.dispose()


def _filter(
    error_class: ErrorClass | None,
    machine: str | None,
    topic: str | None,
    status: str | None,
    since: str | None,
    until: str | None,
) -> LetterFilter:
    if status is not None and status not in STATUSES:
        raise typer.BadParameter(f"one of {', '.join(STATUSES)}", param_hint="--status")
    begin, end = _time(since, "--since"), _time(until, "--until")
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter("must lie before --until", param_hint="--since")
    return LetterFilter(None, error_class, machine, topic, status, begin, end)


def _time(text: str | None, option: str) -> datetime | None:
    return None if text is None else moment(text, option)


def _ids(given: Sequence[str]) -> list[tuple[str, int, int]]:
    try:
        return [parse_letter_id(one) for one in given]
    except BadLetterIdError as error:
        raise typer.BadParameter(str(error), param_hint="LETTER_ID") from None


def _table(letters: Sequence[Letter]) -> Iterator[str]:
    if not letters:
        yield "no dead letters"
        return
    rows = [("ID", "RECEIVED", "CLASS", "STATUS", "MACHINE", "WHY"), *map(_cells, letters)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        yield "  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip()


def _cells(letter: Letter) -> tuple[str, ...]:
    why = letter.tried_why if letter.status == "refused" and letter.tried_why else letter.error_message
    cells = (
        letter.id,
        rfc3339_ms(letter.received_at),
        letter.error_class,
        letter.status,
        letter.machine_id or "-",
        why,
    )
    return tuple(map(printable_text, cells))


def _json_of(letter: Letter) -> str:
    return json.dumps(_values(letter), ensure_ascii=False)


def _values(letter: Letter) -> dict[str, Any]:
    fields: dict[str, Any] = to_builtins(letter)
    topic, partition, offset = fields.pop("where")
    return {"id": letter.id, "topic": topic, "partition": partition, "offset": offset} | fields


def _json_of_whole(found: WholeLetter) -> str:
    return json.dumps(_values(found.letter) | found.encoded(), ensure_ascii=False)


def _lines(found: WholeLetter) -> Iterator[str]:
    letter = found.letter
    yield f"id        {letter.id}"
    yield f"received  {rfc3339_ms(letter.received_at)}"
    yield f"refused   {letter.error_class}: {printable_text(letter.error_message)}"
    yield f"machine   {printable_text(letter.machine_id or '-')}"
    yield f"status    {letter.status}{f': {printable_text(letter.tried_why)}' if letter.tried_why else ''}"
    yield f"key       {_shown(found.key)}"
    for name, content in headers_from(found.headers):
        yield f"header    {printable_text(name)}: {_shown(content)}"
    yield f"value     {_shown(found.value, found.original_length)}"


def _shown(raw: bytes | None, original_length: int | None = None) -> str:
    if raw is None:
        return "-"
    length = original_length or len(raw)
    more = f" … ({length} bytes in all)" if length > SHOWN_BYTES else ""
    return printable_line(raw, SHOWN_BYTES) + more


def _counted(found: Found) -> Iterator[str]:
    known = {"elsewhere": "of topics that ingest does not read: not tried again"}
    for status in (*STATUSES, "elsewhere"):
        if numbers := found.numbers.get(status):
            yield f"{len(numbers)} {known.get(status, status)}"
    if not found.numbers and not found.left_out:
        yield "no dead letters"


def _not_tried(one: LeftOut) -> str:
    match one.why:
        case "missing":
            return f"there is no dead letter {one.id}"
        case "elsewhere":
            return f"{one.id} is not tried: ingest does not read its topic"
        case "filtered":
            return f"{one.id} is not tried: it does not fit the filter"
        case done:
            return f"{one.id} is not tried: {done} before"


def _told(wanted: Wanted, became: Sequence[TriedAgain], total: int) -> Iterator[str]:
    """Each letter is in one line: what becomes of it while we ask is no longer what it was when we counted."""
    yield from map(_told_of, became)
    if wanted.parked:
        yield f"{wanted.parked} tried at once by itself, for its machine is parked behind it"
    if wanted.done:
        yield f"{wanted.done} done before"
    told = sum(one.letters for one in became) + wanted.parked + wanted.done + wanted.elsewhere
    if told < total:
        yield f"{total - told} changed meanwhile: look again"


def _told_of(one: TriedAgain) -> str:
    match one.status:
        case "replayed":
            return f"{one.letters} taken up"
        case "repeated":
            return f"{one.letters} repeated what was there: dropped"
        case "requested":
            return f"{one.letters} not taken up yet: is ingest running?"
        case "behind" if one.tried_why:
            return (
                f"{one.letters} not taken up yet: the machine is parked behind {one.tried_why}, that one is tried first"
            )
        case "behind":
            return f"{one.letters} not taken up yet: the machine catches up first"
        case _:
            return f"{one.letters} refused again: {one.tried_as}: {printable_text(one.tried_why or '')}"
