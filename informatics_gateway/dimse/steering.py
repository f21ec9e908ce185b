# SPDX-License-Identifier: Apache-2.0
"""Leads messages to the service of their presentation context before the library looks at them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from informatics_gateway.dimse.ups_messages import (
    INSTANCE_AVAILABILITY,
    MAX_COMMENT,
    PERFORMED_STEP,
    SERVICES,
)
from profiles.ups.states import UPS_SOP_CLASS_UIDS

_N_ACTION = 0x0130
_ALONE = frozenset({INSTANCE_AVAILABILITY, PERFORMED_STEP})
_CLASS_KEYWORDS: Mapping[int, str] = {
    0x0020: "AffectedSOPClassUID",
    0x0100: "AffectedSOPClassUID",
    0x0110: "RequestedSOPClassUID",
    0x0120: "RequestedSOPClassUID",
    _N_ACTION: "RequestedSOPClassUID",
    0x0140: "AffectedSOPClassUID",
}
"""Command Field (0000,0100) of a request to where its SOP class stands."""


def steer(event: Any) -> None:
    """Lead a message with a foreign or missing SOP class to the service of its presentation context.

    Bound to ``EVT_DIMSE_RECV``. The library chooses the service by the SOP Class UID of the message and ends
    the association if it knows none; PS3.7 has statuses for that, so the message goes to the service of its
    context, and the class it named travels in Error Comment, which requests do not have.
    """
    message = event.message
    command = message.command_set
    command.pop("ErrorComment", None)
    keyword = _CLASS_KEYWORDS.get(int(command.CommandField))
    context = next(
        (one for one in event.assoc.accepted_contexts if one.context_id == message.context_id), None
    )
    if keyword is None or context is None:
        return
    own: Collection[str] = {str(context.abstract_syntax)} & _ALONE
    if context.abstract_syntax in SERVICES:
        own = UPS_SOP_CLASS_UIDS
    if context.abstract_syntax not in own:
        return
    named = str(command.get(keyword) or "")
    if named not in own:
        command.ErrorComment = named[:MAX_COMMENT] or "none"
        setattr(command, keyword, context.abstract_syntax)
    if keyword == "RequestedSOPClassUID" and "RequestedSOPInstanceUID" not in command:
        command.RequestedSOPInstanceUID = "0"
    if int(command.CommandField) == _N_ACTION and "ActionTypeID" not in command:
        command.ActionTypeID = 0
