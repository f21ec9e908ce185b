# SPDX-License-Identifier: Apache-2.0
"""Statements over storage commitments asked of destinations. Each takes a connection; none commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import orjson
from sqlalchemy import Connection, delete, insert, select, update

from task_manager.delivery.commitment import Asked, CommitmentAsk
from task_manager.store import delivery_tables  # noqa: F401 - its tables join the metadata
from task_manager.store.tables import METADATA

_COMMITMENT = METADATA.tables["commitment"]
_MOST_UNANSWERED = 16


def add_commitment(connection: Connection, job_key: str, ask: CommitmentAsk, now: datetime) -> None:
    """Write down what is about to be asked.

    Of earlier requests without an answer the latest few are kept: who never reports may be asked for ever.
    """
    unanswered = _COMMITMENT.c.job_key == job_key, _COMMITMENT.c.answered_at.is_(None)
    latest = select(_COMMITMENT.c.transaction_uid).where(*unanswered).order_by(_COMMITMENT.c.asked_at.desc())
    kept = list(connection.execute(latest.limit(_MOST_UNANSWERED - 1)).scalars())
    if len(kept) == _MOST_UNANSWERED - 1:
        connection.execute(delete(_COMMITMENT).where(*unanswered, _COMMITMENT.c.transaction_uid.not_in(kept)))
    connection.execute(
        insert(_COMMITMENT).values(
            transaction_uid=ask.transaction_uid,
            job_key=job_key,
            instances=orjson.dumps(ask.instances).decode(),
            failed="[]",
            asked_at=now,
        )
    )


def accept_commitment(connection: Connection, transaction_uid: str, now: datetime) -> None:
    """The destination took the request."""
    connection.execute(
        update(_COMMITMENT).where(_COMMITMENT.c.transaction_uid == transaction_uid).values(accepted_at=now)
    )


def answer_commitment(
    connection: Connection, transaction_uid: str, failed: Sequence[tuple[str, int]], now: datetime
) -> None:
    """The destination reported; a report that comes again changes nothing."""
    connection.execute(
        update(_COMMITMENT)
        .where(_COMMITMENT.c.transaction_uid == transaction_uid, _COMMITMENT.c.answered_at.is_(None))
        .values(answered_at=now, failed=orjson.dumps([list(one) for one in failed]).decode())
    )


def job_of_commitment(connection: Connection, transaction_uid: str) -> str | None:
    """Key of the job that asked under a Transaction UID; None if none did."""
    statement = select(_COMMITMENT.c.job_key).where(_COMMITMENT.c.transaction_uid == transaction_uid)
    key: str | None = connection.execute(statement).scalar()
    return key


def asked_instances(connection: Connection, transaction_uid: str) -> tuple[str, ...]:
    """SOP Instance UIDs of a request."""
    statement = select(_COMMITMENT.c.instances).where(_COMMITMENT.c.transaction_uid == transaction_uid)
    return tuple(uid for _, uid in orjson.loads(connection.execute(statement).scalar_one()))


def commitments_of(connection: Connection, job_key: str) -> list[Asked]:
    """What was asked for a job, oldest first."""
    statement = select(_COMMITMENT).where(_COMMITMENT.c.job_key == job_key).order_by(_COMMITMENT.c.asked_at)
    return [
        Asked(
            ask=CommitmentAsk(
                transaction_uid=row.transaction_uid,
                instances=tuple((sop_class, uid) for sop_class, uid in orjson.loads(row.instances)),
            ),
            asked_at=row.asked_at,
            accepted_at=row.accepted_at,
            answered_at=row.answered_at,
            failed=tuple((uid, reason) for uid, reason in orjson.loads(row.failed)),
        )
        for row in connection.execute(statement)
    ]


def forget_commitments(connection: Connection, job_keys: Sequence[str]) -> None:
    """Delete what was asked for jobs: it is sent and asked anew, or their time has passed."""
    connection.execute(delete(_COMMITMENT).where(_COMMITMENT.c.job_key.in_(list(job_keys))))
