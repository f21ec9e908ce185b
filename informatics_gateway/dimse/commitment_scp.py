# SPDX-License-Identifier: Apache-2.0
"""The storage commitment SCP: N-ACTION in, N-EVENT-REPORT out (PS3.4 Annex J).

What is asked is written down before it is answered. The report goes over the same association while that is
open, else over a new one to the peer's configured address, again and again until it is taken or too old.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from io import BytesIO
from itertools import cycle
from typing import Any

from pynetdicom import build_context, build_role, evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RQ
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from informatics_gateway.dimse.commitment import (
    SOP_CLASS,
    SOP_INSTANCE,
    ActionStatus,
    CommitmentReport,
    CommitmentRequest,
    event_information,
    judge,
    read_request,
)
from informatics_gateway.dimse.commitment_spool import CommitmentSpool, Owed, key_of
from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.dimse.ups_dataset import TRANSFER_SYNTAXES
from task_manager.errors import DeliveryError, StoreError, facts_of
from task_manager.outbox import RetryPolicy
from task_manager.ports import InstanceArchive

_LOG = logging.getLogger(__name__)
_ANSWER_S = 10.0
_SETTLE_S = 0.1
_LOOK_S = 5.0
_GIVE_UP = timedelta(hours=72)
_RESPONSE_FIELD = 0x8100


class CommitmentProvider:
    """Answers N-ACTION of the Storage Commitment Push Model and reports.

    Parameters
    ----------
    archive
        What is kept.
    spool
        Where requests are written down until they are reported.
    peers
        AE title to the address of each DICOM application that may be called.
    clock
        Gives aware UTC time.
    retry
        Pauses between tries.
    """

    def __init__(
        self,
        archive: InstanceArchive,
        spool: CommitmentSpool,
        peers: Mapping[str, DicomAddress],
        *,
        clock: Callable[[], datetime],
        retry: RetryPolicy | None = None,
    ) -> None:
        self._archive = archive
        self._spool = spool
        self._peers = peers
        self._clock = clock
        self._retry = retry or RetryPolicy(first=timedelta(seconds=5))
        self._asked_on: dict[str, tuple[Any, int]] = {}
        self._due: dict[str, tuple[int, datetime]] = {}
        self._away: dict[str, tuple[int, datetime]] = {}
        self._message_ids = cycle(range(1, 0x10000))
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Report in the background what is owed, also from before."""
        self._thread = threading.Thread(target=self._run, name="commitment-reports", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Report no more; what is owed stays written down."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * _ANSWER_S)

    def handle_action(self, event: Any) -> tuple[int, None]:
        """The handler of N-ACTION: success says that the request is written down."""
        peer = event.assoc
        asker = str(peer.requestor.ae_title).strip()
        request = event.request
        try:
            information = event.action_information if request.ActionInformation is not None else None
            read = read_request(
                asker, str(request.RequestedSOPInstanceUID or ""), int(request.ActionTypeID or 0), information
            )
        except Exception as error:  # noqa: BLE001 - whatever the bytes are, the peer gets an answer
            _LOG.warning("commitment request unreadable", extra=_facts("unreadable", error))
            return int(ActionStatus.INVALID_ARGUMENT), None
        if not isinstance(read, CommitmentRequest):
            return int(read), None
        key = key_of(read)
        self._asked_on[key] = (peer, int(event.context.context_id))  # before it can be found
        try:
            self._spool.add(read, self._clock())
        except StoreError as error:
            self._asked_on.pop(key, None)
            _LOG.error("commitment request not kept", extra=_facts("store_failed", error))
            return int(ActionStatus.RESOURCE_LIMITATION), None
        self._due.pop(key, None)
        self._wake.set()
        return int(ActionStatus.SUCCESS), None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                for owed in self._spool.owed(self._is_due):
                    if self._stopping.is_set():
                        return
                    self._report(owed)
            except Exception as error:  # noqa: BLE001 - the thread goes on, whatever one report met
                _LOG.error("commitment reports failed", extra=_facts("failed", error))
            self._wake.wait(_LOOK_S)

    def _is_due(self, key: str) -> bool:
        now = self._clock()
        return self._due.get(key, (0, now))[1] <= now

    def _report(self, owed: Owed) -> None:
        now = self._clock()
        attempts, _ = self._due.get(owed.key, (0, now))
        try:
            report = judge(owed.request, self._kept(owed.request))
            self._tell(owed, report)
        except Exception as error:  # noqa: BLE001 - whatever one peer does, the others are told
            self._due[owed.key] = (attempts + 1, self._retry.next_due(attempts + 1, now))
            if now - owed.asked_at < _GIVE_UP:
                _LOG.warning("commitment report is tried again", extra=_facts("retry", error))
                return
            _LOG.error("commitment report given up", extra=_facts("given_up", error))
        else:
            facts = {"committed": len(report.committed), "failed": len(report.failed)}
            _LOG.info("commitment reported", extra={"action": "commitment.reported", **facts})
        self._spool.remove(owed)
        self._due.pop(owed.key, None)

    def _kept(self, request: CommitmentRequest) -> dict[str, str]:
        """SOP Class UID of each instance asked for that has a record and a file."""
        kept = {}
        for _, uid in request.references:
            for instance in self._archive.find_instances(sop_instance_uid=uid):
                if self._archive.open_path(instance).is_file():
                    kept[uid] = instance.sop_class_uid
        return kept

    def _tell(self, owed: Owed, report: CommitmentReport) -> None:
        peer, context_id = self._asked_on.pop(owed.key, (None, 0))
        if peer is not None and _told_on(peer, context_id, report, next(self._message_ids)):
            return
        address = self._peers.get(owed.request.asker)
        if address is None:
            raise DeliveryError("the peer that asked for commitment is none that can be called")
        failures, back_at = self._away.get(owed.request.asker, (0, self._clock()))
        if back_at > self._clock():  # or each report to it would delay those to others
            raise DeliveryError("the peer that asked for commitment was away a moment ago")
        try:
            _call(address, report)
        except Exception:
            until = self._retry.next_due(failures + 1, self._clock())
            self._away[owed.request.asker] = (failures + 1, until)
            raise
        self._away.pop(owed.request.asker, None)


def _call(address: DicomAddress, report: CommitmentReport) -> None:
    """Report over a new association, in which we are the SCP (PS3.4 J.3.3)."""
    context = build_context(SOP_CLASS, list(TRANSFER_SYNTAXES))
    role = build_role(SOP_CLASS, scu_role=False, scp_role=True)
    with association([context], address, timeout_s=_ANSWER_S, roles=[role]) as called:
        try:
            answer, _ = called.send_n_event_report(
                event_information(report), report.event_type, SOP_CLASS, SOP_INSTANCE
            )
        except RuntimeError as error:
            raise DeliveryError("the peer ended the association") from error
        if "Status" not in answer:
            raise DeliveryError("no answer to a commitment report")


def _told_on(peer: Any, context_id: int, report: CommitmentReport, message_id: int) -> bool:
    """Report over the association that asked; whether the peer took it before it released."""
    answered = threading.Event()

    def note(event: Any) -> None:
        command = event.message.command_set
        answers = command.get("MessageIDBeingRespondedTo") == message_id  # and not a report before, late
        if answers and command.get("CommandField") == _RESPONSE_FIELD:
            answered.set()

    context = next((one for one in peer.accepted_contexts if one.context_id == context_id), None)
    time.sleep(_SETTLE_S)  # the answer to the request goes first
    if context is None or not peer.is_established:
        return False
    primitive = N_EVENT_REPORT()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID = SOP_CLASS
    primitive.AffectedSOPInstanceUID = SOP_INSTANCE
    primitive.EventTypeID = report.event_type
    syntax = context.transfer_syntax[0]
    encoded = encode(event_information(report), syntax.is_implicit_VR, syntax.is_little_endian)
    primitive.EventInformation = BytesIO(encoded or b"")
    message = N_EVENT_REPORT_RQ()
    message.primitive_to_message(primitive)
    peer.bind(evt.EVT_DIMSE_RECV, note)
    try:
        peer.dul.send_message(list(message.encode_msg(context_id, peer.requestor.maximum_length)))
        deadline = time.monotonic() + _ANSWER_S
        while peer.is_established and time.monotonic() < deadline:
            if answered.wait(0.05):
                return True
        return answered.is_set()
    finally:
        peer.unbind(evt.EVT_DIMSE_RECV, note)


def _facts(what: str, error: BaseException) -> dict[str, object]:
    return {"action": f"commitment.{what}", **facts_of(error)}
