# SPDX-License-Identifier: Apache-2.0
"""A small MLLP client: one message out, its answer back. It decides nothing."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

from informatics_gateway.hl7.mllp import Frame, FrameReader, framed
from task_manager.errors import RetryableDeliveryError


def send_message(
    host: str,
    port: int,
    raw: bytes,
    timeout_s: float = 30.0,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    awaited: Callable[[bytes], bool] = lambda answer: True,
) -> bytes:
    """The acknowledgement to `raw`, without its frame.

    Parameters
    ----------
    raw
        One HL7 message without MLLP frame.
    timeout_s
        Seconds for the whole exchange.
    server_name
        Name the peer's certificate must have; empty takes `host`.
    awaited
        Whether an answer is the one that is waited for; others are passed over.

    Raises
    ------
    RetryableDeliveryError
        If no connection is made or no answer comes in time; sending the same message again is harmless.
    InputError
        If the message holds a framing byte.
    """
    message = framed(raw)
    deadline = time.monotonic() + timeout_s
    reader = FrameReader()
    try:
        with socket.create_connection((host, port), timeout_s) as plain:
            plain.settimeout(_left(deadline))
            connection = tls.wrap_socket(plain, server_hostname=server_name or host) if tls else plain
            with connection:
                connection.settimeout(_left(deadline))
                connection.sendall(message)
                while True:
                    connection.settimeout(_left(deadline))
                    data = connection.recv(65536)
                    if not data:
                        raise _unanswered("the connection was closed before an answer came")
                    for event in reader.feed(data):
                        if not isinstance(event, Frame):
                            raise _unanswered("the answer is no MLLP message")
                        if awaited(event.payload):
                            return event.payload
    except OSError as error:
        raise _unanswered(f"no answer over MLLP: {type(error).__name__}") from error


def _left(deadline: float) -> float:
    """Seconds left.

    Raises
    ------
    TimeoutError
        If there are none.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


def _unanswered(text: str) -> RetryableDeliveryError:
    return RetryableDeliveryError(text, unreachable=True)
