"""HTTP plumbing that every role shares: problems, keys, limits, health and metrics.

The composition root calls `create_app` with routers and with what they need; nothing here knows what a route does.
"""

from telemetry_svc.web.application import create_app
from telemetry_svc.web.auth import Authenticator, CurrentPrincipal, Principal
from telemetry_svc.web.health import Check, Health
from telemetry_svc.web.json_body import JsonRoute
from telemetry_svc.web.limits import Limits
from telemetry_svc.web.problems import FieldError, Problem, body_problems, problem_responses
from telemetry_svc.web.roles import ACCESS, Access

__all__ = [
    "ACCESS",
    "Access",
    "Authenticator",
    "Check",
    "CurrentPrincipal",
    "FieldError",
    "Health",
    "JsonRoute",
    "Limits",
    "Principal",
    "Problem",
    "body_problems",
    "create_app",
    "problem_responses",
]
