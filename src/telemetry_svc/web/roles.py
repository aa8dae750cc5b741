"""The role matrix: which role may do what, in one visible table (contract.md, HTTP).

A route that is not in the table cannot be reached and does not start (`create_app` refuses it), so whoever adds one
says here who may use it. Rows are tried in order, as routes are: a fixed path stands before one with a parameter.
"""

from collections.abc import Sequence

from msgspec import Struct

from telemetry_svc.store.keys import Role


class Access(Struct, frozen=True):
    """Who may use one route. `open_to_all`: no key asked. `open_on_loopback`: no key asked on this machine."""

    method: str
    path: str
    roles: frozenset[Role] = frozenset()
    open_to_all: bool = False
    open_on_loopback: bool = False


_ADMIN = frozenset({Role.ADMIN})
_DEVICES = _ADMIN | {Role.DEVICE}
_OPS = _ADMIN | {Role.OPS}
_SUPERVISORS = _ADMIN | {Role.SUPERVISOR}
_CALLERS = _SUPERVISORS | {Role.CALL_CENTER}
_READERS = _CALLERS | {Role.OPS}

ACCESS: tuple[Access, ...] = (
    Access("GET", "/livez", open_to_all=True),
    Access("GET", "/readyz", open_to_all=True),
    Access("GET", "/metrics", _OPS, open_on_loopback=True),
    Access("GET", "/openapi.json", _READERS, open_on_loopback=True),
    Access("POST", "/v1/pings", _DEVICES),
    Access("GET", "/v1/machines", _READERS),
    Access("POST", "/v1/machines", _OPS),
    Access("GET", "/v1/machines/{machine_id}", _READERS),
    Access("GET", "/v1/machines/{machine_id}/pings", _READERS),
    Access("POST", "/v1/machines/{machine_id}/inspections", _OPS),
    Access("POST", "/v1/machines/{machine_id}/meter", _OPS),
    Access("GET", "/v1/commands/{command_id}", _OPS),
    Access("GET", "/v1/alerts", _READERS),
    Access("GET", "/v1/alerts/stream", _READERS),
    Access("GET", "/v1/alerts/{alert_id}/why", _READERS),
    Access("GET", "/v1/dead-letters", _OPS),
    Access("POST", "/v1/dead-letters/replay", _OPS),
    Access("GET", "/v1/dead-letters/{letter_id}", _OPS),
    Access("GET", "/v1/calls", _READERS),
    Access("GET", "/v1/calls/stream", _READERS),
    Access("GET", "/v1/calls/{task_id}", _READERS),
    Access("POST", "/v1/calls/claim", _CALLERS),
    Access("POST", "/v1/calls/{task_id}/claim", _CALLERS),
    Access("POST", "/v1/calls/{task_id}/renew", _CALLERS),
    Access("POST", "/v1/calls/{task_id}/release", _CALLERS),
    Access("POST", "/v1/calls/{task_id}/reject", _CALLERS),
    Access("POST", "/v1/calls/{task_id}/outcome", _CALLERS),
    Access("POST", "/v1/calls/{task_id}/unhold", _SUPERVISORS),
    Access("POST", "/v1/calls/{task_id}/cancel", _SUPERVISORS),
)


def may(access: Access, role: Role) -> bool:
    """Whether a key of this role may use the route."""
    return access.open_to_all or role in access.roles


def declared(matrix: Sequence[Access]) -> frozenset[tuple[str, str]]:
    """(method, path) of every row."""
    return frozenset((access.method, access.path) for access in matrix)
