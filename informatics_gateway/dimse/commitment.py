# SPDX-License-Identifier: Apache-2.0
"""Storage commitment as values: what a peer asks, what is found, what it is told (PS3.4 Annex J).

No sockets, no files; ``commitment_scp.py`` asks and tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pydicom.dataset import Dataset

from profiles.uids import is_uid

SOP_CLASS = "1.2.840.10008.1.20.1"
SOP_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_ACTION = 1
MOST_REFERENCES = 100_000


class ActionStatus(IntEnum):
    """Statuses of the N-ACTION (PS3.7 C.4)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    INVALID_ARGUMENT = 0x0115
    NO_SUCH_ACTION = 0x0123
    RESOURCE_LIMITATION = 0x0213


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_CONFLICT = 0x0119


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRequest:
    """What one N-ACTION asks.

    Attributes
    ----------
    asker
        AE title that asked, to which the report goes.
    references
        (SOP Class UID, SOP Instance UID) in the order asked.
    """

    asker: str
    transaction_uid: str
    references: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What the N-EVENT-REPORT tells: what is kept safe, and what is not and why."""

    transaction_uid: str
    committed: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str, FailureReason], ...]

    @property
    def event_type(self) -> int:
        """Event Type ID (0000,1002): 1 where all is committed, else 2."""
        return 2 if self.failed else 1


def read_request(
    asker: str, sop_instance_uid: str, action_type: int, information: Dataset | None
) -> CommitmentRequest | ActionStatus:
    """The request of an N-ACTION, or the status that refuses it (PS3.4 J.3.2)."""
    if sop_instance_uid != SOP_INSTANCE:
        return ActionStatus.NO_SUCH_INSTANCE
    if action_type != REQUEST_ACTION:
        return ActionStatus.NO_SUCH_ACTION
    if information is None:
        return ActionStatus.INVALID_ARGUMENT
    transaction_uid = str(information.get("TransactionUID") or "")
    items = information.get("ReferencedSOPSequence") or ()
    references = tuple(
        (str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or ""))
        for item in items
    )
    if len(references) > MOST_REFERENCES:
        return ActionStatus.RESOURCE_LIMITATION
    well_formed = all(is_uid(uid) for reference in references for uid in reference)
    if not (is_uid(transaction_uid) and references and well_formed):
        return ActionStatus.INVALID_ARGUMENT
    return CommitmentRequest(asker=asker, transaction_uid=transaction_uid, references=references)


def judge(request: CommitmentRequest, kept: Mapping[str, str]) -> CommitmentReport:
    """What is to be told, where `kept` holds the SOP Class UID of each instance that is there."""
    committed: list[tuple[str, str]] = []
    failed: list[tuple[str, str, FailureReason]] = []
    for sop_class, instance in request.references:
        if kept.get(instance) == sop_class:
            committed.append((sop_class, instance))
        else:
            conflict = instance in kept
            reason = FailureReason.CLASS_CONFLICT if conflict else FailureReason.NO_SUCH_INSTANCE
            failed.append((sop_class, instance, reason))
    return CommitmentReport(
        transaction_uid=request.transaction_uid, committed=tuple(committed), failed=tuple(failed)
    )


def event_information(report: CommitmentReport) -> Dataset:
    """The Event Information (PS3.4 table J.3-2)."""
    information = Dataset()
    information.TransactionUID = report.transaction_uid
    if report.committed:
        information.ReferencedSOPSequence = _references(report.committed)
    if report.failed:
        failed = _references([(sop_class, instance) for sop_class, instance, _ in report.failed])
        for item, (_, _, reason) in zip(failed, report.failed, strict=True):
            item.FailureReason = int(reason)
        information.FailedSOPSequence = failed
    return information


def _references(references: Sequence[tuple[str, str]]) -> list[Dataset]:
    items = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = instance
        items.append(item)
    return items
