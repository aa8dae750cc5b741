"""SQLAlchemy's engine and connection as the service uses them, over the database in memory.

Every statement, COMMIT and connect is a step of the process that asks, at which it may die, sleep, or never be
answered.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import asyncpg
from sqlalchemy import TextClause

from tests.simulation.core_statements import run_core
from tests.simulation.database import Database, Session, Transaction, WaitsFor
from tests.simulation.faults import Fault, Kind
from tests.simulation.ingest_statements import copy_into
from tests.simulation.process import Process
from tests.simulation.results import Result
from tests.simulation.statements import answer_to

GONE = "connection is closed"


class FakeEngine:
    """Stands where an `AsyncEngine` does, for one process."""

    def __init__(self, database: Database, process: Process) -> None:
        self._database = database
        self._process = process

    def connect(self) -> "FakeConnection":
        return FakeConnection(self._database, self._process)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator["FakeConnection"]:
        async with self.connect() as connection, connection.begin():
            yield connection


class FakeConnection:
    """Stands where an `AsyncConnection` does; awaited or entered, it is connected."""

    def __init__(self, database: Database, process: Process) -> None:
        self.database = database
        self._process = process
        self._session: Session | None = None
        self._transaction: Transaction | None = None

    def __await__(self) -> Any:
        return self._connected().__await__()

    async def __aenter__(self) -> "FakeConnection":
        return await self._connected()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _connected(self) -> "FakeConnection":
        fault = await self._process.step("connect")
        self._session = self.database.connect()
        self._process.at_death.append(self._session.end)
        await self._process.answered(fault)
        return self

    async def close(self) -> None:
        if self._session is not None:
            if self._session.end in self._process.at_death:
                self._process.at_death.remove(self._session.end)
            self._session.end()

    async def invalidate(self) -> None:
        """The session is of no use any more."""

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        try:
            yield self
        except BaseException:
            await self._rollback()
            raise
        await self._commit()

    def note(self, what: Any) -> None:
        """Something to be known of this transaction if it commits."""
        assert self._transaction is not None
        self._transaction.notes.append(what)

    def let_go(self, table: str) -> None:
        """Gives up locks that the transaction would hold to its end: for a service that is broken on purpose."""
        assert self._transaction is not None
        self._transaction.let_go(table)

    def takes(self, table: str, *key: Any) -> bool:
        """Locks one row unless somebody else has: for the same."""
        assert self._transaction is not None
        return self._transaction.lock(table, key, skip=True)

    async def execute(self, statement: Any, parameters: Any = None) -> Result:
        if isinstance(statement, TextClause):
            values = dict(parameters or ())
            values |= {name: bind.value for name, bind in statement._bindparams.items() if name not in values}
            answer = answer_to(statement.text)
            return await self._do(answer.point, lambda transaction: answer.run(transaction, values))
        return await self._do("execute", lambda transaction: run_core(transaction, statement, parameters))

    async def scalars(self, statement: Any, parameters: Any = None) -> "Scalars":
        return Scalars([row[0] for row in await self.execute(statement, parameters)])

    async def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return (await self.execute(statement, parameters)).scalar()

    async def get_raw_connection(self) -> "FakeConnection":
        return self

    @property
    def driver_connection(self) -> "FakeConnection":
        return self

    async def copy_records_to_table(self, table: str, *, records: Iterable[Sequence[Any]], columns: list[str]) -> None:
        """Without an open transaction of the server it commits by itself, as the driver's does (decision 11)."""
        rows = [dict(zip(columns, record, strict=True)) for record in records]
        alone = self._transaction is None
        await self._do("copy", lambda transaction: copy_into(transaction, table, rows))
        if alone and self._transaction is not None:
            self._transaction.commit()
            self._transaction = None

    async def _do(self, point: str, run: Callable[[Transaction], Result]) -> Result:
        fault = await self._process.step(point)
        transaction = self._begun()
        session = transaction.session
        self._carry_out(fault, session)
        self._must_be_there()
        session.busy = True
        try:
            result = await self._run(transaction, run)
        except BaseException:
            transaction.failed = True
            raise
        finally:
            session.busy = False
            session.quiet_since_s = self.database.loop.time()
        if fault is not None and fault.kind is Kind.LOST_ANSWER:
            session.end()
        await self._process.answered(fault)
        self._must_be_there()
        return result

    def _begun(self) -> Transaction:
        """BEGIN goes with the first statement, also where nobody has said `begin`."""
        assert self._session is not None
        self._session.end_if_idle()
        self._must_be_there()
        if self._transaction is None:
            self._transaction = self._session.begin()
        elif self._transaction.failed:
            raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
        return self._transaction

    def _must_be_there(self) -> None:
        if self._session is None or not self._session.alive:
            raise asyncpg.InterfaceError(GONE)

    def _carry_out(self, fault: Fault | None, session: Session) -> None:
        if fault is None:
            return
        if fault.kind in {Kind.SESSION_KILLED, Kind.LOST_REQUEST}:
            session.end()
        elif fault.kind is Kind.DEADLOCK and session.transaction is not None:
            session.transaction.failed = True
            raise asyncpg.DeadlockDetectedError("deadlock detected")

    async def _run(self, transaction: Transaction, run: Callable[[Transaction], Result]) -> Result:
        while True:
            try:
                result = run(transaction)
            except WaitsFor as wait:
                await transaction.wait_for(wait.holder)
                await self._process.awake()
                self._must_be_there()
            else:
                transaction.check()
                return result

    async def _commit(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return
        session = transaction.session
        try:
            fault = await self._process.step("commit")
        except asyncio.CancelledError:
            transaction.rollback()
            raise
        session.end_if_idle()
        if fault is not None and fault.kind in {Kind.SESSION_KILLED, Kind.LOST_REQUEST, Kind.DEADLOCK}:
            session.end()
        self._must_be_there()
        transaction.rollback() if transaction.failed else transaction.commit()
        if fault is not None and fault.kind is Kind.LOST_ANSWER:
            session.end()
        await self._process.answered(fault)
        self._must_be_there()

    async def _rollback(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None and not transaction.ended:
            transaction.rollback()


class Scalars(list[Any]):
    """The first column of a result."""

    def all(self) -> list[Any]:
        return list(self)
