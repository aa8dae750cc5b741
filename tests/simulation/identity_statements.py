"""Which database this is. The simulated one is always where it was; nobody restores it."""

from telemetry_svc.store import identity
from tests.simulation.answering import Answer, Values
from tests.simulation.database import Transaction
from tests.simulation.results import Result

HERE = "simulated"


def _first(transaction: Transaction, _: Values) -> Result:
    if transaction.get("database_identity", (1,)) is None:
        transaction.put("database_identity", {"id": 1, "identity": HERE})
    return Result()


def _note(transaction: Transaction, values: Values) -> Result:
    transaction.put("database_identity", {"id": 1, "identity": values.get("identity", HERE)})
    return Result(touched=1)


def _was_restored(transaction: Transaction, _: Values) -> Result:
    row = transaction.get("database_identity", (1,))
    return Result([(row is not None and row["identity"] != HERE,)])


IDENTITY = {
    identity._FIRST.text: Answer("identity", _first),
    identity._NOTE.text: Answer("identity", _note),
    identity._SET.text: Answer("identity", _note),
    identity._RESTORED.text: Answer("identity", _was_restored),
}
