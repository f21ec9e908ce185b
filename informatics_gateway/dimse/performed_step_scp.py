# SPDX-License-Identifier: Apache-2.0
"""Modality Performed Procedure Step as SCP: N-CREATE and N-SET of IHE RAD-6 and RAD-7 (PS3.4 Annex F.7).

Translates only; what a step may say and what follows from it is behind the PerformedStepIntake port.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

from informatics_gateway.dimse.ups_dataset import read_data_set
from informatics_gateway.dimse.ups_messages import (
    INTERNAL_ERROR,
    PERFORMED_STEP,
    Answer,
    MessageStatus,
    Request,
    refused_answer,
    request_of,
    told_faults,
)
from informatics_gateway.statuses import STATUSES
from profiles.dicom_json import DicomJson
from profiles.uids import is_uid
from task_manager.actor import Actor
from task_manager.doorkeeping import refusal_of
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.performed_steps import PerformedStepIntake

_LOG = logging.getLogger(__name__)
_NO_LONGER = 0xA710
"""Error ID of a step that may no longer be updated (PS3.4 F.7.2.2.2)."""

Intake = Callable[[str, DicomJson, Actor], Accepted | Refused]


class PerformedStepProvider:
    """Answers the messages of modalities about what they perform.

    Parameters
    ----------
    intake
        Where steps go.
    """

    def __init__(self, intake: PerformedStepIntake) -> None:
        self._intake = intake

    def handle_create(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_CREATE``; a step without SOP Instance UID gets one (PS3.7 10.1.5.1.4)."""
        request = request_of(event, "AttributeList")
        uid = request.sop_instance_uid or f"2.25.{uuid.uuid4().int}"
        answer = self._told(
            request, uid, lambda uid, told, actor: self._intake.create_step(uid, told, actor=actor)
        )
        told = answer.status_data_set("")
        if told.Status or request.sop_instance_uid:
            return told, None
        named = Dataset()
        named.AffectedSOPInstanceUID = uid
        return told, named

    def handle_set(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_SET``."""
        request = request_of(event, "ModificationList")
        answer = self._told(
            request,
            request.sop_instance_uid,
            lambda uid, told, actor: self._intake.change_step(uid, told, actor=actor),
        )
        return answer.status_data_set(), None

    def _told(self, request: Request, uid: str, intake: Intake) -> Answer:
        """The edge: everything that can go wrong ends as an answer."""
        peer = {"peer": request.actor.name}
        try:
            return self._received(request, uid, intake)
        except StoreError as error:
            extra = {"action": "performed_step.store_failed", **peer, **facts_of(error)}
            _LOG.warning("store failed", extra=extra)
            return refused_answer(Refused(refusal_of(error)))
        except Exception as error:  # noqa: BLE001 - the DIMSE edge: log once, answer, keep the association
            _LOG.error("message failed", extra={"action": "performed_step.failed", **peer, **facts_of(error)})
            return Answer(
                status=STATUSES[RefusalCode.PROCESSING_FAILURE].dimse,
                comment="processing failure",
                error_id=INTERNAL_ERROR,
            )

    def _received(self, request: Request, uid: str, intake: Intake) -> Answer:
        if request.sop_class_uid != PERFORMED_STEP:
            return Answer(status=MessageStatus.NO_SUCH_SOP_CLASS, comment="not a performed procedure step")
        if not is_uid(uid):
            return Answer(
                status=MessageStatus.INVALID_OBJECT_INSTANCE, comment="SOP Instance UID is not well-formed"
            )
        read = read_data_set(request.data, request.transfer_syntax)
        outcome = read if isinstance(read, Refused) else intake(uid, read, request.actor)
        if not isinstance(outcome, Refused):
            return Answer(status=MessageStatus.SUCCESS)
        extra = {
            "action": "performed_step.refused",
            "peer": request.actor.name,
            "code": str(outcome.code),
            "faults": told_faults(outcome.faults),
        }
        _LOG.info("performed procedure step refused", extra=extra)
        if outcome.code is RefusalCode.MAY_NOT_BE_UPDATED:
            return Answer(
                status=STATUSES[RefusalCode.PROCESSING_FAILURE].dimse,
                comment="Performed Procedure Step Object may no longer be updated",
                error_id=_NO_LONGER,
            )
        if outcome.code is RefusalCode.NO_SUCH_INSTANCE:
            return Answer(
                status=MessageStatus.NO_SUCH_SOP_INSTANCE, comment="no such performed procedure step"
            )
        return refused_answer(outcome)
