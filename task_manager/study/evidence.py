# SPDX-License-Identifier: Apache-2.0
"""What others say of a study that tells when it is complete: modality, manager, archive, order.

Pure values. Whether they complete a study is decided in ``completeness.py``; they are kept by
``store/evidence.py``, and doors note them through ``Service.note_evidence``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from profiles.dicom_json import DicomJson, items, text
from task_manager.study.model import Evidence

MOST_INSTANCES = 100_000
"""Instances of one study that one source may name."""

_NOTHING: Mapping[str, frozenset[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEvidence:
    """What one source says of one study.

    Attributes
    ----------
    kind
        ORDER, IAN, MPPS or ARCHIVE; the others are seen in the study itself, or come with time.
    source
        Who says it, and of what: AE title, name of the archive, UID of the performed procedure step. The next
        word of the same kind and source takes the place of this one; of notifications it adds to it.
    told_at
        When it was told.
    series
        Series Instance UID to the SOP Instance UIDs it names; a series without instances is only named, and
        instances of an unknown series stand under an empty UID.
    expected_series, expected_instances
        How many there are in all, where only numbers are told.
    ended
        Whether the source says that nothing more is made: False for a step that is IN PROGRESS.
    first_told_at
        Since when it says just this; None means `told_at`.
    """

    kind: Evidence
    study_instance_uid: str
    source: str
    told_at: datetime
    series: Mapping[str, frozenset[str]] = field(default_factory=lambda: _NOTHING)
    expected_series: int | None = None
    expected_instances: int | None = None
    ended: bool = True
    first_told_at: datetime | None = None

    @property
    def instances(self) -> frozenset[str]:
        """SOP Instance UIDs of all series it names."""
        return frozenset().union(*self.series.values())

    @property
    def series_named(self) -> frozenset[str]:
        """Series Instance UIDs it names."""
        return frozenset(uid for uid in self.series if uid)

    @property
    def was_repeated(self) -> bool:
        """Whether the source has said just this more than once."""
        return self.first_told_at is not None and self.first_told_at < self.told_at


def after_telling(before: StudyEvidence | None, told: StudyEvidence) -> StudyEvidence:
    """What a source says after another word of it.

    Notifications name what became available and add up; of all else the last word counts. One that repeats
    itself keeps the time since when it says so.
    """
    if before is None:
        return replace(told, first_told_at=told.first_told_at or told.told_at)
    series = dict(told.series)
    if told.kind is Evidence.IAN:
        for uid, instances in before.series.items():
            series[uid] = series.get(uid, frozenset()) | instances
    after = replace(told, series=series)
    return replace(after, first_told_at=_since(before) if _says_the_same(before, after) else told.told_at)


def availability_evidence(notification: DicomJson, *, source: str, now: datetime) -> StudyEvidence:
    """What an Instance Availability Notification without faults says of its study (PS3.4 R.3.2).

    Parameters
    ----------
    source
        AE title of who notifies.
    """
    series: dict[str, frozenset[str]] = {}
    for item in items(notification, "ReferencedSeriesSequence"):
        uids = frozenset(
            text(one, "ReferencedSOPInstanceUID") for one in items(item, "ReferencedSOPSequence")
        )
        uid = text(item, "SeriesInstanceUID")
        series[uid] = series.get(uid, frozenset()) | (uids - {""})
    return StudyEvidence(
        kind=Evidence.IAN,
        study_instance_uid=text(notification, "StudyInstanceUID"),
        source=source,
        told_at=now,
        series=series,
    )


def _says_the_same(before: StudyEvidence, after: StudyEvidence) -> bool:
    return (before.ended, before.expected_series, before.expected_instances, dict(before.series)) == (
        after.ended,
        after.expected_series,
        after.expected_instances,
        dict(after.series),
    )


def _since(evidence: StudyEvidence) -> datetime:
    return evidence.first_told_at or evidence.told_at
