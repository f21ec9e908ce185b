# SPDX-License-Identifier: Apache-2.0
"""ADT messages to changes of identity: updates, merges, new numbers, and visits that change nobody.

Reading is pure: a message in, a value or every fault out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profiles.hl7.message import ErrorCode, Header, Location, Message, Segment
from profiles.hl7.options import ReadingOptions
from profiles.hl7.reading import Faults, MessageRefusal, former_identifier, message_key, patient_identity
from profiles.order import MessageKey
from profiles.patient import IdentityChange, IdentityKind

MAX_CHANGES = 500
_KINDS: Mapping[str, IdentityKind] = {
    **dict.fromkeys(("A01", "A04", "A05", "A08", "A28", "A31"), IdentityKind.UPDATED),
    **dict.fromkeys(("A18", "A34", "A35", "A36", "A39", "A40"), IdentityKind.MERGED),
    **dict.fromkeys(("A30", "A46", "A47"), IdentityKind.RENUMBERED),
    **dict.fromkeys(("A02", "A03", "A06", "A07", "A11", "A12", "A13"), IdentityKind.VISIT),
}
EVENTS: Mapping[str, frozenset[str]] = {"ADT": frozenset(_KINDS)}
"""The message type with changes of identity and its events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedIdentityMessage:
    """A message that tells who patients are, and the basis of its answer."""

    header: Header
    key: MessageKey
    changes: tuple[IdentityChange, ...]


def read_identities(message: Message, options: ReadingOptions) -> ParsedIdentityMessage | MessageRefusal:
    """The changes of a message whose type was checked.

    A merge may hold several pairs of PID and MRG. An update or a visit is about one patient.

    References
    ----------
    HL7 v2.5.1 chapter 3.3.8 (A08), 3.3.40 (A40), 3.3.47 (A47), 3.4.9 (MRG).
    """
    faults = Faults()
    key = message_key(message, faults)
    kind = _KINDS[message.header.trigger]
    pairs = _pairs(message)
    if not pairs:
        faults.add(ErrorCode.SEGMENT_SEQUENCE, Location("PID"), "a PID is required")
    if len(pairs) > MAX_CHANGES:
        faults.add(ErrorCode.CARDINALITY, Location("PID"), f"more than {MAX_CHANGES} patients in one message")
        pairs = []
    changes = tuple(_change(kind, patient, merge, options, faults) for patient, merge in pairs)
    if faults.found:
        return faults.refusal(message.header)
    return ParsedIdentityMessage(header=message.header, key=key, changes=changes)


def _pairs(message: Message) -> list[tuple[Segment, Segment | None]]:
    found: list[tuple[Segment, Segment | None]] = []
    for segment in message.segments:
        if segment.name == "PID":
            found.append((segment, None))
        elif segment.name == "MRG" and found and found[-1][1] is None:
            found[-1] = (found[-1][0], segment)
    return found


def _change(
    kind: IdentityKind, patient: Segment, merge: Segment | None, options: ReadingOptions, faults: Faults
) -> IdentityChange:
    identity = patient_identity(patient, options, faults, required=True)
    if kind in (IdentityKind.UPDATED, IdentityKind.VISIT):
        return IdentityChange(kind=kind, patient=identity)
    former_id, former_issuer = former_identifier(merge, identity.issuer, options, faults)
    if former_id and (former_id, former_issuer) == (identity.patient_id, identity.issuer):
        at = Location("MRG", merge.sequence if merge else 1, 1)
        faults.add(ErrorCode.TABLE_VALUE, at, "a patient cannot be merged into itself")
    return IdentityChange(kind=kind, patient=identity, former_id=former_id, former_issuer=former_issuer)
