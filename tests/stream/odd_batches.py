"""Batches that aiokafka's producer would not write: names of headers that are not UTF-8, and worse."""

import asyncio
import struct
import time
from collections.abc import Callable, Sequence

import cramjam
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

BAD_NAME = b"caf\xe9-\xff\xfe"
"""Latin-1, then bytes that occur nowhere in UTF-8."""
BAD_NAME_READ = "caf\\xe9-\\xff\\xfe"

_PLACEHOLDER = "-" * len(BAD_NAME)
_HEADER_BYTES, _LENGTH_AT, _CRC_AT, _ATTRIBUTES_AT = 61, 8, 17, 21

Encode = Callable[[bytes], bytes]
CODECS: dict[str, tuple[int, Encode]] = {
    "none": (0, bytes),
    "gzip": (1, gzip_encode),
    "snappy": (2, snappy_encode),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}


def broken_lz4(raw: bytes) -> bytes:
    """A frame whose content has a wrong checksum: Kafka does not look at it, the clients in C do."""
    compressor = cramjam.lz4.Compressor(level=9, content_checksum=True, block_linked=False)
    compressor.compress(raw)
    frame = bytearray(bytes(compressor.finish()))
    frame[-1] ^= 0xFF
    return bytes(frame)


def batch_of(
    records: Sequence[tuple[bytes | None, bytes | None, bool]], codec: tuple[int, Encode] = CODECS["none"]
) -> bytes:
    """One batch of (key, value, whether a header's name is bad)."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    now_ms = int(time.time() * 1000)
    for place, (key, value, bad) in enumerate(records):
        headers: list[tuple[str, bytes | None]] = [
            ("good", b"1"),
            (_PLACEHOLDER if bad else "fine", b"2"),
            ("null", None),
        ]
        assert builder.append(place, timestamp=now_ms, key=key, value=value, headers=headers) is not None
    raw = bytes(builder.build())
    number, encode = codec
    body = encode(raw[_HEADER_BYTES:].replace(_PLACEHOLDER.encode(), BAD_NAME))
    batch = bytearray(raw[:_HEADER_BYTES] + body)
    struct.pack_into(">i", batch, _LENGTH_AT, len(batch) - _LENGTH_AT - 4)
    struct.pack_into(">h", batch, _ATTRIBUTES_AT, number)
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_ATTRIBUTES_AT:])))
    return bytes(batch)


async def send_raw(producer: AIOKafkaProducer, topic: str, partition: int, batch: bytes) -> int:
    """Sends the batch past the producer; returns the offset of its first record."""
    await producer.partitions_for(topic)
    leader = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
    request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])])
    for _ in range(50):
        [(_, [(_, error_code, offset, *_)])] = (await producer.client.send(leader, request)).topics
        error = for_code(error_code)
        if error is NoError:
            return int(offset)
        assert error.retriable, error
        await asyncio.sleep(0.1)  # a new topic is not known everywhere at once
    message = "the broker does not know the topic"
    raise AssertionError(message)
