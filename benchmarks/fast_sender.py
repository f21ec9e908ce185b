# SPDX-License-Identifier: Apache-2.0
"""A C-STORE sender that costs next to nothing, so that the receiver is what is measured.

Every PDU is made before the clock starts; then one `sendall` for each object, and the next one as soon as the
answer is there, as PS3.7 wants without an asynchronous window. One SOP class, one transfer syntax.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Sequence

from benchmarks.studies import CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN, EncodedStudy
from profiles.uids import derived_uid

_CONTEXT_ID = 1
_LARGEST_PDU = 128 * 1024
_TIMEOUT_S = 60.0
_META_LENGTH_AT = 140
_DATA_SET_AFTER_LENGTH = 144


class SendingError(RuntimeError):
    """The receiver refused, failed or went away."""


def seconds_to_send(
    study: EncodedStudy, host: str, port: int, *, called_ae_title: str, associations: int = 1
) -> float:
    """Wall-clock time from the first byte of the first request to the last answer.

    The PDUs are as large as the receiver allows, up to 128 KiB.

    Raises
    ------
    SendingError
        If any object is not answered with success within a minute.
    """
    objects = list(study.files.items())
    parts = [objects[start::associations] for start in range(associations)]
    senders = [_Sender(part, host, port, called_ae_title) for part in parts if part]
    try:
        started = threading.Event()
        threads = [threading.Thread(target=sender.run, args=(started,), daemon=True) for sender in senders]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        started.set()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - start
        for sender in senders:
            if sender.error is not None:
                raise SendingError(str(sender.error)) from sender.error
            sender.release()
        return elapsed
    finally:
        for sender in senders:
            sender.close()


class _Sender:
    """One association with its objects ready to go."""

    def __init__(
        self, objects: Sequence[tuple[str, bytes]], host: str, port: int, called_ae_title: str
    ) -> None:
        self.error: Exception | None = None
        self._connection = socket.create_connection((host, port), _TIMEOUT_S)
        try:
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection.sendall(_association_request(called_ae_title))
            limit = self._largest_pdu()
            self._messages = [
                _message(number, uid, data, limit) for number, (uid, data) in enumerate(objects, start=1)
            ]
        except BaseException:
            self._connection.close()
            raise

    def run(self, started: threading.Event) -> None:
        """Send all; an error is kept for the caller."""
        started.wait()
        try:
            for message in self._messages:
                self._connection.sendall(message)
                self._expect_success()
        except (OSError, SendingError) as error:
            self.error = error

    def release(self) -> None:
        """Release the association (PS3.8 9.3.6)."""
        self._connection.sendall(struct.pack(">BxLL", 0x05, 4, 0))
        self._read_pdu()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _largest_pdu(self) -> int:
        kind, body = self._read_pdu()
        if kind != 0x02:
            raise SendingError(f"no association: PDU type {kind:02X}")
        at, limit = 68, 0
        while at + 4 <= len(body):
            item, length = struct.unpack_from(">BxH", body, at)
            if item == 0x21 and body[at + 6] != 0:
                raise SendingError("the presentation context is not accepted")
            at += 4 if item == 0x50 else 4 + length
            if item == 0x51:
                limit = struct.unpack_from(">L", body, at - 4)[0]
        return min(limit or _LARGEST_PDU, _LARGEST_PDU)

    def _expect_success(self) -> None:
        kind, body = self._read_pdu()
        if kind != 0x04:
            raise SendingError(f"no answer but PDU type {kind:02X}")
        at = 6
        while at + 8 <= len(body):
            group, number, length = struct.unpack_from("<HHL", body, at)
            if (group, number) == (0x0000, 0x0900):
                status = struct.unpack_from("<H", body, at + 8)[0]
                if status != 0:
                    raise SendingError(f"answered {status:04X}")
                return
            at += 8 + length
        raise SendingError("an answer without status")

    def _read_pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._read(6))
        return kind, self._read(length)

    def _read(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            piece = self._connection.recv(count - len(received))
            if not piece:
                raise SendingError("the receiver closed the connection")
            received += piece
            # a receiver that answers in two writes waits for us to acknowledge the first
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return bytes(received)


def _association_request(called_ae_title: str) -> bytes:
    """A-ASSOCIATE-RQ for CT images in explicit VR little endian (PS3.8 9.3.2)."""
    syntaxes = _item(0x30, CT_IMAGE_STORAGE.encode()) + _item(0x40, EXPLICIT_VR_LITTLE_ENDIAN.encode())
    user = _item(0x51, struct.pack(">L", _LARGEST_PDU))
    user += _item(0x52, derived_uid("implementation", "airway", "benchmarks").encode())
    body = struct.pack(">H2x16s16s32x", 1, called_ae_title.ljust(16).encode(), b"BENCHMARK".ljust(16))
    body += _item(0x10, b"1.2.840.10008.3.1.1.1")
    body += _item(0x20, struct.pack(">B3x", _CONTEXT_ID) + syntaxes)
    body += _item(0x50, user)
    return struct.pack(">BxL", 0x01, len(body)) + body


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _message(number: int, sop_instance_uid: str, file: bytes, limit: int) -> bytes:
    """One C-STORE-RQ (PS3.7 9.3.1) with its data set, cut into P-DATA-TF PDUs of at most `limit` bytes."""
    command = b"".join(
        (
            _element(0x0002, _uid(CT_IMAGE_STORAGE)),
            _element(0x0100, struct.pack("<H", 0x0001)),
            _element(0x0110, struct.pack("<H", number % 0x10000)),
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", 0)),
            _element(0x1000, _uid(sop_instance_uid)),
        )
    )
    command = _element(0x0000, struct.pack("<L", len(command))) + command
    data_set_at = _DATA_SET_AFTER_LENGTH + struct.unpack_from("<L", file, _META_LENGTH_AT)[0]
    pieces = [_data_pdu(command, is_command=True, is_last=True)]
    room = limit - 6
    for at in range(data_set_at, len(file), room):
        pieces.append(_data_pdu(file[at : at + room], is_command=False, is_last=at + room >= len(file)))
    return b"".join(pieces)


def _data_pdu(fragment: bytes, *, is_command: bool, is_last: bool) -> bytes:
    control = int(is_command) | int(is_last) << 1
    return struct.pack(">BxLLBB", 0x04, len(fragment) + 6, len(fragment) + 2, _CONTEXT_ID, control) + fragment


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0x0000, number, len(value)) + value


def _uid(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)
