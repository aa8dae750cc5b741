"""The claim: the one statement of the call queue that is SQL text. Picks by rank under SKIP LOCKED and leases.

First by rank, then others of that customer, then the next by rank, as `store/call_claims.py` has it.
"""

import uuid
from collections.abc import Callable
from datetime import timedelta

from telemetry_svc.store.call_claims import CLAIM_NEXT, CLAIM_ONE
from tests.simulation.answering import Answer, Values
from tests.simulation.database import Key, Row, Transaction
from tests.simulation.results import Result, row_type


def claim_next(transaction: Transaction, values: Values) -> Result:
    """CLAIM_NEXT."""
    picked = _pick(transaction, values, 1, lambda _: True)
    if not picked:
        return Result()
    first_key, first = picked[0]
    taken = {first_key}
    turns = [(first_key, first, 0)]
    customer = first["customer_id"]
    more = values["most"] - 1

    def sibling(row: Row) -> bool:
        return customer is not None and bool(row["customer_id"] == customer)

    def other(row: Row) -> bool:
        return row["customer_id"] is None or bool(row["customer_id"] != customer)

    for turn, wanted in ((1, sibling), (2, other)):
        found = _pick(transaction, values, more, wanted, taken)
        turns += [(key, row, turn) for key, row in found]
        taken |= {key for key, _ in found}
        more -= len(found)
    return _leased(transaction, values, turns)


def claim_one(transaction: Transaction, values: Values) -> Result:
    """CLAIM_ONE: waits for the row where somebody holds it."""
    for key, row in list(transaction.rows("call_task")):
        if row["task_id"] == values["task_id"] and _may_claim(transaction, row, values):
            transaction.lock("call_task", key)
            return _leased(transaction, values, [(key, row, 0)])
    return Result()


def _pick(
    transaction: Transaction, values: Values, most: int, wanted: Callable[[Row], bool], taken: set[Key] | None = None
) -> list[tuple[Key, Row]]:
    offered = [
        (key, row)
        for key, row in transaction.rows("call_task")
        if _may_claim(transaction, row, values) and wanted(row) and key not in (taken or ())
    ]
    offered.sort(key=lambda one: (one[1]["rank_at"], one[1]["machine_id"]))
    picked: list[tuple[Key, Row]] = []
    for key, row in offered:
        if len(picked) < most and transaction.lock("call_task", key, skip=True):
            picked.append((key, row))
    return picked


def _may_claim(transaction: Transaction, row: Row, values: Values) -> bool:
    now = transaction.now()
    expert_id, team_id = values["expert_id"], values["team_id"]
    routed = (
        row["expert_id"] == expert_id
        or (row["route_anyone_at"] is not None and row["route_anyone_at"] <= now)
        or (team_id is not None and row["team_id"] == team_id and (row["route_team_at"] or now) <= now)
    )
    return row["state"] == "pending" and routed and expert_id not in row["rejected_by"]


def _leased(transaction: Transaction, values: Values, turns: list[tuple[Key, Row, int]]) -> Result:
    now = transaction.now()
    lease = {
        "state": "claimed",
        "leased_to": values["expert_id"],
        "lease_expires_at": now + timedelta(seconds=values["lease_s"]),
        "changed_at": now,
    }
    rows = []
    for _, row, turn in turns:
        token = uuid.UUID(int=transaction.database.rng.getrandbits(128), version=4)
        after = transaction.put("call_task", row | lease | {"lease_token": token})
        shown = after | {"turn": turn, "left_s": values["lease_s"]}
        rows.append(row_type(tuple(shown))(shown.values()))
    return Result(rows)


CLAIMS = {CLAIM_NEXT: Answer("claim", claim_next), CLAIM_ONE: Answer("claim", claim_one)}
