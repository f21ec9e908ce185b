# SPDX-License-Identifier: Apache-2.0
"""A small MLLP client: one message out, its answer back. Used by the command line; it decides nothing."""

from __future__ import annotations

import socket
import ssl
import time

from informatics_gateway.hl7.mllp import Frame, FrameReader, framed
from task_manager.errors import RetryableDeliveryError


def send_message(
    host: str, port: int, raw: bytes, timeout_s: float = 30.0, *, tls: ssl.SSLContext | None = None
) -> bytes:
    """The acknowledgement to `raw`, without its frame.

    Parameters
    ----------
    raw
        One HL7 message without MLLP frame.
    timeout_s
        Seconds for the whole exchange.

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
            connection = tls.wrap_socket(plain, server_hostname=host) if tls else plain
            with connection:
                connection.sendall(message)
                while (left := deadline - time.monotonic()) > 0:
                    connection.settimeout(left)
                    data = connection.recv(65536)
                    if not data:
                        raise RetryableDeliveryError("the connection was closed before an answer came")
                    for event in reader.feed(data):
                        if isinstance(event, Frame):
                            return event.payload
                        raise RetryableDeliveryError("the answer is no MLLP message")
    except OSError as error:
        raise RetryableDeliveryError(f"no answer over MLLP: {type(error).__name__}") from error
    raise RetryableDeliveryError("no answer over MLLP in time")
