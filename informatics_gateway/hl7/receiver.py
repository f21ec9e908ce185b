# SPDX-License-Identifier: Apache-2.0
"""One message in, one answer out: the edge between HL7 and the intake, without sockets.

Whatever arrives, the sender gets an answer that is true or no answer at all: AA is written only after the
intake committed, and an error of ours is AE 207, which senders repeat.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from informatics_gateway.statuses import STATUSES
from profiles.hl7.acknowledgement import (
    AcknowledgementCode,
    acknowledge,
    application_acknowledgement,
    code_for,
)
from profiles.hl7.identity import ParsedIdentityMessage
from profiles.hl7.inbound import ParsedMessage, parse_inbound
from profiles.hl7.message import ErrorCode, Header, Hl7Fault, Location, location_of, read_message
from profiles.hl7.options import Reading
from profiles.hl7.order import ParsedOrderMessage
from profiles.hl7.prior_report import ParsedReportMessage
from profiles.hl7.reading import MessageRefusal
from task_manager.actor import Actor
from task_manager.doorkeeping import refusal_of
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import MessageIntake

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back: an acknowledgement, or None; a second one; and whether the connection has to end."""

    message: bytes | None
    second: bytes | None = None
    close: bool = False


def unique_control_ids() -> Callable[[], str]:
    """A source of MSH-10 values of 20 characters, unlike those of any other process."""
    prefix = secrets.token_hex(6).upper()
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers) % 10**8:08d}"


class MessageReceiver:
    """Answers order, ADT and result messages.

    Parameters
    ----------
    intake
        Where messages are committed.
    reading
        How each sender's messages are read.
    clock
        Aware time now, for MSH-7.
    control_ids
        MSH-10 of each answer.
    """

    def __init__(
        self,
        intake: MessageIntake,
        reading: Reading | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        control_ids: Callable[[], str] | None = None,
    ) -> None:
        self._intake = intake
        self._reading = reading or Reading()
        self._clock = clock
        self._control_ids = control_ids or unique_control_ids()

    def answer(self, raw: bytes, *, address: str = "") -> Reply:
        """The reply to one message, after its orders are committed; blocks, never raises."""
        try:
            return self._answer(raw, address)
        except Exception as error:  # the edge: nothing a peer sends may end its listener  # noqa: BLE001
            _LOG.error(  # no traceback: the text of an error may hold values of the message
                "message failed",
                extra={"action": "hl7.receive", "peer": address, **facts_of(error)},
            )
            return self._failed(raw)

    def oversize(self, head: bytes) -> Reply:
        """The reply to a message over the size limit, of which `head` is the beginning; then close."""
        message = read_message(head.split(b"\r")[0], undeclared=("iso8859-1",))
        if message.header is None:
            return Reply(message=None, close=True)
        fault = Hl7Fault(ErrorCode.SEGMENT_SEQUENCE, Location(), "the message is over the size limit")
        return self._reply(message.header, AcknowledgementCode.REJECT, [fault], close=True)

    def _answer(self, raw: bytes, address: str) -> Reply:
        parsed = parse_inbound(raw, self._reading)
        if isinstance(parsed, MessageRefusal):
            codes = sorted({fault.code.value for fault in parsed.faults})
            _LOG.warning(
                "message refused",
                extra={"action": "hl7.refuse", "peer": address, "codes": codes, "bytes": len(raw)},
            )
            if parsed.header is None:
                return Reply(message=None, close=True)
            return self._reply(parsed.header, code_for(parsed.faults), list(parsed.faults))
        actor = Actor(
            door="hl7",
            name=parsed.key.sending_application,
            address=address,
            called=parsed.header.encoding.decoded(parsed.header.receiving_application),
        )
        try:
            outcome = self._committed(parsed, raw, actor)
        except StoreError as error:
            _LOG.error(  # no traceback: its cause may hold the values of a statement
                "message not stored", extra={"action": "hl7.store", "peer": address, **facts_of(error)}
            )
            outcome = Refused(refusal_of(error))
        if isinstance(outcome, Accepted):
            duplicate = WarningCode.DUPLICATE in outcome.warnings
            _LOG.info(
                "message accepted",
                extra={
                    "action": "hl7.accept",
                    "peer": address,
                    "type": parsed.header.message_type,
                    "duplicate": duplicate,
                },
            )
            text = "Received before" if duplicate else ""
            return self._reply(parsed.header, AcknowledgementCode.ACCEPT, [], text=text)
        return self._refused(parsed.header, outcome)

    def _committed(self, parsed: ParsedMessage, raw: bytes, actor: Actor) -> Accepted | Refused:
        match parsed:
            case ParsedOrderMessage():
                return self._intake.receive_order(
                    parsed.orders,
                    key=parsed.key,
                    raw=raw,
                    actor=actor,
                    accept_unknown=parsed.accept_unknown_orders,
                )
            case ParsedIdentityMessage():
                return self._intake.receive_identities(parsed.changes, key=parsed.key, raw=raw, actor=actor)
            case ParsedReportMessage():
                return self._intake.receive_reports(parsed.reports, key=parsed.key, raw=raw, actor=actor)

    def _refused(self, header: Header, outcome: Refused) -> Reply:
        code, error = STATUSES[outcome.code].hl7
        told = [Hl7Fault(ErrorCode(error), location_of(f.path), f.message) for f in outcome.faults]
        told = told or [Hl7Fault(ErrorCode(error), Location(), "the message could not be processed")]
        _LOG.warning(
            "message refused", extra={"action": "hl7.refuse", "code": outcome.code.value, "faults": len(told)}
        )
        return self._reply(header, AcknowledgementCode(code), told)

    def _undeclared(self, header: Header) -> Sequence[str]:
        return self._reading.options_for(header).undeclared_codecs

    def _failed(self, raw: bytes) -> Reply:
        header = read_message(raw, undeclared=self._undeclared).header
        if header is None:
            return Reply(message=None, close=True)
        return self._refused(header, Refused(RefusalCode.PROCESSING_FAILURE))

    def _reply(
        self,
        header: Header,
        code: AcknowledgementCode,
        faults: list[Hl7Fault],
        *,
        text: str = "",
        close: bool = False,
    ) -> Reply:
        sent_at = self._clock()
        message = acknowledge(
            header, code, faults, control_id=self._control_ids(), sent_at=sent_at, text=text
        )
        second = None
        if self._reading.options_for(header).both_acknowledgements:
            second = application_acknowledgement(
                header, code, faults, control_id=self._control_ids(), sent_at=sent_at, text=text
            )
        return Reply(message=message, second=second, close=close)
