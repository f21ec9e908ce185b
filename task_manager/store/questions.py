# SPDX-License-Identifier: Apache-2.0
"""Statements over questions to archives about studies: durable jobs, one for each archive and study.

None commits. Archives are asked by lanes of the worker, never where studies are looked at.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from task_manager.outbox import FINISHED, JobKind, JobState, question_lane
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA

_JOB = METADATA.tables["job"]


def plan_question(connection: Connection, archive: str, study_instance_uid: str, *, due: datetime) -> None:
    """Have an archive asked about a study; one that was answered is asked again."""
    values = {
        "state": JobState.WAITING.value,
        "due_at": due,
        "attempts": 0,
        "last_error": "",
        "done_at": None,
    }
    statement = upsert(connection, _JOB).values(
        key=question_key(archive, study_instance_uid),
        lane=question_lane(archive),
        kind=JobKind.ASK.value,
        workitem_uid="",
        claimed_by="",
        summary="",
        created_at=due,
        **values,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_=values,
            where=_JOB.c.state.in_([state.value for state in FINISHED]),
        )
    )


def question_key(archive: str, study_instance_uid: str) -> str:
    """The key of the question to an archive about a study."""
    return f"ask:{study_instance_uid}:{archive}"


def asked_study(key: str) -> str:
    """The study that a question is about, from its key."""
    return key.split(":", 2)[1]
