"""Dead letters, parked machines and what is held of them."""

import json
from collections.abc import Sequence
from typing import Any

from telemetry_svc.store import dead_letters, parked
from tests.simulation.answering import Answer, Values, insert_new, unnested
from tests.simulation.database import Row, Transaction
from tests.simulation.results import Result, row_type

_LETTER = {
    "topics": "topic",
    "partitions": "partition",
    "offsets": "topic_offset",
    "classes": "error_class",
    "messages": "error_message",
    "timestamps": "record_timestamp",
    "keys": "record_key",
    "values": "record_value",
    "lengths": "original_length",
    "headers": "record_headers",
    "machine_ids": "machine_id",
}
_UNTOUCHED = dict.fromkeys(("requested_at", "taken_up_at", "taken_up_as", "taken_up_why"))
_RECORD = ("topic", "partition", "topic_offset", "record_timestamp", "record_key", "record_value")


def _add(transaction: Transaction, values: Values) -> Result:
    new = insert_new(transaction, "dead_letter", [row | _UNTOUCHED for row in unnested(values, _LETTER)])
    return Result([(row["topic"], row["partition"], row["topic_offset"]) for row in new])


def _record(row: Row) -> tuple[Any, ...]:
    return (*(row[name] for name in _RECORD), json.loads(row["record_headers"]))


def _is_unknown(row: Row, machine_ids: Sequence[str]) -> bool:
    return row["machine_id"] in machine_ids and row["error_class"] == "unknown_machine" and row["taken_up_at"] is None


def _oldest_first(row: Row) -> tuple[Any, ...]:
    return (row["record_timestamp"], row["topic_offset"])


def _locked(transaction: Transaction, rows: list[Row], at_most: int) -> Result:
    key_of = transaction.database.tables["dead_letter"].key_of
    for row in rows[:at_most]:
        transaction.lock("dead_letter", key_of(row))
    return Result([_record(row) for row in rows[:at_most]])


def _unknown(transaction: Transaction, values: Values) -> Result:
    found = [row for _, row in transaction.rows("dead_letter") if _is_unknown(row, values["machine_ids"])]
    found.sort(key=lambda row: (row["machine_id"], *_oldest_first(row)))
    return _locked(transaction, found, values["at_most"])


def _still_unknown(transaction: Transaction, values: Values) -> Result:
    rows = (row for _, row in transaction.rows("dead_letter"))
    return Result([(one,) for one in {row["machine_id"] for row in rows if _is_unknown(row, values["machine_ids"])}])


def _letter(transaction: Transaction, values: Values) -> Result:
    row = transaction.get("dead_letter", (values["topic"], values["partition"], values["offset"]))
    return _locked(transaction, [] if row is None else [row], 1)


def _is_parked(transaction: Transaction, row: Row) -> bool:
    return transaction.get("parked_machine", (row["machine_id"],)) is not None


def _requested(transaction: Transaction, values: Values) -> Result:
    found = [
        row
        for _, row in transaction.rows("dead_letter")
        if row["partition"] == values["partition"]
        and row["requested_at"] is not None
        and row["topic"] in values["topics"]
        and not _is_parked(transaction, row)
    ]
    return _locked(transaction, sorted(found, key=_oldest_first), values["at_most"])


def _taken_up(transaction: Transaction, values: Values) -> Result:
    columns = ("topics", "partitions", "offsets", "outcomes", "whys")
    for *where, outcome, why in zip(*(values[name] for name in columns), strict=True):
        row = transaction.get("dead_letter", tuple(where))
        assert row is not None
        at = None if outcome == "unknown_machine" else transaction.now()
        after = {"taken_up_at": at, "taken_up_as": outcome, "taken_up_why": why, "requested_at": None}
        transaction.put("dead_letter", row | after)
    return Result(touched=len(values["topics"]))


# --- parked machines ---

_PARKING = {
    "machine_ids": "machine_id",
    "partitions": "partition",
    "topics": "topic",
    "offsets": "topic_offset",
    "reasons": "reason",
}
_HELD = {
    "machine_ids": "machine_id",
    "topics": "topic",
    "partitions": "partition",
    "offsets": "topic_offset",
    "received_ats": "received_at",
    "keys": "record_key",
    "values": "record_value",
    "headers": "record_headers",
}
_HELD_RECORD = ("n", "topic", "partition", "topic_offset", "received_at", "record_key", "record_value")


def _parked(transaction: Transaction, values: Values) -> Result:
    rows = (row for _, row in transaction.rows("parked_machine"))
    mine = (row for row in rows if row["partition"] in values["partitions"])
    return Result([(row["machine_id"], row["topic"] is not None) for row in mine])


def _due(transaction: Transaction, values: Values) -> Result:
    rows = [row for _, row in transaction.rows("parked_machine") if row["partition"] == values["partition"]]
    due = sorted((row for row in rows if row["next_try_at"] <= transaction.now()), key=lambda row: row["next_try_at"])
    columns = ("machine_id", "partition", "topic", "topic_offset", "tries")
    return Result([row_type(columns)(row[name] for name in columns) for row in due[:1]])


def _park(transaction: Transaction, values: Values) -> Result:
    rows = unnested(values, _PARKING)
    for row in rows:
        transaction.lock("parked_machine", (row["machine_id"],))
    for row in rows:
        next_try_at = transaction.now() if row["topic"] is None else transaction.now() + values["retry_every"]
        before = transaction.get("parked_machine", (row["machine_id"],)) or {"parked_at": transaction.now()}
        transaction.put("parked_machine", before | row | {"tries": 0, "next_try_at": next_try_at})
    return Result(touched=len(rows))


def _postpone(transaction: Transaction, values: Values) -> Result:
    row = transaction.get("parked_machine", (values["machine_id"],))
    if row is None:
        return Result()
    later = {"tries": row["tries"] + 1, "next_try_at": transaction.now() + values["retry_every"]}
    transaction.put("parked_machine", row | later)
    return Result(touched=1)


def _unpark(transaction: Transaction, values: Values) -> Result:
    transaction.delete("parked_machine", (values["machine_id"],))
    return Result(touched=1)


def _hold(transaction: Transaction, values: Values) -> Result:
    rows = [transaction.put("held_record", row) for row in unnested(values, _HELD)]
    return Result(touched=len(rows))


def _held(transaction: Transaction, values: Values) -> Result:
    rows = [row for _, row in transaction.rows("held_record") if row["machine_id"] == values["machine_id"]]
    rows.sort(key=lambda row: row["n"])
    return Result(
        [
            (*(row[name] for name in _HELD_RECORD), json.loads(row["record_headers"]))
            for row in rows[: values["at_most"]]
        ]
    )


def _drop(transaction: Transaction, values: Values) -> Result:
    gone = [
        key
        for key, row in transaction.rows("held_record")
        if row["machine_id"] == values["machine_id"] and row["n"] <= values["up_to"]
    ]
    for key in gone:
        transaction.delete("held_record", key)
    return Result(touched=len(gone))


def _put_behind(transaction: Transaction, values: Values) -> Result:
    columns = ("topics", "partitions", "offsets", "machine_ids")
    for *where, machine_id in zip(*(values[name] for name in columns), strict=True):
        row = transaction.get("dead_letter", tuple(where))
        assert row is not None
        transaction.put("dead_letter", row | {"machine_id": machine_id})
    return Result(touched=len(values["topics"]))


def _waiting(transaction: Transaction, values: Values) -> Result:
    parkings = transaction.rows("parked_machine")
    partitions = {row["partition"] for _, row in parkings if row["next_try_at"] <= transaction.now()}
    partitions |= {
        row["partition"]
        for _, row in transaction.rows("dead_letter")
        if row["requested_at"] is not None and row["topic"] in values["topics"] and not _is_parked(transaction, row)
    }
    return Result([(partition,) for partition in sorted(partitions)])


def _how_many(transaction: Transaction, values: Values) -> Result:
    return Result([(len(list(transaction.rows("parked_machine"))),)])


LETTERS = {
    dead_letters._ADD.text: Answer("add_letters", _add),
    dead_letters._UNKNOWN.text: Answer("waiting_letters", _unknown),
    dead_letters._STILL_UNKNOWN.text: Answer("waiting_letters", _still_unknown),
    dead_letters._LETTER.text: Answer("letter", _letter),
    dead_letters._REQUESTED.text: Answer("letters", _requested),
    dead_letters._TAKEN_UP.text: Answer("taken_up", _taken_up),
    parked._PARKED.text: Answer("parked", _parked),
    parked._DUE.text: Answer("parked_due", _due),
    parked._PARK.text: Answer("park", _park),
    parked._POSTPONE.text: Answer("postpone", _postpone),
    parked._UNPARK.text: Answer("unpark", _unpark),
    parked._HOLD.text: Answer("hold", _hold),
    parked._HELD.text: Answer("held", _held),
    parked._PUT_BEHIND.text: Answer("put_behind", _put_behind),
    parked._DROP.text: Answer("drop_held", _drop),
    parked._WAITING.text: Answer("look", _waiting),
    parked._HOW_MANY.text: Answer("look", _how_many),
}
