"""From what the hour meter shows to the true hours (policy.md, anomaly "hour meter"; "Readings, order, lateness").

True hours are the highest accepted reading: they never fall.
"""

from datetime import datetime

from msgspec import Struct

from telemetry_svc.telemetry import Ping


class MeterState(Struct, frozen=True):
    """`base_*`: the newest accepted reading; `true_ch` the true hours in centihours (`None` before the first)."""

    base_at: datetime | None = None
    base_ch: int = 0
    true_ch: int | None = None


def read(state: MeterState, ping: Ping, shown_ch: int) -> MeterState:
    true_ch = state.true_ch if state.true_ch is not None and state.true_ch > shown_ch else shown_ch
    if state.base_at is not None and ping.recorded_at < state.base_at:
        return MeterState(state.base_at, state.base_ch, true_ch)
    return MeterState(ping.recorded_at, shown_ch, true_ch)
