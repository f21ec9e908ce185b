# SPDX-License-Identifier: Apache-2.0
"""The library's upper layer with a receive loop of our own in its place of reading.

One thread reads and writes each connection. It sleeps until there is something to do, takes C-STORE itself,
and hands all else to the library, whose own thread for the association runs only while there is work for it.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import A_ABORT, A_P_ABORT, P_DATA

from informatics_gateway.dimse.pdu_stream import ConnectionEndedError, PduStream, StalledError
from informatics_gateway.dimse.receive_loop import (
    DisorderError,
    Negotiated,
    Provider,
    ReceiveLoop,
    begins_a_store,
)
from informatics_gateway.dimse.receivers import Receivers

_LOG = logging.getLogger(__name__)
_P_DATA = 0x04
_PDU_TYPES = range(0x01, 0x08)
_MAX_PDU_BYTES = 1024 * 1024
_ESTABLISHED = "Sta6"
_AWAITING_CLOSE = "Sta13"
_DECIDING = "Sta3"
_CLOSED, _INVALID = "Evt17", "Evt19"
_TICK_S = 0.1
_MOST_WAITING = 64
_PAUSE_S = 0.005
_QUIET_S = 0.05


class UpperLayer(DULServiceProvider):
    """The upper layer of one association that a peer asks for.

    Parameters
    ----------
    association
        An association of the library with a connection and without a thread yet; gets this upper layer.
    negotiated
        What was negotiated, asked when the first P-DATA-TF comes.
    timeout_s
        How long a peer may be silent in the middle of something.
    receivers
        Processes that a connection in the clear is lent to after its first C-STORE; none receives all here.
    """

    def __init__(
        self,
        association: Association,
        connection: socket.socket,
        provider: Provider,
        negotiated: Callable[[Association], Negotiated],
        *,
        timeout_s: float,
        receivers: Receivers | None = None,
    ) -> None:
        super().__init__(association)
        self._run_loop_delay = 0.0  # it waits where bytes are awaited
        self._provider = provider
        self._negotiated = negotiated
        self._wake_lock = threading.Lock()
        self._waking, self._woken = socket.socketpair()
        self._waking.setblocking(False)
        self._loop: ReceiveLoop | None = None
        self._receivers = None if isinstance(connection, ssl.SSLSocket) else receivers
        self._messages: deque[bytes] = deque()
        self._asked_to_send = 0.0
        self._connection = connection
        former = association.dul
        assert former.socket is not None
        self._wire = self.socket = former.socket
        self.event_queue = former.event_queue
        self._stream = PduStream(
            connection,
            timeout_s=timeout_s,
            waker=self._woken,
            interrupted=self._is_ending,
        )
        association.dul = self
        association.acse_timeout = association.acse_timeout  # timers belong to the upper layer
        association.network_timeout = association.network_timeout

    def run_reactor(self) -> None:
        """The library's loop; whatever ends it, nothing half-received stays."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the library's machine knows no way on from some orders
            self._log_end(error)
            self.assoc.is_aborted = True
            self.assoc.is_established = False
            self.assoc._kill = True
        finally:
            if self._loop is not None:
                self._loop.abandon()
                self._log_stored(self._loop.stored)
            self._connection.close()  # the library leaves it open when the peer hung up first
            self._waking.close()
            self._woken.close()
            self.assoc._reactor_checkpoint.set()

    def send_pdu(self, primitive: Any) -> None:
        """As the library does, and wake the thread that sends."""
        super().send_pdu(primitive)
        self._asked_to_send = time.monotonic()
        self._wake()

    def send_message(self, fragments: Sequence[P_DATA]) -> None:
        """Send the fragments of a message of ours, with nothing of another message in between."""
        self._messages.append(b"".join(P_DATA_TF(one).encode() for one in fragments))
        self._wake()

    def kill_dul(self) -> None:
        """As the library does, and wake the thread that is to end."""
        super().kill_dul()
        self._wake()

    def stop_dul(self) -> bool:
        """As the library does."""
        self._wake()
        return bool(super().stop_dul())

    def _wake(self) -> None:
        try:
            self._waking.send(b"\0")
        except OSError:  # full of wake-ups, or ended
            return

    def _is_ending(self) -> bool:
        """Whether a message is not to be awaited to its end."""
        if self._kill_thread:
            return True
        return any(isinstance(one, A_ABORT | A_P_ABORT) for one in list(self.to_provider_queue.queue))

    def _is_transport_event(self) -> bool:
        if self._wire.socket is None:
            self._kill_thread = True
            return False
        if self.state_machine.current_state == _AWAITING_CLOSE:
            if not self._stream.drop():
                self._wire.close()
            return True
        self._rest()
        if not self.event_queue.empty():
            return False
        if self.assoc.dimse.msg_queue.qsize() > _MOST_WAITING:
            time.sleep(_PAUSE_S)  # a peer that asks faster than it is answered waits
            return False
        if self.state_machine.current_state == _DECIDING:
            self._stream.rest(_TICK_S)  # what comes too early is read when it may come
            return False
        self._send_messages()
        if not self._stream.wait(_QUIET_S if self._messages else _TICK_S):
            self.assoc._reactor_checkpoint.set()
            return False
        self._read_pdu_data()
        while self._goes_on() and self._stream.wait(_TICK_S):
            self._read_pdu_data()
        return True

    def _send_messages(self) -> None:
        """Send messages of ours between those of the library, whose fragments may come one by one."""
        quiet = time.monotonic() - self._asked_to_send > _QUIET_S
        if self._messages and quiet and self.state_machine.current_state == _ESTABLISHED:
            self._wire.send(self._messages.popleft())

    def _goes_on(self) -> bool:
        """Whether there is nothing to do but to read on: the library's loop need not turn in between."""
        self._idle_timer.restart()
        return (
            not self.event_queue.queue
            and not self.to_provider_queue.queue
            and not self._messages
            and not self.assoc.dimse.msg_queue.queue
            and not self._kill_thread
        )

    def _rest(self) -> None:
        """Let the thread of the association rest while nothing is there for it, or it looks all the time."""
        if self.assoc.dimse.msg_queue.empty() and self.to_user_queue.empty():
            self.assoc._reactor_checkpoint.clear()
        else:
            self.assoc._reactor_checkpoint.set()

    def _read_pdu_data(self) -> None:
        """Read one PDU; a C-STORE is over when this returns, or more of it is due."""
        try:
            self._read_pdu()
        except ConnectionEndedError:
            self._end(_CLOSED)
        except (DisorderError, StalledError) as error:
            self._log_end(error)
            self._end(_INVALID)
        except Exception as error:  # noqa: BLE001 - what the library says about hostile bytes is anything
            self._log_end(error)
            self._end(_INVALID)

    def _read_pdu(self) -> None:
        self._stream.begin()
        if self._is_to_lend() and self._lend():
            return
        kind, length = self._stream.header()
        if kind == _P_DATA and self.state_machine.current_state == _ESTABLISHED:
            if self._loop is None:
                self._loop = self._make_loop()
            self._loop.take(length)
            while self._loop.within_message and kind == _P_DATA:
                kind, length = self._stream.header()
                if kind == _P_DATA:
                    self._loop.take(length)
            if kind == _P_DATA:
                return
        if self._loop is not None:
            self._loop.abandon()
        if kind not in _PDU_TYPES or length > _MAX_PDU_BYTES:
            raise DisorderError("no PDU, or a longer one than any of its type is")
        body = self._stream.read(length)
        pdu, event = self._decode_pdu(bytearray(bytes((kind, 0)) + length.to_bytes(4, "big") + body))
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _is_to_lend(self) -> bool:
        """Whether a C-STORE follows that is not the first, and nothing else is to do."""
        return (
            self._receivers is not None
            and self._loop is not None
            and self._loop.stored > 0
            and self.state_machine.current_state == _ESTABLISHED
            and self._goes_on()
            and begins_a_store(self._stream)
        )

    def _lend(self) -> bool:
        """Let another process receive until something else comes; whether there is one."""
        assert self._receivers is not None
        assert self._loop is not None
        unread = self._stream.unread()
        loan = self._receivers.lend(self._connection, self._loop.negotiated, unread)
        if loan is None:
            self._stream.restore(unread)
            return False
        waiting = select.poll()
        for one in (loan.fileno(), self._woken.fileno()):
            waiting.register(one, select.POLLIN)
        while True:
            ready = [number for number, _ in waiting.poll(_TICK_S * 1000)]
            self._idle_timer.restart()
            if loan.fileno() in ready:
                break
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
            if not self._goes_on():
                loan.ask_back(at_once=self._is_ending())
        ended = loan.end()
        self._loop.stored += ended.stored
        self._stream.restore(ended.unread)
        return True

    def _make_loop(self) -> ReceiveLoop:
        return ReceiveLoop(
            self._stream,
            self._provider,
            self._negotiated(self.assoc),
            send=self._answer,
            hand_over=self._hand_over,
        )

    def _answer(self, data: bytes) -> None:
        """Send an answer of the receive loop, without the library's events for each."""
        try:
            self._connection.sendall(data)
        except (OSError, ValueError):
            self.event_queue.put(_CLOSED)

    def _hand_over(self, context: int, control: int, data: bytes) -> None:
        """A fragment of another message for the library (as its action DT-2 does)."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context, bytes((control,)) + data]]  # type: ignore[list-item]
        self.assoc.dimse.receive_primitive(primitive)
        self._rest()

    def _end(self, event: str) -> None:
        if self._loop is not None:
            self._loop.abandon()
        if not self._is_ending():
            self.event_queue.put(event)

    def _log_stored(self, count: int) -> None:
        """One line for all instances of an association: one for each costs as much as its record."""
        if count:
            requestor = self.assoc.requestor
            facts = {"peer": str(requestor.ae_title).strip(), "address": str(requestor.address)}
            _LOG.info("instances stored", extra={"action": "cstore.stored", "instances": count, **facts})

    def _log_end(self, error: Exception) -> None:
        _LOG.warning(
            "unreadable bytes from a peer",
            extra={
                "action": "dimse.unreadable",
                "address": str(self.assoc.requestor.address),
                "error": f"{type(error).__name__}: {error}"[:200],
            },
        )
