# SPDX-License-Identifier: Apache-2.0
"""The storage commitment SCU: N-ACTION out, N-EVENT-REPORT in (PS3.4 Annex J).

The report may come on the association that asked, or on one that the peer opens to our own port, whenever it
likes; both come to :func:`take_report`. What was asked is written down by who asks.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from informatics_gateway.dimse.commitment import (
    MOST_REFERENCES,
    REQUEST_ACTION,
    SOP_CLASS,
    SOP_INSTANCE,
    ActionStatus,
)
from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.dimse.store_scu import DicomDeliverer
from informatics_gateway.dimse.ups_dataset import TRANSFER_SYNTAXES
from profiles.uids import is_uid
from task_manager.delivery.answers import Meaning, of_store_status
from task_manager.delivery.commitment import Answer, CommitmentAsk, CommitmentReport, Reported
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError, StoreError, facts_of

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.05
_NOT_OFFERED = frozenset((0x0122, 0x0211))  # SOP class not supported, unrecognized operation (PS3.7 C)


class CommittingDeliverer(DicomDeliverer):
    """Delivers by C-STORE to a destination that may be asked for storage commitment.

    Parameters
    ----------
    wait_s
        How long the report is waited for on the association that asked.
    """

    def __init__(self, address: DicomAddress, *, timeout_s: float = 60.0, wait_s: float = 2.0) -> None:
        super().__init__(address, timeout_s=timeout_s)
        self._peer = address
        self._answer_s = timeout_s
        self._wait_s = wait_s

    def ask_commitment(self, ask: CommitmentAsk, reported: Reported) -> Answer:
        """Send the request; see :class:`task_manager.delivery.commitment.CommitmentAsker`.

        Raises
        ------
        RetryableDeliveryError
            No association, no answer, or a status that may pass.
        FinalDeliveryError
            Any other status.
        """
        told = threading.Event()

        def take(event: Any) -> tuple[int, None]:
            status = take_report(event, reported)
            told.set()
            return status, None

        # Verification too: who refuses only commitment still has an association to say so
        contexts = [
            build_context(SOP_CLASS, list(TRANSFER_SYNTAXES)),
            build_context(Verification, list(TRANSFER_SYNTAXES)),
        ]
        handlers = [(evt.EVT_N_EVENT_REPORT, take)]
        with association(contexts, self._peer, timeout_s=self._answer_s, handlers=handlers) as peer:
            if all(str(context.abstract_syntax) != SOP_CLASS for context in peer.accepted_contexts):
                return Answer.NOT_OFFERED
            status = _act(peer, ask)
            if status in _NOT_OFFERED:
                return Answer.NOT_OFFERED
            _check(status)
            deadline = time.monotonic() + self._wait_s
            while not told.is_set() and peer.is_established and time.monotonic() < deadline:
                told.wait(_LOOK_S)
        return Answer.TAKEN


def take_report(event: Any, reported: Reported) -> int:
    """Keep the report of an N-EVENT-REPORT; the status to answer (PS3.4 J.3.3.1.4)."""
    try:
        information = event.event_information if event.request.EventInformation is not None else None
        report = read_report(str(event.request.AffectedSOPInstanceUID or ""), information)
    except Exception as error:  # noqa: BLE001 - whatever the bytes are, the peer gets an answer
        _LOG.warning(
            "commitment report unreadable", extra={"action": "commitment_scu.unreadable", **facts_of(error)}
        )
        return int(ActionStatus.INVALID_ARGUMENT)
    if not isinstance(report, CommitmentReport):
        return int(report)
    try:
        known = reported(report)
    except StoreError as error:
        _LOG.error(
            "commitment report not kept", extra={"action": "commitment_scu.store_failed", **facts_of(error)}
        )
        return int(ActionStatus.RESOURCE_LIMITATION)
    return int(ActionStatus.SUCCESS if known else ActionStatus.INVALID_ARGUMENT)


def read_report(sop_instance_uid: str, information: Dataset | None) -> CommitmentReport | ActionStatus:
    """What an N-EVENT-REPORT tells (table J.3-2), or the status that refuses it."""
    if sop_instance_uid != SOP_INSTANCE:
        return ActionStatus.NO_SUCH_INSTANCE
    if information is None:
        return ActionStatus.INVALID_ARGUMENT
    transaction_uid = str(information.get("TransactionUID") or "")
    kept = list(information.get("ReferencedSOPSequence") or ())
    lost = list(information.get("FailedSOPSequence") or ())
    if not is_uid(transaction_uid) or len(kept) + len(lost) > MOST_REFERENCES:
        return ActionStatus.INVALID_ARGUMENT
    return CommitmentReport(
        transaction_uid=transaction_uid,
        committed=tuple(str(item.get("ReferencedSOPInstanceUID") or "") for item in kept),
        failed=tuple(
            (
                str(item.get("ReferencedSOPInstanceUID") or ""),
                int(item.get("FailureReason") or ActionStatus.PROCESSING_FAILURE),
            )
            for item in lost
        ),
    )


def _act(peer: Any, ask: CommitmentAsk) -> int:
    information = Dataset()
    information.TransactionUID = ask.transaction_uid
    information.ReferencedSOPSequence = [_reference(*instance) for instance in ask.instances]
    try:
        answer, _ = peer.send_n_action(information, REQUEST_ACTION, SOP_CLASS, SOP_INSTANCE)
    except RuntimeError as error:
        raise RetryableDeliveryError("the peer ended the association", unreachable=True) from error
    if "Status" not in answer:
        raise RetryableDeliveryError("no answer to the request for storage commitment", unreachable=True)
    return int(answer.Status)


def _check(status: int) -> None:
    meaning = of_store_status(status)
    message = f"the request for storage commitment was answered {status:04X}"
    if meaning is Meaning.LATER:
        raise RetryableDeliveryError(message)
    if meaning is Meaning.NEVER:
        raise FinalDeliveryError(message)


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item
