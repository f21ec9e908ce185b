# SPDX-License-Identifier: Apache-2.0
"""Senders that misbehave towards the DICOM port in ways no honest tool can: cut objects, broken streams."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

TIMEOUT_S = 30.0


@contextmanager
def association(host: str, port: int) -> Iterator[Any]:
    """An association that may store CT images and echo."""
    entity = AE(ae_title="CT_SCANNER")
    entity.add_requested_context(Verification)
    entity.add_requested_context(CTImageStorage, [ExplicitVRLittleEndian])
    entity.dimse_timeout = entity.acse_timeout = entity.network_timeout = TIMEOUT_S
    connections: list[socket.socket] = []
    keep = (evt.EVT_CONN_OPEN, lambda event: connections.append(event.assoc.dul.socket.socket))
    found = entity.associate(host, port, ae_title="AIRWAY", evt_handlers=[keep])
    try:
        yield found
    finally:
        if found.is_established:
            found.release()
        for connection in connections:
            connection.close()  # the library leaves it open when the other side hung up first


def echoes(host: str, port: int) -> bool:
    """Whether C-ECHO is answered."""
    with association(host, port) as peer:
        return bool(peer.is_established and peer.send_c_echo().Status == 0)


def store_bytes(peer: Any, sop_instance_uid: str, data_set: bytes) -> Any:
    """C-STORE these bytes as the data set, whatever they are; the response."""
    # As the library's own requests do: its reactor must not take the response away.
    peer._reactor_checkpoint.clear()
    while not peer._is_paused:
        time.sleep(0.01)
    try:
        send_object(peer, sop_instance_uid, data_set, claimed=len(data_set), last=True)
        _, response = peer.dimse.get_msg(block=True)
    finally:
        peer._reactor_checkpoint.set()
        while peer._is_paused:  # the next request must not take an old pause for its own
            time.sleep(0.001)
    return response


def send_object(
    peer: Any, sop_instance_uid: str, data_set: bytes, *, claimed: int, last: bool = False
) -> None:
    """A C-STORE request and a fragment of a data set that claims `claimed` bytes (PS3.8 9.3.5, E.2)."""
    context_id = _context_id(peer)
    raw = peer.dul.socket.socket
    raw.sendall(_store_command(context_id, sop_instance_uid))
    header = struct.pack(">BBLLBB", 4, 0, claimed + 6, claimed + 2, context_id, 2 if last else 0)
    raw.sendall(header + data_set)


def hangs_up(host: str, port: int, content: bytes) -> bool:
    """Whether the other side ends a connection that brings `content` and then no more."""
    with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True  # reset
        return True


def _context_id(peer: Any) -> int:
    (found,) = [
        context.context_id for context in peer.accepted_contexts if context.abstract_syntax == CTImageStorage
    ]
    return int(found)


def _store_command(context_id: int, sop_instance_uid: str) -> bytes:
    """A P-DATA-TF PDU with a C-STORE-RQ command set (PS3.7 9.3.1.1)."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    command = b"".join(
        (
            element(0x0002, uid(CTImageStorage)),
            element(0x0100, struct.pack("<H", 0x0001)),
            element(0x0110, struct.pack("<H", 7)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 0x0001)),
            element(0x1000, uid(sop_instance_uid)),
        )
    )
    command = element(0x0000, struct.pack("<L", len(command))) + command
    return struct.pack(">BBLLBB", 4, 0, len(command) + 6, len(command) + 2, context_id, 3) + command
