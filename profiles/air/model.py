# SPDX-License-Identifier: Apache-2.0
"""What one analysis of one study found, as values: the input of every encoder and the output of every app.

No pydicom here; arrays are numpy, codes are :class:`profiles.codes.Code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from profiles.codes import Code
from profiles.uids import derived_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmIdentity:
    """Who computed: generates Contributing Equipment, TID 1004, TID 4019 and the SEG macro alike.

    Attributes
    ----------
    manufacturer, name, version
        Maker, name and version of the model.
    weights_sha256
        Digest of the weights; changes the device UID when the model changes.
    parameters
        Name to value, told in the result (TID 4019 Algorithm Parameters).

    References
    ----------
    IHE RAD AIR 6.5.3.1, table 6.5.3.1-1.
    """

    manufacturer: str
    name: str
    version: str
    weights_sha256: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def device_uid(self) -> str:
        """DeviceUID (0018,1002) of exactly this model state."""
        return derived_uid("device", self.manufacturer, self.name, self.version, self.weights_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number about a region or a study.

    Attributes
    ----------
    name, unit
        Coded concept (CID 218 or private) and UCUM unit.
    value
        The number; None if it could not be computed, then `failure` says why.
    derivation, method
        Coded modifiers, such as Mean, where they apply (TID 1419).
    failure
        CID 42 qualifier when `value` is None.
    """

    name: Code
    value: float | None
    unit: Code
    derivation: Code | None = None
    method: Code | None = None
    failure: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One segmented region with its measurements.

    Attributes
    ----------
    mask
        bool, shape (slices, rows, columns), on the grid of the source images in the order of
        ``SourceSeries.sop_instance_uids``.
    label
        Segment Label, unique in the result.
    category, type
        Segmented property category and type (CID 7150, 7151).
    laterality
        Left or right where it applies (CID 244).
    tracking_identifier
        Readable identity of the region; the tracking UID is derived by the encoder.
    colour_rgb
        Recommended display colour, 0-255 each.
    """

    mask: NDArray[np.bool_]
    label: str
    category: Code
    type: Code
    laterality: Code | None = None
    tracking_identifier: str = ""
    colour_rgb: tuple[int, int, int] = (0, 160, 220)
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Everything one app found in one study.

    Attributes
    ----------
    algorithm
        The model that computed it.
    sop_instance_uids
        Source images analysed, in the order of axis 0 of every mask.
    regions
        Segmented regions; an empty mask is stated as absent in the SR and never encoded as a segment.
    """

    algorithm: AlgorithmIdentity
    sop_instance_uids: tuple[str, ...]
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultContext:
    """What the workitem says about the results to be encoded; never invented by an encoder.

    Attributes
    ----------
    workitem_uid
        Seeds all derived UIDs, with the algorithm's device UID.
    performed_at
        Aware time the analysis started; Content Date and Time of every object of the run.
    station_name, device_serial_number
        Equipment that ran the model (the performer), not the model.
    accession_number, requested_procedure_id, requested_procedure_description, referring_physician_name,
    reason_for_requested_procedure
        From the workitem's Referenced Request Sequence (AIW-I Appendix V: source copy).
    requested_procedure_code, scheduled_workitem_code
        Coded procedure ordered, and coded task.
    placer_order_number, filler_order_number
        Order numbers, told in TID 1005 where present.
    """

    workitem_uid: str
    performed_at: datetime
    station_name: str
    device_serial_number: str = "airway"
    accession_number: str = ""
    requested_procedure_id: str = ""
    requested_procedure_description: str = ""
    requested_procedure_code: Code | None = None
    referring_physician_name: str = ""
    scheduled_workitem_code: Code | None = None
    placer_order_number: str = ""
    filler_order_number: str = ""
    reason_for_requested_procedure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMeasurement:
    """One NUM of a stored SR, with what identifies it (TID 300, 1419)."""

    observation_uid: str
    name: Code
    value: float | None
    unit: Code
    derivation: Code | None = None
    method: Code | None = None
    failure: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedEvaluation:
    """One coded statement of a group, such as (Presence of property) = (Absent)."""

    observation_uid: str
    name: Code
    value: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedGroup:
    """One Measurement Group of a stored SR (TID 1411 with a segment, TID 1501 without)."""

    observation_uid: str
    tracking_identifier: str
    tracking_uid: str
    finding: Code | None
    finding_category: Code | None
    finding_site: Code | None
    laterality: Code | None
    segmentation_sop_instance_uid: str
    segment_number: int | None
    measurements: tuple[ReportedMeasurement, ...]
    evaluations: tuple[ReportedEvaluation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """What a stored TID 1500 SR says: the only source of FHIR and HL7 results.

    Names and identifiers are those of the SR's header; dates are DICOM DA/TM/DT text;
    `performed_at` is aware.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    study_date: str
    study_time: str
    study_description: str
    modality_of_sources: str
    performed_at: datetime
    title: Code
    procedure_reported: Code | None
    device_uid: str
    device_manufacturer: str
    device_name: str
    device_version: str
    algorithm_parameters: tuple[str, ...]
    groups: tuple[ReportedGroup, ...]
    referenced_instances: tuple[tuple[str, str, str], ...]
    """(Series Instance UID, SOP Class UID, SOP Instance UID) of the evidence, sources and segmentations."""
    is_verified: bool = False
    """Whether a person stands for it: VERIFIED, and not marked preliminary (PS3.3 C.17.2)."""
    predecessors: tuple[str, ...] = ()
    """SOP Instance UIDs of the reports it takes the place of (Predecessor Documents, PS3.3 C.17.2.3)."""
