"""What ingest reads and writes of machines: states, history, commands, facts."""

from collections.abc import Sequence

import asyncpg

from telemetry_svc.store import command_outcomes, events, history, snapshots, states
from tests.simulation.answering import Answer, Values, insert_new, nothing, unnested
from tests.simulation.database import Row, Transaction
from tests.simulation.results import Result

_STATE = {"machine_ids": "machine_id", "partitions": "partition", "checks": "next_check_at", "states": "state"}


def _load_states(transaction: Transaction, values: Values) -> Result:
    found = ((one, transaction.get("machine_state", (one,))) for one in values["machine_ids"])
    return Result([(machine_id, row["state"]) for machine_id, row in found if row is not None])


def _due(transaction: Transaction, values: Values) -> Result:
    due = [
        (row["next_check_at"], row["machine_id"])
        for _, row in transaction.rows("machine_state")
        if row["partition"] == values["partition"]
        and row["next_check_at"] is not None
        and row["next_check_at"] <= values["at"]
    ]
    return Result([(machine_id,) for _, machine_id in sorted(due)[: values["at_most"]]])


def _save_states(transaction: Transaction, values: Values, *, new: bool) -> Result:
    rows = unnested(values, _STATE)
    for row in rows:
        transaction.lock("machine_state", (row["machine_id"],))
    for row in rows:
        before = transaction.get("machine_state", (row["machine_id"],))
        if before is not None:
            transaction.put("machine_state", before | row)
        elif new:
            transaction.put("machine_state", row | {"snapshot_at": transaction.now()})
    return Result(touched=len(rows))


def _settled(transaction: Transaction, values: Values) -> Result:
    wanted = set(values["machine_ids"])
    return Result(
        [
            (row["id"],)
            for _, row in transaction.rows("command")
            if row["machine_id"] in wanted and row["id"] in values["ids"] and row["status"] != "pending"
        ]
    )


_COMMAND = {
    "machine_ids": "machine_id",
    "ids": "id",
    "kinds": "kind",
    "bodies": "body",
    "reasons": "reason",
    "received_ats": "received_at",
    "partitions": "partition",
    "apply_seqs": "apply_seq",
}


def _settle(transaction: Transaction, values: Values) -> Result:
    rows = unnested(values, _COMMAND)
    for row in rows:
        transaction.lock("command", (row["machine_id"], row["id"]))
    for row in rows:
        before = transaction.get("command", (row["machine_id"], row["id"])) or {}
        status = "applied" if row["reason"] is None else "rejected"
        transaction.put("command", row | before | row | {"status": status})
    return Result(touched=len(rows))


_EVENT = {
    "machine_ids": "machine_id",
    "ids": "id",
    "types": "type",
    "rules": "rule",
    "subjects": "subject",
    "stages": "stage",
    "times": "time",
    "bodies": "body",
    "evidence": "evidence",
    "rules_versions": "rules_version",
    "by_replay": "by_replay",
}


def _add_events(transaction: Transaction, values: Values) -> Result:
    return Result([(row["id"],) for row in insert_new(transaction, "event", unnested(values, _EVENT))])


def _known(transaction: Transaction, values: Values) -> Result:
    keys = zip(values["machine_ids"], values["recorded_ats"], values["dedupes"], strict=True)
    return Result(
        [
            (place,)
            for place, key in enumerate(keys, start=1)
            if transaction.get("ping", key) is not None or transaction.get("ping_outlier", key) is not None
        ]
    )


def copy_into(transaction: Transaction, table: str, rows: Sequence[Row]) -> Result:
    """COPY: all rows or none; 23505 for a key that is there, 22P02 for a value that the server would not take."""
    place = transaction.database.tables[table]
    for row in rows:
        transaction.lock(table, place.key_of(row))
    for row in rows:
        if transaction.database.refuses(row):
            raise asyncpg.InvalidTextRepresentationError("a value that the server does not take")
        if transaction.get(table, place.key_of(row)) is not None:
            raise asyncpg.UniqueViolationError(f"duplicate key in {table}")
        transaction.put(table, row)
    return Result(touched=len(rows))


def _partitions(transaction: Transaction, _: Values) -> Result:
    """History has room for every week that anybody asks for."""
    weeks = history.weeks_around(transaction.now())
    starts = (weeks.first + place * history.WEEK for place in range((weeks.end - weeks.first) // history.WEEK + 2))
    return Result([(f"ping_{start:%Y%m%d}",) for start in starts])


INGEST = {
    states._LOAD.text: Answer("load_states", _load_states),
    states._DUE.text: Answer("due", _due),
    states._UPDATE.text: Answer("save_states", lambda t, v: _save_states(t, v, new=False)),
    states._INSERT.text: Answer("save_states", lambda t, v: _save_states(t, v, new=True)),
    snapshots._TAKE.text: Answer("snapshots", nothing),
    command_outcomes._SETTLED.text: Answer("settled", _settled),
    command_outcomes._SETTLE.text: Answer("settle", _settle),
    events._ADD.text: Answer("add_events", _add_events),
    history._KNOWN.text: Answer("known_pings", _known),
    history._PARTITIONS.text: Answer("partitions", _partitions),
}
