# SPDX-License-Identifier: Apache-2.0
"""The five actions of N-ACTION on workitems and subscriptions (PS3.4 CC.2.1, CC.2.2, CC.2.3)."""

from __future__ import annotations

from informatics_gateway.dimse.ups_find import read_find
from informatics_gateway.dimse.ups_messages import Action, Request
from profiles.dicom_json import DicomJson, first, tag_key
from profiles.faults import Fault
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.ports import Subscriptions, Worklist

_TRANSACTION_UID = tag_key("TransactionUID")
_SUBSCRIPTION_KEYWORDS = ("ReceivingAE", "DeletionLock")


class UpsActions:
    """Translates actions into the commands of the ports; without subscriptions, 3 to 5 are refused (C315)."""

    def __init__(self, worklist: Worklist, subscriptions: Subscriptions | None) -> None:
        self._worklist = worklist
        self._subscriptions = subscriptions

    def perform(self, request: Request, action: Action, details: DicomJson) -> Accepted | Refused:
        """Perform `action` with its action information on the instance of the request."""
        uid, actor = request.sop_instance_uid, request.actor
        if action is Action.CHANGE_STATE:
            state = first(details, "ProcedureStepState")
            missing = _missing(details, "ProcedureStepState")
            if missing is not None:
                return missing
            return self._worklist.change_state(
                uid, str(state), transaction_uid=transaction_uid_of(details), actor=actor
            )
        if action is Action.REQUEST_CANCEL:
            return self._worklist.request_cancel(uid, details, actor=actor)
        return self._subscribed(request, action, details)

    def _subscribed(self, request: Request, action: Action, details: DicomJson) -> Accepted | Refused:
        """Actions 3 to 5. Ending what is not there changes nothing and is a success (table CC.2.3-2)."""
        if self._subscriptions is None:
            return Refused(RefusalCode.EVENTS_NOT_SUPPORTED)
        target, actor = request.sop_instance_uid, request.actor
        needed = _SUBSCRIPTION_KEYWORDS if action is Action.SUBSCRIBE else _SUBSCRIPTION_KEYWORDS[:1]
        missing = _missing(details, *needed)
        if missing is not None:
            return missing
        receiving_ae = str(first(details, "ReceivingAE"))
        if action is Action.SUBSCRIBE:
            lock = str(first(details, "DeletionLock")).upper()
            if lock not in ("TRUE", "FALSE"):
                fault = Fault("DeletionLock", "must be TRUE or FALSE")
                return Refused(RefusalCode.INVALID_ATTRIBUTES, (fault,))
            matching: DicomJson = {}
            if target == FILTERED_GLOBAL_SUBSCRIPTION_UID:
                about = {tag_key(keyword) for keyword in _SUBSCRIPTION_KEYWORDS}
                asked = read_find({tag: one for tag, one in details.items() if tag not in about})
                if isinstance(asked, Refused):
                    return asked
                matching = asked.keys
            return self._subscriptions.subscribe(
                target,
                receiving_ae,
                deletion_lock=lock == "TRUE",
                matching=matching,
                channel=Channel.DIMSE,
                actor=actor,
            )
        end = self._subscriptions.unsubscribe if action is Action.UNSUBSCRIBE else self._subscriptions.suspend
        outcome = end(target, receiving_ae, actor=actor)
        if isinstance(outcome, Refused) and outcome.code is RefusalCode.NOT_SUBSCRIBED:
            return Accepted(uid=target)
        return outcome


def transaction_uid_of(attributes: DicomJson) -> str:
    """The Transaction UID; a value that is no text or more than one is no UID, and so is a wrong one."""
    values = attributes.get(_TRANSACTION_UID, {}).get("Value") or [""]
    return "\\".join(str(value or "") for value in values)


def _missing(details: DicomJson, *keywords: str) -> Refused | None:
    """The refusal that names all type 1 attributes that are absent, or all that have no value."""
    absent = [keyword for keyword in keywords if tag_key(keyword) not in details]
    if absent:
        faults = tuple(Fault(keyword, "is needed") for keyword in absent)
        return Refused(RefusalCode.MISSING_ATTRIBUTE, faults)
    empty = tuple(Fault(keyword, "needs a value") for keyword in keywords if first(details, keyword) is None)
    return Refused(RefusalCode.MISSING_VALUE, empty) if empty else None
