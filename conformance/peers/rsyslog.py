# SPDX-License-Identifier: Apache-2.0
"""rsyslog as the independent event repository: syslog over TLS (RFC 5425) and over UDP (RFC 5426).

Runs the program in the foreground with its own configuration and certificates; it is no system service.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.peers.certificates import Certificate, CertificateAuthority
from conformance.peers.installed import find_program
from conformance.peers.process import PeerProcess, accepts_connections, free_port, wait_until

SERVER_NAME = "repository.example.org"
CLIENT_NAME = "sender.example.org"
_LARGEST_MESSAGE = "1m"
_PROPERTIES = {
    "pri": "priority",
    "protocol-version": "version",
    "timereported": "timestamp",
    "hostname": "host_name",
    "app-name": "app_name",
    "procid": "process_id",
    "msgid": "message_id",
    "structured-data": "structured_data",
    "msg": "message",
    "inputname": "transport",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """One syslog message as rsyslog understood it (RFC 5424 6).

    Attributes
    ----------
    priority : int
        PRI: facility times eight plus severity.
    timestamp, host_name, app_name, process_id, message_id, structured_data : str
        Header fields; ``-`` where the sender gave none.
    message : str
        MSG without surrounding white space and byte order mark.
    transport : str
        ``imtcp`` for TLS, ``imudp`` for UDP.
    """

    priority: int
    timestamp: str
    host_name: str
    app_name: str
    process_id: str
    message_id: str
    structured_data: str
    message: str
    transport: str


class Rsyslog:
    """A running rsyslog: addresses, what a client must trust, and the messages it has received."""

    def __init__(
        self, process: PeerProcess, *, tls_port: int, udp_port: int, ca: CertificateAuthority, records: Path
    ) -> None:
        self.process = process
        self.host = "127.0.0.1"
        self.tls_port = tls_port
        self.udp_port = udp_port
        self.server_name = SERVER_NAME
        self.ca_path = ca.certificate
        self.client: Certificate = ca.issue(CLIENT_NAME)
        self._records = records
        self._seen = 0

    def messages(self) -> list[ReceivedMessage]:
        """Return what was received since the start or the last `clear`, in order of arrival."""
        return self._all()[self._seen :]

    def wait_for_messages(self, count: int, timeout_s: float = 20.0) -> list[ReceivedMessage]:
        """Return the messages once there are `count` of them or more.

        Raises
        ------
        TimeoutError
            When they do not arrive in time.
        """
        wait_until(lambda: len(self.messages()) >= count, f"{count} syslog messages", timeout_s)
        return self.messages()

    def clear(self) -> None:
        """Leave out of `messages` everything received so far."""
        self._seen = len(self._all())

    def _all(self) -> list[ReceivedMessage]:
        if not self._records.exists():
            return []
        lines = self._records.read_text(encoding="utf-8").split("\n")
        return [
            _message_of(json.loads(line)) for line in lines[:-1]
        ]  # the last one may still be being written


def _message_of(record: dict[str, Any]) -> ReceivedMessage:
    return ReceivedMessage(
        priority=int(record["priority"]),
        timestamp=record["timestamp"],
        host_name=record["host_name"],
        app_name=record["app_name"],
        process_id=record["process_id"],
        message_id=record["message_id"],
        structured_data=record["structured_data"],
        message=record["message"].strip().removeprefix("\ufeff"),
        transport=record["transport"],
    )


def _configuration(
    folder: Path, *, tls_port: int, udp_port: int, ca: Path, server: Certificate, client_certificate: bool
) -> str:
    authentication = (
        f'streamDriver.authMode="x509/name" permittedPeer=["{CLIENT_NAME}"]'
        if client_certificate
        else 'streamDriver.authMode="anon"'
    )
    columns = []
    for name, column in _PROPERTIES.items():
        date = ' dateFormat="rfc3339"' if name == "timereported" else ""
        columns.append(f'  property(outname="{column}" name="{name}"{date} format="jsonf")')
    return "\n".join(
        [
            f'global(workDirectory="{folder}" maxMessageSize="{_LARGEST_MESSAGE}"',
            '  defaultNetstreamDriver="gtls" parser.escapeControlCharactersOnReceive="off"',
            f'  defaultNetstreamDriverCAFile="{ca}"',
            f'  defaultNetstreamDriverCertFile="{server.certificate}"',
            f'  defaultNetstreamDriverKeyFile="{server.key}")',
            f'module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" {authentication})',
            'module(load="imudp")',
            'template(name="record" type="list" option.jsonf="on") {',
            *columns,
            "}",
            f'input(type="imtcp" port="{tls_port}" address="127.0.0.1")',
            f'input(type="imudp" port="{udp_port}" address="127.0.0.1")',
            f'action(type="omfile" file="{folder / "events.jsonl"}" template="record" flushOnTXEnd="on")',
            "",
        ]
    )


@contextmanager
def run_rsyslog(
    *,
    folder: Path | None = None,
    tls_port: int | None = None,
    udp_port: int | None = None,
    client_certificate: bool = False,
) -> Iterator[Rsyslog]:
    """Run rsyslog and yield it once it listens; stop it afterwards.

    Parameters
    ----------
    folder : Path, optional
        Where it keeps certificates and messages.
    tls_port, udp_port : int, optional
        Fixed ports, for a repository that goes down and comes back; free ones otherwise.
    client_certificate : bool
        Ask for a certificate of the client too, as ATNA node authentication does; `Rsyslog.client` is one.

    Raises
    ------
    PeerMissingError
        When rsyslog, its TLS module or openssl is not installed.
    PeerFailedError
        When it does not come up; quotes its log.
    """
    with tempfile.TemporaryDirectory(prefix="rsyslog-", ignore_cleanup_errors=True) as temporary:
        home = folder or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        ca = CertificateAuthority(home)
        tls, udp = tls_port or free_port(), udp_port or free_port()
        path = home / "rsyslog.conf"
        path.write_text(
            _configuration(
                home,
                tls_port=tls,
                udp_port=udp,
                ca=ca.certificate,
                server=ca.issue(SERVER_NAME),
                client_certificate=client_certificate,
            ),
            encoding="utf-8",
        )
        command: list[str | Path] = [find_program("rsyslogd"), "-n", "-f", path, "-i", home / "rsyslogd.pid"]
        with PeerProcess("rsyslog", command, home) as process:
            process.wait_ready(lambda: accepts_connections(tls))
            yield Rsyslog(process, tls_port=tls, udp_port=udp, ca=ca, records=home / "events.jsonl")
