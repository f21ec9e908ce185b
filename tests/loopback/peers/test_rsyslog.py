# SPDX-License-Identifier: Apache-2.0
"""The syslog peer takes RFC 5424 messages over TLS and UDP, whole, and refuses strangers when asked to."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from conformance.peers.rsyslog import Rsyslog, run_rsyslog

pytestmark = pytest.mark.peers

HEADER = "<85>1 2026-05-04T09:15:27.120Z ai01 IHE+SOLE 4711 RID45833 - "


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rsyslog]:
    with run_rsyslog(folder=tmp_path_factory.mktemp("mutual"), client_certificate=True) as peer:
        yield peer


def context_for(peer: Rsyslog, *, with_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=peer.ca_path)
    if with_certificate:
        context.load_cert_chain(peer.client.certificate, peer.client.key)
    return context


def send_over_tls(peer: Rsyslog, context: ssl.SSLContext, message: bytes) -> None:
    with (
        socket.create_connection((peer.host, peer.tls_port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=peer.server_name) as connection,
    ):
        connection.sendall(b"%d %s" % (len(message), message))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def test_tls_message_arrives_whole(rsyslog: Rsyslog) -> None:
    rsyslog.clear()
    text = "<AuditMessage>\n  <Näme/>" + "x" * 60_000 + "</AuditMessage>"

    send_over_tls(rsyslog, context_for(rsyslog), (HEADER + text).encode())

    [message] = rsyslog.wait_for_messages(1)
    assert message.message == text
    assert (message.priority, message.app_name, message.message_id) == (85, "IHE+SOLE", "RID45833")
    assert (message.host_name, message.process_id, message.transport) == ("ai01", "4711", "imtcp")
    assert message.timestamp == "2026-05-04T09:15:27.120Z"


def test_udp_message_arrives_without_its_byte_order_mark(rsyslog: Rsyslog) -> None:
    rsyslog.clear()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto((HEADER + "\ufeff<a/>").encode(), (rsyslog.host, rsyslog.udp_port))

    [message] = rsyslog.wait_for_messages(1)
    assert (message.message, message.transport) == ("<a/>", "imudp")


def test_certificate_of_another_name_is_not_trusted(rsyslog: Rsyslog) -> None:
    with (
        socket.create_connection((rsyslog.host, rsyslog.tls_port), timeout=10) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context_for(rsyslog).wrap_socket(raw, server_hostname="somebody.example.org")


def test_mutual_tls_takes_the_issued_client_and_refuses_one_without(mutual: Rsyslog) -> None:
    with contextlib.suppress(OSError):  # the refusal comes after the client has finished its handshake
        send_over_tls(mutual, context_for(mutual), (HEADER + "<stranger/>").encode())

    send_over_tls(mutual, context_for(mutual, with_certificate=True), (HEADER + "<known/>").encode())

    assert [message.message for message in mutual.wait_for_messages(1)] == ["<known/>"]


def test_waiting_for_messages_that_do_not_come_ends(mutual: Rsyslog) -> None:
    with pytest.raises(TimeoutError, match="99 syslog messages"):
        mutual.wait_for_messages(99, timeout_s=0.1)
