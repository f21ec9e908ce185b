# SPDX-License-Identifier: Apache-2.0
"""Fetches as values: what is asked of archives, how far it is, and what archives answer.

Pure. An archive is not believed: what it answers has limits, and only UIDs that are UIDs are taken.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from profiles.faults import Fault
from profiles.uids import is_uid

_LONGEST_NUMBER = 16
_LONGEST_ID = 64
_NOT_LITERAL = frozenset("*?\\")
"""Wildcards and the delimiter of values (PS3.4 C.2.2.2): a question with one would not be the one asked."""


class FetchState(StrEnum):
    """WAITING and RUNNING until all is here; HELD waits for a person, the others are final."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    NOT_FOUND = "NOT_FOUND"
    HELD = "HELD"

    @property
    def is_open(self) -> bool:
        """Whether more may come by itself."""
        return self in (FetchState.WAITING, FetchState.RUNNING)


class FetchPurpose(StrEnum):
    """What a fetched study is for: to be analysed as if it had been sent, or beside another one."""

    REQUEST = "request"
    PRIOR = "prior"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTarget:
    """What is wanted: one study, or all studies of an accession number.

    Attributes
    ----------
    patient_id
        Patient of the accession number, where several may have it; empty for any, if there is only one.
    archive
        Name of the archive to fetch from; empty asks all, in their order.
    """

    study_instance_uid: str = ""
    accession_number: str = ""
    patient_id: str = ""
    archive: str = ""

    @property
    def key(self) -> str:
        """Identity: who asks for the same gets the same fetch. Names no patient."""
        what = f"study:{self.study_instance_uid}"
        if not self.study_instance_uid:
            what = f"accession:{self.accession_number}"
            if self.patient_id:
                what += f":{hashlib.sha256(self.patient_id.encode()).hexdigest()[:12]}"
        return f"{what}@{self.archive}" if self.archive else what

    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with it."""
        found = []
        if bool(self.study_instance_uid) == bool(self.accession_number):
            found.append(Fault("study_instance_uid", "give either it or an accession number"))
        if self.study_instance_uid and not is_uid(self.study_instance_uid):
            found.append(Fault("study_instance_uid", "is no UID"))
        if self.accession_number and not is_literal(self.accession_number, _LONGEST_NUMBER):
            found.append(Fault("accession_number", "has 1 to 16 characters and no wildcard"))
        if self.patient_id and not is_literal(self.patient_id):
            found.append(Fault("patient_id", "has 1 to 64 characters and no wildcard"))
        return tuple(found)


def is_literal(value: str, longest: int = _LONGEST_ID) -> bool:
    """Whether an archive that is asked for a value looks for this one only."""
    return (
        0 < len(value) <= longest
        and value.isprintable()
        and bool(value.strip())
        and _NOT_LITERAL.isdisjoint(value)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """A fetch as it is kept.

    Attributes
    ----------
    key
        See :attr:`FetchTarget.key`.
    parent_key
        The fetch of an accession number that found this study; empty for one that was asked for.
    round
        How manieth time it was asked for after it had ended, from 1.
    source
        Archive that has it, as far as one was found.
    expected
        Instances that the archive names; 0 before it was asked.
    refused
        Instances that came and were not taken, of the last try.
    error
        Why it waits; never patient data.
    asked_by
        Who asked: a person's or rule's name.
    """

    key: str
    target: FetchTarget
    purpose: FetchPurpose
    state: FetchState
    parent_key: str = ""
    round: int = 1
    source: str = ""
    expected: int = 0
    refused: int = 0
    error: str = ""
    asked_by: str = ""
    asked_at: datetime
    changed_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchStatus:
    """Where a fetch stands: `held` counts the instances of the study that are here by now."""

    fetch: Fetch
    held: int
    studies: tuple[FetchStatus, ...] = ()
