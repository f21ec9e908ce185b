# SPDX-License-Identifier: Apache-2.0
"""Studies, series and instances as the task manager knows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from profiles.dicom_json import DicomJson


class StudyState(StrEnum):
    """RECEIVING until evidence says complete; late images lead back to RECEIVING.

    KEPT came by a fetch: nothing is decided about it, unless somebody asks for that. HELD is never complete
    until a person releases it, DISCARDED runs nothing any more; both keep what comes.
    """

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"
    KEPT = "KEPT"
    HELD = "HELD"
    DISCARDED = "DISCARDED"


class Evidence(StrEnum):
    """What said that a study is complete."""

    ORDER = "order"
    IAN = "ian"
    MPPS = "mpps"
    ARCHIVE = "archive"
    REQUIRED_SERIES = "required-series"
    QUIET_PERIOD = "quiet-period"
    UPPER_BOUND = "upper-bound"
    PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceHeader:
    """What is read from an instance on arrival, once, without pixels.

    `attributes` is the header in DICOM JSON, without pixel data, bulk data or values over 1 KiB; rules and
    QIDO-RS read it.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    attributes: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A stored instance. `path` is relative to the object store."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    path: str
    size: int
    received_at: datetime
    attributes: DicomJson


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series as rules see it: the header of its first instance and how many there are."""

    series_instance_uid: str
    attributes: DicomJson
    sop_class_uids: tuple[str, ...]
    number_of_instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as rules see it.

    Attributes
    ----------
    revision
        Grows by one each time the study becomes complete, or a part of it is enough for a rule.
    attributes
        Patient- and study-level attributes (DICOM JSON) of its first instance.
    deadline_at
        When to look next whether it is complete; None if nothing is waited for.
    evidence
        What said that it is complete; of one that is RECEIVING: what will say so, as a person wants it.
    receiving_since
        When its first image came, or the first one after it was complete; None if it has no image.
    """

    study_instance_uid: str
    state: StudyState
    revision: int
    attributes: DicomJson
    series: tuple[Series, ...]
    first_received_at: datetime
    last_received_at: datetime
    deadline_at: datetime | None
    completed_at: datetime | None = None
    evidence: Evidence | None = None
    receiving_since: datetime | None = None
