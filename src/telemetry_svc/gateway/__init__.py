"""Devices → topic: authenticate, bound, produce the raw bytes; nothing of what they mean and no telemetry database."""

from telemetry_svc.gateway.producer import KafkaPingSink
from telemetry_svc.gateway.routes import GatewayMetrics, GatewaySettings, create_router
from telemetry_svc.gateway.sink import BrokerUnavailable, PingSink

__all__ = [
    "BrokerUnavailable",
    "GatewayMetrics",
    "GatewaySettings",
    "KafkaPingSink",
    "PingSink",
    "create_router",
]
