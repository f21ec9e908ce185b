# SPDX-License-Identifier: Apache-2.0
"""N-EVENT-REPORT to watchers: UPS Event, of which we are the SCP although we open the association (CC.2.4).

Sends what it is given, in order, and says how far it came; who is owed what, and when to try again, is the
business of ``watchers.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import orjson
from pynetdicom import build_context, build_role

from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.dimse.ups_dataset import TRANSFER_SYNTAXES
from informatics_gateway.dimse.ups_encoding import pydicom_data_set
from informatics_gateway.dimse.ups_messages import EVENT, PUSH
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError, facts_of
from task_manager.notices import Notice

_LOG = logging.getLogger(__name__)
_SUCCESSES = frozenset((0x0000, 0x0001, 0x0107, 0x0116))
_TRANSIENT_STATUSES = frozenset((0x0110, 0x0213))  # processing failure, resource limitation (PS3.7 C)


class DimseEventSender:
    """Implements :class:`informatics_gateway.watchers.EventSender`.

    Parameters
    ----------
    peers
        AE title to the address of each DICOM application that may be told.
    timeout_s
        For connecting, association and each answer.

    Notes
    -----
    The SCP role is proposed (PS3.7 D.3.3.4); a peer that accepts the presentation context without a word on
    roles gets its reports all the same, as such peers expect them.
    """

    def __init__(self, peers: Mapping[str, DicomAddress], *, timeout_s: float = 30.0) -> None:
        self._peers = peers
        self._timeout_s = timeout_s

    def send(self, receiving_ae: str, notices: Iterable[Notice]) -> None:
        """Send `notices` in their order over one association; to ask for the next one says: sent.

        A report that the peer refuses for good is logged and counts as sent: no later one must wait for it.

        Raises
        ------
        RetryableDeliveryError
            If the peer cannot be reached, breaks off, does not answer or answers 0110, 0213 or A7xx.
        FinalDeliveryError
            If the peer is not configured, rejects us for good or does not accept UPS Event.
        """
        address = self._peers.get(receiving_ae)
        if address is None:
            raise FinalDeliveryError("the receiving AE is no peer that can be called")
        context = build_context(EVENT, list(TRANSFER_SYNTAXES))
        role = build_role(EVENT, scu_role=False, scp_role=True)
        with association([context], address, timeout_s=self._timeout_s, roles=[role]) as peer:
            for message_id, notice in zip(cycle(range(1, 2**16)), notices, strict=False):
                _report(peer, notice, message_id)


def _report(peer: Any, notice: Notice, message_id: int) -> None:
    try:
        # Without one attribute no data set: an empty one would be announced and never come.
        information = pydicom_data_set(orjson.loads(notice.content)) or None
        answer, _ = peer.send_n_event_report(
            information, notice.event_type, PUSH, notice.workitem_uid, msg_id=message_id
        )
    except ValueError as error:  # what we cannot encode now we never can: no later report must wait for it
        _LOG.error("event report cannot be sent", extra={"action": "event_scu.failed", **facts_of(error)})
        return
    except RuntimeError as error:  # the association ended since the last answer
        raise RetryableDeliveryError("the peer ended the association") from error
    if "Status" not in answer:
        raise RetryableDeliveryError("no answer, or the peer ended the association")
    status = int(answer.Status)
    if status in _SUCCESSES or 0xB000 <= status <= 0xBFFF:
        return
    if status in _TRANSIENT_STATUSES or 0xA700 <= status <= 0xA7FF:
        raise RetryableDeliveryError(f"the peer answered {status:04X}")
    _LOG.warning(
        "event report refused",
        extra={"action": "event_scu.refused", "event_type": notice.event_type, "status": f"{status:04X}"},
    )
