"""Who owns a partition and how far it is read, and what waits to go out: the statements of the consumer and relay."""

import json
import re

from telemetry_svc.store import gaps, outbox, ownership
from tests.simulation.answering import Answer, Values, unnested
from tests.simulation.database import Row, Transaction
from tests.simulation.results import Result

LOCK_TIMEOUT = re.compile(r"SET LOCAL lock_timeout = (\d+)$")


def set_lock_timeout(transaction: Transaction, limit_ms: int) -> Result:
    """SET LOCAL lock_timeout."""
    transaction.lock_timeout_s = limit_ms / 1000
    return Result()


def _one(_: Transaction, __: Values) -> Result:
    return Result([(1,)])


def _first_seen(transaction: Transaction, values: Values) -> Result:
    for partition, a, b in zip(values["partitions"], values["a"], values["b"], strict=True):
        key = (values["group_name"], partition)
        if transaction.get("partition_owner", key) is not None:
            continue
        transaction.lock("partition_owner", key)
        transaction.put(
            "partition_owner",
            {
                "group_name": key[0],
                "partition": partition,
                "owner_epoch": 0,
                "owner_pid": 0,
                "next_offset_a": a,
                "next_offset_b": b,
                "apply_seq": 0,
            },
        )
    return Result()


def _take_over(transaction: Transaction, values: Values) -> Result:
    keys = [(values["group_name"], partition) for partition in sorted(values["partitions"])]
    for key in keys:
        transaction.lock("partition_owner", key)
    rows = []
    for key in keys:
        row = transaction.get("partition_owner", key)
        if row is not None:
            after = row | {"owner_epoch": row["owner_epoch"] + 1, "owner_pid": transaction.session.pid}
            transaction.put("partition_owner", after)
            rows.append(tuple(after[name] for name in _OWNED))
    return Result(rows)


_OWNED = ("partition", "owner_epoch", "next_offset_a", "next_offset_b", "apply_seq")


def _terminate_owners(transaction: Transaction, values: Values) -> Result:
    ended = set()
    for partition in values["partitions"]:
        row = transaction.get("partition_owner", (values["group_name"], partition))
        session = None if row is None else transaction.database.sessions.get(row["owner_pid"])
        if session is not None and session is not transaction.session:
            ended.add(session.pid)
            session.end()
    return Result([(len(ended),)])


def _advance(transaction: Transaction, values: Values) -> Result:
    columns = ("partitions", "epochs", "before_a", "before_b", "after_a", "after_b", "apply_seqs")
    moves = sorted(zip(*(values[name] for name in columns), strict=True))
    for move in moves:
        transaction.lock("partition_owner", (values["group_name"], move[0]))
    touched = 0
    for partition, epoch, before_a, before_b, after_a, after_b, apply_seq in moves:
        row = transaction.get("partition_owner", (values["group_name"], partition))
        if row is None or (row["owner_epoch"], row["next_offset_a"], row["next_offset_b"]) != (
            epoch,
            before_a,
            before_b,
        ):
            continue
        touched += 1
        transaction.put(
            "partition_owner", row | {"next_offset_a": after_a, "next_offset_b": after_b, "apply_seq": apply_seq}
        )
    return Result(touched=touched)


def _note_gap(transaction: Transaction, values: Values) -> Result:
    key = (values["topic"], values["partition"], values["from_offset"])
    if transaction.get("offset_gap", key) is None:
        transaction.put("offset_gap", dict(values))
    return Result()


_MESSAGE = {
    "buckets": "bucket",
    "topics": "topic",
    "partitions": "partition",
    "keys": "key",
    "values": "value",
    "headers": "headers",
}


def _enqueue(transaction: Transaction, values: Values) -> Result:
    rows = unnested(values, _MESSAGE)
    for row in rows:
        transaction.put("outbox", row | {"sent_at": None, "parked_reason": None, "created_at": transaction.now()})
    return Result(touched=len(rows))


def _notify(transaction: Transaction, _: Values) -> Result:
    if transaction.database.is_heard:
        transaction.after_commit += transaction.database.on_notify
    return Result()


def _waits(row: Row) -> bool:
    return row["sent_at"] is None and row["parked_reason"] is None


def _is_asked_for(row: Row, values: Values) -> bool:
    return _waits(row) and row["topic"] not in values["without"]


def _lock_buckets(transaction: Transaction, values: Values) -> Result:
    waiting = sorted({row["bucket"] for _, row in transaction.rows("outbox") if _is_asked_for(row, values)})
    transaction.database.rng.shuffle(waiting)
    locked = [
        bucket for bucket in waiting[: values["buckets"]] if transaction.lock("outbox_bucket", (bucket,), skip=True)
    ]
    return Result([(bucket,) for bucket in locked])


def _waiting(transaction: Transaction, values: Values) -> Result:
    rows = sorted(
        (
            row
            for _, row in transaction.rows("outbox")
            if row["bucket"] in values["buckets"] and _is_asked_for(row, values)
        ),
        key=lambda row: row["id"],
    )
    found, bytes_before = [], 0
    for row in rows[: values["rows"]]:
        if bytes_before >= values["max_bytes"]:
            break
        bytes_before += len(row["value"] or b"") + len(row["headers"])
        columns = ("id", "topic", "partition", "key", "value")
        found.append((*(row[name] for name in columns), json.loads(row["headers"])))
    return Result(found)


def _mark_sent(transaction: Transaction, values: Values) -> Result:
    for row_id in values["ids"]:
        row = transaction.get("outbox", (row_id,))
        if row is not None:
            transaction.put("outbox", row | {"sent_at": transaction.now()})
    return Result(touched=len(values["ids"]))


def _park(transaction: Transaction, values: Values) -> Result:
    row = transaction.get("outbox", (values["id"],))
    assert row is not None
    transaction.put("outbox", row | {"parked_reason": values["reason"]})
    return Result(touched=1)


def _waiting_up_to(transaction: Transaction, values: Values) -> Result:
    return Result([(min(values["most"], _count_waiting(transaction)),)])


def _count_waiting(transaction: Transaction) -> int:
    return sum(_waits(row) for _, row in transaction.rows("outbox"))


def _backlog(transaction: Transaction, _: Values) -> Result:
    return Result([(_count_waiting(transaction),)])


STREAM = {
    "SELECT 1": Answer("select", _one),
    ownership._FIRST_SEEN.text: Answer("first_seen", _first_seen),
    ownership._TAKE_OVER.text: Answer("take_over", _take_over),
    ownership._TERMINATE_OWNERS.text: Answer("terminate", _terminate_owners),
    ownership._ADVANCE.text: Answer("advance", _advance),
    gaps._ADD.text: Answer("note_gap", _note_gap),
    outbox._ENQUEUE.text: Answer("enqueue", _enqueue),
    outbox._WAKE.text: Answer("notify", _notify),
    outbox._LOCK_BUCKETS.text: Answer("lock_waiting", _lock_buckets),
    outbox._WAITING.text: Answer("waiting", _waiting),
    outbox._MARK_SENT.text: Answer("mark_sent", _mark_sent),
    outbox._PARK.text: Answer("park", _park),
    outbox._BACKLOG.text: Answer("backlog", _backlog),
    outbox._WAITING_UP_TO.text: Answer("look", _waiting_up_to),
}
