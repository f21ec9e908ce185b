# SPDX-License-Identifier: Apache-2.0
"""The C-STORE SCU: files to a DICOM destination over one association, in order, as they are.

Files are sent in the transfer syntax they have; nothing is re-encoded. What the peer answers is sorted into
success, later may work, and will not work; who retries and when is the worker's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pynetdicom import _config, build_context

from informatics_gateway.dimse.requestor import DicomAddress, association
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError
from task_manager.ports import Receipt, Shipment, Turn, at_once

_LOG = logging.getLogger(__name__)
_MAX_CONTEXTS = 128
_TRANSIENT_STATUSES = frozenset((0x0110, 0x0213))  # processing failure, resource limitation (PS3.7 C)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileToSend:
    """A Part 10 file with what its presentation context is made of."""

    path: Path
    sop_class_uid: str
    transfer_syntax_uid: str


class DicomDeliverer:
    """Delivers shipments by C-STORE; see :class:`task_manager.ports.Deliverer`.

    Parameters
    ----------
    timeout_s
        For connecting, association and each answer.
    """

    def __init__(self, address: DicomAddress, *, timeout_s: float = 60.0) -> None:
        self._address = address
        self._timeout_s = timeout_s

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        """Store every instance in the order of the shipment; stop at the first that is not stored.

        Raises
        ------
        RetryableDeliveryError
            Connection refused, association rejected as transient or aborted, no answer in time,
            status A7xx or 0110.
        FinalDeliveryError
            Association rejected for good, SOP class or transfer syntax not accepted, any other failure
            status.
        """
        files = [
            FileToSend(
                path=path,
                sop_class_uid=instance.sop_class_uid,
                transfer_syntax_uid=instance.transfer_syntax_uid,
            )
            for instance, path in zip(shipment.instances, shipment.paths, strict=True)
        ]
        store_files(files, self._address, timeout_s=self._timeout_s, turn=turn)
        return Receipt(
            summary=f"{len(files)} instances stored at {self._address.called_ae_title}",
            sent_at=datetime.now(UTC),
        )


def store_files(
    files: Sequence[FileToSend],
    address: DicomAddress,
    *,
    timeout_s: float = 60.0,
    turn: Turn = at_once,
    stored: Callable[[FileToSend], None] = lambda file: None,
) -> None:
    """C-STORE `files` in order over one association; `turn` is called before each, `stored` after.

    Raises
    ------
    RetryableDeliveryError, FinalDeliveryError
        See :meth:`DicomDeliverer.deliver`; the message says how many were stored before.
    """
    contexts = sorted({(file.sop_class_uid, file.transfer_syntax_uid) for file in files})
    if len(contexts) > _MAX_CONTEXTS:
        raise FinalDeliveryError(f"more than {_MAX_CONTEXTS} kinds of objects in one association")
    if not files:
        return
    # files go out as their bytes are; the library then reads the file meta information only
    _config.STORE_SEND_CHUNKED_DATASET = True
    proposed = [build_context(sop_class, syntax) for sop_class, syntax in contexts]
    with association(proposed, address, timeout_s=timeout_s) as peer:
        accepted = {
            (str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in peer.accepted_contexts
        }
        for number, file in enumerate(files):
            if (file.sop_class_uid, file.transfer_syntax_uid) not in accepted:
                raise FinalDeliveryError(
                    f"{number} of {len(files)} stored; the peer accepts no context for SOP class "
                    f"{file.sop_class_uid} in transfer syntax {file.transfer_syntax_uid}"
                )
            turn()
            _store(peer, file, done=number, of=len(files))
            stored(file)


def _store(peer: Any, file: FileToSend, *, done: int, of: int) -> None:
    progress = f"{done} of {of} stored"
    try:
        answer = peer.send_c_store(file.path)
    except RuntimeError as error:  # the association ended since the last answer
        raise RetryableDeliveryError(f"{progress}; the peer ended the association") from error
    except (OSError, ValueError, AttributeError) as error:
        raise FinalDeliveryError(f"{progress}; the next file cannot be sent") from error
    if "Status" not in answer:
        raise RetryableDeliveryError(f"{progress}; no answer, or the peer ended the association")
    status = int(answer.Status)
    if status == 0x0000 or 0xB000 <= status <= 0xBFFF:
        if status:
            _LOG.warning(
                "stored with a warning", extra={"action": "store_scu.warning", "status": f"{status:04X}"}
            )
        return
    if 0xA700 <= status <= 0xA7FF or status in _TRANSIENT_STATUSES:
        raise RetryableDeliveryError(f"{progress}; the peer answered {status:04X}")
    raise FinalDeliveryError(f"{progress}; the peer answered {status:04X}")
