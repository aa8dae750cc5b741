"""The promises of the call queue: one open task per machine, every reason once, no task leased to two at once."""

import json
from collections.abc import Iterable, Iterator

from telemetry_svc import topics
from telemetry_svc.calls import FINAL_STATES, AlertId, CallTask, MachineContext, Step
from telemetry_svc.events import Alert
from telemetry_svc.notify.decide import decide
from telemetry_svc.notify.matters import Matter, matter_of
from telemetry_svc.telemetry import MachineId
from tests.simulation.roles import House, NotifyNote, queues
from tests.simulation.virtual_time import START

_FINAL = {state.value for state in FINAL_STATES}


def call_problems(house: House, notes: Iterable[NotifyNote]) -> Iterator[str]:
    """Breaches, in words."""
    yield from house.leases.problems
    rows = house.database.committed
    open_tasks = [row["machine_id"] for row in rows("call_task") if row["state"] not in _FINAL]
    yield from (f"two open tasks of {one}" for one in set(open_tasks) if open_tasks.count(one) > 1)
    alerts = [alert for note in notes for alert in note.alerts]
    expected = {alert.id for alert, matter in _news(alerts) if matter.reason is not None}
    found = {row["alert_id"] for row in rows("call_reason")}
    yield from (f"no reason of {one}" for one in expected - found)
    yield from (f"a reason of nothing new: {one}" for one in found - expected)
    yield from _history(house)
    if not house.workload.experts:
        yield from _folded(house, alerts)


def _news(alerts: Iterable[Alert]) -> Iterator[tuple[Alert, Matter]]:
    """Alerts that go further than their subject had come, in the order in which they were applied."""
    reached: dict[tuple[str, str], int] = {}
    for alert in alerts:
        matter = matter_of(alert, queues().of(alert.data.policy_edition).priorities, START)
        assert isinstance(matter, Matter)
        subject = (alert.machine_id, matter.subject)
        if matter.calls and matter.rank > reached.get(subject, 0):
            reached[subject] = matter.rank
            yield alert, matter


def _history(house: House) -> Iterator[str]:
    """What is told of the tasks on `excavator.calls` is their history, change by change."""
    lines = sorted(house.database.committed("call_history"), key=lambda row: row["n"])
    told = [json.loads(row["value"]) for row in house.database.committed("outbox") if row["topic"] == topics.CALLS]
    for task_id in {str(row["task_id"]) for row in lines} | {one["subject"] for one in told}:
        states = [row["state"] for row in lines if str(row["task_id"]) == task_id]
        spoken = [one["data"]["state"] for one in told if one["subject"] == task_id]
        if states != spoken:
            yield f"history of task {task_id}: {states}, told: {spoken}"
    claimed = sum(row["step"] == Step.CLAIMED.value for row in lines)
    if claimed and not house.workload.experts:
        yield f"{claimed} claims by nobody"


def _folded(house: House, alerts: Iterable[Alert]) -> Iterator[str]:
    """Without experts the tasks are those that one alert after the other makes, decided in memory."""
    tasks: dict[MachineId, CallTask] = {}
    finished: set[tuple[str, str]] = set()
    for alert, matter in _news(alerts):
        context = MachineContext(alert.data.policy_edition, contact_count=house.contacts_of(alert.machine_id))
        queue = queues().of(context.edition)
        for change in decide(alert.machine_id, tasks.get(alert.machine_id), matter, 0, context, queue, START):
            tasks[alert.machine_id] = change.task
            if change.task.is_final:
                finished.add((str(change.task.task_id), change.task.state.value))
                del tasks[alert.machine_id]
    expected = finished | {(str(task.task_id), task.state.value) for task in tasks.values()}
    found = {(str(row["task_id"]), row["state"]) for row in house.database.committed("call_task")}
    yield from (f"task {task_id} is {state} only in one of two" for task_id, state in expected ^ found)
    reasons = {(str(task.task_id), reason.alert_id) for task in tasks.values() for reason in task.open_reasons}
    open_now = {
        (str(row["task_id"]), AlertId(row["alert_id"]))
        for row in house.database.committed("call_reason")
        if row["ended"] is None
    }
    yield from (f"open reason {one} only in one of two" for one in reasons ^ open_now)
