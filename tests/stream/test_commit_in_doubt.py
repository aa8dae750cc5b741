"""The connection is lost during COMMIT: the role cannot know, and must neither lose the batch nor store it twice."""

from sqlalchemy.ext.asyncio import AsyncConnection

from telemetry_svc.store.engine import create_engine
from telemetry_svc.stream.batch import Batch
from tests.stream.proxy import commit_cutter
from tests.stream.rig import Rig


async def test_a_batch_that_was_committed_without_an_answer_is_not_stored_again(rig: Rig, database_url: str) -> None:
    for partition in (0, 1):
        await rig.produce(partition, *(b"v%d" % number for number in range(40)))
        await rig.produce(partition, *(b"c%d" % number for number in range(5)), second=True)
    cuts_wanted = 3
    async with commit_cutter(database_url) as (cutter, url):
        engine = create_engine(url, application_name="tests-in-doubt")

        async def cut_the_commit(_connection: AsyncConnection, batch: Batch) -> None:
            if batch.size and cutter.cuts < cuts_wanted:
                cutter.cut_next()

        async with rig.member(engine=engine, max_records=20) as member:
            member.probe.inside = cut_the_commit
            rows = await rig.until_all_seen()
        await engine.dispose()
    assert cutter.cuts == cuts_wanted
    rig.assert_exactly_once(rows)
    assert member.counted("failed_batches") == cuts_wanted
    assert member.counted("records") < len(rig.sent), "what was in doubt was not counted, for nobody knew"
