# SPDX-License-Identifier: Apache-2.0
"""What rules ask for as workitems: asked once for the same images, withdrawn when nobody wants it any more.

Works in the transaction of whoever evaluated the rules. UIDs are derived from study, revision and rule, so a
repeated transaction makes nothing twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from profiles import dicom_json
from profiles.codes import Code
from profiles.order import Order, order_digest
from profiles.uids import derived_uid
from profiles.ups.states import ProcedureStepState
from task_manager.actor import WORKER, Actor
from task_manager.dispatch.model import WorkitemTemplate
from task_manager.outcome import Refused
from task_manager.rules.evaluate import effective_priority
from task_manager.rules.explain import RuleExplanation
from task_manager.rules.model import Rule
from task_manager.store import studies, superseding, workitems
from task_manager.store.database import Connection
from task_manager.store.records import Dispatch, Origin
from task_manager.study.model import Instance, Study
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.aiw_i import InferenceRequest, inference_workitem
from task_manager.workitem.commands import RequestCancel
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)


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


class RuleWork:
    """Asks for the work that rules want, and takes it back.

    Parameters
    ----------
    base_url
        Where performers reach our DICOMweb door, such as ``http://127.0.0.1:8080/dicom-web``.
    """

    def __init__(
        self, apps: Mapping[str, AppOffer], destinations: Sequence[str], base_url: Callable[[], str]
    ) -> None:
        self._apps = apps
        self._destinations = tuple(destinations)
        self._base_url = base_url

    def ask(
        self,
        work: WorklistTransaction,
        study: Study,
        order: Order | None,
        order_key: str,
        rule: Rule,
        explanation: RuleExplanation,
    ) -> None:
        """Ask for what a rule that matches wants, unless the same was asked for."""
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
        instances += _prior_instances(work.connection, explanation)
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
            return
        self._supersede_others(work, study, rule, uid, digest)

    def _supersede_others(
        self, work: WorklistTransaction, study: Study, rule: Rule, uid: str, digest: str
    ) -> None:
        """Mark the results of what was made of other images than the workitem `uid` is."""
        for other, origin in self._caused_by(work, study, rule):
            if other.uid != uid and origin.input_digest != digest:
                superseding.supersede(
                    work.connection,
                    study.study_instance_uid,
                    other.uid,
                    by=uid,
                    why="the selected images are others now",
                    now=work.now,
                )

    def _already_asked(
        self, work: WorklistTransaction, study: Study, rule: Rule, digests: tuple[str, str]
    ) -> bool:
        """Whether the same work was asked for; what waits with older inputs or order is withdrawn.

        The performer of work with older inputs is asked to stop: its results would be superseded.
        """
        asked, others = "", False
        for workitem, origin in self._caused_by(work, study, rule):
            waiting = workitem.state is ProcedureStepState.SCHEDULED
            older = origin.input_digest != digests[0]
            others |= older
            if (waiting and (older or origin.order_digest != digests[1])) or (
                older and not workitem.is_final
            ):
                _ask_to_stop(work, workitem, "superseded by newer images or order")
            elif not older and (workitem.is_final or workitem.cancel_requested is None):
                asked = workitem.uid  # but not by work that was asked to stop: it may leave no result
                superseding.reinstate(work.connection, workitem.uid)
        if asked and others:  # the selection is again what it was once
            self._supersede_others(work, study, rule, asked, digests[0])
        return bool(asked)

    def take_back(self, work: WorklistTransaction, study: Study, rule: Rule, why: str) -> None:
        """Withdraw what a rule asked for that no longer matches, as late images may have it."""
        for workitem, _ in self._caused_by(work, study, rule):
            if not workitem.is_final:
                _ask_to_stop(work, workitem, why)
            superseding.supersede(
                work.connection, study.study_instance_uid, workitem.uid, by="", why=why, now=work.now
            )

    def _caused_by(
        self, work: WorklistTransaction, study: Study, rule: Rule
    ) -> list[tuple[Workitem, Origin]]:
        """The workitems of a study that a rule made, but for canceled ones."""
        return [
            (workitem, origin)
            for workitem, origin in workitems.workitems_of_study(work.connection, study.study_instance_uid)
            if origin.rule == rule.name and workitem.state is not ProcedureStepState.CANCELED
        ]

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


def withdraw_all(work: WorklistTransaction, study_instance_uid: str, why: str, *, actor: Actor) -> int:
    """Withdraw whatever rules asked for about a study; how many workitems were not final."""
    stopped = 0
    for workitem, origin in workitems.workitems_of_study(work.connection, study_instance_uid):
        if origin.rule and not workitem.is_final:
            _ask_to_stop(work, workitem, why, actor=actor)
            stopped += 1
    return stopped


def _ask_to_stop(work: WorklistTransaction, workitem: Workitem, why: str, *, actor: Actor = WORKER) -> None:
    """Cancel what nobody has begun, ask the performer of the rest, once (event 2)."""
    if workitem.cancel_requested is None:
        details = dicom_json.element("ReasonForCancellation", why)
        command = RequestCancel(details=details, requesting_ae=WORKER.name)
        work.apply(workitem.uid, command, actor=actor)


def _prior_instances(connection: Connection, explanation: RuleExplanation) -> list[Instance]:
    """The instances of the earlier studies among the inputs, each once."""
    found = {
        instance.sop_instance_uid: instance
        for prior in explanation.priors
        for study in prior.studies
        for instance in studies.find_instances(
            connection, study_instance_uid=study.study_instance_uid, series_instance_uids=study.series
        )
    }
    return list(found.values())


def _input_digest(app: AppOffer, instances: Sequence[Instance], inputs: Mapping[str, str]) -> str:
    digest = hashlib.sha256(f"{app.name}\0{app.version}".encode())
    for uid in sorted(instance.sop_instance_uid for instance in instances):
        digest.update(uid.encode() + b"\0")
    for name, uids in inputs.items():
        digest.update(f"{name}\0{uids}\0".encode())
    return digest.hexdigest()
