# SPDX-License-Identifier: Apache-2.0
"""Associations that we open: to destinations, watchers and archives.

What can go wrong before the first message is sorted into later may work and will not work.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.presentation import PresentationContext

from informatics_gateway.dimse.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError

_TRANSIENT = 0x02


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomAddress:
    """A DICOM peer and what we call ourselves towards it.

    Attributes
    ----------
    tls
        What the connection is secured with; None speaks in the clear.
    server_name
        Name that the certificate of the peer must have.
    """

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str = "AIRWAY"
    tls: ssl.SSLContext | None = None
    server_name: str = ""


@contextmanager
def association(
    contexts: Sequence[PresentationContext],
    address: DicomAddress,
    *,
    timeout_s: float,
    roles: Sequence[Any] = (),
    handlers: Sequence[tuple[Any, Any]] = (),
) -> Iterator[Any]:
    """An association of the library with `address`, released in the end.

    Parameters
    ----------
    timeout_s
        For connecting, association and each answer.
    roles
        SCP/SCU Role Selection items to propose (PS3.7 D.3.3.4).
    handlers
        Events of the library, each with what handles it: for what the peer asks on this association.

    Raises
    ------
    RetryableDeliveryError
        Connection refused, timed out or aborted; rejected as transient.
    FinalDeliveryError
        Rejected for good, or none of the presentation contexts accepted.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE(ae_title=address.calling_ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = timeout_s
    entity.network_timeout = timeout_s
    connections: list[socket.socket] = []
    peer = entity.associate(
        address.host,
        address.port,
        contexts=list(contexts),
        ae_title=address.called_ae_title,
        max_pdu=0,
        ext_neg=list(roles) or None,
        tls_args=(address.tls, address.server_name or address.host) if address.tls else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, _prepare, [connections, timeout_s]), *handlers],
    )
    keep_answers(peer)
    try:
        _check_established(peer)
        yield peer
    finally:
        if peer.is_established:
            peer.release()
        for connection in connections:
            connection.close()  # the library leaves it open when the peer hung up first


def keep_answers(peer: Any) -> None:
    """Have the library's own thread put an answer back that it takes from under who waits for it.

    Between two messages sent at once, that thread may look for requests of the peer once more when the second
    is on its way (pynetdicom 3.0, ``Association._run_reactor``). It would drop an answer that is quick enough
    as unexpected, and the sender would wait in vain.
    """
    serve = peer._serve_request  # there is no public way to it

    def serve_or_put_back(message: Any, context_id: int) -> None:
        if message.is_valid_response:
            peer.dimse.msg_queue.put((context_id, message))
        else:
            serve(message, context_id)

    peer._serve_request = serve_or_put_back


def _check_established(peer: Any) -> None:
    if peer.is_rejected:
        answer = peer.acceptor.primitive
        kind = RetryableDeliveryError if answer.result == _TRANSIENT else FinalDeliveryError
        raise kind(
            f"association rejected: result {answer.result}, source {answer.result_source}, "
            f"reason {answer.diagnostic}"
        )
    if not peer.is_established:
        if peer.rejected_contexts and not peer.accepted_contexts:
            raise FinalDeliveryError("the peer accepts none of the SOP classes and transfer syntaxes")
        raise RetryableDeliveryError(
            "no association: connection refused, timed out or aborted", unreachable=True
        )


def _prepare(event: Any, connections: list[socket.socket], timeout_s: float) -> None:
    """Let no message wait for another, and no read or write outlast `timeout_s`.

    Command and data set are two writes: Nagle's algorithm would hold the second back. The library reads and
    writes without a limit: a peer that takes no more, or stops within a PDU, would be waited for without end.
    """
    connection = event.assoc.dul.socket.socket
    connections.append(connection)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", max(1, round(timeout_s)), 0))
