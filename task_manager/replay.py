# SPDX-License-Identifier: Apache-2.0
"""What a rule set would make of studies that were evaluated before, and where that differs.

Reads only. The evaluation that was kept is compared with a new one over what is stored now, with the order as
it is now; a time window is asked of the arrival, so it answers as it did then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from profiles import dicom_json
from profiles.request import IMAGES_CAME, most_urgent
from task_manager.rules.evaluate import Evaluator
from task_manager.rules.explain import ConditionOutcome, RuleExplanation, RuleVerdict, from_json
from task_manager.rules.model import RuleSet, Verdict
from task_manager.store import identities, orders, requests, studies
from task_manager.store.acquisitions import StoredAcquisition
from task_manager.store.database import Connection, Database

_RUNS = {RuleVerdict.MATCHED, RuleVerdict.REVIEW, RuleVerdict.WAITING}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDifference:
    """A rule that a study is treated differently by; None stands for a rule that is not in the set."""

    rule: str
    before: RuleExplanation | None
    after: RuleExplanation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReplay:
    """One study: when it came, the versions compared, and every rule that differs."""

    study_instance_uid: str
    received_at: datetime
    version_before: str
    version_after: str
    differences: tuple[RuleDifference, ...]


def replayed(
    database: Database, object_path: Callable[[str], Path], rules: RuleSet, since: datetime
) -> Iterator[StudyReplay]:
    """Every study that began to arrive at `since` (aware) or later and was evaluated, oldest first.

    `object_path` tells where the object with a path of the store lies.
    """
    evaluator = Evaluator(rules)
    with database.read() as connection:
        uids = studies.evaluated_studies(connection, since)
    for uid in uids:
        with database.read() as connection:
            found = _replay(connection, object_path, evaluator, uid)
        if found is not None:
            yield found


def _replay(
    connection: Connection,
    object_path: Callable[[str], Path],
    evaluator: Evaluator,
    study_instance_uid: str,
) -> StudyReplay | None:
    known = studies.whole_study(connection, study_instance_uid)
    kept = studies.explanations_of(connection, study_instance_uid)
    if known is None or not kept:
        return None
    revision = kept[-1][0]
    before = [from_json(content) for number, _, content, _ in kept if number == revision]
    study = identities.identified(connection, known)
    number = dicom_json.text(study.attributes, "AccessionNumber")
    patient = dicom_json.text(study.attributes, "PatientID")
    joined = orders.order_of_study(
        connection, study_instance_uid=study_instance_uid, accession_number=number, patient_id=patient
    )
    triggers = requests.triggers_of_study(
        connection, study_instance_uid=study_instance_uid, accession_number=number, patient_id=patient
    )
    acquisition = StoredAcquisition(connection, study_instance_uid, object_path)
    after = evaluator.explain(
        study,
        most_urgent(joined[1] if joined else None, triggers),
        acquisition,
        triggers=(IMAGES_CAME, *triggers),
    )
    return StudyReplay(
        study_instance_uid=study_instance_uid,
        received_at=study.first_received_at,
        version_before=kept[-1][1],
        version_after=evaluator.rules.version,
        differences=differences(before, after),
    )


def differences(
    before: Sequence[RuleExplanation], after: Sequence[RuleExplanation]
) -> tuple[RuleDifference, ...]:
    """Rules whose app runs in one of two evaluations only, or on other inputs.

    A rule that runs in neither is the same, whatever its reasons: nothing would happen either way.
    """
    old, new = ({one.rule: one for one in side} for side in (before, after))
    found = []
    for rule in dict.fromkeys((*old, *new)):
        one, other = old.get(rule), new.get(rule)
        if _treatment(one) != _treatment(other):
            found.append(RuleDifference(rule=rule, before=one, after=other))
    return tuple(found)


def _treatment(explanation: RuleExplanation | None) -> object:
    """What happens to the study by a rule; None if nothing does. A review let go counts as one.

    A rule that waits for more of the study, or for earlier ones, will run; which ones is not compared.
    """
    if explanation is None or explanation.verdict not in _RUNS:
        return None
    lacks = any(one.lacks for one in explanation.priors)  # known only after a search: no replay has one
    reviewed = explanation.verdict is RuleVerdict.REVIEW and not lacks
    waits = reviewed or (explanation.verdict is RuleVerdict.MATCHED and bool(explanation.note))
    inputs = [(one.name, one.selected, one.selected_images) for one in explanation.requirements]
    return explanation.app, waits, inputs


def reasons(explanation: RuleExplanation) -> tuple[str, ...]:
    """The conditions that keep a rule from running, in words; empty if it runs."""
    if explanation.verdict in _RUNS:
        return ()
    if explanation.verdict is RuleVerdict.PASSED_OVER:
        return (explanation.note,)
    told = []
    for outcome in (explanation.active, explanation.when):
        if outcome is not None and outcome.verdict is not Verdict.TRUE:
            told += _deciding(outcome)
    for requirement in explanation.requirements:
        if requirement.verdict is not Verdict.TRUE:
            told.append(f"no series is input {requirement.name}")
    return tuple(told)


def _deciding(outcome: ConditionOutcome) -> list[str]:
    parts = [part for part in outcome.parts if part.verdict is outcome.verdict]
    if parts and outcome.asked != "not":
        return [line for part in parts for line in _deciding(part)]
    if outcome.asked == "not":
        outcome = outcome.parts[0]
        asked = f"not {outcome.asked}"
    else:
        asked = outcome.asked
    seen = f": {', '.join(outcome.seen)}" if outcome.seen else ""
    return [f"{asked}{seen}" + (f" ({outcome.note})" if outcome.note else "")]
