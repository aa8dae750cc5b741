"""Laws of cutting a batch in halves: what a poisoned batch becomes must be, step by step, the batch itself."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_svc.stream.batch import Batch, Record, Slice


@dataclass(frozen=True)
class Given:
    """A record with nothing in it but its place."""

    topic: str
    partition: int
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type: int = 1


def given_at(topic: str, offsets: list[int], partition: int = 0) -> list[Record]:
    return [Given(topic, partition, offset) for offset in offsets]


@st.composite
def slices(draw: st.DrawFn, partition: int) -> Slice:
    """Offsets with holes, as control records and compaction leave them; the last one read is always before `after`."""
    before: list[int] = []
    after: list[int] = []
    records: list[list[Record]] = []
    for topic in ("a", "b"):
        start = draw(st.integers(0, 1000))
        offsets = sorted(draw(st.sets(st.integers(start, start + 40), max_size=12)))
        before.append(start)
        after.append(offsets[-1] + 1 if offsets else start)
        records.append(given_at(topic, offsets, partition))
    return Slice(
        partition=partition,
        epoch=draw(st.integers(1, 9)),
        before=(before[0], before[1]),
        after=(after[0], after[1]),
        first=records[0],
        second=records[1],
        apply_seq=draw(st.integers(5, 99)),
        reserved=draw(st.sampled_from((0, 0, 5))),
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    partitions = draw(st.lists(st.integers(0, 11), min_size=1, max_size=4, unique=True))
    return Batch(tuple(draw(slices(partition)) for partition in sorted(partitions)), draw(st.integers(0, 5)))


def cut(batch: Batch) -> list[Batch]:
    """All the way down, as a batch is in which every record is refused."""
    if batch.is_one:
        return [batch]
    return [part for half in batch.halves() for part in cut(half)]


@given(batch=batches().filter(lambda batch: not batch.is_one))
def test_both_halves_are_smaller_in_slices_or_in_what_is_in_them(batch: Batch) -> None:
    for half in batch.halves():
        assert half.slices
        assert (len(half.slices), half.size) < (len(batch.slices), batch.size + 1)
        assert _weight(half) < _weight(batch) or len(half.slices) < len(batch.slices)
        assert half.generation == batch.generation
        assert half.poison is None


def _weight(batch: Batch) -> int:
    return sum(one.size + bool(one.reserved) for one in batch.slices)


@given(batch=batches())
def test_no_record_answers_for_what_is_taken_up_from_elsewhere(batch: Batch) -> None:
    parts = [part for small in cut(batch) for part in small.slices]
    assert all(part.size == 0 for part in parts if part.reserved)
    assert sum(part.reserved for part in parts) == sum(one.reserved for one in batch.slices)


@given(batch=batches())
def test_the_parts_hold_every_record_once_those_of_the_second_topic_first(batch: Batch) -> None:
    for one in batch.slices:
        parts = [part for small in cut(batch) for part in small.slices if part.partition == one.partition]
        assert [record for part in parts for record in [*part.second, *part.first]] == [*one.second, *one.first]


@given(batch=batches())
def test_the_parts_move_from_where_the_batch_began_to_where_it_ended_without_a_gap(batch: Batch) -> None:
    for one in batch.slices:
        moves = [part.move() for small in cut(batch) for part in small.slices if part.partition == one.partition]
        assert moves[0].before == one.before
        assert moves[-1].after == one.after
        assert moves[-1].apply_seq == one.move().apply_seq
        assert {move.epoch for move in moves} == {one.epoch}
        for first, second in itertools.pairwise(moves):
            assert first.after == second.before


@given(batch=batches())
def test_each_record_keeps_its_number_in_the_order_of_inputs(batch: Batch) -> None:
    def numbers(slices: tuple[Slice, ...]) -> dict[tuple[str, int, int], int]:
        return {
            (record.topic, record.partition, record.offset): one.apply_seq + place
            for one in slices
            for place, record in enumerate([*one.second, *one.first], start=1)
        }

    parts = [numbers(small.slices) for small in cut(batch)]
    assert {where: number for part in parts for where, number in part.items()} == numbers(batch.slices)
    assert sum(len(part) for part in parts) == batch.size


def test_a_poisoned_batch_says_why_and_is_otherwise_the_same() -> None:
    batch = Batch((Slice(0, 1, (0, 0), (1, 0), [Given("a", 0, 0)], [], 0),), 7)
    poisoned = batch.poisoned("PostgreSQL refuses a value")
    assert (poisoned.poison, poisoned.slices, poisoned.generation) == ("PostgreSQL refuses a value", batch.slices, 7)


@pytest.mark.parametrize(
    ("first", "second", "cut_at"),
    [
        pytest.param([10, 11, 12, 13], [], ((10, 11), ()), id="first_topic_only"),
        pytest.param([10, 11], [5, 9], ((), (5, 9)), id="the_second_topic_whole_before_the_first"),
        pytest.param([10], [5, 6, 9, 30], ((), (5, 6, 9)), id="in_the_midst_of_the_second"),
        pytest.param([10, 11, 20], [5], ((10,), (5,)), id="in_the_midst_of_the_first"),
    ],
)
def test_where_a_slice_is_cut(first: list[int], second: list[int], cut_at: tuple[tuple[int, ...], ...]) -> None:
    after = (first[-1] + 1, second[-1] + 1 if second else 5)
    head, _ = Slice(0, 1, (10, 5), after, given_at("a", first), given_at("b", second), 0).halves()
    assert (tuple(one.offset for one in head.first), tuple(one.offset for one in head.second)) == cut_at
