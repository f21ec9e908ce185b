# SPDX-License-Identifier: Apache-2.0
"""Statements over fetches and over what is here of a study that is fetched.

Each takes a connection; none commits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, or_, select, update

from task_manager.fetching.model import Fetch, FetchPurpose, FetchState, FetchTarget
from task_manager.outbox import JobState
from task_manager.store.fetch_tables import FetchRow
from task_manager.store.held import is_held
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA
from task_manager.study.model import StudyState

_FETCH = FetchRow.metadata.tables["study_fetch"]
_JOB = METADATA.tables["job"]
_STUDY = METADATA.tables["study"]
_INSTANCE = METADATA.tables["instance"]
_STRAGGLERS = timedelta(minutes=10)
"""An archive may still send what it was asked for when we have given up waiting."""

_UNTOUCHED = timedelta(hours=2)
"""Longer than any try: a fetch that nobody has written to since then is not being worked on."""


def fetch_by_key(connection: Connection, key: str, *, lock: bool = False) -> Fetch | None:
    """A fetch, its row locked if asked; None if there is none."""
    statement = select(_FETCH).where(_FETCH.c.fetch_key == key)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return None if row is None else _fetch(row)


def put_fetch(connection: Connection, fetch: Fetch) -> None:
    """Write a fetch, new or as it is by now."""
    values = {
        "fetch_key": fetch.key,
        "study_instance_uid": fetch.target.study_instance_uid,
        "accession_number": fetch.target.accession_number,
        "patient_id": fetch.target.patient_id,
        "archive": fetch.target.archive,
        "purpose": fetch.purpose.value,
        "state": fetch.state.value,
        "parent_key": fetch.parent_key,
        "round": fetch.round,
        "source": fetch.source,
        "expected": fetch.expected,
        "refused": fetch.refused,
        "error": fetch.error,
        "asked_by": fetch.asked_by,
        "asked_at": fetch.asked_at,
        "changed_at": fetch.changed_at,
        "ended_at": fetch.ended_at,
    }
    statement = upsert(connection, _FETCH).values(values)
    changes = {name: value for name, value in values.items() if name != "fetch_key"}
    connection.execute(statement.on_conflict_do_update(index_elements=["fetch_key"], set_=changes))


def fetches_of_parent(connection: Connection, parent_key: str) -> list[Fetch]:
    """The studies that a fetch by accession number found."""
    statement = select(_FETCH).where(_FETCH.c.parent_key == parent_key).order_by(_FETCH.c.fetch_key)
    return [_fetch(row) for row in connection.execute(statement)]


def fetches_of_study(connection: Connection, study_instance_uid: str) -> list[Fetch]:
    """All fetches of a study, the first asked first."""
    statement = (
        select(_FETCH)
        .where(_FETCH.c.study_instance_uid == study_instance_uid)
        .order_by(_FETCH.c.asked_at, _FETCH.c.fetch_key)
    )
    return [_fetch(row) for row in connection.execute(statement)]


def newest_fetches(connection: Connection, *, limit: int, offset: int = 0) -> list[Fetch]:
    """Fetches, those asked for last first."""
    statement = (
        select(_FETCH).order_by(_FETCH.c.asked_at.desc(), _FETCH.c.fetch_key).limit(limit).offset(offset)
    )
    return [_fetch(row) for row in connection.execute(statement)]


def purge_fetches(connection: Connection, before: datetime) -> int:
    """Forget fetches that ended before a time; how many."""
    return connection.execute(delete(_FETCH).where(_FETCH.c.ended_at < before)).rowcount


def is_awaited(connection: Connection, study_instance_uid: str, now: datetime, *, is_kept: bool) -> bool:
    """Whether images of a study come by a fetch: nothing is decided before that ends.

    Before an archive was found that has it, what comes comes by itself. Of a study that is KEPT also what
    comes a while after a fetch was HELD does not count.
    """
    found = or_(
        _FETCH.c.state == FetchState.RUNNING.value,
        and_(_FETCH.c.state == FetchState.WAITING.value, _FETCH.c.source != ""),
    )
    ways = [and_(found, _FETCH.c.changed_at > now - _UNTOUCHED)]
    if is_kept:
        ways.append(and_(_FETCH.c.state == FetchState.HELD.value, _FETCH.c.changed_at > now - _STRAGGLERS))
    awaited = or_(*ways)
    statement = (
        select(_FETCH.c.fetch_key).where(_FETCH.c.study_instance_uid == study_instance_uid, awaited).limit(1)
    )
    return connection.execute(statement).first() is not None


def has_news(connection: Connection, study_instance_uid: str, *, not_from: Collection[str] = ()) -> bool:
    """Whether something came of a study since it was looked at, but for what `not_from` sent.

    The study is locked, so that what arrives at this moment is seen here, or sees what is written after.
    """
    study = select(_STUDY.c.study_instance_uid).where(_STUDY.c.study_instance_uid == study_instance_uid)
    connection.execute(study.with_for_update()).first()
    wanted = [
        _INSTANCE.c.study_instance_uid == study_instance_uid,
        _STUDY.c.study_instance_uid == study_instance_uid,
        or_(_STUDY.c.completed_at.is_(None), _INSTANCE.c.received_at > _STUDY.c.completed_at),
    ]
    if not_from:
        wanted.append(_INSTANCE.c.source.not_in(list(not_from)))
    statement = select(_INSTANCE.c.sop_instance_uid).where(and_(*wanted)).limit(1)
    return connection.execute(statement).first() is not None


def let_be_evaluated(connection: Connection, study_instance_uid: str, now: datetime) -> bool:
    """Have a study that came by a fetch be looked at by rules now; whether there is one."""
    waiting = (StudyState.KEPT.value, StudyState.COMPLETE.value)
    opened = connection.execute(
        update(_STUDY)
        .where(_STUDY.c.study_instance_uid == study_instance_uid, _STUDY.c.state.in_(waiting))
        .values(state=StudyState.RECEIVING.value, deadline_at=now)
    )
    return opened.rowcount == 1


def held_instances(connection: Connection, study_instance_uid: str) -> frozenset[str]:
    """SOP Instance UIDs of what is here of a study."""
    statement = select(_INSTANCE.c.sop_instance_uid).where(
        _INSTANCE.c.study_instance_uid == study_instance_uid, _INSTANCE.c.copy_number == 0, is_held()
    )
    return frozenset(connection.execute(statement).scalars())


def count_held(connection: Connection, study_uids: Sequence[str]) -> dict[str, int]:
    """How many instances of each study are here."""
    statement = (
        select(_INSTANCE.c.study_instance_uid, func.count())
        .where(_INSTANCE.c.study_instance_uid.in_(study_uids), _INSTANCE.c.copy_number == 0, is_held())
        .group_by(_INSTANCE.c.study_instance_uid)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def unfinished_jobs(connection: Connection, keys: Sequence[str]) -> dict[str, JobState]:
    """Those of the jobs with these keys that are not done."""
    statement = select(_JOB.c.key, _JOB.c.state).where(
        _JOB.c.key.in_(keys), _JOB.c.state != JobState.DONE.value
    )
    return {key: JobState(state) for key, state in connection.execute(statement)}


def end_jobs(connection: Connection, keys: Sequence[str], *, summary: str, now: datetime) -> None:
    """Mark jobs done that nobody works on: what they were for is settled."""
    connection.execute(
        update(_JOB)
        .where(_JOB.c.key.in_(keys), _JOB.c.state.in_((JobState.WAITING.value, JobState.HELD.value)))
        .values(state=JobState.DONE.value, summary=summary, last_error="", done_at=now)
    )


def forget_jobs(connection: Connection, keys: Sequence[str]) -> None:
    """Delete jobs with these keys that nobody does any more; they outlived their fetch."""
    idle = (JobState.DONE.value, JobState.HELD.value)
    connection.execute(delete(_JOB).where(_JOB.c.key.in_(keys), _JOB.c.state.in_(idle)))


def hasten_lane(connection: Connection, lane: str, now: datetime) -> None:
    """Let what waits in a lane be looked at now."""
    connection.execute(
        update(_JOB)
        .where(_JOB.c.lane == lane, _JOB.c.state == JobState.WAITING.value, _JOB.c.due_at > now)
        .values(due_at=now)
    )


def _fetch(row: Row[Any]) -> Fetch:
    return Fetch(
        key=row.fetch_key,
        target=FetchTarget(
            study_instance_uid=row.study_instance_uid,
            accession_number=row.accession_number,
            patient_id=row.patient_id,
            archive=row.archive,
        ),
        purpose=FetchPurpose(row.purpose),
        state=FetchState(row.state),
        parent_key=row.parent_key,
        round=row.round,
        source=row.source,
        expected=row.expected,
        refused=row.refused,
        error=row.error,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        changed_at=row.changed_at,
        ended_at=row.ended_at,
    )
