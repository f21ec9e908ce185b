# SPDX-License-Identifier: Apache-2.0
"""The socket of an association: acknowledges at once, and reads each PDU in large pieces.

It follows the frames of PDUs (PS3.8 9.3.1) to know how far it may read, and understands nothing inside them.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

_LARGEST_READ = 256 * 1024
_PDU_HEADER = struct.Struct(">2xL")


class PromptSocket(socket.socket):
    """A connection that acknowledges each read at once and reads a PDU in large pieces.

    Senders that leave Nagle's algorithm on (DCMTK `storescu` by default) wait for our delayed
    acknowledgement inside every object otherwise. The kernel forgets the option, so each read sets it again.
    The library asks for 4 KiB at a time: what belongs to the same PDU is read ahead for it, and never a byte
    of the next one, because the library looks at the kernel for news.
    """

    _ahead = memoryview(b"")
    _rest_of_pdu = 0
    _header = b""

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """At most `bufsize` bytes; empty when the peer has closed the connection."""
        if flags:
            return super().recv(bufsize, flags)
        if not self._ahead:
            if not self._rest_of_pdu:
                return self._read_header(bufsize)
            self._ahead = memoryview(self._read(min(self._rest_of_pdu, _LARGEST_READ)))
            self._rest_of_pdu -= len(self._ahead)
        piece, self._ahead = self._ahead[:bufsize], self._ahead[bufsize:]
        return bytes(piece)

    def _read_header(self, bufsize: int) -> bytes:
        """Type and length of the next PDU (PS3.8 9.3.1)."""
        data = self._read(min(bufsize, _PDU_HEADER.size - len(self._header)))
        self._header += data
        if len(self._header) == _PDU_HEADER.size:
            (self._rest_of_pdu,) = _PDU_HEADER.unpack(self._header)
            self._header = b""
        return data

    def _read(self, size: int) -> bytes:
        data = super().recv(size)
        if hasattr(socket, "TCP_QUICKACK"):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data

    def shutdown(self, how: int) -> None:
        """As the library expects: a peer that hung up first is no error, or the socket stays open."""
        with suppress(OSError):
            super().shutdown(how)
