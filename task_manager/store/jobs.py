# SPDX-License-Identifier: Apache-2.0
"""Statements over the outbox and the operational events. Each takes a connection; none commits.

Jobs are claimed with ``FOR UPDATE SKIP LOCKED`` on PostgreSQL; SQLite has one writer at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    exists,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.sql import Executable

from profiles.sole.events import EventType, OperationalEvent, Outcome
from task_manager.outbox import Job, JobKind, JobState, delivery_lane, event_lane
from task_manager.store import delivery_tables  # noqa: F401 - its tables join the metadata
from task_manager.store.compiled import utc_text
from task_manager.store.rowwise import RowStatement, inserting, upserting
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA, OF_A_WORKITEM, UtcText

_JOB = METADATA.tables["job"]
_COMMITMENT = METADATA.tables["commitment"]
_WORKITEM = METADATA.tables["workitem"]
_EVENT = METADATA.tables["event"]
_WAITING = _JOB.c.state == JobState.WAITING.value
_RUNNING = _JOB.c.state == JobState.RUNNING.value
_NO_EVENT = _JOB.c.event_id.is_(None)
_OF_NO_STUDY = _EVENT.c.study_instance_uid == literal_column("''")


def plan_job(
    connection: Connection,
    *,
    key: str,
    lane: str,
    kind: JobKind,
    now: datetime,
    workitem_uid: str = "",
    event_id: int | None = None,
) -> None:
    """Write a job; one with the same key stays as it is."""
    statement = upsert(connection, _JOB).values(
        key=key,
        lane=lane,
        kind=kind.value,
        state=JobState.WAITING.value,
        workitem_uid=workitem_uid,
        event_id=event_id,
        attempts=0,
        due_at=now,
        claimed_by="",
        last_error="",
        summary="",
        created_at=now,
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=["key"]))


_EVENT_COLUMNS = ("key", "type", "study_instance_uid", "accession_number", "content", "occurred_at")
_ADD_EVENT = inserting(_EVENT, _EVENT_COLUMNS, unless=["key"])


def _telling(dialect: str, values: Mapping[str, Any]) -> Executable:
    """A job that tells an event; the event is found by its key.

    Looked up for each row and not joined: a join need not keep the rows, and so the jobs, in their order.
    """
    event_id = select(_EVENT.c.id).where(_EVENT.c.key == values["event_key"]).scalar_subquery()
    given = {
        "key": values["key"],
        "lane": values["lane"],
        "kind": literal_column(f"'{JobKind.TELL.value}'"),
        "state": literal_column(f"'{JobState.WAITING.value}'"),
        "event_id": event_id,
        "attempts": literal_column("0"),
        "due_at": values["due_at"],
        "created_at": values["created_at"],
        **dict.fromkeys(("workitem_uid", "claimed_by", "last_error", "summary"), literal_column("''")),
    }
    added = upserting(dialect, _JOB)
    added = (
        added.values(given)
        if dialect == "sqlite"
        else added.from_select(list(given), select(*given.values()))
    )
    statement: Executable = added.on_conflict_do_nothing(index_elements=["key"])
    return statement


_ADD_TELLING = RowStatement(_JOB, ("key", "lane", "due_at", "created_at", "event_key"), _telling)


def record_events(
    connection: Connection, events: Sequence[OperationalEvent], sinks: Sequence[str], now: datetime
) -> None:
    """Write operational events and a job per repository that tells each; a key seen before does nothing."""
    if not events:
        return
    rows = [
        {
            "key": event.key,
            "type": event.type.value,
            "study_instance_uid": event.study_instance_uid,
            "accession_number": event.accession_number,
            "content": orjson.dumps(event).decode(),
            "occurred_at": utc_text(event.occurred_at),
        }
        for event in events
    ]
    _ADD_EVENT.run(connection, rows)
    due = utc_text(now)
    tellings = [
        {
            "key": f"tell:{sink}:{event.key}",
            "lane": event_lane(sink),
            "due_at": due,
            "created_at": due,
            "event_key": event.key,
        }
        for event in events
        for sink in sinks
    ]
    _ADD_TELLING.run(connection, tellings)


def record_event(
    connection: Connection, event: OperationalEvent, sinks: Sequence[str], now: datetime
) -> None:
    """Write one operational event; see :func:`record_events`."""
    record_events(connection, [event], sinks, now)


def claim_job(
    connection: Connection, lane: str, *, worker: str, now: datetime, until: datetime
) -> Job | None:
    """The next due job of a lane, now RUNNING; also one whose claim ran out. None if nothing is due.

    The lane's oldest unfinished job goes first. While it waits for its next try, later ones wait for it in
    event lanes; in delivery lanes only those of the same study do.
    """
    waiting = and_(_WAITING, _JOB.c.due_at <= now)
    if lane.startswith(delivery_lane("")):
        waiting = and_(waiting, ~_an_earlier_of_its_study_is_due())
    ran_out = and_(_RUNNING, _JOB.c.claimed_until <= now)
    # one statement for each state: its index then leads to the row, past all that is done
    if _in_order(lane):
        wanted = [select(_JOB).where(_JOB.c.id == _head(lane), or_(waiting, ran_out))]
    else:
        wanted = [
            select(_JOB)
            .where(_JOB.c.lane == lane, _NO_EVENT, due)
            .order_by(_JOB.c.due_at, _JOB.c.id)
            .limit(1)
            for due in (waiting, ran_out)
        ]
    row = None
    for statement in wanted:
        row = row or connection.execute(statement.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    connection.execute(
        update(_JOB)
        .where(_JOB.c.id == row.id)
        .values(state=JobState.RUNNING.value, claimed_by=worker, claimed_until=until)
    )
    return replace(_job(row), claimed_by=worker)


def _an_earlier_of_its_study_is_due() -> ColumnElement[bool]:
    """Whether a result of the same study has to go to the same destination before.

    One that only waits for storage commitment was sent. Lane and state are asked so that no index over them
    is used: the jobs of one study are few, those of a lane may be many.
    """
    own, other, earlier = _WORKITEM.alias("own"), _WORKITEM.alias("other"), _JOB.alias("earlier")
    return exists().where(
        own.c.uid == _JOB.c.workitem_uid,
        own.c.study_instance_uid != "",
        other.c.study_instance_uid == own.c.study_instance_uid,
        earlier.c.workitem_uid == other.c.uid,
        earlier.c.workitem_uid != literal_column("''"),
        earlier.c.lane.concat("") == _JOB.c.lane,
        earlier.c.state.concat("").in_((JobState.WAITING.value, JobState.RUNNING.value)),
        earlier.c.id < _JOB.c.id,
        ~exists().where(_COMMITMENT.c.job_key == earlier.c.key),
    )


def claim_in_order(
    connection: Connection, lane: str, *, worker: str, now: datetime, until: datetime, most: int
) -> list[Job]:
    """The jobs of an event lane that can be done now, in order, now RUNNING; none if the first must wait."""
    first = claim_job(connection, lane, worker=worker, now=now, until=until)
    if first is None:
        return []
    following = (
        select(_JOB)
        .where(_JOB.c.lane == lane, _WAITING, _JOB.c.id > first.id)
        .order_by(_JOB.c.id)
        .limit(most - 1)
        .with_for_update(skip_locked=True)
    )
    rows = list(takewhile(lambda row: row.due_at <= now, connection.execute(following)))
    if rows:
        connection.execute(
            update(_JOB)
            .where(_JOB.c.id.in_([row.id for row in rows]))
            .values(state=JobState.RUNNING.value, claimed_by=worker, claimed_until=until)
        )
    return [first, *(replace(_job(row), claimed_by=worker) for row in rows)]


def events_by_id(connection: Connection, event_ids: Sequence[int]) -> dict[int, OperationalEvent]:
    """The recorded events with these identifiers."""
    statement = select(_EVENT.c.id, _EVENT.c.content).where(_EVENT.c.id.in_(list(event_ids)))
    return {row.id: _event(row.content) for row in connection.execute(statement)}


def finish_jobs(connection: Connection, done: Sequence[Job], *, summary: str, now: datetime) -> None:
    """Mark claimed jobs done."""
    connection.execute(
        update(_JOB)
        .where(_JOB.c.id.in_([job.id for job in done]), _RUNNING)
        .values(
            state=JobState.DONE.value,
            summary=summary,
            last_error="",
            done_at=now,
            claimed_by="",
            claimed_until=None,
        )
    )


def release_jobs(connection: Connection, claimed: Sequence[Job]) -> None:
    """Put claimed jobs back as they were: they were not tried."""
    connection.execute(
        update(_JOB)
        .where(_JOB.c.id.in_([job.id for job in claimed]), _RUNNING)
        .values(state=JobState.WAITING.value, claimed_by="", claimed_until=None)
    )


def finish_job(connection: Connection, job: Job, *, summary: str, now: datetime) -> None:
    """Mark a job done, also where another worker took it over meanwhile: that would do it once more."""
    _set(connection, job, state=JobState.DONE, summary=summary, last_error="", done_at=now)


def postpone_job(connection: Connection, job: Job, *, error: str, due_at: datetime) -> bool:
    """Put a job back to be tried at `due_at`; whether it was still ours."""
    values = {"attempts": job.attempts + 1, "last_error": error, "due_at": due_at}
    return _set(connection, job, state=JobState.WAITING, **values)


def put_back_job(connection: Connection, job: Job, *, due_at: datetime, note: str = "") -> bool:
    """Put a job back that did what it could for now, to be looked at again at `due_at`; what it waits for.

    Whether it was still ours.
    """
    return _set(connection, job, state=JobState.WAITING, attempts=0, last_error=note, due_at=due_at)


def hold_job(connection: Connection, job: Job, *, error: str) -> bool:
    """Set a job aside for a person; whether it was still ours."""
    return _set(connection, job, state=JobState.HELD, attempts=job.attempts + 1, last_error=error)


def release_claims(connection: Connection, worker: str, lane: str = "") -> None:
    """Free what `worker` had claimed: in one lane, or in all with what its hands (``worker#n``) had."""
    by_hand = _JOB.c.claimed_by.startswith(f"{worker}#", autoescape=True)
    claims = update(_JOB).where(_RUNNING)
    if lane:
        claims = claims.where(_JOB.c.lane == lane, _JOB.c.claimed_by == worker)
    else:
        claims = claims.where(or_(_JOB.c.claimed_by == worker, by_hand))
    connection.execute(claims.values(state=JobState.WAITING.value, claimed_by="", claimed_until=None))


def next_due(connection: Connection, lane: str) -> datetime | None:
    """When a job of the lane can next be claimed: due, or its claim run out."""
    found: list[Any] = []
    for state, due in ((_WAITING, _JOB.c.due_at), (_RUNNING, _JOB.c.claimed_until)):
        statement = select(type_coerce(func.min(due), UtcText())).where(_JOB.c.lane == lane, _NO_EVENT, state)
        if _in_order(lane):
            statement = select(type_coerce(due, UtcText())).where(_JOB.c.id == _head(lane), state)
        found.append(connection.execute(statement).scalar())
    return min((at for at in found if isinstance(at, datetime)), default=None)


def jobs_of_workitem(connection: Connection, workitem_uid: str) -> list[Job]:
    """Deliveries of a workitem, in the order planned."""
    statement = select(_JOB).where(_JOB.c.workitem_uid == workitem_uid, OF_A_WORKITEM).order_by(_JOB.c.id)
    return [_job(row) for row in connection.execute(statement)]


def count_jobs(connection: Connection) -> dict[tuple[str, str], int]:
    """Number of jobs by (lane, state)."""
    statement = select(_JOB.c.lane, _JOB.c.state, func.count()).group_by(_JOB.c.lane, _JOB.c.state)
    return {(lane, state): number for lane, state, number in connection.execute(statement)}


def events_about(
    connection: Connection, *, study_instance_uid: str, accession_number: str
) -> list[OperationalEvent]:
    """Events of a study and of its order, in the order recorded."""
    ways = [_EVENT.c.study_instance_uid == study_instance_uid]
    if accession_number:
        ways.append(and_(_OF_NO_STUDY, _EVENT.c.accession_number == accession_number))
    statement = select(_EVENT.c.content).where(or_(*ways)).order_by(_EVENT.c.id)
    return [_event(content) for content in connection.execute(statement).scalars()]


def _in_order(lane: str) -> bool:
    return lane.startswith(event_lane(""))


def _head(lane: str) -> Any:
    firsts = union_all(
        *(
            select(func.min(_JOB.c.id).label("id")).where(_JOB.c.lane == lane, state)
            for state in (_WAITING, _RUNNING)
        )
    ).subquery()
    return select(func.min(firsts.c.id)).scalar_subquery()


def _set(connection: Connection, job: Job, *, state: JobState, **values: Any) -> bool:
    """What came of a claimed job; whether it was so.

    One that another worker has brought to an end meanwhile stays at that, and who lost its claim ends only
    what it has done: what the other does goes on.
    """
    ours = [_JOB.c.id == job.id, _RUNNING]
    if state is not JobState.DONE:
        ours.append(_JOB.c.claimed_by == job.claimed_by)
    changed = update(_JOB).where(*ours).values(state=state.value, claimed_by="", claimed_until=None, **values)
    return connection.execute(changed).rowcount == 1


def _event(content: str) -> OperationalEvent:
    fields = orjson.loads(content)
    return OperationalEvent(
        **{
            **fields,
            "type": EventType(fields["type"]),
            "outcome": Outcome(fields["outcome"]),
            "occurred_at": datetime.fromisoformat(fields["occurred_at"]),
            "instances": tuple((sop_class, uid) for sop_class, uid in fields["instances"]),
        }
    )


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        key=row.key,
        lane=row.lane,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        workitem_uid=row.workitem_uid,
        event_id=row.event_id,
        attempts=row.attempts,
        due_at=row.due_at,
        last_error=row.last_error,
        summary=row.summary,
        created_at=row.created_at,
        done_at=row.done_at,
        claimed_by=row.claimed_by,
    )
