"""Unique indexes of the call queue beside the primary keys, as the schema declares them."""

from collections import Counter

import asyncpg

from telemetry_svc.calls import FINAL_STATES
from tests.simulation.database import Transaction

_FINAL = {state.value for state in FINAL_STATES}


def open_task_once(transaction: Transaction) -> None:
    """uq_call_task_open: one open task per machine."""
    for row in transaction.written("call_task").values():
        if row is None or row["state"] in _FINAL:
            continue
        machine_id = row["machine_id"]
        tasks = [one for _, one in transaction.rows("call_task") if one["machine_id"] == machine_id]
        if sum(one["state"] not in _FINAL for one in tasks) > 1:
            raise asyncpg.UniqueViolationError("uq_call_task_open")


def open_reasons_once(transaction: Transaction) -> None:
    """uq_call_reason_open: an alert is an open reason of at most one task."""
    written = {row["machine_id"] for row in transaction.written("call_reason").values() if row is not None}
    if not written:
        return
    reasons = (row for _, row in transaction.rows("call_reason") if row["machine_id"] in written)
    times = Counter((row["machine_id"], row["alert_id"]) for row in reasons if row["ended"] is None)
    if any(count > 1 for count in times.values()):
        raise asyncpg.UniqueViolationError("uq_call_reason_open")
