# SPDX-License-Identifier: Apache-2.0
"""An association lent to another process: what is said when it goes there, and when it comes back.

The process that negotiated keeps the association and lends only its connection, between messages, as long
as one C-STORE follows another. Whatever else comes brings the connection back, with the bytes read by then.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass

import orjson

from informatics_gateway.dimse.pdu_stream import ConnectionEndedError, StalledError
from informatics_gateway.dimse.receive_loop import DisorderError, Negotiated
from task_manager.actor import Actor

BACK, ENDED, STALLED, DISORDER = b"B", b"E", b"S", b"D"
"""How a loan ends: the connection goes on here; the peer hung up; it sends nothing; it sends disorder."""

_LENGTH = struct.Struct("<L")
_END = struct.Struct("<cL")
_RETURN, _STOP = b"b", b"e"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanEnd:
    """How a loan ended: how many instances were stored, and the bytes that were read and not taken."""

    stored: int
    unread: bytes


def described(negotiated: Negotiated) -> bytes:
    """What the other process has to know of an association."""
    return orjson.dumps(
        {
            "contexts": [[number, uid] for number, uid in negotiated.contexts.items()],
            "storage": sorted(negotiated.storage),
            "largest_pdu": negotiated.largest_pdu,
            "actor": asdict(negotiated.actor),
        }
    )


def negotiated_of(description: bytes) -> Negotiated:
    """What :func:`described` told."""
    told = orjson.loads(description)
    return Negotiated(
        contexts={int(number): str(uid) for number, uid in told["contexts"]},
        storage=frozenset(told["storage"]),
        largest_pdu=int(told["largest_pdu"]),
        actor=Actor(**told["actor"]),
    )


class Loan:
    """The end of who lends.

    Parameters
    ----------
    line
        To the process that has the connection.
    unread
        What was read and not taken so far.
    ended
        Called at the end.
    """

    def __init__(self, line: socket.socket, unread: bytes, *, ended: Callable[[], None]) -> None:
        self._line = line
        self._ended = ended
        line.sendall(_LENGTH.pack(len(unread)) + unread)

    def fileno(self) -> int:
        """Readable when the loan ends."""
        return self._line.fileno()

    def ask_back(self, *, at_once: bool) -> None:
        """Have the connection back: after the message that comes now, or even inside it."""
        try:
            self._line.send(_STOP if at_once else _RETURN)
        except OSError:  # it is on its way back
            return

    def end(self) -> LoanEnd:
        """Wait for the end.

        Raises
        ------
        ConnectionEndedError
            If the peer hung up, or the other process died with the message it was at.
        StalledError, DisorderError
            What the other process met.
        """
        parts = []
        try:
            with self._line as line:
                while part := line.recv(65536):
                    parts.append(part)
        except OSError as error:
            raise ConnectionEndedError from error
        finally:
            self._ended()
        told = b"".join(parts)
        if len(told) < _END.size:
            raise ConnectionEndedError
        kind, stored = _END.unpack_from(told)
        if kind == ENDED:
            raise ConnectionEndedError
        if kind == STALLED:
            raise StalledError
        if kind == DISORDER:
            raise DisorderError(told[_END.size :].decode("ascii", "replace"))
        return LoanEnd(stored=stored, unread=told[_END.size :])


class Borrowed:
    """The end of who receives; stands where a receiver is woken."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.asked_back = False
        self.is_ending = False

    def fileno(self) -> int:
        """Readable when the lender speaks."""
        return self._line.fileno()

    def unread(self) -> bytes:
        """The bytes that were read before the loan; to be taken first.

        Raises
        ------
        OSError
            If the lender is gone.
        """
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return self._read(length)

    def recv(self, most: int, /) -> bytes:
        """What the lender says."""
        try:
            said = self._line.recv(most)
        except OSError:
            said = b""
        self.asked_back = True
        self.is_ending = self.is_ending or not said or _STOP in said
        return said

    def look(self) -> bool:
        """Whether the connection is wanted back."""
        waiting = select.poll()
        waiting.register(self._line, select.POLLIN)
        if waiting.poll(0):
            self.recv(64)
        return self.asked_back

    def end(self, kind: bytes, stored: int, rest: bytes) -> None:
        """Give the connection back."""
        with self._line as line:
            try:
                line.sendall(_END.pack(kind, stored) + rest)
            except OSError:  # the lender is gone
                return

    def _read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            part = self._line.recv(count - len(found))
            if not part:
                raise ConnectionError("the lender is gone")
            found += part
        return bytes(found)
