# SPDX-License-Identifier: Apache-2.0
"""Statements over rules that wait for earlier studies, and over the other studies of a patient.

Each takes a connection; none commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, delete, select, update

from profiles.dicom_json import DicomJson, text
from task_manager.fetching.model import FetchState
from task_manager.outbox import REVIEW_LANE, JobState
from task_manager.rules.prior_outcomes import PriorOutcome, prior_from_json, prior_to_json
from task_manager.store import studies
from task_manager.store.fetch_tables import PriorWaitRow
from task_manager.store.patient_tables import PatientIdentityRow
from task_manager.store.reviews import review_key
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA
from task_manager.study.model import Series

_WAIT = PriorWaitRow.metadata.tables["prior_wait"]
_IDENTITY = PatientIdentityRow.metadata.tables["patient_identity"]
_STUDY = METADATA.tables["study"]
_JOB = METADATA.tables["job"]
_FETCH = METADATA.tables["study_fetch"]
_MOST_IDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorWait:
    """A rule of one revision of a study that waits for earlier studies, or has waited.

    Attributes
    ----------
    settled
        Whether it is decided what the rule gets.
    approved
        Whether a person let the rule run though it has many candidates.
    outcomes
        What was found so far; empty before the first search.
    """

    study_instance_uid: str
    revision: int
    rule: str
    until: datetime
    settled: bool = False
    approved: bool = False
    outcomes: tuple[PriorOutcome, ...] = ()

    @property
    def key(self) -> str:
        """Key of its job."""
        return f"prior:{self.study_instance_uid}:{self.revision}:{self.rule}"


def wait_of(connection: Connection, study_instance_uid: str, revision: int, rule: str) -> PriorWait | None:
    """The wait of a rule; None if it does not wait and has not."""
    statement = select(_WAIT).where(
        _WAIT.c.study_instance_uid == study_instance_uid,
        _WAIT.c.revision == revision,
        _WAIT.c.rule == rule,
    )
    row = connection.execute(statement).first()
    if row is None:
        return None
    content = orjson.loads(row.content)
    return PriorWait(
        study_instance_uid=row.study_instance_uid,
        revision=row.revision,
        rule=row.rule,
        until=row.until,
        settled=row.state == _SETTLED,
        approved=content["approved"],
        outcomes=tuple(prior_from_json(one) for one in content["outcomes"]),
    )


def of_wait_key(key: str) -> tuple[str, int, str]:
    """(Study Instance UID, revision, rule) of the key of a job.

    Raises
    ------
    ValueError
        If it is not the key of such a job.
    """
    kind, study_instance_uid, revision, rule = key.split(":", 3)
    if kind != "prior":
        raise ValueError("not the job of a rule that waits for priors")
    return study_instance_uid, int(revision), rule


def put_wait(connection: Connection, wait: PriorWait, now: datetime) -> None:
    """Write a wait, new or as it is by now."""
    content = {"approved": wait.approved, "outcomes": [prior_to_json(one) for one in wait.outcomes]}
    values = {
        "study_instance_uid": wait.study_instance_uid,
        "revision": wait.revision,
        "rule": wait.rule,
        "state": _SETTLED if wait.settled else _WAITING,
        "until": wait.until,
        "content": orjson.dumps(content).decode(),
        "created_at": now,
        "changed_at": now,
    }
    keys = ["study_instance_uid", "revision", "rule"]
    changes = {name: value for name, value in values.items() if name not in (*keys, "created_at")}
    statement = upsert(connection, _WAIT).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes))


def purge_waits(connection: Connection, before: datetime) -> int:
    """Forget waits that did not change since a time; how many. What was decided stays in explanations."""
    return connection.execute(delete(_WAIT).where(_WAIT.c.changed_at < before)).rowcount


def hold_review_again(
    connection: Connection, study_instance_uid: str, revision: int, rule: str, why: str
) -> None:
    """Have a rule wait for a person once more who has decided about it before, for another reason."""
    connection.execute(
        update(_JOB)
        .where(
            _JOB.c.key == review_key(study_instance_uid, revision, rule),
            _JOB.c.lane == REVIEW_LANE,
            _JOB.c.state == JobState.DONE.value,
        )
        .values(state=JobState.HELD.value, last_error=f"rule {rule} for study {study_instance_uid}: {why}")
    )


def known_ids(connection: Connection, patient_id: str, issuer: str) -> list[str]:
    """A current patient id and those that were merged into it: archives may still know only these."""
    statement = (
        select(_IDENTITY.c.patient_id)
        .where(_IDENTITY.c.survivor_id == patient_id, _IDENTITY.c.survivor_issuer.in_(("", issuer)))
        .order_by(_IDENTITY.c.patient_id)
        .limit(_MOST_IDS)
    )
    found = connection.execute(statement).scalars()
    return list(dict.fromkeys((patient_id, *found)))


def studies_of_patient_ids(
    connection: Connection, ids: Sequence[str]
) -> list[tuple[str, DicomJson, tuple[Series, ...]]]:
    """(Study Instance UID, attributes, series) of the studies that are here under some patient ids."""
    statement = (
        select(_STUDY.c.study_instance_uid, _STUDY.c.attributes)
        .where(_STUDY.c.patient_id.in_(list(ids)))
        .order_by(_STUDY.c.study_instance_uid)
    )
    rows = [(uid, orjson.loads(attributes)) for uid, attributes in connection.execute(statement)]
    series = studies.series_of_studies(connection, [uid for uid, _ in rows])
    return [(uid, attributes, series[uid]) for uid, attributes in rows]


def fetch_states(connection: Connection, keys: Sequence[str]) -> dict[str, tuple[FetchState, str]]:
    """State of fetches, and why they wait, by key."""
    statement = select(_FETCH.c.fetch_key, _FETCH.c.state, _FETCH.c.error).where(_FETCH.c.fetch_key.in_(keys))
    return {key: (FetchState(state), error) for key, state, error in connection.execute(statement)}


def modalities_of(series: Sequence[Series]) -> tuple[str, ...]:
    """The modalities of some series, each once."""
    return _values(series, "Modality")


def body_parts_of(series: Sequence[Series]) -> tuple[str, ...]:
    """The body parts of some series, each once."""
    return _values(series, "BodyPartExamined")


def _values(series: Sequence[Series], keyword: str) -> tuple[str, ...]:
    found: Any = (text(one.attributes, keyword).strip() for one in series)
    return tuple(sorted({one for one in found if one}))


_WAITING, _SETTLED = "WAITING", "SETTLED"
