# SPDX-License-Identifier: Apache-2.0
"""Accepting connections on the DICOM port, in the clear or by TLS; each gets an upper layer of its own.

A peer that is slow to shake hands holds up nobody else.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from informatics_gateway.dimse.admission import Admission
from informatics_gateway.dimse.receive_loop import Negotiated, Provider
from informatics_gateway.dimse.receivers import Receivers
from informatics_gateway.dimse.upper_layer import UpperLayer

_LOG = logging.getLogger(__name__)
_HANDSHAKE_S = 30.0


class _Handler(RequestHandler):
    """Makes the association of a connection."""

    server: Listener

    def _create_association(self) -> Association:
        association = super()._create_association()
        server = self.server
        UpperLayer(
            association,
            self.request,
            server.provider,
            server.negotiated,
            timeout_s=server.timeout_s,
            receivers=server.receivers,
        )
        return association


class Listener(ThreadedAssociationServer):
    """pynetdicom's server: takes connections where `admission` says so.

    The attributes below are set before it serves.
    """

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False
    provider: Provider
    negotiated: Callable[[Association], Negotiated]
    admission: Admission = Admission()
    tls: ssl.SSLContext | None = None
    timeout_s: float = 60.0
    receivers: Receivers | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        self._arriving = 0
        self._lock = threading.Lock()
        super().__init__(*args, **{**options, "request_handler": _Handler})

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """A connection as it comes; what may take time is done in a thread of its own."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Connections from elsewhere, or that never ask for an association, must not pile up threads."""
        del request
        if not self.admission.takes_connection(str(client_address[0])):
            _LOG.warning(
                "connection refused",
                extra={"action": "dimse.source_refused", "address": str(client_address[0])},
            )
            return False
        return self._arriving + len(self.active_associations) <= 2 * self.ae.maximum_associations

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands where TLS is spoken, then begin the association."""
        with self._lock:
            self._arriving += 1
        try:
            connection = self._secured(request, str(client_address[0]))
            if connection is not None:
                # a TLS record that comes byte by byte is one read: only this bounds it as a whole
                connection.settimeout(self.timeout_s if isinstance(connection, ssl.SSLSocket) else None)
                _limit_sending(connection, self.timeout_s)
                super().finish_request(connection, client_address)
        finally:
            with self._lock:
                self._arriving -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that could not be served ends; nothing else does."""
        del request
        _LOG.exception(
            "connection failed", extra={"action": "dimse.failed", "address": str(client_address[0])}
        )

    def shutdown(self) -> None:
        """Stop listening; associations go on."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def _secured(self, connection: socket.socket, address: str) -> socket.socket | None:
        if self.tls is None:
            return connection
        connection.settimeout(min(_HANDSHAKE_S, self.timeout_s))
        try:
            return self.tls.wrap_socket(connection, server_side=True)
        except (OSError, ValueError) as error:
            _LOG.warning(
                "no TLS with a peer",
                extra={
                    "action": "dimse.tls_failed",
                    "address": address,
                    "error": str(getattr(error, "reason", "") or type(error).__name__),
                },
            )
            connection.close()
            return None


def _limit_sending(connection: socket.socket, seconds: float) -> None:
    """A peer that never takes our answers, or stops inside a TLS record, must not hold a thread."""
    whole = max(1, round(seconds))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, 0))
