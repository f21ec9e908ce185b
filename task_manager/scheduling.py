# SPDX-License-Identifier: Apache-2.0
"""From complete studies to workitems: one transaction per study, safe to repeat at any time.

UIDs of workitems are derived from study, revision and rule, so a repeated transaction makes nothing twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from profiles import dicom_json
from profiles.codes import Code
from profiles.order import Order, order_digest
from profiles.request import IMAGES_CAME, Trigger, most_urgent
from profiles.sole.events import EventType, OperationalEvent
from profiles.uids import derived_uid
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER
from task_manager.dispatch.model import WorkitemTemplate
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import Refused
from task_manager.rules.evaluate import Evaluator, effective_priority
from task_manager.rules.explain import RuleExplanation, RuleVerdict, from_json, to_json
from task_manager.rules.model import Rule, RuleSet
from task_manager.store import identities, jobs, orders, requests, reviews, studies, workitems
from task_manager.store.acquisitions import StoredAcquisition
from task_manager.store.database import Connection, Database
from task_manager.store.records import Dispatch, Origin
from task_manager.store.reviews import Review
from task_manager.study.assembly import is_complete, patient_ids
from task_manager.study.model import Evidence, Instance, Study, StudyState
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.aiw_i import InferenceRequest, inference_workitem
from task_manager.workitem.commands import RequestCancel
from task_manager.workitem.model import Workitem
from task_manager.worklist import StoredWorklist

_LOG = logging.getLogger(__name__)
_AFTER_FAILURE = timedelta(minutes=5)
_NO_LONGER = "the rule does not match the study any more"
_WAITS = "a person has to choose among more candidates"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOffer:
    """What the task manager knows of an app: enough to ask for it.

    Attributes
    ----------
    name, version, label
        Name rules use, version, and text for a pick list.
    code
        Scheduled Workitem Code performers look for.
    station_ae
        AE title of the performer it is assigned to; empty leaves it open to all.
    parameters
        Defaults; a rule's parameters go over them.
    template
        What its workitems say beside.
    """

    name: str
    version: str
    label: str
    code: Code
    station_ae: str = ""
    parameters: Mapping[str, str]
    template: WorkitemTemplate = field(default_factory=WorkitemTemplate)


class Scheduler:
    """Turns studies whose deadline passed into explanations and workitems.

    Parameters
    ----------
    base_url
        Where performers reach our DICOMweb door, such as ``http://127.0.0.1:8080/dicom-web``.
    object_path
        Where the object with a path of the store lies.
    """

    def __init__(
        self,
        database: Database,
        worklist: StoredWorklist,
        rules: RuleSet,
        apps: Mapping[str, AppOffer],
        *,
        destinations: Sequence[str],
        sinks: Sequence[str],
        base_url: Callable[[], str],
        object_path: Callable[[str], Path],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._worklist = worklist
        self._rules = rules
        self._evaluator = Evaluator(rules)
        self._apps = apps
        self._destinations = tuple(destinations)
        self._sinks = tuple(sinks)
        self._base_url = base_url
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
        for uid in due:
            try:
                completed += self._complete(uid)
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
        return completed

    def next_deadline(self) -> datetime | None:
        """When the next study may become complete."""
        with self._database.read() as connection:
            return studies.next_deadline(connection)

    def _complete(self, study_instance_uid: str) -> bool:
        now = self._clock()
        looked = self._look_ahead(study_instance_uid) if self._evaluator.is_costly else None
        with self._database.write() as connection:
            known = studies.locked_study(connection, study_instance_uid)
            evidence = is_complete(known, now) if known else None
            if known is None or evidence is None:
                return False
            whole = replace(known, series=studies.series_of(connection, study_instance_uid))
            study = replace(
                identities.identified(connection, whole),
                state=StudyState.COMPLETE,
                revision=known.revision + 1,
                completed_at=now,
                deadline_at=None,
                evidence=evidence,
            )
            self._commit_complete(connection, study, evidence, now, looked)
        _LOG.info("study complete", extra={"action": "study.complete", "study": study_instance_uid})
        return True

    def _commit_complete(
        self, connection: Connection, study: Study, evidence: Evidence, now: datetime, looked: _Looked | None
    ) -> None:
        patient_id = dicom_json.text(study.attributes, "PatientID")
        accession_number = dicom_json.text(study.attributes, "AccessionNumber")
        # locked: who cancels it from now on finds the workitems made here
        key, order, triggers = self._order_of(connection, study, lock=True)
        studies.put_study(
            connection,
            study,
            patient_id=patient_id,
            accession_number=accession_number or (order.accession_number if order else ""),
        )
        event = OperationalEvent(
            key=f"study-complete:{study.study_instance_uid}:{study.revision}",
            type=EventType.STUDY_COMPLETE,
            occurred_at=now,
            function=f"complete by {evidence.value}",
            patient_id=patient_id,
            issuer_of_patient_id=dicom_json.text(study.attributes, "IssuerOfPatientID"),
            study_instance_uid=study.study_instance_uid,
            accession_number=accession_number or (order.accession_number if order else ""),
            order_number=key,
        )
        jobs.record_event(connection, event, self._sinks, now)
        if looked is not None and looked.is_of(study, order, triggers):
            explanations = looked.explanations
        else:
            acquisition = StoredAcquisition(connection, study.study_instance_uid, self._object_path)
            explanations = self._evaluator.explain(study, order, acquisition, triggers=triggers)
        contents = [(explanation.rule, to_json(explanation)) for explanation in explanations]
        studies.replace_explanations(connection, study, contents, version=self._rules.version, now=now)
        reviews.settle_reviews(connection, study.study_instance_uid, now)
        for one in explanations:
            if one.verdict is RuleVerdict.REVIEW:
                reviews.ask_for_review(
                    connection, study.study_instance_uid, study.revision, one.rule, why=one.review, now=now
                )
        if not self._may_schedule(connection, study, order, accession_number, patient_id):
            return
        with self._worklist.within(connection, now) as work:
            for rule, explanation in zip(self._rules.rules, explanations, strict=True):
                if explanation.matched:
                    self._schedule(work, study, order, key, rule, explanation)
                else:
                    review = explanation.verdict is RuleVerdict.REVIEW
                    self._take_back(work, study, rule, _WAITS if review else _NO_LONGER)

    def _look_ahead(self, study_instance_uid: str) -> _Looked | None:
        """The rules applied before the transaction: reading all headers must not keep doors from writing."""
        with self._database.read() as connection:
            known = studies.whole_study(connection, study_instance_uid)
            if known is None:
                return None
            study = identities.identified(connection, known)
            _, order, triggers = self._order_of(connection, study)
            acquisition = StoredAcquisition(connection, study_instance_uid, self._object_path)
            explanations = self._evaluator.explain(study, order, acquisition, triggers=triggers)
            return _Looked(study=study, order=order, triggers=triggers, explanations=explanations)

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
            whole = replace(known, series=studies.series_of(connection, uid))
            study = identities.identified(connection, whole)
            key, order, triggers = self._order_of(connection, study, lock=True)
            explanations = self._evaluator.explain(
                study,
                order,
                StoredAcquisition(connection, uid, self._object_path),
                triggers=triggers,
                approved=(review.rule,),
            )
            let = next(
                (
                    one
                    for one in zip(self._rules.rules, explanations, strict=True)
                    if one[0].name == review.rule
                ),
                None,
            )
            if let is None:
                return
            rule, explanation = let
            kept = [
                from_json(content)
                for revision, _, content, _ in studies.explanations_of(connection, uid)
                if revision == study.revision
            ]
            contents = [(one.rule, to_json(explanation if one.rule == rule.name else one)) for one in kept]
            studies.replace_explanations(connection, study, contents, version=self._rules.version, now=now)
            if explanation.matched and self._may_schedule(
                connection,
                study,
                order,
                dicom_json.text(study.attributes, "AccessionNumber"),
                dicom_json.text(study.attributes, "PatientID"),
            ):
                with self._worklist.within(connection, now) as work:
                    self._schedule(work, study, order, key, rule, explanation)
        _LOG.info("review decided", extra={"action": "review.decided", "study": uid, "rule": review.rule})

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

    def _schedule(
        self,
        work: WorklistTransaction,
        study: Study,
        order: Order | None,
        order_key: str,
        rule: Rule,
        explanation: RuleExplanation,
    ) -> None:
        app = self._apps.get(rule.app)
        if app is None:
            _LOG.error(
                "rule names an app that is not installed", extra={"action": "rule.no_app", "rule": rule.name}
            )
            return
        instances = [
            instance
            for instance in studies.find_instances(
                work.connection,
                study_instance_uid=study.study_instance_uid,
                series_instance_uids=explanation.selected_series,
            )
            if explanation.takes(instance.series_instance_uid, instance.sop_instance_uid)
        ]
        digest = _input_digest(app, instances, explanation.parameters)
        asked_by = order_digest(order)
        if self._already_asked(work, study, rule, (digest, asked_by)):
            return
        request = self._request(study, order, rule, app, instances, explanation.parameters, work.now)
        uid = derived_uid("workitem", study.study_instance_uid, str(study.revision), rule.name, digest)
        origin = Origin(
            rule=rule.name,
            order_key=order_key,
            input_digest=digest,
            order_digest=asked_by,
            destinations=rule.destinations or self._destinations,
        )
        outcome = work.create(
            uid,
            inference_workitem(request),
            actor=WORKER,
            origin=origin,
            dispatch=Dispatch(app=app.name),
        )
        if isinstance(outcome, Refused):
            _LOG.error(
                "workitem refused by our own rules",
                extra={
                    "action": "workitem.refused",
                    "code": outcome.code.value,
                    "faults": len(outcome.faults),
                },
            )

    def _already_asked(
        self, work: WorklistTransaction, study: Study, rule: Rule, digests: tuple[str, str]
    ) -> bool:
        """Whether the same work was asked for; what waits with older inputs or order is withdrawn.

        The performer of work with older inputs is asked to stop: its results would be superseded.
        """
        asked = False
        for workitem, origin in self._caused_by(work, study, rule):
            waiting = workitem.state is ProcedureStepState.SCHEDULED
            older = origin.input_digest != digests[0]
            if (waiting and (older or origin.order_digest != digests[1])) or (
                older and not workitem.is_final
            ):
                self._ask_to_stop(work, workitem, "superseded by newer images or order")
            elif not older and (workitem.is_final or workitem.cancel_requested is None):
                asked = True  # but not by work that was asked to stop: it may leave no result
        return asked

    def _take_back(self, work: WorklistTransaction, study: Study, rule: Rule, why: str) -> None:
        """Withdraw what a rule asked for that no longer matches, as late images may have it."""
        for workitem, _ in self._caused_by(work, study, rule):
            if not workitem.is_final:
                self._ask_to_stop(work, workitem, why)

    def _caused_by(
        self, work: WorklistTransaction, study: Study, rule: Rule
    ) -> list[tuple[Workitem, Origin]]:
        """The workitems of a study that a rule made, but for canceled ones."""
        return [
            (workitem, origin)
            for workitem, origin in workitems.workitems_of_study(work.connection, study.study_instance_uid)
            if origin.rule == rule.name and workitem.state is not ProcedureStepState.CANCELED
        ]

    def _ask_to_stop(self, work: WorklistTransaction, workitem: Workitem, why: str) -> None:
        """Cancel what nobody has begun, ask the performer of the rest, once (event 2)."""
        if workitem.cancel_requested is None:
            details = dicom_json.element("ReasonForCancellation", why)
            command = RequestCancel(details=details, requesting_ae=WORKER.name)
            work.apply(workitem.uid, command, actor=WORKER)

    def _request(
        self,
        study: Study,
        order: Order | None,
        rule: Rule,
        app: AppOffer,
        instances: Sequence[Instance],
        inputs: Mapping[str, str],
        now: datetime,
    ) -> InferenceRequest:
        template = app.template
        return InferenceRequest(
            label=template.label or f"{app.name} {app.version}",
            worklist_label=template.worklist_label or app.label,
            code=app.code,
            station_ae=app.station_ae,
            station_class=template.station_class,
            priority=effective_priority(rule, order, template.priority),
            study=study,
            order=order,
            instances=tuple(instances),
            wado_base_url=self._base_url(),
            output_stow_url=f"{self._base_url()}/studies",
            parameters={**app.parameters, **rule.parameters, **inputs},
            scheduled_at=now,
            expected_at=now + template.expected if template.expected else None,
            expires_at=now + template.expires if template.expires else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What rules made of a study before it was locked."""

    study: Study
    order: Order | None
    triggers: tuple[Trigger, ...]
    explanations: tuple[RuleExplanation, ...]

    def is_of(self, study: Study, order: Order | None, triggers: tuple[Trigger, ...]) -> bool:
        """Whether nothing that rules look at has changed since."""
        return (order, triggers, study.attributes, study.series) == (
            self.order,
            self.triggers,
            self.study.attributes,
            self.study.series,
        )


def _input_digest(app: AppOffer, instances: Sequence[Instance], inputs: Mapping[str, str]) -> str:
    digest = hashlib.sha256(f"{app.name}\0{app.version}".encode())
    for uid in sorted(instance.sop_instance_uid for instance in instances):
        digest.update(uid.encode() + b"\0")
    for name, uids in inputs.items():
        digest.update(f"{name}\0{uids}\0".encode())
    return digest.hexdigest()
