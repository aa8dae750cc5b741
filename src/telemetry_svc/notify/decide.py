"""The decision to bother a person: one alert and the machine's open task give the changes of the queue. Pure.

Alerts are taken one by one in topic order. `reached` is how far the queue has seen the alert's subject come (0: never
heard of it); what does not go further is old news, whether repeated, replayed or late, and changes nothing.
"""

from datetime import datetime

from telemetry_svc.calls import CallTask, Change, MachineContext
from telemetry_svc.notify import lifecycle
from telemetry_svc.notify.matters import Matter
from telemetry_svc.rules.service_terms import CallQueueBlock
from telemetry_svc.telemetry import MachineId


def decide(
    machine_id: MachineId,
    open_task: CallTask | None,
    matter: Matter,
    reached: int,
    context: MachineContext,
    queue: CallQueueBlock,
    now: datetime,
) -> tuple[Change, ...]:
    """The changes, in order, that one matter makes; none where it is nothing to phone about or nothing new."""
    if matter.rank <= reached:
        return ()
    change = None
    if matter.end is not None and open_task is not None:
        ids = frozenset(r.alert_id for r in open_task.open_reasons if r.subject == matter.subject)
        change = lifecycle.reasons_ended(open_task, ids, matter.end, queue, now)
    elif matter.reason is not None and not context.retired:
        if open_task is None:
            change = lifecycle.opened(machine_id, matter.reason, context, queue)
        else:
            change = lifecycle.joined(lifecycle.in_context(open_task, context), matter.reason, queue)
    return () if change is None else (change,)
