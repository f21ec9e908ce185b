# SPDX-License-Identifier: Apache-2.0
"""What a study waits for, what tells that it is complete, and what persons decided: a part of its story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from task_manager.store import evidence, superseding
from task_manager.store.database import Connection
from task_manager.store.evidence import Awaited, StudyDecision
from task_manager.store.superseding import Superseded
from task_manager.study.model import Evidence, Study, StudyState


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldEvidence:
    """What one source says of the study, and how much of what it names is here."""

    kind: Evidence
    source: str
    told_at: datetime
    ended: bool
    named: int
    here: int
    expected_series: int | None
    expected_instances: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingStory:
    """How complete a study is.

    Attributes
    ----------
    reason
        Why it was complete when it was so last; empty if it never was.
    waiting
        What it waits for by now; empty if it is complete, or nobody will look.
    evidence, decisions
        What others say of it, and what persons decided.
    superseded
        Workitems whose results no longer count, by UID.
    """

    reason: str = ""
    waiting: tuple[Awaited, ...] = ()
    evidence: tuple[ToldEvidence, ...] = ()
    decisions: tuple[StudyDecision, ...] = ()
    superseded: Mapping[str, Superseded] = field(default_factory=dict)


def waiting_story(connection: Connection, study: Study) -> WaitingStory:
    """How complete a study is, and why."""
    uid = study.study_instance_uid
    look = evidence.look_of(connection, uid)
    told = evidence.evidence_of(connection, uid)
    here = evidence.instances_here(connection, uid) if told else {}
    return WaitingStory(
        reason=look.reason if look else "",
        waiting=_awaited(study, look),
        evidence=tuple(
            ToldEvidence(
                kind=one.kind,
                source=one.source,
                told_at=one.told_at,
                ended=one.ended,
                named=len(one.instances),
                here=sum(instance in here for instance in one.instances),
                expected_series=one.expected_series,
                expected_instances=one.expected_instances,
            )
            for one in told
        ),
        decisions=evidence.decisions_of(connection, uid),
        superseded=superseding.superseded_of(connection, uid),
    )


def _awaited(study: Study, look: evidence.Look | None) -> tuple[Awaited, ...]:
    if study.state is not StudyState.RECEIVING or study.deadline_at is None:
        return ()
    if look is not None and look.waiting and look.looked_at >= study.last_received_at:
        return look.waiting
    return (Awaited(rule="", what="a pause in the images that come", until=study.deadline_at),)
