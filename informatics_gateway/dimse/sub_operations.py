# SPDX-License-Identifier: Apache-2.0
"""C-STORE sub-operations of a C-GET: the receive loop of the DICOM port on an association that we opened.

Data sets go to the file fragment by fragment, bytes untouched; what is no C-STORE stays with the library.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.pdu_primitives import P_DATA

from informatics_gateway.dimse.receive_loop import DisorderError, Negotiated, ReceiveLoop
from informatics_gateway.dimse.storage_scp import Reception, StoreRequest
from task_manager.actor import Actor
from task_manager.fetching.archives import Receiver
from task_manager.outcome import Accepted, Refused
from task_manager.ports import StagedObject

_LOG = logging.getLogger(__name__)
_ITEM = struct.Struct(">LBB")
_INVALID = "Evt19"


class _Fragments:
    """The bytes of one PDU that is in memory, as the receive loop reads them."""

    def __init__(self) -> None:
        self.before_refill: Callable[[], None] | None = None
        self._data = memoryview(b"")

    def give(self, data: bytes) -> None:
        """The next PDU."""
        self.flush()
        self._data = memoryview(data)

    def flush(self) -> None:
        """Have what was read be written."""
        if self.before_refill is not None:
            self.before_refill()

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        return bytes(self.piece(count))

    read = take

    def piece(self, count: int) -> memoryview:
        """The next `count` bytes, without a copy."""
        found, self._data = self._data[:count], self._data[count:]
        if len(found) < count:
            raise DisorderError("a fragment is longer than its PDU")
        return found


class _Intake:
    """What a reception needs, over the receiver of a fetch."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def stage(self) -> StagedObject:
        return self._receiver.stage()

    def receive_instance(
        self,
        staged: StagedObject,
        *,
        actor: Actor,
        announced_sop_class_uid: str = "",
        announced_sop_instance_uid: str = "",
        study_instance_uid: str = "",
    ) -> Accepted | Refused:
        del actor, study_instance_uid  # known to the receiver
        return self._receiver.receive(
            staged, sop_class_uid=announced_sop_class_uid, sop_instance_uid=announced_sop_instance_uid
        )


class SubOperations:
    """Takes the C-STORE requests of an established association of ours.

    Parameters
    ----------
    peer
        The library's association; storage contexts were accepted with us as SCP.

    Attributes
    ----------
    heard_at
        Monotonic time at which the peer last sent something.
    """

    def __init__(self, peer: Any, receiver: Receiver, actor: Actor) -> None:
        self._peer = peer
        self._receiver = receiver
        self._pass_on = peer.dimse.receive_primitive
        self._stream = _Fragments()
        self.heard_at = time.monotonic()
        contexts = peer.accepted_contexts
        self._loop = ReceiveLoop(
            self._stream,  # type: ignore[arg-type]
            self,
            Negotiated(
                contexts={one.context_id: str(one.transfer_syntax[0]) for one in contexts},
                storage=frozenset(one.context_id for one in contexts if one.as_scp),
                largest_pdu=peer.acceptor.maximum_length or 0,
                actor=actor,
            ),
            send=self._send,
            hand_over=self._hand_over,
        )
        peer.dimse.receive_primitive = self._take  # there is no public way to it

    def begin(self, request: StoreRequest) -> Reception:
        """The object of `request` comes now."""
        return Reception(_Intake(self._receiver), request)

    def end(self) -> None:
        """Nothing more is taken; what is unfinished is discarded."""
        self._peer.dimse.receive_primitive = self._pass_on
        self._loop.abandon()

    def _take(self, primitive: P_DATA) -> None:
        """The fragments of one PDU, in the library's own thread for the connection."""
        self.heard_at = time.monotonic()
        for context, content in primitive.presentation_data_value_list:
            data = bytes(content)
            self._stream.give(_ITEM.pack(len(data) + 1, context, data[0]) + data[1:])
            try:
                self._loop.take(len(data) + _ITEM.size - 1)
                self._stream.flush()
            except DisorderError as error:
                extra = {"action": "fetch.disorder", "error": str(error)}
                _LOG.warning("unreadable bytes from an archive", extra=extra)
                self._loop.abandon()
                self._peer.dul.event_queue.put(_INVALID)
                return

    def _send(self, data: bytes) -> None:
        self._peer.dul.socket.send(data)

    def _hand_over(self, context: int, control: int, data: bytes) -> None:
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context, bytes((control,)) + data]]  # type: ignore[list-item]
        self._pass_on(primitive)
