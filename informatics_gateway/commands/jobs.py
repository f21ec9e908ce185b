# SPDX-License-Identifier: Apache-2.0
"""`airway jobs`: what could not be delivered, tried again or dropped; the server need not be running."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from informatics_gateway.commands.console import OUT, fail
from informatics_gateway.configuration import database_url, load_settings
from informatics_gateway.destinations import event_sink_names
from task_manager.actor import Actor
from task_manager.delivery.dead_letters import DeadLetters
from task_manager.outbox import JobState
from task_manager.outcome import Accepted, Refused
from task_manager.store.database import Database
from task_manager.store.deliveries import Decision, ListedJob

_AT_ONCE = 1000


def list_jobs(data: Path, config: Path | None, *, states: Sequence[str], lane: str) -> None:
    """Print jobs, oldest first: dead letters unless states are named."""
    wanted = _states(states)
    with _letters(data, config) as letters:
        after, shown = 0, 0
        while True:
            page = letters.page(states=wanted, lane=lane, after_id=after, limit=_AT_ONCE)
            for job in page.jobs:
                _print(job, page.decisions.get(job.key, ()))
            shown += len(page.jobs)
            if not page.more:
                break
            after = page.jobs[-1].id
    if not shown:
        OUT.print(f"There is no job that is {' or '.join(state.value for state in wanted)}.")


def retry(keys: Sequence[str], data: Path, config: Path | None, *, lane: str) -> None:
    """Let jobs be tried now: those named, or all dead letters of a lane."""
    if bool(keys) == bool(lane):
        fail("Name either jobs by their keys, or a lane with --lane.", "See them with: jobs list")
    with _letters(data, config) as letters:
        for key in [*keys, *_held(letters, lane)]:
            _told(key, "is tried again", letters.retry(key, actor=_person()))


def drop(keys: Sequence[str], data: Path, config: Path | None, *, reason: str) -> None:
    """End jobs that are not to be done any more."""
    with _letters(data, config) as letters:
        for key in keys:
            _told(key, "is dropped", letters.drop(key, reason=reason, actor=_person()))


@contextmanager
def _letters(data: Path, config: Path | None) -> Iterator[DeadLetters]:
    settings = load_settings(config)
    url = database_url(settings, data)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        fail(f"There is no database in {data}. Name the folder that `airway serve` uses with --data.")
    database = Database(url)
    try:
        yield DeadLetters(database, sinks=event_sink_names(settings), clock=lambda: datetime.now(UTC))
    finally:
        database.close()


def _held(letters: DeadLetters, lane: str) -> list[str]:
    keys: list[str] = []
    after = 0
    while lane:
        page = letters.page(lane=lane, after_id=after, limit=_AT_ONCE)
        keys += [job.key for job in page.jobs]
        if not page.more:
            break
        after = page.jobs[-1].id
    return keys


def _states(named: Sequence[str]) -> tuple[JobState, ...]:
    try:
        return tuple(JobState(name.upper()) for name in named) or (JobState.HELD,)
    except ValueError:
        fail(f"A state is one of {', '.join(JobState)}.")


def _print(job: ListedJob, decisions: Sequence[Decision]) -> None:
    OUT.print(f"{job.key}", markup=False)
    tries = f", {job.attempts} tries" if job.attempts else ""
    OUT.print(f"  {job.lane} {job.state.value} since {_at(job.created_at)}{tries}", markup=False)
    if job.study_instance_uid:
        OUT.print(f"  study {job.study_instance_uid}", markup=False)
    if job.why:
        OUT.print(f"  {job.why}", markup=False)
    for one in decisions:
        why = f": {one.reason}" if one.reason else ""
        OUT.print(f"  {_at(one.decided_at)} {one.decision} by {one.decided_by}{why}", markup=False)


def _told(key: str, what: str, outcome: Accepted | Refused) -> None:
    if isinstance(outcome, Refused):
        fail(f"{key}: not possible.", *(f"{one.path} {one.message}" for one in outcome.faults), status=1)
    OUT.print(f"{key} {what}.", markup=False)


def _person() -> Actor:
    try:
        return Actor(door="person", name=getpass.getuser())
    except (OSError, KeyError):  # a container may have no name for its user
        return Actor(door="person")


def _at(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%SZ")
