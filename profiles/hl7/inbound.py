# SPDX-License-Identifier: Apache-2.0
"""Any message a RIS, HIS or broker sends to one value of what it means; each is read once.

Which options count is decided by the sender (MSH-3, MSH-4) before anything but the header is looked at.
"""

from __future__ import annotations

from profiles.hl7 import identity, order, prior_report
from profiles.hl7.identity import ParsedIdentityMessage, read_identities
from profiles.hl7.message import Unreadable, read_message
from profiles.hl7.options import Reading
from profiles.hl7.order import ParsedOrderMessage, read_orders
from profiles.hl7.prior_report import ParsedReportMessage, read_reports
from profiles.hl7.reading import Faults, MessageRefusal, check_type

ACCEPTED = {**order.EVENTS, **identity.EVENTS, **prior_report.EVENTS}
"""Every message type taken, with its events."""

ParsedMessage = ParsedOrderMessage | ParsedIdentityMessage | ParsedReportMessage


def parse_inbound(raw: bytes, reading: Reading) -> ParsedMessage | MessageRefusal:
    """What one message (without MLLP frame) means, or all that keeps it from being taken."""
    message = read_message(raw, undeclared=lambda header: reading.options_for(header).undeclared_codecs)
    if isinstance(message, Unreadable):
        return MessageRefusal(header=message.header, faults=message.faults)
    options = reading.options_for(message.header)
    faults = Faults()
    check_type(message.header, ACCEPTED, options, faults)
    if faults.found:
        return faults.refusal(message.header)
    if message.header.message_type in order.EVENTS:
        return read_orders(message, options)
    if message.header.message_type in identity.EVENTS:
        return read_identities(message, options)
    return read_reports(message, options)
