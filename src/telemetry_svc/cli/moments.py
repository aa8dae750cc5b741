"""A moment in an option: RFC 3339 with an offset, for a time without one means another thing on another machine."""

from datetime import UTC, datetime

import typer

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""No broker is asked for what was before, and nothing of ours is as old."""


def moment(text: str, option: str, latest: datetime | None = None) -> datetime:
    """In UTC, from 1970 on and not after `latest`. Raises `typer.BadParameter` that names the option."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("not a time like 2026-11-22T04:20:31Z", param_hint=option) from None
    if given.tzinfo is None:
        raise typer.BadParameter("the time needs an offset, as in 2026-11-22T04:20:31Z", param_hint=option)
    try:
        at = given.astimezone(UTC)
    except OverflowError:
        raise typer.BadParameter(_OUTSIDE, param_hint=option) from None
    if at < EARLIEST:
        raise typer.BadParameter(_OUTSIDE, param_hint=option)
    if latest is not None and at > latest:
        raise typer.BadParameter("lies ahead", param_hint=option)
    return at


_OUTSIDE = "lies outside of the years 1970 to 9999 (UTC)"
