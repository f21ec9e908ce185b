# SPDX-License-Identifier: Apache-2.0
"""How each delivery of a result fares, in words: for the story of its study."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from task_manager.attention import without_worker
from task_manager.delivery.commitment import Asked
from task_manager.outbox import FINISHED, Job, JobState
from task_manager.story import DeliveryFate, WorkitemStory


def delivery_lines(workitem: WorkitemStory, lanes: Collection[str] | None) -> Iterator[str]:
    """The deliveries of a workitem; jobs of a lane that is not among `lanes` are marked."""
    for job in workitem.deliveries:
        yield _job_line(job)
        yield from (f"  {line}" for line in _fate_lines(job, workitem.fates.get(job.key)))
        if lanes is not None and job.lane not in lanes and job.state not in FINISHED:
            yield f"! nobody works on this: {without_worker(job.lane)}"


def _job_line(job: Job) -> str:
    if job.done_at:
        return f"{job.lane} {job.state.value} {_at(job.done_at)} {job.summary}"
    trouble = job.last_error
    if trouble and job.attempts:
        trouble = f"attempt {job.attempts}: {trouble}"
    due = f", next {_at(job.due_at)}" if job.state is JobState.WAITING and job.attempts else ""
    return f"{job.lane} {job.state.value}" + (f" ({trouble}{due})" if trouble else "")


def _fate_lines(job: Job, fate: DeliveryFate | None) -> Iterator[str]:
    if fate is None:
        return
    for asked in fate.commitments:
        yield _commitment_line(asked)
    for decision in fate.decisions:
        why = f": {decision.reason}" if decision.reason else ""
        yield f"{decision.decision} by {decision.decided_by or 'a person'} {_at(decision.decided_at)}{why}"
    if fate.health is not None and fate.health.open_until is not None:
        yield (
            f"destination not reached {fate.health.failures} times in a row ({fate.health.reason}): "
            f"left alone until {_at(fate.health.open_until)}, then one delivery tries"
        )
    if job.state is JobState.HELD:
        yield f"! waits for a person: airway jobs retry '{job.key}', or jobs drop it"


def _commitment_line(asked: Asked) -> str:
    count = len(asked.ask.instances)
    when = f"storage commitment of {count} asked {_at(asked.asked_at)}"
    if asked.answered_at is None:
        return f"{when}, no report yet" if asked.accepted_at else f"{when}, not known whether it arrived"
    reasons = ", ".join(sorted({f"{reason:04X}" for _, reason in asked.failed}))
    failed = f"; {len(asked.failed)} not kept ({reasons})" if asked.failed else ""
    return f"{when}, reported {_at(asked.answered_at)}: {count - len(asked.failed)} kept{failed}"


def _at(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
