"""`policy check|show|diff`: what is printed, whom a difference touches, and the exit code."""

from importlib.resources import files
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.policy_cli.command import telemetry

REV1 = Path(str(files("telemetry_svc.policies") / "editions")) / "zoomlion-2011-rev1.yaml"
TEXT = REV1.with_name("zoomlion-2011.yaml")


def changed(directory: Path, *changes: tuple[str, str]) -> Path:
    """The revised edition with some changes."""
    content = REV1.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in content
        content = content.replace(before, after, 1)
    path = directory / "own.yaml"
    path.write_text(content, encoding="utf-8")
    return path


async def test_good_files_are_one_line(tmp_path: Path) -> None:
    answer = await telemetry("policy", "check", str(REV1), str(TEXT), home=tmp_path)
    assert answer == (0, ["2 good: zoomlion-2011-rev1, zoomlion-2011"], [])


async def test_every_fault_of_every_file_is_named(tmp_path: Path) -> None:
    own = changed(tmp_path, ("every_months: 12", "every_months: twelve"), ("after: 72 h", "after: soon"))
    missing = tmp_path / "missing.yaml"
    answer = await telemetry("policy", "check", str(own), str(REV1), str(missing), home=tmp_path)
    assert (answer.code, answer.err, len(answer.out)) == (1, [], 3)
    lines = own.read_text(encoding="utf-8").splitlines()
    months, silence = (lines.index(line) + 1 for line in ("    every_months: twelve", "    after: soon"))
    assert answer.out[0].startswith(f"{own}:{months}: clauses.R4.every_months: ")
    assert answer.out[1].startswith(f"{own}:{silence}: anomalies.silence.after: ")
    assert answer.out[2] == f"{missing}:0: No such file or directory"


async def test_an_edition_is_shown_in_both_languages(tmp_path: Path) -> None:
    english = await telemetry("policy", "show", "zoomlion-2011", home=tmp_path)
    chinese = await telemetry("policy", "show", "zoomlion-2011", "--language", "zh-CN", home=tmp_path)
    assert (english.code, chinese.code) == (0, 0)
    assert english.out[0] == "User service policy 2011 (zoomlion-2011)"
    assert chinese.out[0] == "2011年用户服务政策 (zoomlion-2011)"
    assert "    under 20 t: 2000 h or 12 months" in english.out
    assert "72" not in "".join(english.out[3:-1]), "the threshold of silence is nothing for customers"
    internal = await telemetry("policy", "show", "zoomlion-2011", "--internal", home=tmp_path)
    assert internal.out[: len(english.out) - 2] == english.out[:-2]
    assert "    after: 72 h" in internal.out


async def test_an_edition_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    answer = await telemetry("policy", "show", "zoomlion-2012", home=tmp_path)
    assert (answer.code, answer.out, len(answer.err)) == (2, [], 1)
    assert "zoomlion-2012 is no edition known here (" in answer.err[0]


async def test_a_difference_without_a_database_says_so(tmp_path: Path) -> None:
    answer = await telemetry("policy", "diff", "zoomlion-2011", "zoomlion-2011-rev1", home=tmp_path)
    assert answer.code == 0
    assert answer.out[0] == "zoomlion-2011 -> zoomlion-2011-rev1: 7 differences"
    assert "  warranty.structure.brackets.limit_h [from 0 t to under 20 t]: none -> 6000" in answer.out
    assert answer.out[-1].startswith("machines: not looked up, ")


async def test_an_edition_does_not_differ_from_itself(tmp_path: Path) -> None:
    answer = await telemetry("policy", "diff", "zoomlion-2011", str(TEXT), home=tmp_path)
    assert answer == (0, ["zoomlion-2011 -> zoomlion-2011: no differences"], [])


async def test_a_difference_names_the_machines_it_touches(
    tmp_path: Path, engine: AsyncEngine, database_url: str, clean_database: None
) -> None:
    async with engine.begin() as connection:
        await connection.execute(_REGISTER)
    answer = await telemetry("policy", "diff", "zoomlion-2011", str(REV1), home=tmp_path, database_url=database_url)
    first = ", ".join(f"A{number:02d}" for number in range(1, 21))
    assert answer.code == 0
    assert answer.out[-2:] == [
        f"touches 25 of the 26 machines bound to zoomlion-2011: {first} and 5 more",
        "touches 1 of the 2 machines bound to zoomlion-2011-rev1: B1",
    ]


async def test_a_difference_in_words_touches_no_machine(
    tmp_path: Path, engine: AsyncEngine, database_url: str, clean_database: None
) -> None:
    async with engine.begin() as connection:
        await connection.execute(_REGISTER)
    own = changed(tmp_path, ("The whole machine is under warranty", "Our machine is under warranty"))
    answer = await telemetry("policy", "diff", "zoomlion-2011-rev1", str(own), home=tmp_path, database_url=database_url)
    assert answer.out[-1] == "touches 0 of the 2 machines bound to zoomlion-2011-rev1"


_REGISTER = text(
    """
    INSERT INTO machine (machine_id, tonnage_t, time_zone, policy_edition, initial_ch, status, device_ids,
                         permitted_hours, registered_at, changed_at)
    SELECT id, tonnage_t, 'Asia/Shanghai', edition, 0, 'active', '{}', '[]', now(), now()
    FROM (SELECT 'A' || to_char(n, 'FM00'), CASE WHEN n = 26 THEN 20.0 ELSE 19.9 END, 'zoomlion-2011'
          FROM generate_series(1, 26) n
          UNION ALL VALUES ('B1', 19.9, 'zoomlion-2011-rev1'), ('B2', 20.0, 'zoomlion-2011-rev1'))
         AS m (id, tonnage_t, edition)
    """
)
