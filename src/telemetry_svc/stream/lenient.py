"""Reading what aiokafka cannot: a record with a header whose name is not UTF-8 (design.md, decision 3).

aiokafka decodes such a name inside `getmany`, which then raises for ever and hides the rest of that batch and what it
had already taken from other partitions. One reading goes past it: the same offsets are fetched once more, a request for
each topic partition, and the batches are taken apart here, with escapes in the names. A batch that cannot be unpacked
although its checksum holds will be no better the next time: it becomes a gap. A wrong checksum may heal by itself
(another replica, another connection), so it is raised and tried again, as aiokafka's own.
"""

import asyncio
import gzip
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import cramjam
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException, LeaderNotAvailableError, UnsupportedCodecError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c
from msgspec import Struct

from telemetry_svc.store.gaps import Gap
from telemetry_svc.store.outbox import Headers
from telemetry_svc.stream.batch import APPEND_TIME, Record

_BROKEN = (ValueError, IndexError, EOFError, struct.error, zlib.error, gzip.BadGzipFile, cramjam.DecompressionError)

UNREADABLE = (CorruptRecordException, UnicodeDecodeError, *_BROKEN[2:])
"""What `getmany` raises where it cannot decode; without its C part aiokafka turns some of it into the first."""

FETCH_BYTES = 256 * 1024
"""Per topic partition; the broker sends a first batch that is larger whole."""

_HEADER = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH_COUNTS = 12
_CHECKED_FROM = 21
_MAGIC = 2
_CODEC, _LOG_APPEND_TIME, _CONTROL = 0x07, 0x08, 0x20
_VARINT_BITS = 64
_UNPACK = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


class LenientRecord(Struct, frozen=True, gc=False):
    """A `Record` as the rest of `stream` knows it; what is not UTF-8 in a header's name stands there as `\\xNN`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Reading(Struct, frozen=True):
    """What one topic partition, or all of them, gave. `after`: where to read on. With a `gap` there is nothing else but
    one record that stands for it, at its first offset."""

    records: dict[TopicPartition, list[Record]]
    after: dict[TopicPartition, int]
    gap: Gap | None = None


async def read_leniently(consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], at_most: int) -> Reading:
    """At most so many records from these offsets on, of every partition its share, so that none starves the others.

    Raises `CorruptRecordException` where there is nothing to go on with, and other `KafkaError`s as a fetch does.
    """
    raw = await _fetch(consumer, starts)
    share = max(1, at_most // max(1, len(raw)))
    readings = [await asyncio.to_thread(read_log, pair, raw[pair], starts[pair], share) for pair in raw]
    gap = next((one for one in readings if one.gap is not None), None)
    if gap is not None:
        return gap
    moved = [one for one in readings if any(offset > starts[pair] for pair, offset in one.after.items())]
    if not moved:
        message = "aiokafka cannot decode what it fetched, and a second look found nothing there"
        raise CorruptRecordException(message)
    return Reading(
        {pair: found for one in moved for pair, found in one.records.items()},
        {pair: offset for one in moved for pair, offset in one.after.items()},
    )


async def _fetch(consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, bytes]:
    """The raw log of those partitions that have something there. All requests at once: they wait behind at most one
    long poll of the consumer's own."""
    client = consumer._client
    requests = []
    for pair, offset in starts.items():
        leader = client.cluster.leader_for_partition(pair)
        if leader is None or leader < 0:
            client.force_metadata_update()
            raise LeaderNotAvailableError(pair)
        what = [(pair.topic, [(pair.partition, offset, FETCH_BYTES)])]
        requests.append(client.send(leader, FetchRequest(0, 1, FETCH_BYTES, 0, what)))
    replies = await asyncio.gather(*requests)
    found = {pair: _message_set(client, pair, reply) for pair, reply in zip(starts, replies, strict=True)}
    return {pair: raw for pair, raw in found.items() if raw}


def _message_set(client: Any, pair: TopicPartition, reply: Any) -> bytes:
    [(_, [(_, error_code, _, *rest)])] = reply.topics
    if error_code:
        client.force_metadata_update()
        raise for_code(error_code)(pair)
    return bytes(rest[-1] or b"")


def read_log(pair: TopicPartition, raw: bytes, start: int, at_most: int) -> Reading:
    """The records of these batches from offset `start` on. Before a broken batch it ends; one at the start is a gap."""
    records: list[Record] = []
    after = start
    for frame in _frames(raw):
        try:
            for record in () if frame.control else _records(pair, frame):
                if record.offset < after:
                    continue
                if len(records) >= at_most:
                    return Reading({pair: records}, {pair: after})
                records.append(record)
                after = record.offset + 1
        except _BROKEN as error:
            if records:
                break
            return _gap(pair, frame, after, error)
        after = max(after, frame.behind)
    return Reading({pair: records}, {pair: after})


def _gap(pair: TopicPartition, frame: "_Frame", after: int, error: Exception) -> Reading:
    begin = max(after, frame.base_offset)
    end = max(frame.behind, begin + 1)
    stand_in = LenientRecord(pair.topic, pair.partition, begin, frame.max_ms, frame.timestamp_type, None, None, ())
    reason = f"a batch that cannot be decoded: {type(error).__name__}"
    return Reading({pair: [stand_in]}, {pair: end}, Gap(pair.topic, pair.partition, begin, end, reason))


class _Frame(Struct, frozen=True):
    """A record batch (format v2); `behind`: the offset after its last one; `body`: as it came, maybe compressed."""

    base_offset: int
    behind: int
    attributes: int
    first_ms: int
    max_ms: int
    count: int
    body: bytes

    @property
    def control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def timestamp_type(self) -> int:
        return APPEND_TIME if self.attributes & _LOG_APPEND_TIME else 0


def _frames(raw: bytes) -> Iterator[_Frame]:
    """The whole batches, up to one that the fetch cut off, or of an older format: that has no headers, so aiokafka can
    read it. Raises `CorruptRecordException` at a wrong checksum."""
    at = 0
    while at + _HEADER.size <= len(raw):
        base, length, _, magic, crc, attributes, last_delta, first_ms, max_ms, *_, count = _HEADER.unpack_from(raw, at)
        end = at + _BEFORE_LENGTH_COUNTS + length
        if magic != _MAGIC or end > len(raw):
            return
        if end < at + _HEADER.size or calc_crc32c(raw[at + _CHECKED_FROM : end]) != crc:
            message = f"wrong checksum of the batch at offset {base}"
            raise CorruptRecordException(message)
        body = raw[at + _HEADER.size : end]
        yield _Frame(base, base + last_delta + 1, attributes, first_ms, max_ms, count, body)
        at = end


def _records(pair: TopicPartition, frame: _Frame) -> Iterator[LenientRecord]:
    """Raises one of `_BROKEN` at what is no record, after those before it."""
    log = _Cursor(_unpacked(frame))
    for _ in range(frame.count):
        yield _record(pair, frame, _Cursor(log.chunk() or b""))


def _unpacked(frame: _Frame) -> bytes:
    codec = frame.attributes & _CODEC
    if codec and codec not in _UNPACK:
        message = f"unknown compression codec {codec}"
        raise UnsupportedCodecError(message)
    return bytes(_UNPACK[codec](frame.body)) if codec else frame.body


def _record(pair: TopicPartition, frame: _Frame, data: "_Cursor") -> LenientRecord:
    data.at += 1  # attributes of a record: none is defined
    delta_ms, delta = data.number(), data.number()
    key, value = data.chunk(), data.chunk()
    headers = tuple((_name(data.chunk()), data.chunk()) for _ in range(data.number()))
    if data.at != len(data.raw):
        message = "a record of another length than it says"
        raise ValueError(message)
    kind = frame.timestamp_type
    timestamp = frame.max_ms if kind == APPEND_TIME else frame.first_ms + delta_ms
    return LenientRecord(pair.topic, pair.partition, frame.base_offset + delta, timestamp, kind, key, value, headers)


def _name(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="backslashreplace")


class _Cursor:
    """Reads the parts of a record one after the other. Raises `IndexError` or `ValueError` behind the end."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def number(self) -> int:
        """A zigzag varint."""
        found = shift = 0
        while shift < _VARINT_BITS:
            byte = self.raw[self.at]
            self.at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return (found >> 1) ^ -(found & 1)
        message = "a number of more than 64 bits"
        raise ValueError(message)

    def chunk(self) -> bytes | None:
        """A length and so many bytes; a negative length is null."""
        length = self.number()
        if length < 0:
            return None
        found = self.raw[self.at : self.at + length]
        if len(found) < length:
            message = "the batch ends within a record"
            raise ValueError(message)
        self.at += length
        return found
