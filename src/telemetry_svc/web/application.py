"""Puts an app together: the routers it is given, behind the measures, limits and the door that all roles share."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from prometheus_client import CollectorRegistry

from telemetry_svc.web import health as health_routes
from telemetry_svc.web import metrics as metrics_routes
from telemetry_svc.web import problems
from telemetry_svc.web.auth import Authenticator
from telemetry_svc.web.guard import Guard
from telemetry_svc.web.health import Health
from telemetry_svc.web.limits import LimitedBodies, Limits
from telemetry_svc.web.metrics import HttpMetrics, Measured
from telemetry_svc.web.roles import ACCESS, Access, declared

_BEARER = {"type": "http", "scheme": "bearer", "description": "a key made by `telemetry-svc keys create`"}


class UndeclaredRouteError(RuntimeError):
    """A route that the role matrix does not name: nobody has said who may use it."""


def create_app(
    *,
    routers: Sequence[APIRouter],
    authenticator: Authenticator,
    health: Health,
    registry: CollectorRegistry,
    version: str,
    limits: Limits | None = None,
    matrix: Sequence[Access] = ACCESS,
) -> FastAPI:
    """The app of one role, or of several on one port. Raises `UndeclaredRouteError`."""
    app = _Api(title="telemetry-svc", version=version, openapi_url=None, docs_url=None, redoc_url=None)
    metrics = HttpMetrics(registry)
    shared = (health_routes.create_router(health), metrics_routes.create_router(registry), _openapi_router(app))
    for router in (*shared, *routers):
        app.include_router(router)
    served = _served(app)
    undeclared = served - declared(matrix)
    if undeclared:
        raise UndeclaredRouteError(f"not in the role matrix: {sorted(undeclared)}")
    # The last one added is the outermost.
    app.matrix = rows = [access for access in matrix if (access.method, access.path) in served]
    app.add_middleware(Guard, matrix=rows, authenticator=authenticator)
    app.add_middleware(LimitedBodies, limits=limits or Limits())
    app.add_middleware(Measured, metrics=metrics)
    problems.install(app)
    return app


class _Api(FastAPI):
    """FastAPI whose document also says how keys are shown, where none is asked, and that errors are problems."""

    matrix: Sequence[Access] = ()

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document.setdefault("components", {})["securitySchemes"] = {"key": _BEARER}
        document["security"] = [{"key": []}]
        for access in self.matrix:
            operation = document["paths"].get(access.path, {}).get(access.method.lower(), {"responses": {}})
            if access.open_to_all:
                operation["security"] = []
            for response in operation["responses"].values():
                if problems.MEDIA_TYPE in response.get("content", {}):
                    response["content"].pop("application/json", None)
        schemas = document["components"].get("schemas", {})
        for shape in (shape for schema in schemas.values() for shape in schema.get("properties", {}).values()):
            _tell_nulls(shape.get("examples", []), {"items": shape}, schemas)
        return document


def _tell_nulls(example: Any, shape: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    """The framework's encoder drops nulls, from examples too: what a shape requires and an example lacks was null."""
    if "$ref" in shape:
        shape = schemas[shape["$ref"].rpartition("/")[2]]
    if isinstance(example, list):
        for one in example:
            _tell_nulls(one, shape.get("items", {}), schemas)
    elif isinstance(example, dict):
        for name, inner in shape.get("properties", {}).items():
            if name in shape.get("required", ()):
                example.setdefault(name, None)
            _tell_nulls(example.get(name), inner, schemas)


def _openapi_router(app: FastAPI) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/openapi.json", summary="This description")
    async def openapi() -> dict[str, Any]:
        return app.openapi()

    return router


def _served(app: FastAPI) -> frozenset[tuple[str, str]]:
    return frozenset(
        (method, context.path_format or context.path or "?")
        for context in iter_route_contexts(app.routes)
        for method in context.methods or {"?"}
    )
