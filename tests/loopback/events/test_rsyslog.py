# SPDX-License-Identifier: Apache-2.0
"""Events sent to rsyslog over TLS and UDP: what arrives is what was sent, also after it was away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.peers.process import PeerProcess, accepts_connections
from conformance.peers.rsyslog import ReceivedMessage, Rsyslog, run_rsyslog
from conformance.validators.audit import audit_message_faults
from informatics_gateway.events.syslog_sender import EventReporter, SyslogSink
from informatics_gateway.events.transports import TlsTransport, UdpTransport
from profiles.sole.events import EventType, Outcome
from task_manager.errors import RetryableDeliveryError
from tests.unit.profiles.sole.happenings import SEG, event

pytestmark = pytest.mark.peers
REPORTER = EventReporter(source_id="airway-1", hostname="ai01.example.org", process_id="4711")


def tls_sink(peer: Rsyslog, *, with_certificate: bool = False) -> SyslogSink:
    transport = TlsTransport(
        peer.host,
        peer.tls_port,
        ca_file=peer.ca_path,
        certificate_file=peer.client.certificate if with_certificate else None,
        key_file=peer.client.key if with_certificate else None,
        timeout_s=5,
    )
    return SyslogSink(transport, REPORTER)


def accession_numbers(messages: list[ReceivedMessage]) -> list[str]:
    return [message.message.split('Accession Number="')[1].split('"')[0] for message in messages]


def test_every_event_arrives_over_tls(rsyslog: Rsyslog) -> None:
    rsyslog.clear()
    sink = tls_sink(rsyslog)
    for event_type in EventType:
        sink.send(event(type=event_type, machine="Säge 山田"))
    sink.send(event(outcome=Outcome.SERIOUS_FAILURE, outcome_description="größe\n<&>"))
    sink.close()
    received = rsyslog.wait_for_messages(len(EventType) + 1)
    assert [message.message_id for message in received] == [*EventType, EventType.PROCESSING_COMPLETED]
    for message in received:
        assert message.transport == "imtcp"
        assert (message.app_name, message.host_name, message.process_id) == (
            "IHE+SOLE",
            "ai01.example.org",
            "4711",
        )
        assert message.structured_data == "-"
        assert "Säge 山田" in message.message or message is received[-1]
        assert audit_message_faults(message.message) == []
    assert [message.priority for message in received] == [85] * len(EventType) + [84]
    assert "größe &lt;&amp;&gt;" in received[-1].message


def test_every_event_arrives_over_udp(rsyslog: Rsyslog) -> None:
    rsyslog.clear()
    sink = SyslogSink(UdpTransport(rsyslog.host, rsyslog.udp_port), REPORTER)
    for event_type in EventType:
        sink.send(event(type=event_type, machine="Säge 山田"))
    sink.close()
    received = rsyslog.wait_for_messages(len(EventType))
    assert sorted(message.message_id for message in received) == sorted(EventType)
    for message in received:
        assert message.transport == "imudp"
        assert "Säge 山田" in message.message
        assert audit_message_faults(message.message) == []


@pytest.mark.parametrize("transport", ["tls", "udp"])
def test_large_events_arrive_whole(
    rsyslog: Rsyslog, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    rsyslog.clear()
    sink = (
        tls_sink(rsyslog)
        if transport == "tls"
        else SyslogSink(UdpTransport(rsyslog.host, rsyslog.udp_port), REPORTER)
    )
    instances = tuple((SEG, f"1.2.{n}") for n in range(200))
    sink.send(event(outcome_description="x" * 30_000, instances=instances))
    sink.close()
    (message,) = rsyslog.wait_for_messages(1)
    assert len(message.message) > 30_000
    assert audit_message_faults(message.message) == []
    assert ("event may be cut short over UDP" in caplog.messages) == (transport == "udp")


def test_one_connection_serves_many_threads(rsyslog: Rsyslog) -> None:
    rsyslog.clear()
    sink = tls_sink(rsyslog)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: sink.send(event(accession_number=f"T{n}")), range(100)))
    sink.close()
    received = rsyslog.wait_for_messages(100)
    assert sorted(accession_numbers(received)) == sorted(f"T{n}" for n in range(100))


@pytest.mark.parametrize("end", [PeerProcess.stop, PeerProcess.kill], ids=["stopped", "killed"])
def test_a_repository_that_was_away_gets_everything_once_it_is_back(
    tmp_path: Path, end: Callable[[PeerProcess], None]
) -> None:
    with run_rsyslog(folder=tmp_path) as peer:
        sink = tls_sink(peer)
        sink.send(event(accession_number="BEFORE"))
        peer.wait_for_messages(1)
        end(peer.process)
        for _ in range(2):
            with pytest.raises(RetryableDeliveryError):
                sink.send(event(accession_number="AWAY"))
        peer.process.start()
        peer.process.wait_ready(lambda: accepts_connections(peer.tls_port))
        sink.send(event(accession_number="AWAY"))
        sink.close()
        received = peer.wait_for_messages(2)
    assert accession_numbers(received) == ["BEFORE", "AWAY"]


def test_a_repository_that_came_back_unnoticed_loses_nothing(tmp_path: Path) -> None:
    """The old connection is dead when the next event comes; it is found so before anything is written."""
    with run_rsyslog(folder=tmp_path) as peer:
        sink = tls_sink(peer)
        sink.send(event(accession_number="BEFORE"))
        peer.wait_for_messages(1)
        peer.process.stop()
        peer.process.start()
        peer.process.wait_ready(lambda: accepts_connections(peer.tls_port))
        for number in range(3):
            sink.send(event(accession_number=f"AFTER{number}"))
        sink.close()
        received = peer.wait_for_messages(4)
    assert accession_numbers(received) == ["BEFORE", "AFTER0", "AFTER1", "AFTER2"]


def test_node_authentication(tmp_path: Path) -> None:
    with run_rsyslog(folder=tmp_path, client_certificate=True) as peer:
        sink = tls_sink(peer, with_certificate=True)
        sink.send(event())
        sink.close()
        assert len(peer.wait_for_messages(1)) == 1


def test_a_repository_with_a_certificate_of_another_name_gets_nothing(rsyslog: Rsyslog) -> None:
    rsyslog.clear()
    for transport in (
        TlsTransport(rsyslog.host, rsyslog.tls_port, timeout_s=5),
        TlsTransport(
            rsyslog.host, rsyslog.tls_port, ca_file=rsyslog.ca_path, server_name="other.example.org"
        ),
    ):
        with pytest.raises(RetryableDeliveryError, match="SSLCertVerificationError"):
            SyslogSink(transport, REPORTER).send(event())
    assert rsyslog.messages() == []
