# SPDX-License-Identifier: Apache-2.0
"""Statements over performed procedure steps. Each takes a connection; none commits."""

from __future__ import annotations

from datetime import datetime

import orjson
from sqlalchemy import Connection, insert, select, update

from task_manager.store.request_tables import PerformedStepRow
from task_manager.study.performed import PerformedStep

_STEP = PerformedStepRow.metadata.tables["performed_step"]


def locked_step(connection: Connection, sop_instance_uid: str) -> PerformedStep | None:
    """A step, its row locked until the transaction ends; None if it is unknown."""
    row = connection.execute(
        select(_STEP).where(_STEP.c.sop_instance_uid == sop_instance_uid).with_for_update()
    ).first()
    if row is None:
        return None
    return PerformedStep(
        sop_instance_uid=row.sop_instance_uid, source=row.source, attributes=orjson.loads(row.content)
    )


def add_step(connection: Connection, step: PerformedStep, now: datetime) -> None:
    """Write a new step; one that another transaction wrote under its UID just now is a conflict."""
    identity = {"sop_instance_uid": step.sop_instance_uid, "created_at": now}
    connection.execute(insert(_STEP).values({**identity, **_values(step, now)}))


def put_step(connection: Connection, step: PerformedStep, now: datetime) -> None:
    """Write what was told last of a known step."""
    of_step = _STEP.c.sop_instance_uid == step.sop_instance_uid
    connection.execute(update(_STEP).where(of_step).values(_values(step, now)))


def _values(step: PerformedStep, now: datetime) -> dict[str, object]:
    return {
        "study_instance_uid": step.study_instance_uid,
        "status": step.status.value,
        "source": step.source,
        "content": orjson.dumps(step.attributes).decode(),
        "changed_at": now,
    }
