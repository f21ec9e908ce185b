# SPDX-License-Identifier: Apache-2.0
"""Statements over manual reviews: a rule that found more candidates than a machine may choose from.

A review is an outbox row that is held for a person from the start, so it shows where all that waits shows,
and is let go as any held job is. Each function takes a connection; none commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from task_manager.outbox import REVIEW_LANE, JobKind, JobState
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA

_JOB = METADATA.tables["job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A rule of one revision of a study that a person let run."""

    key: str
    study_instance_uid: str
    revision: int
    rule: str


def ask_for_review(
    connection: Connection, study_instance_uid: str, revision: int, rule: str, *, why: str, now: datetime
) -> None:
    """Hold a rule for a person; asking again for the same revision changes nothing."""
    statement = upsert(connection, _JOB).values(
        key=review_key(study_instance_uid, revision, rule),
        lane=REVIEW_LANE,
        kind=JobKind.REVIEW.value,
        state=JobState.HELD.value,
        workitem_uid="",
        attempts=0,
        due_at=now,
        claimed_by="",
        last_error=f"rule {rule} for study {study_instance_uid}: {why}",
        summary="",
        created_at=now,
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=["key"]))


def settle_reviews(connection: Connection, study_instance_uid: str, now: datetime) -> None:
    """End what waits for a person about a study: it is looked at anew."""
    connection.execute(
        update(_JOB)
        .where(
            _JOB.c.lane == REVIEW_LANE,
            _JOB.c.state.in_((JobState.HELD.value, JobState.WAITING.value)),
            _JOB.c.key.startswith(_prefix(study_instance_uid), autoescape=True),
        )
        .values(state=JobState.DONE.value, summary="the study was looked at anew", last_error="", done_at=now)
    )


def approved_reviews(connection: Connection, *, limit: int = 50) -> list[Review]:
    """Rules that a person let run and that were not scheduled yet, longest first."""
    statement = (
        select(_JOB.c.key)
        .where(_JOB.c.lane == REVIEW_LANE, _JOB.c.state == JobState.WAITING.value)
        .order_by(_JOB.c.id)
        .limit(limit)
    )
    found = []
    for key in connection.execute(statement).scalars():
        _, study_instance_uid, revision, rule = key.split(":", 3)
        found.append(
            Review(key=key, study_instance_uid=study_instance_uid, revision=int(revision), rule=rule)
        )
    return found


def hold_review(connection: Connection, review: Review, *, why: str) -> None:
    """Put an approved review back for a person: it could not be carried out."""
    connection.execute(
        update(_JOB)
        .where(_JOB.c.key == review.key, _JOB.c.state == JobState.WAITING.value)
        .values(state=JobState.HELD.value, attempts=_JOB.c.attempts + 1, last_error=why)
    )


def finish_review(connection: Connection, review: Review, *, summary: str, now: datetime) -> bool:
    """End an approved review; False if another process has."""
    done = connection.execute(
        update(_JOB)
        .where(_JOB.c.key == review.key, _JOB.c.state == JobState.WAITING.value)
        .values(state=JobState.DONE.value, summary=summary, last_error="", done_at=now)
    )
    return done.rowcount == 1


def review_key(study_instance_uid: str, revision: int, rule: str) -> str:
    """The key of the held job of a rule."""
    return f"{_prefix(study_instance_uid)}{revision}:{rule}"


def _prefix(study_instance_uid: str) -> str:
    return f"review:{study_instance_uid}:"
