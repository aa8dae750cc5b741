"""Policy files: the editions as data, read, validated and frozen for the rules (policy.md; design.md, Rooms).

The only place where pydantic and YAML meet the policy. A file is right as a whole or it is refused with its line.
"""

from telemetry_svc.policies.catalogue import Catalogue, load_catalogue
from telemetry_svc.policies.comparing import Difference, diff
from telemetry_svc.policies.loading import Finding, PolicyError, built_in_file, check_files, load_file, load_policies
from telemetry_svc.policies.reasons import why
from telemetry_svc.policies.showing import LANGUAGES, Language, show

__all__ = [
    "LANGUAGES",
    "Catalogue",
    "Difference",
    "Finding",
    "Language",
    "PolicyError",
    "built_in_file",
    "check_files",
    "diff",
    "load_catalogue",
    "load_file",
    "load_policies",
    "show",
    "why",
]
