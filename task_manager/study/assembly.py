# SPDX-License-Identifier: Apache-2.0
"""What an arriving instance does to its study, and when to look whether that is complete.

Pure decisions over values: the deadline is a value of the study and is stored with it, so a restart loses
nothing. Results of processing are part of a study but say nothing about the end of its acquisition.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from profiles.dicom_json import DicomJson, tag_key, text
from task_manager.study.model import Evidence, InstanceHeader, Study, StudyState
from task_manager.study.sources import Pause

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Storage SOP classes of what is made from images (PS3.6 Annex A), below the root of all storage classes.
_RESULT_CLASSES = frozenset(
    _STORAGE + leaf
    for leaf in (
        "30",  # Parametric Map
        "67",  # Real World Value Mapping
        "90.1",  # Content Assessment Results
        "481.2",  # RT Dose
        "481.3",  # RT Structure Set
        "481.5",  # RT Plan
    )
)
_RESULT_FAMILIES = tuple(
    _STORAGE + branch
    for branch in (
        "11.",  # presentation states
        "66.",  # registrations, fiducials, segmentations, tractography; Raw Data itself is 66
        "88.",  # structured reports and key object selections
        "104.",  # encapsulated documents
    )
)

# Study-level attributes beside group 0010 (PS3.3 C.7.2.1, C.7.2.2, and what is needed to read them).
_STUDY_KEYS = frozenset(
    tag_key(keyword)
    for keyword in (
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "IssuerOfAccessionNumberSequence",
        "ReferringPhysicianName",
        "ReferringPhysicianIdentificationSequence",
        "ConsultingPhysicianName",
        "StudyDescription",
        "ProcedureCodeSequence",
        "PhysiciansOfRecord",
        "NameOfPhysiciansReadingStudy",
        "AdmittingDiagnosesDescription",
        "AdmittingDiagnosesCodeSequence",
        "ReferencedStudySequence",
        "StudyInstanceUID",
        "StudyID",
        "RequestingService",
        "ReasonForPerformedProcedureCodeSequence",
        "ReasonForVisit",
        "AdmissionID",
        "IssuerOfAdmissionIDSequence",
        "ServiceEpisodeID",
        "ServiceEpisodeDescription",
    )
)


def counts_for_assembly(sop_class_uid: str) -> bool:
    """Whether an instance of this class tells that acquisition goes on.

    Results (segmentations, reports, presentation states, structure sets, documents and the like) neither
    extend a deadline nor reopen a study: otherwise each AI result would start its study again.
    """
    return sop_class_uid not in _RESULT_CLASSES and not sop_class_uid.startswith(_RESULT_FAMILIES)


def is_due(study: Study, now: datetime) -> bool:
    """Whether it is time to look if a study is complete."""
    return study.state is StudyState.RECEIVING and study.deadline_at is not None and now >= study.deadline_at


def is_wanted_now(study: Study) -> bool:
    """Whether a person wants a study that is receiving to be complete now."""
    return (
        study.state is StudyState.RECEIVING
        and study.evidence is Evidence.PERSON
        and study.completed_at is None
    )


def was_complete(study: Study) -> bool:
    """Whether a study that is looked at was complete before, and no image came since: its order did."""
    return study.state is StudyState.RECEIVING and study.completed_at is not None


def patient_ids(study: Study) -> frozenset[str]:
    """The Patient IDs that the series of a study carry; more than one is a mistake for a person to mend."""
    return frozenset(text(series.attributes, "PatientID") for series in study.series)


def after_instance(
    study: Study | None, header: InstanceHeader, *, now: datetime, pause: Pause
) -> Study | None:
    """The study after one more instance, or None if nothing changes.

    Parameters
    ----------
    study
        The study so far; None if this is its first instance.
    header
        Header of the new instance, not a duplicate.
    now
        Aware time of arrival. A deadline never moves back because the clock does.
    pause
        When to look whether it is complete.

    Returns
    -------
    Study | None
        In RECEIVING with a new deadline; a COMPLETE study is reopened and keeps its revision. A first
        instance that does not count makes a study without deadline: it waits for images. What a person
        decided stays: a study that is held or discarded is not looked at, one that shall be complete is
        not put off.
    """
    counts = counts_for_assembly(header.sop_class_uid)
    if study is None:
        return Study(
            study_instance_uid=header.study_instance_uid,
            state=StudyState.RECEIVING,
            revision=0,
            attributes=study_attributes(header.attributes),
            series=(),
            first_received_at=now,
            last_received_at=now,
            deadline_at=pause.after(now, now) if counts else None,
            receiving_since=now if counts else None,
        )
    if not counts:
        return None
    last = max(now, study.last_received_at)
    is_first = study.receiving_since is None and study.revision == 0 and study.deadline_at is None
    changed = replace(
        study,
        attributes=study_attributes(header.attributes) if is_first else study.attributes,
        last_received_at=last,
        completed_at=None,
    )
    if study.state in (StudyState.HELD, StudyState.DISCARDED):
        return replace(changed, receiving_since=study.receiving_since or now, evidence=None)
    if is_wanted_now(study):
        return changed
    waited = study.revision == 0 and study.deadline_at is not None  # a study of an earlier release
    since = study.receiving_since or (study.first_received_at if waited else now)
    return replace(
        changed,
        state=StudyState.RECEIVING,
        deadline_at=pause.after(last, since),
        evidence=None,
        receiving_since=since,
    )


def only_moves(study: Study) -> bool:
    """Whether one more image of a study moves nothing but `last_received_at` and its deadline."""
    return (
        study.state is StudyState.RECEIVING
        and study.evidence is None
        and study.completed_at is None
        and study.deadline_at is not None
        and study.receiving_since is not None
    )


def study_attributes(attributes: DicomJson) -> DicomJson:
    """The patient- and study-level attributes of an instance's header."""
    return {key: value for key, value in attributes.items() if key.startswith("0010") or key in _STUDY_KEYS}
