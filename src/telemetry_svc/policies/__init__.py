"""Policy files: the editions as data, read, validated and frozen for the rules (policy.md; design.md, Rooms).

The only place where pydantic and YAML meet the policy. A file is right as a whole or it is refused with its line.
"""

from telemetry_svc.policies.catalogue import Catalogue, load_catalogue
from telemetry_svc.policies.loading import Finding, PolicyError, check_files, load_file, load_policies

__all__ = ["Catalogue", "Finding", "PolicyError", "check_files", "load_catalogue", "load_file", "load_policies"]
