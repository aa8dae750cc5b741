"""Whatever becomes of a run is told: its seed, its figures as far as they are known, what was wrong, an exit code."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_svc.embedded.errors import StartFailed
from tests.chaos.__main__ import options, run_all, runs
from tests.chaos.arena import Servers
from tests.chaos.builds import BUILDS, CONTROLS, Build, Verdict
from tests.chaos.nemesis import Tally
from tests.chaos.plan import SHORT, Kind, plan, planned
from tests.chaos.records import Figures, Order
from tests.chaos.report import BROKEN, INCONCLUSIVE, KEPT, Known, Met, Outcome
from tests.chaos.run import told_of
from tests.chaos.test_compare import JOURNAL, MACHINE, NOON, WELL

FAULTS = plan(1, SHORT)
ENOUGH = Met(kills_in_transaction=2, redelivered=1, fenced=1, in_doubt=1)
BUSY = replace(JOURNAL, orders=(Order(MACHINE, 500, NOON),), late=frozenset({MACHINE}))
GOOD = Outcome(
    seed=7,
    figures=Figures(),
    met=ENOUGH,
    need=SHORT.need,
    planned=planned(FAULTS),
    tally=Tally(planned(FAULTS)),
    wrongs=(),
    missing=(),
    acknowledged=4_000,
    repeats_on_the_wire=0,
    took_s=60,
    evidence=Path("there"),
)
Life = Callable[[Known], Awaitable[None]]


def one_less(kind: Kind) -> dict[str, Any]:
    return {"tally": Tally(planned(FAULTS) - Counter([kind]))}


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        pytest.param({}, KEPT, "all promises kept", id="kept"),
        pytest.param({"figures": Figures(lost=("a ping",))}, BROKEN, "lost                   1", id="a finding"),
        pytest.param({"figures": None}, BROKEN, "lost                   not known", id="not compared"),
        pytest.param({"wrongs": ("ingest-2 fell",)}, BROKEN, "wrong                  ingest-2 fell", id="a wrong"),
        pytest.param({"missing": ("leases",)}, BROKEN, "nothing came of        leases", id="a part that did nothing"),
        *(
            pytest.param(one_less(kind), INCONCLUSIVE, f"too little             {kind}: {n - 1} of {n}", id=kind.name)
            for kind, n in planned(FAULTS).items()
        ),
        *(
            pytest.param(
                {"met": replace(ENOUGH, **{name: getattr(ENOUGH, name) - 1})},
                INCONCLUSIVE,
                f"too little             {name.replace('_', ' ')}: {getattr(ENOUGH, name) - 1}",
                id=name,
            )
            for name in ENOUGH.__struct_fields__
        ),
    ],
)
def test_exit_code_and_what_is_said(changed: dict[str, Any], code: int, said: str) -> None:
    """Too little is inconclusive; a run that is broken is broken however little struck."""
    outcome = replace(GOOD, **changed)
    assert outcome.exit_code == code
    assert said in "\n".join(outcome.lines())
    assert outcome.lines()[0] == "seed                   7"
    assert replace(outcome, figures=Figures(stuck=("a row",)), met=Met()).exit_code == BROKEN


def test_database_kills_are_told_by_kind() -> None:
    told = "\n".join(GOOD.lines())
    assert f"database kills         2 of 2 ({Kind.SESSIONS}: 1, {Kind.DATABASE_KILL}: 1)" in told
    assert f"{Kind.BROKER_KILL}: 1" in told


async def _all_is_well(known: Known) -> None:
    known.journal, known.seen = BUSY, replace(WELL, slots=1)
    known.sent = lambda: BUSY.sent
    known.met = lambda: ENOUGH
    known.tally = Tally(planned(FAULTS))


async def _breaks_off(known: Known) -> None:
    known.sent = lambda: BUSY.sent
    known.wrongs.append("notify-1 left with exit code 1")
    raise AssertionError("the gateway said rejected")


async def _breaks_in_two(_: Known) -> None:
    raise ExceptionGroup("both", [ValueError("one"), OSError("two")])


async def _ends_badly(known: Known) -> None:
    await _all_is_well(known)
    known.wrongs.append("ingest-guest-1 left with exit code 1")


async def _does_nothing(known: Known) -> None:
    await _all_is_well(known)
    known.journal = replace(JOURNAL, leases=(), orders=BUSY.orders, late=BUSY.late)


LIVES: dict[str, tuple[Life, list[str], bool]] = {
    "well": (_all_is_well, [], True),
    "broken off": (
        _breaks_off,
        ["notify-1 left with exit code 1", "the run: AssertionError: the gateway said rejected"],
        False,
    ),
    "broken off by two": (_breaks_in_two, ["the run: ValueError: one", "the run: OSError: two"], False),
    "a bad exit code": (_ends_badly, ["ingest-guest-1 left with exit code 1"], True),
}


@pytest.mark.parametrize(("life", "wrongs", "compared"), LIVES.values(), ids=LIVES.keys())
async def test_a_failure_is_an_outcome_with_its_evidence(
    tmp_path: Path, life: Life, wrongs: list[str], compared: bool
) -> None:
    evidence = tmp_path / "seed-3"
    evidence.mkdir()
    (evidence / "of an earlier run").touch()
    outcome = await told_of(Known(3, FAULTS, SHORT.need, evidence), life)
    assert list(outcome.wrongs) == wrongs
    assert (outcome.figures is not None) == compared
    assert outcome.missing == ()
    assert outcome.exit_code == (BROKEN if wrongs else KEPT)
    kept = {path.name for path in evidence.iterdir()}
    always = {"plan.json", "findings.json", "expected.json", "observed.json", "report.txt"}
    assert kept == (always if compared else always | {"traceback.txt"})
    assert json.loads((evidence / "findings.json").read_bytes())["wrongs"] == wrongs
    assert len(json.loads((evidence / "plan.json").read_bytes())) == len(FAULTS)
    assert (json.loads((evidence / "observed.json").read_bytes()) is not None) == compared


async def test_every_seed_is_run_and_told_whatever_became_of_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lives = {1: _breaks_off, 2: _does_nothing, 3: _all_is_well}

    async def one(seed: int) -> Outcome:
        return await told_of(Known(seed, FAULTS, SHORT.need, tmp_path / f"seed-{seed}"), lives[seed])

    assert await run_all([1, 2, 3], one) == BROKEN
    told = capsys.readouterr().out
    assert [line.split()[-1] for line in told.splitlines() if line.startswith("seed ")] == ["1", "2", "3"]
    assert "nothing came of        leases" in told
    assert "the gateway said rejected" in told
    assert {path.name for path in tmp_path.iterdir()} == {"seed-1", "seed-2"}, "a good run leaves nothing"


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((0, 3), INCONCLUSIVE), ((3, 1, 0), BROKEN), ((0, 0), KEPT)],
    ids=["inconclusive", "broken is worse than inconclusive", "kept"],
)
async def test_the_worst_exit_code_counts(tmp_path: Path, codes: tuple[int, ...], worst: int) -> None:
    changed: dict[int, dict[str, Any]] = {0: {}, 1: {"figures": None}, 3: {"met": Met()}}

    async def one(seed: int) -> Outcome:
        evidence = tmp_path / str(seed)
        evidence.mkdir()
        return replace(GOOD, evidence=evidence, **changed[codes[seed]])

    assert await run_all(range(len(codes)), one) == worst


@pytest.mark.parametrize(
    "given", [["--seeds", "0"], ["--seeds", "-1"], ["--seeds", "x"], ["--pings", "0"]], ids=" ".join
)
def test_nothing_to_run_is_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        options(given)
    assert left.value.code == 2
    assert given[0] in capsys.readouterr().err


class NoServers(AbstractAsyncContextManager[Servers]):
    """They do not start."""

    async def __aenter__(self) -> Servers:
        raise StartFailed("Kafka", "no room", Path("server.log"))

    async def __aexit__(self, *_: object) -> None:
        """Nothing was started."""


async def test_servers_that_do_not_start_are_told_with_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert await runs(options(["--seeds", "2"]), NoServers) == BROKEN
    assert capsys.readouterr().out.startswith("seeds 1, 2: ")


FENCE = next(build for build in BUILDS if build.name == "fence_removed")


@pytest.mark.parametrize(
    ("build", "changed", "expected"),
    [
        pytest.param(FENCE, {"figures": Figures(phantom=("a",))}, True, id="caught by what it must show in"),
        pytest.param(FENCE, {"figures": Figures(stuck=("a",))}, False, id="not final in time proves nothing"),
        pytest.param(FENCE, {"figures": Figures(double_leased=("a",))}, False, id="another promise proves nothing"),
        pytest.param(FENCE, {"figures": None, "wrongs": ("x",)}, False, id="a run that broke off proves nothing"),
        pytest.param(FENCE, {}, False, id="not caught"),
        pytest.param(CONTROLS[0], {}, True, id="a control is clean"),
        pytest.param(CONTROLS[0], {"figures": Figures(stuck=("a",))}, False, id="a control that is not"),
        pytest.param(CONTROLS[0], one_less(Kind.SESSIONS), False, id="a control to which too little was done"),
        pytest.param(CONTROLS[0], {"wrongs": ("x",)}, False, id="a control of which somebody fell"),
    ],
)
def test_what_counts_as_caught(build: Build, changed: dict[str, Any], expected: bool) -> None:
    verdict = Verdict(build, replace(GOOD, **changed), 1)
    assert verdict.as_expected is expected
    assert ("NOT" in verdict.line()) is not expected
