"""The API of tests/api on an empty database."""

from tests.api.conftest import house, policies, zones

__all__ = ["house", "policies", "zones"]
