"""What several tests of the store stand on."""

import socket

import pytest


@pytest.fixture
def unused_port() -> int:
    """A loopback port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
