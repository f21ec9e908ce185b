# SPDX-License-Identifier: Apache-2.0
"""Statements over what tells that studies are complete, and over what came of looking. None commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, insert, select, update

from profiles.order import Order
from task_manager.actor import Actor
from task_manager.store.evidence_tables import StudyDecisionRow, StudyEvidenceRow, StudyLookRow
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA
from task_manager.study.evidence import StudyEvidence, after_telling
from task_manager.study.model import Evidence, StudyState

_EVIDENCE = METADATA.tables[StudyEvidenceRow.__tablename__]
_LOOK = METADATA.tables[StudyLookRow.__tablename__]
_DECISION = METADATA.tables[StudyDecisionRow.__tablename__]
_STUDY = METADATA.tables["study"]
_INSTANCE = METADATA.tables["instance"]
_KEY = ("study_instance_uid", "kind", "source")


def note_evidence(connection: Connection, told: StudyEvidence, now: datetime) -> bool:
    """Keep what a source says of a study, and have the study looked at; whether it is receiving.

    In the transaction of the caller: a door writes it with its own record.
    """
    key = (_EVIDENCE.c.study_instance_uid == told.study_instance_uid) & (_EVIDENCE.c.kind == told.kind.value)
    key &= _EVIDENCE.c.source == told.source
    first = after_telling(None, told)
    new = upsert(connection, _EVIDENCE).values(_values(first)).on_conflict_do_nothing(index_elements=_KEY)
    if connection.execute(new.returning(_EVIDENCE.c.source)).first() is None:
        row = connection.execute(select(_EVIDENCE).where(key).with_for_update()).one()
        after = after_telling(_evidence(row), told)
        changes = {name: value for name, value in _values(after).items() if name not in _KEY}
        connection.execute(update(_EVIDENCE).where(key).values(changes))
    return hasten(connection, told.study_instance_uid, now)


def hasten(connection: Connection, study_instance_uid: str, now: datetime) -> bool:
    """Have a study looked at that is receiving and has images; whether it is one."""
    found = connection.execute(
        update(_STUDY)
        .where(
            _STUDY.c.study_instance_uid == study_instance_uid,
            _STUDY.c.state == StudyState.RECEIVING.value,
            _STUDY.c.deadline_at.is_not(None),
        )
        .values(deadline_at=now)
    )
    return found.rowcount > 0


def hasten_studies_of(connection: Connection, order: Order, now: datetime) -> None:
    """Have the studies of an order looked at that are receiving: it may be what they wait for.

    Those too that are due: somebody may look at them just now, and has not seen this order.
    """
    ways = [_STUDY.c.study_instance_uid == order.study_instance_uid] if order.study_instance_uid else []
    if order.accession_number and order.patient_id:
        ways.append(
            (_STUDY.c.accession_number == order.accession_number) & (_STUDY.c.patient_id == order.patient_id)
        )
    for way in ways:  # each by its index
        connection.execute(
            update(_STUDY)
            .where(way, _STUDY.c.state == StudyState.RECEIVING.value, _STUDY.c.deadline_at.is_not(None))
            .values(deadline_at=now)
        )


def evidence_of(connection: Connection, study_instance_uid: str) -> tuple[StudyEvidence, ...]:
    """What everybody says of a study, in the order first told."""
    statement = (
        select(_EVIDENCE)
        .where(_EVIDENCE.c.study_instance_uid == study_instance_uid)
        .order_by(_EVIDENCE.c.first_told_at, _EVIDENCE.c.kind, _EVIDENCE.c.source)
    )
    return tuple(_evidence(row) for row in connection.execute(statement))


def instances_here(connection: Connection, study_instance_uid: str) -> dict[str, str]:
    """SOP Instance UID to SOP Class UID of what is stored of a study, by its index."""
    statement = select(_INSTANCE.c.sop_instance_uid, _INSTANCE.c.sop_class_uid).where(
        _INSTANCE.c.study_instance_uid == study_instance_uid, _INSTANCE.c.copy_number == 0
    )
    return {row.sop_instance_uid: row.sop_class_uid for row in connection.execute(statement)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """One thing a study, or one of its rules, waits for.

    Attributes
    ----------
    rule
        Name of the rule that waits; empty for the study itself.
    what
        In words.
    until
        When it is looked at again even if it does not come.
    """

    rule: str
    what: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What came of the last look at a study.

    Attributes
    ----------
    reason
        Why it is complete, in words; empty while it is not.
    waiting
        What it waits for.
    ready
        Rules that ran before the whole study was complete.
    instances
        How many images there were then; where rules are ready, how many they ran on.
    """

    reason: str = ""
    waiting: tuple[Awaited, ...] = ()
    ready: tuple[str, ...] = ()
    instances: int = 0
    looked_at: datetime


def put_looks(connection: Connection, looks: Mapping[str, Look]) -> None:
    """Keep what came of looks at studies, in place of the ones before."""
    if not looks:
        return
    rows = [
        {
            "study_instance_uid": uid,
            "reason": look.reason,
            "waiting": orjson.dumps(
                [{"rule": one.rule, "what": one.what, "until": one.until.isoformat()} for one in look.waiting]
            ).decode(),
            "ready": orjson.dumps(look.ready).decode(),
            "instances": look.instances,
            "looked_at": look.looked_at,
        }
        for uid, look in sorted(looks.items())
    ]
    statement = upsert(connection, _LOOK).values(rows)
    changes = {name: statement.excluded[name] for name in rows[0] if name != "study_instance_uid"}
    connection.execute(statement.on_conflict_do_update(index_elements=["study_instance_uid"], set_=changes))


def looks_of(connection: Connection, uids: Sequence[str]) -> dict[str, Look]:
    """What came of the last looks at some studies."""
    rows = connection.execute(select(_LOOK).where(_LOOK.c.study_instance_uid.in_(list(uids))))
    return {row.study_instance_uid: _look(row) for row in rows}


def look_of(connection: Connection, study_instance_uid: str) -> Look | None:
    """What came of the last look at a study; None if nobody has looked."""
    row = connection.execute(select(_LOOK).where(_LOOK.c.study_instance_uid == study_instance_uid)).first()
    return None if row is None else _look(row)


def _look(row: Any) -> Look:
    return Look(
        reason=row.reason,
        waiting=tuple(
            Awaited(rule=one["rule"], what=one["what"], until=datetime.fromisoformat(one["until"]))
            for one in orjson.loads(row.waiting)
        ),
        ready=tuple(orjson.loads(row.ready)),
        instances=row.instances,
        looked_at=row.looked_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDecision:
    """What a person decided about a study: `action` is force, hold, release or discard."""

    action: str
    actor: Actor
    reason: str
    decided_at: datetime


def add_decision(connection: Connection, study_instance_uid: str, decision: StudyDecision) -> None:
    """Add to what people decided about a study."""
    connection.execute(
        insert(_DECISION).values(
            study_instance_uid=study_instance_uid,
            action=decision.action,
            door=decision.actor.door,
            actor=decision.actor.name,
            address=decision.actor.address,
            reason=decision.reason,
            decided_at=decision.decided_at,
        )
    )


def decisions_of(connection: Connection, study_instance_uid: str) -> tuple[StudyDecision, ...]:
    """What people decided about a study, the oldest first."""
    statement = (
        select(_DECISION).where(_DECISION.c.study_instance_uid == study_instance_uid).order_by(_DECISION.c.id)
    )
    return tuple(
        StudyDecision(
            action=row.action,
            actor=Actor(door=row.door, name=row.actor, address=row.address),
            reason=row.reason,
            decided_at=row.decided_at,
        )
        for row in connection.execute(statement)
    )


def _values(told: StudyEvidence) -> dict[str, object]:
    series = {uid: sorted(instances) for uid, instances in sorted(told.series.items())}
    return {
        "study_instance_uid": told.study_instance_uid,
        "kind": told.kind.value,
        "source": told.source,
        "series": orjson.dumps(series).decode(),
        "expected_series": told.expected_series,
        "expected_instances": told.expected_instances,
        "ended": told.ended,
        "first_told_at": told.first_told_at or told.told_at,
        "told_at": told.told_at,
    }


def _evidence(row: Row[tuple[object, ...]]) -> StudyEvidence:
    found = row._mapping
    return StudyEvidence(
        kind=Evidence(found["kind"]),
        study_instance_uid=found["study_instance_uid"],
        source=found["source"],
        told_at=found["told_at"],
        series={uid: frozenset(instances) for uid, instances in orjson.loads(found["series"]).items()},
        expected_series=found["expected_series"],
        expected_instances=found["expected_instances"],
        ended=found["ended"],
        first_told_at=found["first_told_at"],
    )
