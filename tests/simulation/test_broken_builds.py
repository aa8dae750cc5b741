"""The checker is checked: each mistake that the design warns of must be seen within so many seeds."""

import pytest

from tests.simulation.broken import BROKEN, Breaking, epoch_without_offset, no_fence, repeats_what_is_in_doubt
from tests.simulation.life import Life, live
from tests.simulation.seeds import RecordProperty, first_failure, report, shorter

# A search is three times as fast uncounted; what only a search reaches is covered by no case that names it.
pytestmark = pytest.mark.uncounted

WITHIN = 60


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_build_is_caught(name: str, record_property: RecordProperty) -> None:
    breaking, theme = BROKEN[name]
    caught = first_failure(range(1, WITHIN + 1), breaking, theme)
    assert caught is not None, f"{name} lived through {WITHIN} seeds"
    record_property("told", f"caught by seed {caught.seed} of {WITHIN}: {caught.problems[0][:100]}")
    sound = live(caught.seed, caught.faults, theme=theme)
    assert sound.problems == [], "the service as it is keeps its promises in that life"


def test_what_the_offset_in_the_fence_is_for() -> None:
    """A batch that is repeated while its commit is in doubt is harmless under the whole fence, and only there."""
    caught = _caught(epoch_without_offset, "cuts")
    fenced = live(caught.seed, caught.faults, repeats_what_is_in_doubt, caught.theme)
    assert fenced.problems == []
    assert fenced.struck["a batch fenced"] >= 1


def test_a_failing_list_of_faults_is_made_shorter_and_shown_with_the_way_to_see_it_again() -> None:
    found = _caught(no_fence, "zombies")
    least = shorter(found, no_fence)
    assert least.problems
    assert 1 <= len(least.faults) <= len(found.faults)
    for fault in least.faults:
        fewer = [one for one in least.faults if one is not fault]
        assert live(least.seed, fewer, no_fence, least.theme).problems == [], f"{fault} is not needed"
    shown = report(least)
    assert f"FROM={least.seed} SEEDS=1" in shown
    assert least.problems[0] in shown
    assert str(least.faults[0]) in shown


def _caught(breaking: Breaking, theme: str) -> Life:
    caught = first_failure(range(1, WITHIN + 1), breaking, theme)
    assert caught is not None
    return caught
