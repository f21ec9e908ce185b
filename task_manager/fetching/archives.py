# SPDX-License-Identifier: Apache-2.0
"""What fetching asks of an archive, whatever it speaks, and what it hands back.

Answers of an archive are hostile input: an implementation bounds their number and size, and passes on only
UIDs that are UIDs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from task_manager.actor import Actor
from task_manager.outcome import Accepted, Refused
from task_manager.ports import StagedObject


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuestion:
    """Which studies are looked for; what is empty matches any. Never all of it is."""

    study_instance_uid: str = ""
    accession_number: str = ""
    patient_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStudy:
    """A study as an archive tells of it; what it does not tell is empty.

    Attributes
    ----------
    modalities, body_parts
        Of its series; `body_parts` only where it was asked for.
    study_date
        ``YYYYMMDD``.
    instances
        How many it has; 0 if that is not told.
    """

    archive: str
    study_instance_uid: str
    patient_id: str = ""
    issuer: str = ""
    accession_number: str = ""
    study_date: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    description: str = ""
    instances: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSeries:
    """A series that an archive has: the SOP class of each instance by SOP Instance UID."""

    series_instance_uid: str
    body_part: str = ""
    instances: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What is retrieved at a time: some or all instances of one series.

    Attributes
    ----------
    instances
        SOP Instance UIDs that are wanted, and the SOP class of each.
    is_whole
        Whether these are all that the archive names of the series.
    """

    study_instance_uid: str
    series_instance_uid: str
    instances: Mapping[str, str]
    is_whole: bool


class Receiver(Protocol):
    """Where instances go that an archive hands over on our association or connection."""

    def stage(self) -> StagedObject:
        """Where to stream the bytes of one Part 10 file."""

    def receive(
        self, staged: StagedObject, *, sop_class_uid: str = "", sop_instance_uid: str = ""
    ) -> Accepted | Refused:
        """Take a staged instance into the store if it is one that is wanted; a refused one is discarded.

        The UIDs are those of the command set, if there is one.
        """

    def is_ending(self) -> bool:
        """Whether we are stopping: no more is to be begun."""


class StudyArchive(Protocol):
    """An archive that studies can be fetched from. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """What it is called in the configuration."""

    @property
    def most_at_once(self) -> int:
        """How many studies may be fetched from it at a time."""

    @property
    def actor(self) -> Actor:
        """As who what it sends is marked."""

    def find_studies(self, question: StudyQuestion, *, limit: int) -> Sequence[RemoteStudy]:
        """Its studies that may match, at most `limit`.

        Raises
        ------
        DeliveryError
            If it does not answer, or refuses.
        """

    def find_series(self, study_instance_uid: str) -> Sequence[RemoteSeries]:
        """The series of a study without their instances.

        Raises
        ------
        DeliveryError
            If it does not answer, or refuses.
        """

    def find_instances(self, study_instance_uid: str, *, limit: int) -> Sequence[RemoteSeries]:
        """The series of a study with all their instances; none if it has not got the study.

        Raises
        ------
        DeliveryError
            If it does not answer, refuses, or names more than `limit`.
        """

    def retrieve(self, piece: Piece, receiver: Receiver) -> None:
        """Have a piece sent to us and wait until that is over; what came is seen in the store.

        Raises
        ------
        DeliveryError
            If it failed or was not done whole; what came until then stays.
        """

    def close(self) -> None:
        """Close what is open to it."""


Archives = Mapping[str, StudyArchive]
Stopping = Callable[[], bool]
