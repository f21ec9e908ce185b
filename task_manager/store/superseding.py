# SPDX-License-Identifier: Apache-2.0
"""Statements over results that later images made out of date. None commits.

The results themselves stay, byte for byte: what is marked is the workitem that made them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from task_manager.store.evidence_tables import SupersededResultRow
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA

_SUPERSEDED = METADATA.tables[SupersededResultRow.__tablename__]


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """Why the results of a workitem no longer count, and by what: `by` is empty if nothing replaces them."""

    by: str
    why: str
    at: datetime


def supersede(
    connection: Connection, study_instance_uid: str, workitem_uid: str, *, by: str, why: str, now: datetime
) -> None:
    """Mark the results of a workitem, whether they are there or still to come; the last mark counts."""
    values = {"superseded_by": by, "why": why, "superseded_at": now}
    statement = upsert(connection, _SUPERSEDED).values(
        workitem_uid=workitem_uid, study_instance_uid=study_instance_uid, **values
    )
    connection.execute(statement.on_conflict_do_update(index_elements=["workitem_uid"], set_=values))


def reinstate(connection: Connection, workitem_uid: str) -> None:
    """Take the mark off: the study is again what it was when this was asked for."""
    connection.execute(delete(_SUPERSEDED).where(_SUPERSEDED.c.workitem_uid == workitem_uid))


def superseded_of(connection: Connection, study_instance_uid: str) -> dict[str, Superseded]:
    """Workitems of a study whose results no longer count, by UID."""
    statement = select(_SUPERSEDED).where(_SUPERSEDED.c.study_instance_uid == study_instance_uid)
    return {
        row.workitem_uid: Superseded(by=row.superseded_by, why=row.why, at=row.superseded_at)
        for row in connection.execute(statement)
    }


def superseded(connection: Connection, workitem_uid: str) -> Superseded | None:
    """Why the results of one workitem no longer count; None if they do."""
    row = connection.execute(select(_SUPERSEDED).where(_SUPERSEDED.c.workitem_uid == workitem_uid)).first()
    return None if row is None else Superseded(by=row.superseded_by, why=row.why, at=row.superseded_at)
