# SPDX-License-Identifier: Apache-2.0
"""From complete studies to workitems: one transaction per study, safe to repeat at any time.

UIDs of workitems are derived from study, revision and rule, so a repeated transaction makes nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from profiles import dicom_json
from profiles.order import Order
from profiles.request import IMAGES_CAME, Trigger, most_urgent
from profiles.sole.events import EventType, OperationalEvent
from task_manager.completion import Completion, Judgement
from task_manager.errors import StoreError, facts_of
from task_manager.fetching.prior_waits import with_waits
from task_manager.requesting import Requesting
from task_manager.rule_work import AppOffer, RuleWork
from task_manager.rules.evaluate import Evaluator
from task_manager.rules.explain import RuleExplanation, RuleVerdict, from_json, to_json
from task_manager.rules.model import Rule, RuleSet
from task_manager.seen_study import KeptView, SeenStudy
from task_manager.store import identities, jobs, orders, priors, requests, reviews, studies
from task_manager.store.acquisitions import StoredAcquisition
from task_manager.store.database import Connection, Database
from task_manager.store.priors import PriorWait
from task_manager.store.reviews import Review
from task_manager.study.assembly import is_due, patient_ids
from task_manager.study.model import Study, StudyState
from task_manager.worklist import StoredWorklist

__all__ = ["AppOffer", "Scheduler"]

_LOG = logging.getLogger(__name__)
_AFTER_FAILURE = timedelta(minutes=5)
_LONGEST_TICK = timedelta(milliseconds=20)
_NO_LONGER = "the rule does not match the study any more"
_WAITS = "a person has to choose among more candidates"
_STOPPED = frozenset({StudyState.HELD, StudyState.DISCARDED})
_MAY_RUN = frozenset({RuleVerdict.MATCHED, RuleVerdict.REVIEW, RuleVerdict.WAITING})


class Scheduler:
    """Turns studies whose deadline passed into explanations and workitems.

    Parameters
    ----------
    completion
        Tells when studies are complete.
    requesting
        Brings workitems of others that asked for a study after what its rules made.
    base_url
        Where performers reach our DICOMweb door, such as ``http://127.0.0.1:8080/dicom-web``.
    object_path
        Where the object with a path of the store lies.
    told
        Events of our own that somebody wants to be told of; others are not written.
    """

    def __init__(
        self,
        database: Database,
        worklist: StoredWorklist,
        rules: RuleSet,
        apps: Mapping[str, AppOffer],
        *,
        completion: Completion,
        requesting: Requesting,
        destinations: Sequence[str],
        sinks: Sequence[str],
        base_url: Callable[[], str],
        object_path: Callable[[str], Path],
        clock: Callable[[], datetime],
        told: Collection[EventType] = (),
    ) -> None:
        self._database = database
        self._worklist = worklist
        self._rules = rules
        self._evaluator = Evaluator(rules)
        self._sinks = tuple(sinks)
        self._told = frozenset(told)
        self._work = RuleWork(apps, destinations, base_url)
        self._completion = completion
        self._requesting = requesting
        self._object_path = object_path
        self._clock = clock

    @property
    def looks_at_triggers(self) -> bool:
        """Whether any rule asks who asked for a study."""
        return self._evaluator.looks_at_triggers

    def complete_due_studies(self) -> int:
        """Complete every study whose deadline has passed; how many there were.

        A study that breaks our own code is told to operators and tried again later; it stops no other.

        Raises
        ------
        StoreError
            If the database fails.
        """
        with self._database.read() as connection:
            due = studies.due_studies(connection, self._clock())
            approved = reviews.approved_reviews(connection)
        for review in approved:
            try:
                self._let_run(review)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - the edge of one study, as below: a person is told again
                extra = {"action": "review.failed", "study": review.study_instance_uid, **facts_of(error)}
                _LOG.error("review could not be carried out", extra=extra)
                with self._database.write() as connection:
                    reviews.hold_review(connection, review, why=f"unexpected {type(error).__name__}")
        completed = 0
        waiting: dict[str, tuple[datetime, Judgement]] = {}
        began = self._clock()
        for uid in due:
            if self._clock() - began > _LONGEST_TICK:
                break  # what is left is due in the next one, and who else waits for the loop goes on
            try:
                looked = self._look(uid)
                if looked is not None and looked.judgement.runs:
                    completed += self._complete(uid, looked.kept)
                elif looked is not None:
                    waiting[uid] = (looked.deadline_at, looked.judgement)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - the edge of one study: the others must go on
                again = self._clock() + _AFTER_FAILURE
                extra = {
                    "action": "study.failed",
                    "study": uid,
                    "again": again.isoformat(),
                    **facts_of(error),
                }
                _LOG.error("study could not be completed", extra=extra)
                with self._database.write() as connection:
                    studies.postpone_study(connection, uid, again)
        if waiting:
            with self._database.write() as connection:
                self._completion.keep_waiting(connection, waiting, self._clock())
        return completed

    def next_deadline(self) -> datetime | None:
        """When the next study may become complete."""
        with self._database.read() as connection:
            return studies.next_deadline(connection)

    def _look(self, study_instance_uid: str) -> _Looked | None:
        """Judge a study before any transaction: reading all headers must not keep doors from writing."""
        now = self._clock()
        with self._database.read() as connection:
            known = studies.whole_study(connection, study_instance_uid)
            if known is None or known.deadline_at is None or not is_due(known, now):
                return None
            seen = self._seen(connection, known)
            judgement = self._completion.judge(connection, known, seen, now)
            asked = judgement.runs and (self._evaluator.is_costly or seen.was_explained)
            kept = seen.kept() if asked else None
        return _Looked(deadline_at=known.deadline_at, judgement=judgement, kept=kept)

    def _seen(
        self, connection: Connection, known: Study, kept: KeptView | None = None, *, lock: bool = False
    ) -> SeenStudy:
        """A study with what else rules see; locked, its order stays until the transaction ends."""

        def explain(
            study: Study, order: Order | None, triggers: tuple[Trigger, ...]
        ) -> tuple[RuleExplanation, ...]:
            acquisition = StoredAcquisition(connection, study.study_instance_uid, self._object_path)
            return self._evaluator.explain(study, order, acquisition, triggers=triggers)

        return SeenStudy(
            connection,
            known,
            join=lambda study: self._order_of(connection, study, lock=lock),
            explain=explain,
            kept=kept,
        )

    def _complete(self, study_instance_uid: str, kept: KeptView | None) -> bool:
        """Let rules run, if they still may now that the study is locked; whether it is complete."""
        now = self._clock()
        with self._database.write() as connection:
            known = studies.locked_study(connection, study_instance_uid)
            if known is None or known.deadline_at is None or not is_due(known, now):
                return False
            whole = replace(known, series=studies.series_of(connection, study_instance_uid))
            seen = self._seen(connection, whole, kept, lock=True)
            judgement = self._completion.judge(connection, whole, seen, now)
            if not judgement.runs:
                waits = {study_instance_uid: (known.deadline_at, judgement)}
                self._completion.keep_waiting(connection, waits, now)
                return False
            is_whole = judgement.whole is not None
            study = replace(
                seen.study,
                state=StudyState.COMPLETE if is_whole else StudyState.RECEIVING,
                revision=known.revision + 1,
                completed_at=now if is_whole else None,
                deadline_at=judgement.until,
                evidence=judgement.whole.evidence if judgement.whole else None,
                receiving_since=None if is_whole else known.receiving_since,
            )
            self._commit(connection, study, judgement, seen, now)
        action = "study.complete" if is_whole else "study.ready"
        _LOG.info("study looked at", extra={"action": action, "study": study_instance_uid})
        return is_whole

    def _commit(
        self,
        connection: Connection,
        study: Study,
        judgement: Judgement,
        seen: SeenStudy,
        now: datetime,
    ) -> None:
        patient_id = dicom_json.text(study.attributes, "PatientID")
        accession_number = dicom_json.text(study.attributes, "AccessionNumber")
        key, order = seen.order_key, seen.order
        number = accession_number or (order.accession_number if order else "")
        studies.put_study(connection, study, patient_id=patient_id, accession_number=number)
        self._completion.keep(connection, study.study_instance_uid, judgement, now)
        if judgement.whole is not None:
            event = OperationalEvent(
                key=f"study-complete:{study.study_instance_uid}:{study.revision}",
                type=EventType.STUDY_COMPLETE,
                occurred_at=now,
                function=f"complete by {judgement.whole.evidence.value}",
                patient_id=patient_id,
                issuer_of_patient_id=dicom_json.text(study.attributes, "IssuerOfPatientID"),
                study_instance_uid=study.study_instance_uid,
                accession_number=number,
                order_number=key,
            )
            jobs.record_event(connection, event, self._sinks, now)
        told = [
            one
            if one.rule in judgement.ready
            else replace(one, verdict=RuleVerdict.WAITING, note=judgement.wait_of(one.rule))
            for one in seen.explanations
        ]
        told = with_waits(connection, study, self._rules.rules, told, now)
        if judgement.whole is not None and not any(one.verdict in _MAY_RUN for one in told):
            self._tell_not_run(connection, study, number, now)
        contents = [(one.rule, to_json(one)) for one in told]
        studies.replace_explanations(connection, study, contents, version=self._rules.version, now=now)
        reviews.settle_reviews(connection, study.study_instance_uid, now)
        for one in told:
            if one.verdict is RuleVerdict.REVIEW:
                reviews.ask_for_review(
                    connection, study.study_instance_uid, study.revision, one.rule, why=one.review, now=now
                )
        if not self._may_schedule(connection, study, order, accession_number, patient_id):
            return
        with self._worklist.within(connection, now) as work:
            for rule, explanation in zip(self._rules.rules, told, strict=True):
                if explanation.matched:
                    self._work.ask(work, study, order, key, rule, explanation)
                elif explanation.verdict is not RuleVerdict.WAITING:
                    review = explanation.verdict is RuleVerdict.REVIEW
                    self._work.take_back(work, study, rule, _WAITS if review else _NO_LONGER)
            if judgement.whole is not None and not any(one.verdict is RuleVerdict.REVIEW for one in told):
                self._requesting.settle(
                    work,
                    study_instance_uid=study.study_instance_uid,
                    accession_number=accession_number,
                    patient_id=patient_id,
                )

    def _tell_not_run(self, connection: Connection, study: Study, number: str, now: datetime) -> None:
        """Write the event that no rule wants a study, if somebody wants to be told."""
        if EventType.STUDY_NOT_RUN not in self._told:
            return
        event = OperationalEvent(
            key=f"study-not-run:{study.study_instance_uid}:{study.revision}",
            type=EventType.STUDY_NOT_RUN,
            occurred_at=now,
            patient_id=dicom_json.text(study.attributes, "PatientID"),
            issuer_of_patient_id=dicom_json.text(study.attributes, "IssuerOfPatientID"),
            study_instance_uid=study.study_instance_uid,
            accession_number=number,
        )
        jobs.record_event(connection, event, self._sinks, now)

    def _let_run(self, review: Review) -> None:
        """Schedule a rule that a person let run although it has many candidates."""
        now = self._clock()
        uid = review.study_instance_uid
        with self._database.write() as connection:
            known = studies.locked_study(connection, uid)
            current = (
                known is not None and known.state is StudyState.COMPLETE and known.revision == review.revision
            )
            summary = "a person let it run" if current else "the study was looked at anew"
            if not reviews.finish_review(connection, review, summary=summary, now=now):
                return
            if known is None or not current:
                return
            self._run_rule(connection, known, review.rule, now, approved=True)
        _LOG.info("review decided", extra={"action": "review.decided", "study": uid, "rule": review.rule})

    def run_with_priors(self, connection: Connection, wait: PriorWait, rule: Rule) -> str:
        """Let a rule run with the earlier studies that were found, in a transaction of the caller's."""
        known = studies.locked_study(connection, wait.study_instance_uid)
        if known is None or known.revision != wait.revision:
            return "the study was looked at anew"
        if known.state in _STOPPED:
            return f"the study is {known.state.value}"  # once it is released, it is looked at anew
        return self._run_rule(connection, known, rule.name, self._clock(), approved=wait.approved, ask=True)

    def _run_rule(
        self,
        connection: Connection,
        known: Study,
        name: str,
        now: datetime,
        *,
        approved: bool,
        ask: bool = False,
    ) -> str:
        """Try one rule of a study again and ask for its work; what came of it.

        Parameters
        ----------
        approved
            Whether a person let it run though it has many candidates.
        ask
            Whether a person is asked if priors that it needs are missing; else that was decided.
        """
        uid = known.study_instance_uid
        whole = replace(known, series=studies.series_of(connection, uid))
        study = identities.identified(connection, whole)
        key, order, triggers = self._order_of(connection, study, lock=True)
        explanations = self._evaluator.explain(
            study,
            order,
            StoredAcquisition(connection, uid, self._object_path),
            triggers=triggers,
            approved=(name,) if approved else (),
        )
        tried = zip(self._rules.rules, explanations, strict=True)
        let = next((one for one in tried if one[0].name == name), None)
        if let is None:
            return "there is no such rule any more"
        rule = let[0]
        (explanation,) = with_waits(connection, study, (rule,), (let[1],), now, approved=approved)
        lacks = "; ".join(one.lacks for one in explanation.priors if one.lacks)
        if ask and lacks and explanation.matched:
            explanation = replace(explanation, verdict=RuleVerdict.REVIEW, note=lacks)
            reviews.ask_for_review(connection, uid, study.revision, name, why=lacks, now=now)
            priors.hold_review_again(connection, uid, study.revision, name, lacks)
        kept = [
            from_json(content)
            for revision, _, content, _ in studies.explanations_of(connection, uid)
            if revision == study.revision
        ]
        contents = [(one.rule, to_json(explanation if one.rule == name else one)) for one in kept]
        studies.replace_explanations(connection, study, contents, version=self._rules.version, now=now)
        number = dicom_json.text(study.attributes, "AccessionNumber")
        patient_id = dicom_json.text(study.attributes, "PatientID")
        if explanation.matched and self._may_schedule(connection, study, order, number, patient_id):
            with self._worklist.within(connection, now) as work:
                self._work.ask(work, study, order, key, rule, explanation)
        return explanation.verdict.value

    def _order_of(
        self, connection: Connection, study: Study, *, lock: bool = False
    ) -> tuple[str, Order | None, tuple[Trigger, ...]]:
        """The order of a study with its key, as urgent as anybody wants it, and all that asked for it."""
        number = dicom_json.text(study.attributes, "AccessionNumber")
        patient = dicom_json.text(study.attributes, "PatientID")
        key, order = orders.order_of_study(
            connection,
            study_instance_uid=study.study_instance_uid,
            accession_number=number,
            patient_id=patient,
            lock=lock,
        ) or ("", None)
        triggers = requests.triggers_of_study(
            connection,
            study_instance_uid=study.study_instance_uid,
            accession_number=number,
            patient_id=patient,
        )
        return key, most_urgent(order, triggers), (IMAGES_CAME, *triggers)

    def _may_schedule(
        self,
        connection: Connection,
        study: Study,
        order: Order | None,
        accession_number: str,
        patient_id: str,
    ) -> bool:
        """Whether a matching rule may cause work: not for two patients at once, nor for a revoked order."""
        if len(patient_ids(study)) > 1:
            _LOG.error("images of several patients in one study", extra={"action": "study.several_patients"})
            return False
        revoked = order is None and orders.order_of_study(
            connection,
            study_instance_uid=study.study_instance_uid,
            accession_number=accession_number,
            patient_id=patient_id,
            revoked=True,
        )
        return not revoked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What came of a look; `kept` is None if no rule was applied, or none runs."""

    deadline_at: datetime
    judgement: Judgement
    kept: KeptView | None
