# SPDX-License-Identifier: Apache-2.0
"""The receive loop: C-STORE from the socket into the intake by fragments; all else goes to the library.

Follows the fragments of messages (PS3.8 Annex E): a C-STORE is taken here, whatever its length without ever
being in memory, and answered here; each fragment of another message is handed on as it came.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from informatics_gateway.dimse import command_set
from informatics_gateway.dimse.pdu_stream import P_DATA, PduStream
from informatics_gateway.dimse.storage_scp import Reception, StoreAnswer, StoreRequest
from task_manager.actor import Actor

_PDU_HEADER = struct.Struct(">BxL")
_ITEM = struct.Struct(">LBB")
_MOST_PEEKED = 4096
_CONTEXT_AND_CONTROL = 2
_COMMAND, _LAST = 0x01, 0x02
_MAX_COMMAND_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Other messages than C-STORE are held in memory by the library: a longer one ends the association."""

_SUCCESS = 0x0000
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_CANNOT_UNDERSTAND = 0xC000


def begins_a_store(stream: PduStream) -> bool:
    """Whether the next PDU begins a C-STORE with the whole of its command set; nothing is taken.

    Raises
    ------
    ConnectionEndedError, StalledError
        If as much as tells this does not come.
    """
    if stream.peek(1)[0] != P_DATA:
        return False
    _, length = _PDU_HEADER.unpack(stream.peek(_PDU_HEADER.size))
    if length < _ITEM.size:
        return False
    begin = _PDU_HEADER.size + _ITEM.size
    item, _, control = _ITEM.unpack(stream.peek(begin)[_PDU_HEADER.size :])
    if control != _COMMAND | _LAST or not _CONTEXT_AND_CONTROL < item <= min(length - 4, _MOST_PEEKED):
        return False
    command = bytes(stream.peek(begin + item - _CONTEXT_AND_CONTROL)[begin:])
    try:
        return command_set.command_field(command_set.elements_of(command)) == command_set.C_STORE_RQ
    except command_set.CommandError:
        return False


class DisorderError(Exception):
    """What came is in no order that PS3.7 or PS3.8 knows; the association cannot go on."""


class Provider(Protocol):
    """Where C-STORE requests go."""

    def begin(self, request: StoreRequest) -> Reception:
        """The object of `request` comes now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """An association as it was negotiated.

    Attributes
    ----------
    contexts
        Transfer syntax of each accepted presentation context.
    storage
        The contexts of storage SOP classes among them.
    largest_pdu
        The longest the peer takes; 0 for any.
    """

    contexts: Mapping[int, str]
    storage: frozenset[int]
    largest_pdu: int
    actor: Actor


class ReceiveLoop:
    """Takes the P-DATA-TF PDUs of one association.

    Parameters
    ----------
    stream
        Where their bytes come from.
    send
        Sends bytes to the peer.
    hand_over
        Takes a fragment of another message: context, message control header and bytes.
    """

    def __init__(
        self,
        stream: PduStream,
        provider: Provider,
        negotiated: Negotiated,
        *,
        send: Callable[[bytes], None],
        hand_over: Callable[[int, int, bytes], None],
    ) -> None:
        self._stream = stream
        self._provider = provider
        self._negotiated = negotiated
        self._send = send
        self._hand_over = hand_over
        self._command: list[bytes] = []
        self._command_bytes = 0
        self._context = 0
        self._request: Mapping[int, bytes] = {}
        self._reception: Reception | None = None
        self._foreign_bytes = -1
        self._pieces: list[memoryview] = []
        self.stored = 0
        """Instances that were answered with success."""
        stream.before_refill = self._flush

    @property
    def negotiated(self) -> Negotiated:
        """The association as it was negotiated."""
        return self._negotiated

    @property
    def within_message(self) -> bool:
        """Whether more of a message is due."""
        return self._reception is not None or self._foreign_bytes >= 0 or bool(self._command)

    def take(self, length: int) -> None:
        """Take one P-DATA-TF PDU whose header was read, and answer what it completes.

        Raises
        ------
        DisorderError
            If fragments are of no message, or lengths do not fit.
        ConnectionEndedError, StalledError
            If the rest does not come.
        """
        while length:
            if length < _ITEM.size:
                raise DisorderError("a fragment is shorter than its header")
            item, context, control = _ITEM.unpack(self._stream.take(_ITEM.size))
            length -= item + 4
            if item < _CONTEXT_AND_CONTROL or length < 0:
                raise DisorderError("a fragment is longer than its PDU, or has no header")
            count = item - _CONTEXT_AND_CONTROL
            if control & _COMMAND:
                self._take_command(context, control, count)
            else:
                self._take_data(context, control, count)

    def abandon(self) -> None:
        """Nothing more comes: what is unfinished is discarded."""
        self._pieces.clear()
        if self._reception is not None:
            self._reception.abandon()
            self._reception = None

    def _take_command(self, context: int, control: int, count: int) -> None:
        if self._reception is not None or self._foreign_bytes >= 0:
            raise DisorderError("a command before the end of the data set before")
        if context not in self._negotiated.contexts or (self._command and context != self._context):
            raise DisorderError("a message in a presentation context that was not accepted")
        self._context = context
        self._command_bytes += count
        if self._command_bytes > _MAX_COMMAND_BYTES:
            raise DisorderError("a command set is too long")
        self._command.append(self._stream.read(count))
        if not control & _LAST:
            return
        command = command_set.joined(self._command)
        self._command, self._command_bytes = [], 0
        try:
            elements = command_set.elements_of(command)
        except command_set.CommandError as error:
            raise DisorderError(str(error)) from error
        field = command_set.command_field(elements)
        if field == command_set.C_STORE_RQ:
            self._begin(context, elements)
            return
        if field < 0:
            raise DisorderError("a command set without Command Field")
        self._foreign_bytes = len(command) if command_set.has_data_set(elements) else -1
        self._hand_over(context, _COMMAND | _LAST, command)

    def _begin(self, context: int, elements: Mapping[int, bytes]) -> None:
        if command_set.message_id(elements) < 0:
            raise DisorderError("a request without Message ID cannot be answered")
        sop_class, sop_instance = command_set.affected_uids(elements)
        self._request = elements
        reception = self._provider.begin(
            StoreRequest(
                sop_class_uid=sop_class,
                sop_instance_uid=sop_instance,
                transfer_syntax_uid=self._negotiated.contexts[context],
                actor=self._negotiated.actor,
            )
        )
        if context not in self._negotiated.storage:
            reception.refuse(StoreAnswer(_SOP_CLASS_NOT_SUPPORTED, "not a context of a storage SOP class"))
        elif not (sop_class and sop_instance):
            reception.refuse(StoreAnswer(_CANNOT_UNDERSTAND, "the request names no SOP class or instance"))
        self._reception = reception
        if not command_set.has_data_set(elements):
            reception.refuse(StoreAnswer(_CANNOT_UNDERSTAND, "a request without data set"))
            self._finish(reception)

    def _take_data(self, context: int, control: int, count: int) -> None:
        if context != self._context or (self._reception is None and self._foreign_bytes < 0):
            raise DisorderError("a fragment of a data set without its command")
        if self._reception is None:
            self._foreign_bytes += count
            if self._foreign_bytes > MAX_MESSAGE_BYTES:
                raise DisorderError("a message is too long")
            data = self._stream.read(count)
            if control & _LAST:
                self._foreign_bytes = -1
            self._hand_over(context, control & _LAST, data)
            return
        stream, pieces = self._stream, self._pieces
        while count:
            piece = stream.piece(count)
            pieces.append(piece)
            count -= len(piece)
        if control & _LAST:
            self._flush()
            self._finish(self._reception)

    def _flush(self) -> None:
        """Write what is still in the stream's buffer, in one call."""
        if self._pieces:
            if self._reception is not None:
                self._reception.write(self._pieces)
            self._pieces.clear()

    def _finish(self, reception: Reception) -> None:
        self._reception = None
        answer = reception.finish()
        self.stored += answer.status == _SUCCESS
        response = command_set.store_response(self._request, answer.status, answer.comment)
        self._send(command_set.data_pdus(self._context, response, self._negotiated.largest_pdu))
