"""The service's own SQL, statement by statement, as functions over the tables in memory.

A statement is known by its text, so that the store's functions run as they are: their parameters, their order, what
they make of the rows. One that is not here stops the simulation with its first line: teach it, and let
the behaviour suites (`test_*_behaviour.py`) hold the answer to the real server.
"""

from tests.simulation.answering import Answer
from tests.simulation.claim_statements import CLAIMS
from tests.simulation.identity_statements import IDENTITY
from tests.simulation.ingest_statements import INGEST
from tests.simulation.letter_statements import LETTERS
from tests.simulation.schedule_statements import SCHEDULE
from tests.simulation.stream_statements import LOCK_TIMEOUT, STREAM, set_lock_timeout

ANSWERS = STREAM | INGEST | LETTERS | SCHEDULE | CLAIMS | IDENTITY


class UnknownStatement(Exception):
    """The simulation was never taught this one."""


def answer_to(text: str) -> Answer:
    """What the database does when it is sent this text."""
    answer = ANSWERS.get(text)
    if answer is not None:
        return answer
    limit = LOCK_TIMEOUT.match(text)
    if limit is not None:
        return Answer("set", lambda transaction, _: set_lock_timeout(transaction, int(limit[1])))
    raise UnknownStatement(" ".join(text.split())[:160])
