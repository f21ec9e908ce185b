# SPDX-License-Identifier: Apache-2.0
"""DICOM upper layer PDUs and command sets as literal bytes (PS3.7 6.3, PS3.8 9.3), also wrong ones."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
COMMAND, LAST = 1, 2


def pdu(kind: int, body: bytes) -> bytes:
    """Any PDU."""
    return struct.pack(">BBL", kind, 0, len(body)) + body


def item(context: int, control: int, data: bytes) -> bytes:
    """A presentation data value item."""
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def element(number: int, value: bytes) -> bytes:
    """An element of a command set."""
    return struct.pack("<HHL", 0, number, len(value)) + value


def uid(text: str) -> bytes:
    """A UID, padded."""
    return text.encode() + b"\0" * (len(text) % 2)


def command(field: int, *, message_id: int = 1, data_set: int = 0, **values: str) -> bytes:
    """A request; `values` are `sop_class` and `sop_instance`."""
    parts = []
    if "sop_class" in values:
        parts.append(element(0x0002, uid(values["sop_class"])))
    parts += [
        element(0x0100, struct.pack("<H", field)),
        element(0x0110, struct.pack("<H", message_id)),
        element(0x0700, struct.pack("<H", 0)),
        element(0x0800, struct.pack("<H", data_set)),
    ]
    if "sop_instance" in values:
        parts.append(element(0x1000, uid(values["sop_instance"])))
    body = b"".join(parts)
    return element(0, struct.pack("<L", len(body))) + body


def store_command(sop_instance: str, *, sop_class: str = CT, message_id: int = 1, data_set: int = 0) -> bytes:
    """A C-STORE-RQ."""
    return command(
        0x0001, message_id=message_id, data_set=data_set, sop_class=sop_class, sop_instance=sop_instance
    )


def echo_command(message_id: int = 1) -> bytes:
    """A C-ECHO-RQ."""
    return command(0x0030, message_id=message_id, data_set=0x0101, sop_class=VERIFICATION)


def message(context: int, command_set: bytes, data: bytes = b"", *, piece: int = 16384) -> bytes:
    """A message in P-DATA-TF PDUs of one item each, its data in fragments of `piece` bytes."""
    parts = [pdu(4, item(context, COMMAND | LAST, command_set))]
    for at in range(0, len(data), piece):
        last = LAST if at + piece >= len(data) else 0
        parts.append(pdu(4, item(context, last, data[at : at + piece])))
    return b"".join(parts)


def associate(contexts: Sequence[tuple[int, str, str]], *, largest: int = 0, calling: str = "RAW") -> bytes:
    """An A-ASSOCIATE-RQ for (context, abstract syntax, transfer syntax)."""

    def sub(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    body = struct.pack(">HH16s16s32x", 1, 0, b"AIRWAY".ljust(16), calling.encode().ljust(16))
    body += sub(0x10, b"1.2.840.10008.3.1.1.1")
    for number, abstract, transfer in contexts:
        proposed = sub(0x30, abstract.encode()) + sub(0x40, transfer.encode())
        body += sub(0x20, struct.pack(">B3x", number) + proposed)
    body += sub(0x50, sub(0x51, struct.pack(">L", largest)) + sub(0x52, b"1.2.3.4"))
    return pdu(1, body)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes; fewer where the peer closed."""
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            break
        received += piece
    return received


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU; (0, b"") where the peer closed."""
    header = read_exactly(connection, 6)
    if len(header) < 6:
        return 0, b""
    kind, length = struct.unpack(">BxL", header)
    return kind, read_exactly(connection, length)


def read_answer(connection: socket.socket) -> Mapping[int, bytes]:
    """The elements of the next command set, which may come in several PDUs."""
    whole = b""
    while True:
        kind, body = read_pdu(connection)
        assert kind == 4, f"PDU type {kind} instead of an answer"
        whole += body[6:]
        if body[5] & LAST:
            return elements(whole)


def elements(command_set: bytes) -> Mapping[int, bytes]:
    """The elements of a command set by number."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(command_set):
        _, number, length = struct.unpack_from("<HHL", command_set, at)
        found[number] = command_set[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def status_of(answer: Mapping[int, bytes]) -> int:
    """Status (0000,0900)."""
    return int(struct.unpack("<H", answer[0x0900])[0])
