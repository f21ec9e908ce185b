# SPDX-License-Identifier: Apache-2.0
"""RFC 5424 headers and RFC 5425 frames."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from profiles.sole.events import Outcome
from profiles.sole.syslog import octet_counted, syslog_message
from tests.unit.profiles.sole.happenings import EVENT, event

NOW = datetime(2026, 5, 4, 9, 15, 28, tzinfo=UTC)
# RFC 5424 6, without structured data
GRAMMAR = re.compile(
    rb"<[1-9]\d{0,2}>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z [!-~]{1,255} [!-~]{1,48} [!-~]{1,128}"
    rb" [!-~]{1,32} - <"
)


def test_the_header() -> None:
    found = syslog_message(EVENT, b"<x/>", hostname="ai01.example.org", process_id="4711", sent_at=NOW)
    assert found == b"<85>1 2026-05-04T09:15:28.000Z ai01.example.org IHE+SOLE 4711 RID45833 - <x/>"


@pytest.mark.parametrize(
    ("outcome", "priority"),
    [
        (Outcome.SUCCESS, b"<85>"),
        (Outcome.MINOR_FAILURE, b"<84>"),
        (Outcome.SERIOUS_FAILURE, b"<84>"),
        (Outcome.MAJOR_FAILURE, b"<84>"),
    ],
)
def test_severity_follows_the_outcome(outcome: Outcome, priority: bytes) -> None:
    found = syslog_message(event(outcome=outcome), b"<x/>", hostname="h", process_id="1", sent_at=NOW)
    assert found.startswith(priority)


@pytest.mark.parametrize(
    ("hostname", "process_id"),
    [("", ""), ("höst name", "1 2\n3"), ("h" * 300, "9" * 300), ("h\r\n<85>1", "\x00")],
)
def test_header_fields_cannot_break_the_header(hostname: str, process_id: str) -> None:
    found = syslog_message(EVENT, b"<x/>", hostname=hostname, process_id=process_id, sent_at=NOW)
    assert GRAMMAR.match(found)


def test_frames_count_octets() -> None:
    assert octet_counted("ä".encode()) == b"2 \xc3\xa4"
