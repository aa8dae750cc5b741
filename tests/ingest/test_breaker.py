"""The breaker by itself: told what failed and what time it is, it says whether to stand still."""

from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_svc.ingest.breaker import LIMITS, Breaker

NOON_S = 43_200.0


def fed(breaker: Breaker, failed: list[str | None], now_s: float = NOON_S) -> bool:
    """One batch of records, each named by the machine that failed, or None; True where it opens and is not stored."""
    trial = breaker.trial()
    for place, machine in enumerate(failed):
        if machine is not None and trial.failed(place, machine):
            breaker.opens(now_s)
            return True
    passed = any(one is None for one in failed)
    breaker.stored(trial, len(failed), passed=passed, failed=not all(one is None for one in failed), now_s=now_s)
    return False


def of_machines(count: int, failures: int) -> list[str | None]:
    return list(islice(cycle(f"M-{number}" for number in range(count)), failures))


OPENING = {
    "99 of 500 are not enough": ([*of_machines(10, 99), *[None] * 401], False),
    "100 of 500": ([*[None] * 400, *of_machines(10, 100)], True),
    "100 are enough before there are 500": (of_machines(10, 100), True),
    "nine machines are no bad deploy": (of_machines(9, 5_000), False),
    "one machine": (["M-1"] * 5_000, False),
    "one in five, for ever": ([None, None, None, None, "M-1"] * 200, False),
    "one in five of ten machines": (
        [one for m in of_machines(10, 100) for one in (None, None, None, None, m)],
        True,
    ),
    "one in six of ten machines": (
        [one for m in of_machines(10, 1000) for one in (None, None, None, None, None, m)],
        False,
    ),
}


@pytest.mark.parametrize(("failed", "opens"), OPENING.values(), ids=OPENING)
@pytest.mark.parametrize("size", [1, 7, 5_000], ids="batches of {}".format)
def test_when_it_opens(failed: list[str | None], opens: bool, size: int) -> None:
    breaker = Breaker(LIMITS)
    opened = any(fed(breaker, failed[start : start + size]) for start in range(0, len(failed), size))
    assert (opened, breaker.is_open, breaker.takes(NOON_S)) == (opens, opens, 0 if opens else None)


@given(failed=st.lists(st.sampled_from([None, None, *of_machines(15, 15)]), max_size=900))
def test_it_opens_just_where_a_slow_count_does(failed: list[str | None]) -> None:
    limits = type(LIMITS)(window=40, share=0.5, machines=4)
    breaker, expected = Breaker(limits), None
    for end in range(1, len(failed) + 1):
        last = [machine for machine in failed[max(0, end - 40) : end] if machine is not None]
        if failed[end - 1] is not None and len(last) >= 20 and len(set(last)) >= 4:
            expected = end
            break
    opened = next((end for end, machine in enumerate(failed, start=1) if fed(breaker, [machine])), None)
    assert opened == expected


def test_a_batch_that_is_not_stored_counts_for_nothing() -> None:
    breaker = Breaker(LIMITS)
    for _ in range(50):
        trial = breaker.trial()
        assert not any(trial.failed(place, f"M-{place % 10}") for place in range(99))
    assert breaker.takes(NOON_S) is None


def opened(at_s: float = NOON_S) -> Breaker:
    breaker = Breaker(LIMITS)
    assert fed(breaker, of_machines(10, 100), at_s)
    return breaker


def test_open_it_takes_one_record_every_30_s() -> None:
    breaker = opened()
    assert [breaker.takes(NOON_S + after_s) for after_s in (0, 29.99, 30, 31)] == [0, 0, 1, 1]
    breaker.tries(NOON_S + 31)
    assert [breaker.takes(NOON_S + after_s) for after_s in (31, 60.99, 61)] == [0, 0, 1]


TRIED = {
    "it came through: all goes on": ({"passed": True, "failed": False}, None),
    "it failed: one more interval": ({"passed": False, "failed": True}, 0),
    "it was a tick, a repeat or garbage: the next one at once": ({"passed": False, "failed": False}, 1),
}


@pytest.mark.parametrize(("outcome", "takes"), TRIED.values(), ids=TRIED)
def test_what_the_one_record_tells(outcome: dict[str, bool], takes: int | None) -> None:
    breaker, now_s = opened(), NOON_S + 30
    breaker.tries(now_s)
    trial = breaker.trial()
    assert not any(trial.failed(0, f"M-{number}") for number in range(1_000))
    assert breaker.stored(trial, 1, **outcome, now_s=now_s) is (takes is None)
    assert breaker.takes(now_s) == takes


def test_after_it_has_closed_it_opens_as_late_as_the_first_time() -> None:
    breaker = opened()
    breaker.stored(breaker.trial(), 1, passed=True, failed=False, now_s=NOON_S + 30)
    assert not fed(breaker, of_machines(10, 99))
    assert fed(breaker, ["M-1"])


def test_a_turn_without_records_tells_nothing() -> None:
    breaker = opened()
    breaker.stored(breaker.trial(), 0, passed=False, failed=False, now_s=NOON_S + 1)
    assert breaker.takes(NOON_S + 1) == 0
