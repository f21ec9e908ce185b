# SPDX-License-Identifier: Apache-2.0
"""Instance Availability Notification as SCP: N-CREATE of IHE RAD-49 (PS3.4 Annex R).

Translates only; what a notification must hold and what follows from it is behind the AvailabilityIntake port.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from pydicom.dataset import Dataset

from informatics_gateway.dimse.ups_dataset import read_data_set
from informatics_gateway.dimse.ups_messages import (
    INSTANCE_AVAILABILITY,
    INTERNAL_ERROR,
    Answer,
    MessageStatus,
    Request,
    refused_answer,
    request_of,
    told_faults,
)
from informatics_gateway.statuses import STATUSES
from profiles.uids import is_uid
from task_manager.doorkeeping import refusal_of
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import RefusalCode, Refused
from task_manager.ports import AvailabilityIntake

_LOG = logging.getLogger(__name__)


class AvailabilityProvider:
    """Answers notifications.

    Parameters
    ----------
    intake
        Where notifications go.
    """

    def __init__(self, intake: AvailabilityIntake) -> None:
        self._intake = intake

    def handle_create(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_CREATE``; a notification without SOP Instance UID gets one (PS3.7 10.1.5.1.4)."""
        request = request_of(event, "AttributeList")
        told = self._told(request).status_data_set("")
        if told.Status or request.sop_instance_uid:
            return told, None
        named = Dataset()
        named.AffectedSOPInstanceUID = f"2.25.{uuid.uuid4().int}"
        return told, named

    def _told(self, request: Request) -> Answer:
        """The edge: everything that can go wrong ends as an answer."""
        peer = {"peer": request.actor.name}
        try:
            return self._received(request)
        except StoreError as error:
            _LOG.warning(
                "store failed", extra={"action": "availability.store_failed", **peer, **facts_of(error)}
            )
            return refused_answer(Refused(refusal_of(error)))
        except Exception as error:  # noqa: BLE001 - the DIMSE edge: log once, answer, keep the association
            _LOG.error("message failed", extra={"action": "availability.failed", **peer, **facts_of(error)})
            return Answer(
                status=STATUSES[RefusalCode.PROCESSING_FAILURE].dimse,
                comment="processing failure",
                error_id=INTERNAL_ERROR,
            )

    def _received(self, request: Request) -> Answer:
        if request.sop_class_uid != INSTANCE_AVAILABILITY:
            return Answer(status=MessageStatus.NO_SUCH_SOP_CLASS, comment="not an availability notification")
        if request.sop_instance_uid and not is_uid(request.sop_instance_uid):
            return Answer(
                status=MessageStatus.INVALID_OBJECT_INSTANCE, comment="SOP Instance UID is not well-formed"
            )
        read = read_data_set(request.data, request.transfer_syntax)
        outcome = (
            read
            if isinstance(read, Refused)
            else self._intake.receive_availability(read, actor=request.actor)
        )
        if not isinstance(outcome, Refused):
            return Answer(status=MessageStatus.SUCCESS)
        _LOG.info(
            "notification refused",
            extra={
                "action": "availability.refused",
                "peer": request.actor.name,
                "code": str(outcome.code),
                "faults": told_faults(outcome.faults),
            },
        )
        return refused_answer(outcome)
