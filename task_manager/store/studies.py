# SPDX-License-Identifier: Apache-2.0
"""Statements over studies, series, instances and explanations. Each takes a connection; none commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import Connection, Row, and_, bindparam, func, insert, or_, select, update

from profiles.dicom_json import DicomJson
from profiles.order import Order
from task_manager.store.compiled import Statement, utc_text, utc_time
from task_manager.store.held import is_held
from task_manager.store.rowwise import upserting
from task_manager.store.tables import METADATA
from task_manager.study.model import Evidence, Instance, Series, Study, StudyState

_STUDY = METADATA.tables["study"]
_SERIES = METADATA.tables["series"]
_INSTANCE = METADATA.tables["instance"]
_EXPLANATION = METADATA.tables["explanation"]

# Run for each study that instances arrive for: statements in the driver's own words, with times as text.
_LOCKED_COLUMNS = (
    *("study_instance_uid", "state", "revision", "attributes", "first_received_at", "last_received_at"),
    *("deadline_at", "completed_at", "evidence", "receiving_since"),
)
_TIMES = ("first_received_at", "last_received_at", "deadline_at", "completed_at", "receiving_since")
_LOCKED_STUDY = Statement(
    lambda _: (
        select(*(_STUDY.c[name] for name in _LOCKED_COLUMNS))
        .where(_STUDY.c.study_instance_uid == bindparam("wanted"))
        .with_for_update()
    )
)
_STUDY_IDENTITY = ("study_instance_uid", "first_received_at")


_PUT_STUDY = Statement(lambda dialect: _put_study(dialect))


def upsert(connection: Connection, table: Any) -> Any:
    """An INSERT of the connection's dialect that knows ON CONFLICT."""
    return upserting(connection.dialect.name, table)


def locked_study(connection: Connection, study_instance_uid: str) -> Study | None:
    """The study without its series, its row locked until the transaction ends; None if unknown."""
    for row in _LOCKED_STUDY.rows(connection, {"wanted": study_instance_uid}):
        found: dict[str, Any] = dict(zip(_LOCKED_COLUMNS, row, strict=True))
        found.update({name: utc_time(found[name]) for name in _TIMES})
        return _study(SimpleNamespace(**found), ())
    return None


def whole_study(connection: Connection, study_instance_uid: str) -> Study | None:
    """The study with its series, as rules see it; None if unknown."""
    row = connection.execute(select(_STUDY).where(_STUDY.c.study_instance_uid == study_instance_uid)).first()
    return None if row is None else _study(row, series_of(connection, study_instance_uid))


def series_of(connection: Connection, study_instance_uid: str) -> tuple[Series, ...]:
    """The series of a study with the number of instances and SOP classes of each; of what is here."""
    return series_of_studies(connection, (study_instance_uid,))[study_instance_uid]


def series_of_studies(connection: Connection, uids: Sequence[str]) -> dict[str, tuple[Series, ...]]:
    """What :func:`series_of` tells, for several studies with two statements in all."""
    counts: dict[tuple[str, str], tuple[list[str], int]] = {}
    grouped = (
        select(
            _INSTANCE.c.study_instance_uid,
            _INSTANCE.c.series_instance_uid,
            _INSTANCE.c.sop_class_uid,
            func.count(),
        )
        .where(_INSTANCE.c.study_instance_uid.in_(uids), _INSTANCE.c.copy_number == 0, is_held())
        .group_by(_INSTANCE.c.study_instance_uid, _INSTANCE.c.series_instance_uid, _INSTANCE.c.sop_class_uid)
        .order_by(_INSTANCE.c.study_instance_uid, _INSTANCE.c.series_instance_uid, _INSTANCE.c.sop_class_uid)
    )
    for study_uid, series_uid, sop_class_uid, number in connection.execute(grouped):
        classes, total = counts.get((study_uid, series_uid), ([], 0))
        counts[study_uid, series_uid] = ([*classes, sop_class_uid], total + number)
    rows = connection.execute(
        select(_SERIES).where(_SERIES.c.study_instance_uid.in_(uids)).order_by(_SERIES.c.series_instance_uid)
    )
    found: dict[str, list[Series]] = {uid: [] for uid in uids}
    for row in rows:
        if (row.study_instance_uid, row.series_instance_uid) not in counts:
            continue  # all of it was removed
        classes, total = counts[row.study_instance_uid, row.series_instance_uid]
        found[row.study_instance_uid].append(
            Series(
                series_instance_uid=row.series_instance_uid,
                attributes=orjson.loads(row.attributes),
                sop_class_uids=tuple(classes),
                number_of_instances=total,
            )
        )
    return {uid: tuple(series) for uid, series in found.items()}


def put_study(connection: Connection, study: Study, *, patient_id: str, accession_number: str) -> None:
    """Write the study row: new, or state, deadline, revision and evidence of a known one."""
    values = _study_values(study, patient_id, accession_number)
    _PUT_STUDY.change(connection, values | {name: utc_text(values[name]) for name in _TIMES})


def add_study(connection: Connection, study: Study, *, patient_id: str, accession_number: str) -> bool:
    """Write a new study row; False if another transaction wrote it first, whose row then stays."""
    values = _study_values(study, patient_id, accession_number)
    return connection.execute(_add_study(connection.dialect.name), values).first() is not None


def _study_values(study: Study, patient_id: str, accession_number: str) -> dict[str, Any]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "state": study.state.value,
        "revision": study.revision,
        "patient_id": patient_id,
        "accession_number": accession_number,
        "attributes": orjson.dumps(study.attributes).decode(),
        "first_received_at": study.first_received_at,
        "last_received_at": study.last_received_at,
        "deadline_at": study.deadline_at,
        "completed_at": study.completed_at,
        "evidence": study.evidence.value if study.evidence else "",
        "receiving_since": study.receiving_since,
    }


def is_recorded(connection: Connection, path: str) -> bool:
    """Whether an instance is kept at `path`, found among those of the study that names its folder."""
    study = PurePosixPath(path).parent.name
    kept = select(_INSTANCE.c.path).where(_INSTANCE.c.study_instance_uid == study, _INSTANCE.c.path == path)
    return connection.execute(kept).first() is not None


def find_instances(
    connection: Connection,
    *,
    study_instance_uid: str = "",
    series_instance_uids: Sequence[str] = (),
    sop_instance_uids: Sequence[str] = (),
) -> list[Instance]:
    """Instances that are here (first copies), by series, instance number and UID; open levels match all."""
    wanted = [_INSTANCE.c.copy_number == 0, is_held()]
    if study_instance_uid:
        wanted.append(_INSTANCE.c.study_instance_uid == study_instance_uid)
    if series_instance_uids:
        wanted.append(_INSTANCE.c.series_instance_uid.in_(series_instance_uids))
    if sop_instance_uids:
        wanted.append(_INSTANCE.c.sop_instance_uid.in_(sop_instance_uids))
    statement = (
        select(_INSTANCE)
        .where(and_(*wanted))
        .order_by(_INSTANCE.c.series_instance_uid, _INSTANCE.c.instance_number, _INSTANCE.c.sop_instance_uid)
    )
    return [_instance(row) for row in connection.execute(statement)]


def due_studies(connection: Connection, now: datetime, *, limit: int = 50) -> list[str]:
    """UIDs of RECEIVING studies whose deadline has passed, oldest deadline first."""
    statement = (
        select(_STUDY.c.study_instance_uid)
        .where(_STUDY.c.state == StudyState.RECEIVING.value, _STUDY.c.deadline_at <= now)
        .order_by(_STUDY.c.deadline_at)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def evaluated_studies(connection: Connection, since: datetime) -> list[str]:
    """UIDs of studies that began to arrive at `since` or later and were evaluated, oldest first."""
    statement = (
        select(_STUDY.c.study_instance_uid)
        .where(_STUDY.c.first_received_at >= since, _STUDY.c.revision > 0)
        .order_by(_STUDY.c.first_received_at, _STUDY.c.study_instance_uid)
    )
    return list(connection.execute(statement).scalars())


def look_again(connection: Connection, order: Order, now: datetime) -> int:
    """Let complete studies of `order` be evaluated again, now with this order; how many there are.

    Work that has begun keeps the order it began with and is not asked for twice; a rule that had to wait for
    the order may ask for more.
    """
    of_order = [_STUDY.c.study_instance_uid == order.study_instance_uid]
    if order.accession_number and order.patient_id:
        of_order.append(
            and_(_STUDY.c.accession_number == order.accession_number, _STUDY.c.patient_id == order.patient_id)
        )
    reopened = connection.execute(
        update(_STUDY)
        .where(_STUDY.c.state == StudyState.COMPLETE.value, or_(*of_order))
        .values(state=StudyState.RECEIVING.value, deadline_at=now)
    )
    return reopened.rowcount


def postpone_study(connection: Connection, study_instance_uid: str, deadline_at: datetime) -> None:
    """Move the deadline of a study that is due."""
    connection.execute(
        update(_STUDY)
        .where(
            _STUDY.c.study_instance_uid == study_instance_uid,
            _STUDY.c.state == StudyState.RECEIVING.value,
            _STUDY.c.deadline_at < deadline_at,
        )
        .values(deadline_at=deadline_at)
    )


def postpone_studies(connection: Connection, deadlines: Mapping[str, tuple[datetime, datetime]]) -> list[str]:
    """Move deadlines of studies from the first time to the second; UIDs of those that still had the first."""
    moved = []
    for uid, (before, after) in sorted(deadlines.items()):
        found = connection.execute(
            update(_STUDY)
            .where(
                _STUDY.c.study_instance_uid == uid,
                _STUDY.c.state == StudyState.RECEIVING.value,
                _STUDY.c.deadline_at == before,
            )
            .values(deadline_at=after)
        )
        if found.rowcount:
            moved.append(uid)
    return moved


def decide_study(connection: Connection, study: Study) -> None:
    """Write what a person decided about a known study: its state and when to look at it."""
    connection.execute(
        update(_STUDY)
        .where(_STUDY.c.study_instance_uid == study.study_instance_uid)
        .values(
            state=study.state.value,
            deadline_at=study.deadline_at,
            evidence=study.evidence.value if study.evidence else "",
            receiving_since=study.receiving_since,
        )
    )


def studies_in(connection: Connection, states: Sequence[StudyState], *, limit: int) -> list[Study]:
    """Studies in some states without their series, those looked at next first."""
    statement = (
        select(_STUDY)
        .where(_STUDY.c.state.in_([state.value for state in states]))
        .order_by(_STUDY.c.deadline_at, _STUDY.c.study_instance_uid)
        .limit(limit)
    )
    return [_study(row, ()) for row in connection.execute(statement)]


def sources_of(connection: Connection, study_instance_uid: str) -> list[str]:
    """Where the instances of a study came from, as marked in the store."""
    statement = (
        select(_INSTANCE.c.source).where(_INSTANCE.c.study_instance_uid == study_instance_uid).distinct()
    )
    return sorted(connection.execute(statement).scalars())


def next_deadline(connection: Connection) -> datetime | None:
    """The earliest deadline of a RECEIVING study."""
    statement = select(func.min(_STUDY.c.deadline_at)).where(_STUDY.c.state == StudyState.RECEIVING.value)
    found = connection.execute(statement).scalar()
    return found if found is None or isinstance(found, datetime) else None


def replace_explanations(
    connection: Connection, study: Study, contents: Sequence[tuple[str, str]], *, version: str, now: datetime
) -> None:
    """Record why each rule did or did not run for this revision; `contents` holds (rule, JSON text)."""
    connection.execute(
        _EXPLANATION.delete().where(
            _EXPLANATION.c.study_instance_uid == study.study_instance_uid,
            _EXPLANATION.c.revision == study.revision,
        )
    )
    for position, (rule, content) in enumerate(contents):
        connection.execute(
            insert(_EXPLANATION).values(
                study_instance_uid=study.study_instance_uid,
                revision=study.revision,
                position=position,
                rule=rule,
                rule_set_version=version,
                content=content,
                evaluated_at=now,
            )
        )


def explanations_of(connection: Connection, study_instance_uid: str) -> list[tuple[int, str, str, datetime]]:
    """(revision, rule-set version, JSON text, time) of every explanation, oldest revision first."""
    statement = (
        select(
            _EXPLANATION.c.revision,
            _EXPLANATION.c.rule_set_version,
            _EXPLANATION.c.content,
            _EXPLANATION.c.evaluated_at,
        )
        .where(_EXPLANATION.c.study_instance_uid == study_instance_uid)
        .order_by(_EXPLANATION.c.revision, _EXPLANATION.c.position)
    )
    return [
        (revision, version, content, at) for revision, version, content, at in connection.execute(statement)
    ]


def _put_study(dialect: str) -> Any:
    statement = upserting(dialect, _STUDY).values(
        {column.name: bindparam(column.name) for column in _STUDY.c}
    )
    changes = {column.name: statement.excluded[column.name] for column in _STUDY.c}
    for name in _STUDY_IDENTITY:
        del changes[name]
    return statement.on_conflict_do_update(index_elements=["study_instance_uid"], set_=changes)


@lru_cache
def _add_study(dialect: str) -> Any:
    return upserting(dialect, _STUDY).on_conflict_do_nothing().returning(_STUDY.c.study_instance_uid)


def _study(row: Any, series: tuple[Series, ...]) -> Study:
    attributes: DicomJson = orjson.loads(row.attributes)
    return Study(
        study_instance_uid=row.study_instance_uid,
        state=StudyState(row.state),
        revision=row.revision,
        attributes=attributes,
        series=series,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
        deadline_at=row.deadline_at,
        completed_at=row.completed_at,
        evidence=Evidence(row.evidence) if row.evidence else None,
        receiving_since=row.receiving_since,
    )


def _instance(row: Row[Any]) -> Instance:
    return Instance(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        series_instance_uid=row.series_instance_uid,
        study_instance_uid=row.study_instance_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        instance_number=row.instance_number,
        path=row.path,
        size=row.size,
        received_at=row.received_at,
        attributes=orjson.loads(row.attributes),
    )
