"""A moment in an option: RFC 3339 with an offset, for a time without one means another thing on another machine."""

from datetime import UTC, datetime

import typer


def moment(text: str, option: str, latest: datetime | None = None) -> datetime:
    """In UTC, not after `latest`. Raises `typer.BadParameter` that names the option."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("not a time like 2026-11-22T04:20:31Z", param_hint=option) from None
    if given.tzinfo is None:
        raise typer.BadParameter("the time needs an offset, as in 2026-11-22T04:20:31Z", param_hint=option)
    if latest is not None and given > latest:
        raise typer.BadParameter("lies ahead", param_hint=option)
    return given.astimezone(UTC)
