"""Episodes of fault codes from DM1 reports (policy.md, anomaly "fault code"; SAE J1939-73).

A code is open from the ping that first shows it until its own controller (source address) has been heard without it
for a while, so that flapping is one episode. Reports are judged per source address by their own time: one older
than the latest of that address is history.
"""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from telemetry_svc.events import SEVERITY_RANK, FaultDetail, Severity
from telemetry_svc.rules.facts import Finding, Phase
from telemetry_svc.telemetry import Fault, Lamp, Ping

VERSION = 1

Key = tuple[int, int, int]
"""Source address, SPN, FMI: the order in which codes of one ping are told."""


class SeverityOverride(Struct, frozen=True):
    """`fmi` `None` = every FMI of the SPN."""

    spn: int
    severity: Severity
    fmi: int | None = None


class FaultCodesBlock(Struct, frozen=True):
    """`call`: severities that are called about; the others go to ops alone.

    `spn_names`, `fmi_names`: English, for the description of an event; an unknown SPN goes by its number.
    """

    clears_after: timedelta
    lapses_after: timedelta
    max_open_codes: int
    overrides: tuple[SeverityOverride, ...]
    warning_fmis: frozenset[int]
    severe_fmis: frozenset[int]
    critical_spns: frozenset[int]
    call: frozenset[Severity]
    spn_names: dict[int, str] = {}
    fmi_names: dict[int, str] = {}
    enabled: bool = True

    def description(self, spn: int, fmi: int) -> str:
        """The code in English words."""
        return f"{self.spn_names.get(spn, f'SPN {spn}')}: {self.fmi_names.get(fmi, f'FMI {fmi}')}"


class CodeEpisode(Struct, frozen=True, omit_defaults=True, gc=False):
    """`absent_since`: the first report of its address without the code since it was last active."""

    source_address: int
    spn: int
    fmi: int
    opened_at: datetime
    last_active_at: datetime
    severity: Severity
    lamp: Lamp
    occurrence_count: int
    absent_since: datetime | None = None

    @property
    def key(self) -> Key:
        return self.source_address, self.spn, self.fmi


class FaultsState(Struct, frozen=True, omit_defaults=True, gc=False):
    """`all_at`: the latest empty list (a report of every address); `addresses`: later reports of single addresses."""

    all_at: datetime | None = None
    addresses: tuple[tuple[int, datetime], ...] = ()
    codes: tuple[CodeEpisode, ...] = ()


def severity_of(block: FaultCodesBlock, fault: Fault) -> Severity:
    """The first match of the policy's list."""
    for row in block.overrides:
        if row.spn == fault.spn and row.fmi in (None, fault.fmi):
            return row.severity
    severe, red_stop = fault.fmi in block.severe_fmis, fault.lamp is Lamp.RED_STOP
    if fault.fmi in block.warning_fmis:
        return Severity.WARNING
    if red_stop and (severe or fault.spn in block.critical_spns):
        return Severity.CRITICAL
    return Severity.MAJOR if red_stop or severe else Severity.GENERAL


def read(block: FaultCodesBlock, state: FaultsState, ping: Ping) -> tuple[FaultsState, tuple[Finding, ...]]:
    """One ping, future ones excepted: the episodes it opens, worsens and clears, by address, SPN, FMI."""
    faults, at = ping.faults, ping.recorded_at
    if not block.enabled:
        return state, ()
    if not faults and not state.codes:
        if faults is None or (state.all_at is not None and at < state.all_at):
            return state, ()
        return FaultsState(at, tuple(row for row in state.addresses if row[1] > at) if state.addresses else ()), ()
    return _Report(block, state, ping).judge()


class _Report:
    """One ping against the open episodes; lives for one call."""

    def __init__(self, block: FaultCodesBlock, state: FaultsState, ping: Ping) -> None:
        self._block = block
        self._state = state
        self._ping = ping
        self._at = ping.recorded_at
        self._is_empty = ping.faults == ()
        self._latest = dict(state.addresses)
        self._reported = {fault.source_address for fault in ping.faults or ()}
        self._active = _most_severe(block, ping.faults or ())

    def judge(self) -> tuple[FaultsState, tuple[Finding, ...]]:
        findings: dict[Key, Finding] = {}
        codes: list[CodeEpisode] = []
        for one in self._state.codes:
            after, found = self._continued(one)
            if after is not None:
                codes.append(after)
            if found is not None:
                findings[one.key] = found
        known = {one.key for one in self._state.codes}
        room = self._block.max_open_codes - len(codes)
        for key in [key for key in sorted(self._active) if key not in known and not self._is_stale(key[0])][:room]:
            opened = self._opened(self._active[key])
            codes.append(opened)
            findings[key] = _finding(self._block, opened, "opened", self._at)
        state = FaultsState(self._all_at(), self._addresses(), tuple(codes))
        return state, tuple(findings[key] for key in sorted(findings))

    def _is_stale(self, address: int) -> bool:
        latest, everywhere = self._latest.get(address), self._state.all_at
        return (latest is not None and self._at < latest) or (everywhere is not None and self._at < everywhere)

    def _continued(self, one: CodeEpisode) -> tuple[CodeEpisode | None, Finding | None]:
        if self._is_stale(one.source_address):
            return one, None
        fault = self._active.get(one.key)
        if fault is not None:
            return self._seen_again(one, fault)
        if self._is_over(one):
            return None, _finding(self._block, one, "cleared", self._at)
        is_report = self._is_empty or one.source_address in self._reported
        return (replace(one, absent_since=self._at) if is_report and one.absent_since is None else one), None

    def _is_over(self, one: CodeEpisode) -> bool:
        is_report = self._is_empty or one.source_address in self._reported
        if is_report and one.absent_since is not None and self._at - one.absent_since >= self._block.clears_after:
            return True
        return self._ping.engine_running is True and self._at - one.last_active_at > self._block.lapses_after

    def _seen_again(self, one: CodeEpisode, fault: Fault) -> tuple[CodeEpisode, Finding | None]:
        severity = max(one.severity, severity_of(self._block, fault), key=SEVERITY_RANK.__getitem__)
        after = replace(
            one,
            last_active_at=self._at,
            absent_since=None,
            severity=severity,
            lamp=fault.lamp,
            occurrence_count=fault.occurrence_count,
        )
        return after, _finding(self._block, after, "worsened", self._at) if severity is not one.severity else None

    def _opened(self, fault: Fault) -> CodeEpisode:
        return CodeEpisode(
            source_address=fault.source_address,
            spn=fault.spn,
            fmi=fault.fmi,
            opened_at=self._at,
            last_active_at=self._at,
            severity=severity_of(self._block, fault),
            lamp=fault.lamp,
            occurrence_count=fault.occurrence_count,
        )

    def _all_at(self) -> datetime | None:
        before = self._state.all_at
        return self._at if self._is_empty and (before is None or self._at > before) else before

    def _addresses(self) -> tuple[tuple[int, datetime], ...]:
        everywhere = self._all_at()
        latest = self._latest | {address: self._at for address in self._reported if not self._is_stale(address)}
        return tuple(sorted((key, at) for key, at in latest.items() if everywhere is None or at > everywhere))


def _most_severe(block: FaultCodesBlock, faults: tuple[Fault, ...]) -> dict[Key, Fault]:
    """The active codes of one list; where a code stands twice, its most severe entry speaks."""
    active: dict[Key, Fault] = {}
    for fault in sorted(faults, key=lambda fault: SEVERITY_RANK[severity_of(block, fault)]):
        if fault.spn != 0 or fault.fmi != 0:  # SPN 0 with FMI 0 = "no active fault" of its address
            active[fault.source_address, fault.spn, fault.fmi] = fault
    return active


def _finding(block: FaultCodesBlock, one: CodeEpisode, phase: Phase, time: datetime) -> Finding:
    return Finding(
        kind="fault",
        phase=phase,
        opened_at=one.opened_at,
        severity=one.severity,
        time=time,
        version=VERSION,
        code=f"{one.spn}/{one.fmi}/{one.source_address}",
        fault=FaultDetail(one.spn, one.fmi, one.source_address, one.lamp, block.description(one.spn, one.fmi)),
        measured={"occurrence_count": one.occurrence_count},
    )
