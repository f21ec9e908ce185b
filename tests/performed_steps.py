# SPDX-License-Identifier: Apache-2.0
"""What a CT scanner tells of a performed procedure step, from its begin to its end."""

from __future__ import annotations

from pydicom.dataset import Dataset

CT = "1.2.840.10008.5.1.4.1.1.2"


def in_progress(study: str = "1.2.3", *, accession: str = "A1", patient: str = "P1") -> Dataset:
    """The attributes of an N-CREATE."""
    code, scheduled, step = Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CHEST", "99SITE", "Chest routine"
    scheduled.StudyInstanceUID = study
    scheduled.ReferencedStudySequence = []
    scheduled.AccessionNumber = accession
    scheduled.RequestedProcedureID = "RP1"
    scheduled.RequestedProcedureDescription = "CT chest"
    scheduled.ScheduledProcedureStepID = "SPS1"
    scheduled.ScheduledProcedureStepDescription = "chest"
    scheduled.ScheduledProtocolCodeSequence = [code]
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName = "Doe^Jane"
    step.PatientID = patient
    step.PatientBirthDate = ""
    step.PatientSex = "F"
    step.PerformedProcedureStepID = "PPS1"
    step.PerformedStationAETitle = "CT1"
    step.PerformedStationName = ""
    step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate = "20260301"
    step.PerformedProcedureStepStartTime = "115000"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepDescription = ""
    step.PerformedProcedureTypeDescription = ""
    step.ProcedureCodeSequence = []
    step.PerformedProcedureStepEndDate = ""
    step.PerformedProcedureStepEndTime = ""
    step.Modality = "CT"
    step.StudyID = "1"
    step.PerformedProtocolCodeSequence = []
    step.PerformedSeriesSequence = []
    return step


def series(uid: str = "1.2.3.1", instances: tuple[str, ...] = ("1.2.3.1.1", "1.2.3.1.2")) -> Dataset:
    """One performed series."""
    made = Dataset()
    made.SeriesInstanceUID = uid
    made.ProtocolName = "Chest"
    made.RetrieveAETitle = ""
    made.SeriesDescription = ""
    made.PerformingPhysicianName = ""
    made.OperatorsName = ""
    references = []
    for instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = CT
        reference.ReferencedSOPInstanceUID = instance
        references.append(reference)
    made.ReferencedImageSequence = references
    made.ReferencedNonImageCompositeSOPInstanceSequence = []
    return made


def completed(status: str = "COMPLETED", *made: Dataset) -> Dataset:
    """The changes of the last N-SET."""
    changes = Dataset()
    changes.PerformedProcedureStepStatus = status
    changes.PerformedProcedureStepEndDate = "20260301"
    changes.PerformedProcedureStepEndTime = "115900"
    changes.PerformedSeriesSequence = list(made) or [series()]
    return changes
