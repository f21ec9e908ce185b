# SPDX-License-Identifier: Apache-2.0
"""Events become syslog messages; the transport is a file or a list."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from conformance.validators.audit import audit_message_faults
from informatics_gateway.events.syslog_sender import EventReporter, FileSink, SyslogSink
from profiles.codes import Code
from task_manager.ports import EventSink
from tests.unit.profiles.sole.happenings import EVENT, event

NOW = datetime(2026, 5, 4, 9, 15, 28, tzinfo=UTC)


class MemoryTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closed = 0

    def write(self, message: bytes) -> None:
        self.messages.append(message)

    def close(self) -> None:
        self.closed += 1


def test_the_reporter_is_told_in_header_and_audit_source() -> None:
    transport = MemoryTransport()
    reporter = EventReporter(
        source_id="airway-1",
        enterprise_site_id="Radiology",
        hostname="ai01.example.org",
        process_id="4711",
        event_id=Code("SOLE", "urn:ihe:rad", "Event"),
    )
    sink: EventSink = SyslogSink(transport, reporter, clock=lambda: NOW)
    sink.send(EVENT)
    (message,) = transport.messages
    header, xml = message.split(b" - ", 1)
    assert header == b"<85>1 2026-05-04T09:15:28.000Z ai01.example.org IHE+SOLE 4711 RID45833"
    assert audit_message_faults(xml) == []
    for part in (b'AuditSourceID="airway-1"', b'"Radiology"', b'"urn:ihe:rad"'):
        assert part in xml


def test_closing_closes_the_transport() -> None:
    transport = MemoryTransport()
    SyslogSink(transport).close()
    assert transport.closed == 1


def test_the_file_holds_one_readable_line_per_event(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    sink = FileSink(path, clock=lambda: NOW)
    for number in range(3):
        sink.send(event(accession_number=f"Ä{number}", outcome_description="two\nlines"))
    sink.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines):
        assert line.startswith("<85>1 2026-05-04T09:15:28.000Z ")
        assert f'Number="Ä{number}"' in line
        assert audit_message_faults(line.split(" - ", 1)[1]) == []
