"""`python -m telemetry_svc` is `telemetry-svc`."""

from telemetry_svc.cli import main

main()
