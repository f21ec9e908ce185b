# SPDX-License-Identifier: Apache-2.0
"""The C-STORE SCP: a data set from an association into the intake, its bytes untouched.

What pynetdicom knows of a request stops here; the intake decides, ``statuses.py`` names the answer. A receive
loop that streams from the socket can replace `StorageProvider.handle` and call `StorageProvider.take`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from informatics_gateway.dimse.part10 import file_meta
from informatics_gateway.statuses import STATUSES
from task_manager.actor import Actor
from task_manager.errors import StoreError
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import InstanceIntake

_LOG = logging.getLogger(__name__)
_SUCCESS = 0x0000
_CANNOT_PROCESS = 0xC211
_MAX_COMMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A C-STORE request as the command set and the presentation context describe it (PS3.7 9.3.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    actor: Actor


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """Status (0000,0900) and, for failures, Error Comment (0000,0902) without patient data."""

    status: int
    comment: str = ""


class StorageProvider:
    """Answers C-STORE requests.

    Parameters
    ----------
    intake
        Where instances go.
    """

    def __init__(self, intake: InstanceIntake) -> None:
        self._intake = intake

    def take(self, request: StoreRequest, data_set: bytes | memoryview) -> StoreAnswer:
        """Bring one encoded data set into the intake and return the answer to send.

        Whatever goes wrong is an answer; nothing is left staged unless it was committed.

        References
        ----------
        PS3.4 B.2.3 statuses; PS3.7 9.1.1.
        """
        try:
            outcome = self._receive(request, data_set)
        except StoreError:
            _LOG.exception(
                "store failed", extra={"action": "cstore.store_failed", "peer": request.actor.name}
            )
            return StoreAnswer(STATUSES[RefusalCode.OUT_OF_RESOURCES].dimse, "storage is out of resources")
        except Exception:  # noqa: BLE001 - the DIMSE edge: log once, answer, keep the association
            _LOG.exception("C-STORE failed", extra={"action": "cstore.failed", "peer": request.actor.name})
            return StoreAnswer(_CANNOT_PROCESS, "processing failure")
        if isinstance(outcome, Accepted):
            return StoreAnswer(_SUCCESS)
        _LOG.warning(
            "instance refused",
            extra={
                "action": "cstore.refused",
                "peer": request.actor.name,
                "code": str(outcome.code),
                "faults": [str(fault) for fault in outcome.faults],
            },
        )
        return StoreAnswer(STATUSES[outcome.code].dimse, _comment(outcome))

    def _receive(self, request: StoreRequest, data_set: bytes | memoryview) -> Accepted | Refused:
        staged = self._intake.stage()
        try:
            staged.write(
                file_meta(
                    sop_class_uid=request.sop_class_uid,
                    sop_instance_uid=request.sop_instance_uid,
                    transfer_syntax_uid=request.transfer_syntax_uid,
                    source_ae_title=request.actor.name,
                )
            )
            staged.write(data_set)
            return self._intake.receive_instance(
                staged,
                actor=request.actor,
                announced_sop_class_uid=request.sop_class_uid,
                announced_sop_instance_uid=request.sop_instance_uid,
            )
        except BaseException:
            staged.discard()
            raise

    def handle(self, event: Any) -> Dataset:
        """The handler of pynetdicom's ``EVT_C_STORE``."""
        request = event.request
        association = event.assoc
        encoded = request.DataSet
        answer = self.take(
            StoreRequest(
                sop_class_uid=str(request.AffectedSOPClassUID or ""),
                sop_instance_uid=str(request.AffectedSOPInstanceUID or ""),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                actor=Actor(
                    door="dicom",
                    name=str(association.requestor.ae_title).strip(),
                    address=str(association.requestor.address),
                    called=str(association.requestor.primitive.called_ae_title).strip(),
                ),
            ),
            encoded.getbuffer() if encoded is not None else b"",
        )
        status = Dataset()
        status.Status = answer.status
        if answer.comment:
            status.ErrorComment = answer.comment
        return status


def _comment(refused: Refused) -> str:
    text = str(refused.faults[0]) if refused.faults else str(refused.code)
    return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")[:_MAX_COMMENT]
