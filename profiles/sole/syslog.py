# SPDX-License-Identifier: Apache-2.0
"""The syslog message around an audit message (RFC 5424) and its frame on a stream (RFC 5425)."""

from __future__ import annotations

import re
from datetime import datetime

from profiles.sole.audit_message import timestamp
from profiles.sole.events import OperationalEvent, Outcome

APP_NAME = "IHE+SOLE"
# Facility 10 (security/authorization) times 8, severity 5 (notice) or 4 (warning): ITI-20
_NOTICE, _WARNING = 85, 84


def syslog_message(
    event: OperationalEvent, xml: bytes, *, hostname: str, process_id: str, sent_at: datetime
) -> bytes:
    """The RFC 5424 message of `event`: MSGID is its type code, MSG its audit message, no BOM.

    Parameters
    ----------
    xml
        What :func:`profiles.sole.audit_message.audit_message` returned.
    hostname, process_id
        The reporting host (a full name is better) and process.
    sent_at
        Aware time of sending; the time of the event is in the XML.

    References
    ----------
    RFC 5424 6; IHE ITI TF-2 3.20.4.1.2; IHE RAD SOLE (APP-NAME, MSGID).
    """
    priority = _NOTICE if event.outcome is Outcome.SUCCESS else _WARNING
    header = " ".join(
        [
            f"<{priority}>1",
            timestamp(sent_at),
            _printable(hostname, 255),
            APP_NAME,
            _printable(process_id, 128),
            event.type.value,
            "-",
        ]
    )
    return header.encode("ascii") + b" " + xml


def octet_counted(message: bytes) -> bytes:
    """`message` with its length before it, as it travels on a stream (RFC 5425 4.3)."""
    return str(len(message)).encode("ascii") + b" " + message


def _printable(text: str, limit: int) -> str:
    return re.sub(r"[^\x21-\x7e]", "", text)[:limit] or "-"
