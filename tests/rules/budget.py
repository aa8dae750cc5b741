"""How much the searches of this folder may cost: one environment setting scales them all (TELEMETRY_TEST_SCALE).

At 1 the whole folder stays under a minute on two cores; a long search is `TELEMETRY_TEST_SCALE=100 make test`.
"""

import os

from hypothesis import HealthCheck, settings

SCALE = float(os.environ.get("TELEMETRY_TEST_SCALE", "1"))


def budget(examples: int) -> settings:
    """Settings of one search. No database: nothing is left in the work tree, a failure prints its own reproduction.

    At scale 1 the same lives are searched each time, so that "each path was reached" is no matter of luck; a larger
    scale searches new ones.
    """
    return settings(
        max_examples=max(1, int(examples * SCALE)),
        deadline=None,
        derandomize=SCALE == 1,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
