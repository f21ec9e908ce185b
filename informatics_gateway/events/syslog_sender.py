# SPDX-License-Identifier: Apache-2.0
"""Event sinks: an event becomes an audit message in a syslog message, and a transport takes it away."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from informatics_gateway.events.transports import FileTransport, SyslogTransport
from profiles import codes
from profiles.codes import Code
from profiles.sole.audit_message import audit_message
from profiles.sole.events import OperationalEvent
from profiles.sole.syslog import syslog_message
from task_manager.errors import DeliveryError


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReporter:
    """Who reports: the same for every event of this process.

    Attributes
    ----------
    source_id, enterprise_site_id
        Audit source (PS3.15 A.5).
    hostname, process_id
        HOSTNAME and PROCID of the syslog header.
    event_id
        EventID of SOLE events; the published designator differs between sources.
    """

    source_id: str = "airway"
    enterprise_site_id: str = ""
    hostname: str = field(default_factory=socket.gethostname)
    process_id: str = field(default_factory=lambda: str(os.getpid()))
    event_id: Code = codes.IMAGING_OPERATIONAL_EVENT


class SyslogSink:
    """An event repository reached by syslog (implements ``task_manager.ports.EventSink``).

    Parameters
    ----------
    transport
        TLS, UDP or a file.
    reporter
        Who reports.
    clock
        Aware time now, the TIMESTAMP of the syslog header.
    """

    def __init__(
        self,
        transport: SyslogTransport,
        reporter: EventReporter | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._transport = transport
        self._reporter = reporter or EventReporter()
        self._clock = clock

    def send(self, event: OperationalEvent) -> None:
        """Send one event.

        Raises
        ------
        RetryableDeliveryError
            If the repository cannot be reached or the file not be written.
        FinalDeliveryError
            If the event is too large for the transport.
        """
        self._transport.write(self._message(event))

    def send_all(self, events: Sequence[OperationalEvent]) -> int:
        """Send events in order; how many were sent before one could not be.

        Raises
        ------
        RetryableDeliveryError, FinalDeliveryError
            As :meth:`send`, for the very first.
        """
        for sent, event in enumerate(events):
            try:
                self.send(event)
            except DeliveryError:
                if not sent:
                    raise
                return sent
        return len(events)

    def _message(self, event: OperationalEvent) -> bytes:
        reporter = self._reporter
        xml = audit_message(
            event,
            source_id=reporter.source_id,
            enterprise_site_id=reporter.enterprise_site_id,
            event_id=reporter.event_id,
        )
        return syslog_message(
            event, xml, hostname=reporter.hostname, process_id=reporter.process_id, sent_at=self._clock()
        )

    def close(self) -> None:
        """End the connection; a later `send` opens it again."""
        self._transport.close()


class FileSink(SyslogSink):
    """An event log for people and for sites without a repository: one message per line, synced to disk."""

    def __init__(
        self,
        path: Path,
        reporter: EventReporter | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file = FileTransport(path)
        super().__init__(self._file, reporter, clock=clock)

    def send_all(self, events: Sequence[OperationalEvent]) -> int:
        """Append events with one sync to disk; all or none.

        Raises
        ------
        RetryableDeliveryError
            If the file cannot be written.
        """
        self._file.write(*(self._message(event) for event in events))
        return len(events)
