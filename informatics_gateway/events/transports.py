# SPDX-License-Identifier: Apache-2.0
"""How a syslog message leaves: TLS (RFC 5425), UDP (RFC 5426) or a file. What it says is not known here.

Syslog has no acknowledgement: what was written to a connection whose peer has just died is lost. Before
and after every write the connection is looked at for a closed peer, which keeps that window to what is in
flight at the moment of the failure; the file and the event log of the store hold every event in any case.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Protocol

from profiles.faults import Fault
from profiles.sole.syslog import octet_counted
from task_manager.errors import ConfigurationError, FinalDeliveryError, RetryableDeliveryError

_LOG = logging.getLogger(__name__)
# What every receiver should take (RFC 5426 3.2), and what one datagram can hold at all (RFC 5426 3.1)
UDP_ADVISED_BYTES = 2048
UDP_LARGEST_BYTES = 65507
_CLOSE_TIMEOUT_S = 2.0


class SyslogTransport(Protocol):
    """One way to an event repository; safe to use from several threads."""

    def write(self, message: bytes) -> None:
        """Hand `message` over.

        Raises
        ------
        RetryableDeliveryError
            If later may work.
        FinalDeliveryError
            If it cannot work for this message.
        """

    def close(self) -> None:
        """End what is open; the next write opens it again."""


class TlsTransport:
    """A persistent TLS connection, opened on the first write and again whenever it is gone.

    Parameters
    ----------
    host, port
        The repository.
    server_name
        Name its certificate must carry; `host` if empty.
    ca_file
        Authorities to trust (PEM); None means those of the system.
    certificate_file, key_file
        Own certificate and key for node authentication (ITI-19); None for none.
    timeout_s
        Longest time for connecting and for each write.

    Raises
    ------
    ConfigurationError
        If a certificate or key cannot be read.
    """

    def __init__(
        self,
        host: str,
        port: int = 6514,
        *,
        server_name: str = "",
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._address = (host, port)
        self._server_name = server_name or host
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: ssl.SSLSocket | None = None
        try:
            self._context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            if certificate_file:
                self._context.load_cert_chain(certificate_file, key_file)
        except OSError as error:  # includes ssl.SSLError and a missing file
            fault = Fault("events", f"certificate or key cannot be used: {type(error).__name__}")
            raise ConfigurationError(fault) from error

    def write(self, message: bytes) -> None:
        """Send `message` octet-counted; a connection found dead is replaced once."""
        frame = octet_counted(message)
        with self._lock:
            kept = self._connection is not None
            try:
                self._write(frame)
            except OSError as error:
                self._drop()
                if not kept:
                    raise self._unreachable(error) from error
                _LOG.info("event connection renewed", extra={"action": "events.reconnect"})
                try:
                    self._write(frame)
                except OSError as again:
                    self._drop()
                    raise self._unreachable(again) from again

    def close(self) -> None:
        """Send close_notify and end the connection (RFC 5425 4.4)."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            with contextlib.suppress(OSError, ValueError):
                connection.settimeout(_CLOSE_TIMEOUT_S)
                connection.unwrap().close()
            connection.close()

    def _write(self, frame: bytes) -> None:
        if self._connection is None:
            self._connection = self._connect()
        _raise_if_closed(self._connection)
        self._connection.settimeout(self._timeout_s)
        self._connection.sendall(frame)
        _raise_if_closed(self._connection)

    def _connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(self._address, self._timeout_s)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return self._context.wrap_socket(plain, server_hostname=self._server_name)
        except OSError:
            plain.close()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _unreachable(self, error: OSError) -> RetryableDeliveryError:
        return RetryableDeliveryError(f"event repository cannot be reached: {type(error).__name__}")


def _raise_if_closed(connection: ssl.SSLSocket) -> None:
    """Look, without waiting, whether the peer has ended the connection.

    A repository sends nothing but TLS records of the protocol itself, such as session tickets.

    Raises
    ------
    ConnectionError
        If the peer has closed.
    """
    connection.settimeout(0.0)
    try:
        if not connection.recv(1024):
            raise ConnectionResetError("closed by the peer")
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return


class UdpTransport:
    """One datagram per message; nobody tells whether it arrived."""

    def __init__(self, host: str, port: int = 514) -> None:
        self._address = (host, port)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def write(self, message: bytes) -> None:
        """Send `message`; one over `UDP_ADVISED_BYTES` with a warning, since it may be cut on the way."""
        if len(message) > UDP_LARGEST_BYTES:
            raise FinalDeliveryError(f"{len(message)} bytes are too many for one datagram; use TLS")
        if len(message) > UDP_ADVISED_BYTES:
            _LOG.warning(
                "event may be cut short over UDP",
                extra={"action": "events.large", "bytes": len(message), "advised": UDP_ADVISED_BYTES},
            )
        with self._lock:
            try:
                if self._socket is None:
                    family, kind, number, _, address = socket.getaddrinfo(
                        *self._address, type=socket.SOCK_DGRAM
                    )[0]
                    self._socket = socket.socket(family, kind, number)
                    self._socket.connect(address)
                self._socket.send(message)
            except OSError as error:
                self._forget()
                text = f"event repository cannot be reached: {type(error).__name__}"
                raise RetryableDeliveryError(text) from error

    def close(self) -> None:
        """Give the socket back."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class FileTransport:
    """One message per line, on disk before `write` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, *messages: bytes) -> None:
        """Append each of `messages` and a line feed; line feeds inside become spaces.

        A line cut short by a crash or a full disk is closed first, so that it spoils no other.
        """
        lines = b"".join(one.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n" for one in messages)
        with self._lock:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
                try:
                    size = os.fstat(handle).st_size
                    if size and os.pread(handle, 1, size - 1) != b"\n":
                        lines = b"\n" + lines
                    written = 0
                    while written < len(lines):
                        written += os.write(handle, lines[written:])
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                text = f"event file cannot be written: {type(error).__name__}"
                raise RetryableDeliveryError(text) from error

    def close(self) -> None:
        """Nothing stays open between writes."""
