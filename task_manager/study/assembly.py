# SPDX-License-Identifier: Apache-2.0
"""When a study is complete, and what an arriving instance does to that.

Pure decisions over values: the deadline is a value of the study and is stored with it, so a restart loses
nothing. Results of processing are part of a study but say nothing about the end of its acquisition.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from profiles.dicom_json import DicomJson, tag_key, text
from task_manager.study.model import Evidence, InstanceHeader, Study, StudyState

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


def next_deadline(now: datetime, quiet_period: timedelta) -> datetime:
    """When a study that has just received something counts as complete, if nothing more comes."""
    return now + quiet_period


def counts_for_assembly(sop_class_uid: str) -> bool:
    """Whether an instance of this class tells that acquisition goes on.

    Results (segmentations, reports, presentation states, structure sets, documents and the like) neither
    extend a deadline nor reopen a study: otherwise each AI result would start its study again.
    """
    return sop_class_uid not in _RESULT_CLASSES and not sop_class_uid.startswith(_RESULT_FAMILIES)


def is_complete(study: Study, now: datetime) -> Evidence | None:
    """The evidence that a study in RECEIVING is complete at `now`, or None if there is none yet."""
    if study.state is not StudyState.RECEIVING or study.deadline_at is None or now < study.deadline_at:
        return None
    return Evidence.QUIET_PERIOD


def patient_ids(study: Study) -> frozenset[str]:
    """The Patient IDs that the series of a study carry; more than one is a mistake for a person to mend."""
    return frozenset(text(series.attributes, "PatientID") for series in study.series)


def after_instance(
    study: Study | None, header: InstanceHeader, *, now: datetime, quiet_period: timedelta
) -> Study | None:
    """The study after one more instance, or None if nothing changes.

    Parameters
    ----------
    study
        The study so far; None if this is its first instance.
    header
        Header of the new instance, not a duplicate.
    now
        Aware time of arrival. A deadline never moves back, even if the clock does.

    Returns
    -------
    Study | None
        In RECEIVING with a new deadline; a COMPLETE study is reopened and keeps its revision. A first
        instance that does not count makes a study without deadline: it waits for images.
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
            deadline_at=next_deadline(now, quiet_period) if counts else None,
        )
    if not counts:
        return None
    deadline = next_deadline(now, quiet_period)
    first_image = study.deadline_at is None and study.revision == 0
    return replace(
        study,
        state=StudyState.RECEIVING,
        attributes=study_attributes(header.attributes) if first_image else study.attributes,
        last_received_at=max(now, study.last_received_at),
        deadline_at=max(deadline, study.deadline_at) if study.deadline_at else deadline,
        completed_at=None,
        evidence=None,
    )


def study_attributes(attributes: DicomJson) -> DicomJson:
    """The patient- and study-level attributes of an instance's header."""
    return {key: value for key, value in attributes.items() if key.startswith("0010") or key in _STUDY_KEYS}
