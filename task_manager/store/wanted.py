# SPDX-License-Identifier: Apache-2.0
"""Statements that tell what studies are wanted for, so that no policy removes them; none commits.

Whoever needs a study for a reason that stands in no other table says so with :func:`keep_study`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, and_, delete, exists, or_, select

from profiles.sole.events import EventType, Outcome
from profiles.ups.states import ProcedureStepState
from task_manager.disk import StudyFacts, Wanted
from task_manager.fetching.model import FetchState
from task_manager.outbox import FINISHED
from task_manager.rules.explain import RuleVerdict
from task_manager.store.disk_tables import KeepRow
from task_manager.store.fetch_tables import FetchRow, PriorWaitRow
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA, OF_A_WORKITEM
from task_manager.study.model import StudyState

_STUDY = METADATA.tables["study"]
_WORKITEM = METADATA.tables["workitem"]
_CONTENT = METADATA.tables["workitem_content"]
_SUBSCRIPTION = METADATA.tables["subscription"]
_EXPLANATION = METADATA.tables["explanation"]
_EVENT = METADATA.tables["event"]
_JOB = METADATA.tables["job"]
_KEEP = METADATA.tables[KeepRow.__tablename__]
_FETCH = METADATA.tables[FetchRow.__tablename__]
_WAIT = METADATA.tables[PriorWaitRow.__tablename__]
_FETCHING = (FetchState.WAITING.value, FetchState.RUNNING.value, FetchState.HELD.value)
_FINISHED = tuple(state.value for state in FINISHED)
_UNFINISHED = (ProcedureStepState.SCHEDULED.value, ProcedureStepState.IN_PROGRESS.value)


def study_facts(
    connection: Connection, study_instance_uid: str, now: datetime, *, lock: bool = False
) -> StudyFacts | None:
    """What policies need to know of a study; None if it is unknown. With `lock`, it stays so."""
    of_study = select(_STUDY.c.state, _STUDY.c.last_received_at).where(
        _STUDY.c.study_instance_uid == study_instance_uid
    )
    row = connection.execute(of_study.with_for_update() if lock else of_study).first()
    if row is None:
        return None
    workitems = connection.execute(
        select(_WORKITEM.c.uid, _WORKITEM.c.state, _WORKITEM.c.attention, _WORKITEM.c.rule).where(
            _WORKITEM.c.study_instance_uid == study_instance_uid
        )
    ).all()
    wanted = set(_wanted(connection, study_instance_uid, [one.uid for one in workitems], now))
    if row.state == StudyState.RECEIVING.value:
        wanted.add(Wanted.ARRIVING)
    if row.state == StudyState.HELD.value:
        wanted.add(Wanted.PERSON)
    if any(one.state in _UNFINISHED for one in workitems):
        wanted.add(Wanted.WORKITEM)
    if any(one.attention for one in workitems):
        wanted.add(Wanted.PERSON)
    return StudyFacts(
        study_instance_uid=study_instance_uid,
        last_received_at=row.last_received_at,
        delivered_at=_delivered_at(connection, study_instance_uid),
        rules=_ran(connection, study_instance_uid) | {one.rule for one in workitems if one.rule},
        wanted=frozenset(wanted),
    )


def _wanted(connection: Connection, study: str, workitems: Sequence[str], now: datetime) -> Iterator[Wanted]:
    def found(condition: Any) -> bool:
        return bool(connection.execute(select(exists().where(condition))).scalar())

    if workitems:
        if found(and_(_SUBSCRIPTION.c.workitem_uid.in_(workitems), _SUBSCRIPTION.c.deletion_lock)):
            yield Wanted.LOCK
        if found(and_(_JOB.c.workitem_uid.in_(workitems), OF_A_WORKITEM, _JOB.c.state.not_in(_FINISHED))):
            yield Wanted.JOB
    kept = and_(_KEEP.c.study_instance_uid == study, or_(_KEEP.c.until.is_(None), _KEEP.c.until > now))
    if found(kept):
        yield Wanted.KEEP
    if found(and_(_FETCH.c.study_instance_uid == study, _FETCH.c.state.in_(_FETCHING))):
        yield Wanted.FETCH


def _delivered_at(connection: Connection, study_instance_uid: str) -> datetime | None:
    """When a result of a study was delivered last, by its events: they outlast its jobs."""
    rows = connection.execute(
        select(_EVENT.c.occurred_at, _EVENT.c.content).where(
            _EVENT.c.study_instance_uid == study_instance_uid, _EVENT.c.type == EventType.EXPORTED.value
        )
    )
    done = (at for at, content in rows if orjson.loads(content).get("outcome") == Outcome.SUCCESS.value)
    return max(done, default=None)


def _ran(connection: Connection, study_instance_uid: str) -> frozenset[str]:
    """Rules that ran for a study; their explanations outlast their workitems."""
    rows = connection.execute(
        select(_EXPLANATION.c.rule, _EXPLANATION.c.content).where(
            _EXPLANATION.c.study_instance_uid == study_instance_uid
        )
    )
    return frozenset(
        rule for rule, content in rows if orjson.loads(content).get("verdict") == RuleVerdict.MATCHED.value
    )


def needed_by_others(connection: Connection, studies: Sequence[str], now: datetime) -> set[str]:
    """Which of `studies` an unfinished workitem, or a rule that waits for priors, names anywhere."""
    needed: set[str] = set()
    asked = (
        select(_CONTENT.c.attributes)
        .join(_WORKITEM, _WORKITEM.c.content_number == _CONTENT.c.number)
        .where(_WORKITEM.c.state.in_(_UNFINISHED))
    )
    with connection.execute(asked, execution_options={"yield_per": 100}) as found:
        for content in found.scalars():
            needed.update(study for study in studies if f'"{study}"' in content)
    waiting = select(_WAIT.c.content).where(_WAIT.c.until > now)
    for content in connection.execute(waiting).scalars():
        needed.update(study for study in studies if f'"{study}"' in content)
    return needed


def keep_study(
    connection: Connection, study_instance_uid: str, *, owner: str, reason: str, until: datetime | None = None
) -> None:
    """Let no policy remove anything of a study until `until`, or until `owner` releases it."""
    statement = upsert(connection, _KEEP)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["study_instance_uid", "owner"],
            set_={"reason": statement.excluded.reason, "until": statement.excluded.until},
        ),
        {"study_instance_uid": study_instance_uid, "owner": owner, "reason": reason, "until": until},
    )


def release_studies(connection: Connection, *, owner: str) -> int:
    """`owner` needs no study any longer; how many it had kept."""
    return connection.execute(delete(_KEEP).where(_KEEP.c.owner == owner)).rowcount


def finishes_work(connection: Connection, study_instance_uid: str) -> bool:
    """Whether somebody performs a workitem of this study, whose results are to come."""
    wanted = exists().where(
        _WORKITEM.c.study_instance_uid == study_instance_uid,
        _WORKITEM.c.state == ProcedureStepState.IN_PROGRESS.value,
    )
    return bool(connection.execute(select(wanted)).scalar())
