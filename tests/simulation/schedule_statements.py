"""Slots of the scheduler, and who may do them."""

from collections.abc import Callable
from datetime import timedelta

from telemetry_svc.store import lease, slots
from tests.simulation.answering import Answer, Values, insert_new
from tests.simulation.database import Row, Transaction
from tests.simulation.results import Result


def _take_slot(transaction: Transaction, values: Values) -> Result:
    return Result([(row["schedule"],) for row in insert_new(transaction, "schedule_slot", [dict(values)])])


def _first_lease(transaction: Transaction, values: Values) -> Result:
    row = dict(values) | {"term": 0, "expires_at": None}
    return Result(touched=len(list(insert_new(transaction, "schedule_lease", [row]))))


def _lease(transaction: Transaction, values: Values, *, ours: bool) -> Row | None:
    """The row, locked, if it is as the statement wants it: ours by the term, or to be had."""
    row = transaction.get("schedule_lease", (values["name"],))
    if row is None:
        return None
    runs = row["expires_at"] is not None and row["expires_at"] > transaction.now()
    mine = row["holder"] == values["holder"]
    if not (mine and row["term"] == values["term"] and runs if ours else mine or not runs):
        return None
    transaction.lock("schedule_lease", (values["name"],))
    return row


def _take_lease(transaction: Transaction, values: Values) -> Result:
    row = _lease(transaction, values, ours=False)
    if row is None:
        return Result()
    until = transaction.now() + timedelta(seconds=values["lease_s"])
    taken = row | {"holder": values["holder"], "term": row["term"] + 1, "expires_at": until}
    transaction.put("schedule_lease", taken)
    return Result([(taken["term"],)])


def _renew_lease(transaction: Transaction, values: Values) -> Result:
    row = _lease(transaction, values, ours=True)
    if row is not None:
        until = transaction.now() + timedelta(seconds=values["lease_s"])
        transaction.put("schedule_lease", row | {"expires_at": until})
    return Result(touched=0 if row is None else 1)


def _hold_lease(transaction: Transaction, values: Values) -> Result:
    row = _lease(transaction, values, ours=True)
    return Result() if row is None else Result([(row["term"],)])


def _release_lease(transaction: Transaction, values: Values) -> Result:
    row = _lease(transaction, values, ours=True)
    if row is not None:
        transaction.put("schedule_lease", row | {"expires_at": None})
    return Result(touched=0 if row is None else 1)


def _older(table: str, column: str) -> Callable[[Transaction, Values], Result]:
    """Deletes the rows whose instant in this column lies before the one that is given."""

    def delete(transaction: Transaction, values: Values) -> Result:
        old = [
            key for key, row in transaction.rows(table) if row[column] is not None and row[column] < values["before"]
        ]
        for key in old:
            transaction.delete(table, key)
        return Result(touched=len(old))

    return delete


SCHEDULE = {
    lease._FIRST.text: Answer("first_lease", _first_lease),
    lease._TAKE.text: Answer("take_lease", _take_lease),
    lease._RENEW.text: Answer("renew_lease", _renew_lease),
    lease._HOLD.text: Answer("hold_lease", _hold_lease),
    lease._RELEASE.text: Answer("release_lease", _release_lease),
    slots._TAKE.text: Answer("take_slot", _take_slot),
    slots._DROP_SENT.text: Answer("drop_sent", _older("outbox", "sent_at")),
    slots._DROP_SLOTS.text: Answer("drop_slots", _older("schedule_slot", "slot")),
}
