"""The broker ends before what the database has read: another broker, or one whose log is gone."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from telemetry_svc import topics
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.stream.kafka import KafkaSettings
from tests.e2e.house import House, house_on
from tests.recovery.conftest import Databases

READ_UP_TO = 1_000_000


@pytest.fixture
async def house(databases: Databases, kafka: KafkaSettings, clean_topics: None) -> House:
    """A database that has read further than any broker here has written, in one partition of the ping topic."""
    name = await databases.migrated()
    engine = databases.engine(name)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO partition_owner (group_name, partition, owner_epoch, owner_pid, owner_backend_start,"
                " next_offset_a, next_offset_b, apply_seq) VALUES (:group, 3, 7, 0, 'epoch', :read, 0, 5)"
            ),
            {"group": topics.INGEST_GROUP, "read": READ_UP_TO},
        )
    return House("", engine, kafka, databases.url(name), new_keyring_text())


async def test_it_is_said_which_where_and_what_to_do_and_nothing_is_changed(house: House) -> None:
    code, out, err = await house.cli("recover")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"{topics.PINGS} partition 3 ends at offset" in err
    assert f"the database has read up to {READ_UP_TO} (1 such in all)" in err
    assert "TELEMETRY_KAFKA_BOOTSTRAP" in err
    assert "--broker-lost-records" in err
    assert await house.rows("SELECT next_offset_a, owner_epoch FROM partition_owner") == [(READ_UP_TO, 7)]
    assert await house.rows("SELECT * FROM offset_gap") == []


async def test_a_log_that_is_gone_for_good_is_read_anew_and_the_gap_is_noted(house: House, engine: AsyncEngine) -> None:
    code, out, err = await house.cli("recover", "--broker-lost-records")
    assert code == 0, err
    assert f"{topics.PINGS} 3: read anew from " in out
    [(offset, epoch, apply_seq)] = await house.rows("SELECT next_offset_a, owner_epoch, apply_seq FROM partition_owner")
    assert (epoch, apply_seq) == (8, 5), "a member that still runs is fenced; inputs go on being numbered"
    [(topic, number, end, to_offset)] = await house.rows(
        "SELECT topic, partition, from_offset, to_offset FROM offset_gap"
    )
    assert (topic, number, to_offset) == (topics.PINGS, 3, READ_UP_TO)
    assert offset <= end < READ_UP_TO
    assert (await house.cli("recover"))[0] == 0, "nothing is ahead any more"
    async with house_on(house.kafka, house.engine, house.database_url, house.keyring) as running:
        await running.settle()


@pytest.mark.parametrize("since", ["yesterday", "2026-11-22T04:20:31", "2199-01-01T00:00:00Z"])
async def test_a_moment_that_is_none_is_refused(house: House, since: str) -> None:
    code, _, err = await house.cli("recover", "--since", since)
    assert code == 2
    assert "--since" in err
