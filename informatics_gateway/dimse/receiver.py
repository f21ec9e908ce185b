# SPDX-License-Identifier: Apache-2.0
"""A process that receives C-STORE for associations which another process negotiated and lends to it.

Each loan has a thread. A message that is no C-STORE, silence, or a wish of the lender ends it.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from informatics_gateway.dimse.loan import BACK, DISORDER, ENDED, STALLED, Borrowed, negotiated_of
from informatics_gateway.dimse.pdu_stream import P_DATA, ConnectionEndedError, PduStream, StalledError
from informatics_gateway.dimse.receive_loop import (
    DisorderError,
    Negotiated,
    Provider,
    ReceiveLoop,
    begins_a_store,
)

_LOG = logging.getLogger(__name__)
_QUIET_S = 1.0
_MOST_DESCRIPTION = 1024 * 1024
WAKE = b"w"
"""Said to the lender: something in the store wants its worker."""


def receive_loans(control: socket.socket, provider: Provider, *, timeout_s: float) -> None:
    """Serve what is lent over `control` until that is closed.

    Parameters
    ----------
    control
        A Unix socket of datagrams in order: each a description with the connection and the line of a loan.
    timeout_s
        How long a peer may be silent inside a message.
    """
    while True:
        description, descriptors, _, _ = socket.recv_fds(control, _MOST_DESCRIPTION, 2)
        if not description:
            return
        connection, line = (socket.socket(fileno=one) for one in descriptors)
        threading.Thread(
            target=_serve,
            args=(connection, Borrowed(line), negotiated_of(description), provider, timeout_s),
            daemon=True,
        ).start()


def _serve(
    connection: socket.socket,
    borrowed: Borrowed,
    negotiated: Negotiated,
    provider: Provider,
    timeout_s: float,
) -> None:
    loop: ReceiveLoop | None = None
    kind, rest = ENDED, b""
    try:
        with connection:
            stream = PduStream(
                connection, timeout_s=timeout_s, waker=borrowed, interrupted=lambda: borrowed.is_ending
            )
            stream.restore(borrowed.unread())
            loop = ReceiveLoop(
                stream, provider, negotiated, send=_sending(connection), hand_over=_other_message
            )
            kind, rest = _receive(stream, loop, borrowed)
    except (ConnectionEndedError, OSError):
        kind = ENDED
    except StalledError:
        kind = STALLED
    except DisorderError as error:
        kind, rest = DISORDER, str(error).encode("ascii", "replace")
    except Exception as error:  # noqa: BLE001 - the edge of the thread: the lender ends the association
        _LOG.error("a loan failed", exc_info=error, extra={"action": "dimse.loan_failed"})
        kind, rest = DISORDER, type(error).__name__.encode()
    finally:
        if loop is not None:
            loop.abandon()
        borrowed.end(kind, loop.stored if loop is not None else 0, rest)


def _receive(stream: PduStream, loop: ReceiveLoop, borrowed: Borrowed) -> tuple[bytes, bytes]:
    """Receive as long as one C-STORE follows another."""
    while not borrowed.look() and stream.wait(_QUIET_S):
        stream.begin()
        if not begins_a_store(stream):
            break
        while True:
            if stream.peek(1)[0] != P_DATA:
                loop.abandon()
                return BACK, stream.unread()
            _, length = stream.header()
            loop.take(length)
            if not loop.within_message:
                break
    return BACK, stream.unread()


def _sending(connection: socket.socket) -> Callable[[bytes], None]:
    def send(data: bytes) -> None:
        try:
            connection.sendall(data)
        except OSError as error:
            raise ConnectionEndedError from error

    return send


def _other_message(context: int, control: int, data: bytes) -> None:
    del context, control, data
    raise DisorderError("another message in the PDU that ended a C-STORE")
