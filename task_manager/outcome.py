# SPDX-License-Identifier: Apache-2.0
"""What a command comes to: accepted, or refused with a code and every fault.

Doors translate the code with ``informatics_gateway/statuses.py`` into DIMSE status, HTTP status or HL7
acknowledgement; no door decides by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from profiles.faults import Fault


class RefusalCode(StrEnum):
    """Why a command was refused. UPS codes name the row of PS3.4 table CC.1.1-2 they come from."""

    # Any door
    MALFORMED = "malformed"  # the bytes or the JSON cannot be read
    INVALID_ATTRIBUTES = "invalid-attributes"  # attribute rules broken; faults name them
    MISSING_ATTRIBUTE = "missing-attribute"  # 0120
    MISSING_VALUE = "missing-value"  # 0121, present without the value it needs
    NO_SUCH_INSTANCE = "no-such-instance"  # C307
    OUT_OF_RESOURCES = "out-of-resources"  # A700, the store does not answer
    NO_ROOM = "no-room"  # A700, 507: the disk is full, or about to be
    PROCESSING_FAILURE = "processing-failure"  # 0110, our own fault
    # Storage
    SOP_CLASS_MISMATCH = "sop-class-mismatch"  # A900
    NOT_STORABLE = "not-storable"  # C000, cannot understand
    # Workitems
    DUPLICATE_INSTANCE = "duplicate-instance"  # 0111
    NOT_SCHEDULED = "not-scheduled"  # C309, create with another state
    MAY_NOT_BE_UPDATED = "may-not-be-updated"  # C300
    WRONG_TRANSACTION_UID = "wrong-transaction-uid"  # C301
    ALREADY_IN_PROGRESS = "already-in-progress"  # C302
    MAY_NOT_BECOME_SCHEDULED = "may-not-become-scheduled"  # C303
    FINAL_STATE_NOT_MET = "final-state-not-met"  # C304
    NOT_YET_IN_PROGRESS = "not-yet-in-progress"  # C310
    ALREADY_COMPLETED = "already-completed"  # C311, cancel of a completed one
    PERFORMER_NOT_CONTACTABLE = "performer-not-contactable"  # C312
    PERFORMER_WILL_NOT_CANCEL = "performer-will-not-cancel"  # C313
    UNSUPPORTED_MATCHING = "unsupported-matching"  # a search key that cannot be matched
    NO_LONGER_HERE = "no-longer-here"  # C307, known to have been deleted: 410
    NOT_SUBSCRIBED = "not-subscribed"  # unsubscribe or suspend without a subscription
    UNKNOWN_RECEIVING_AE = "unknown-receiving-ae"  # C308
    NOT_APPROPRIATE = "not-appropriate"  # C314, the action is not for this instance
    EVENTS_NOT_SUPPORTED = "events-not-supported"  # C315
    NOT_AUTHORIZED = "not-authorized"  # 0124
    PRECONDITION_FAILED = "precondition-failed"  # HTTP 412: what is there is not what the request is about
    # Orders
    UNKNOWN_ORDER = "unknown-order"  # ERR 204
    UNSUPPORTED_MESSAGE = "unsupported-message"  # ERR 200, 201, 203


class WarningCode(StrEnum):
    """A success with a remark."""

    ALREADY_CANCELED = "already-canceled"  # B304
    ALREADY_COMPLETED = "already-completed"  # B306
    COERCED = "coerced"  # B300, created or set with modifications
    LOCK_NOT_GRANTED = "lock-not-granted"  # B301
    ATTRIBUTES_IGNORED = "attributes-ignored"  # 0001
    DUPLICATE = "duplicate"  # the same thing was received before; nothing changed
    KEPT_APART = "kept-apart"  # same UID, other bytes: kept beside the first
    RESTORED = "restored"  # a policy had removed it: it is held again, and nothing else changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The command took effect (or had taken effect before)."""

    uid: str = ""
    warnings: tuple[WarningCode, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The command took no effect; `faults` names every reason with its path."""

    code: RefusalCode
    faults: tuple[Fault, ...] = ()
