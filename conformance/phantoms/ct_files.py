# SPDX-License-Identifier: Apache-2.0
"""Phantoms as CT Image Storage instances (PS3.3 A.3), Explicit VR Little Endian, with derived UIDs.

Equal phantoms give equal bytes: no clock, no random UID.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from conformance.phantoms.chest import PhantomSeries, Plane
from profiles.uids import derived_uid

IMPLEMENTATION_CLASS_UID = derived_uid("implementation", "airway", "phantoms")


def study_instance_uid(series: PhantomSeries) -> str:
    """The Study Instance UID of the files of `series`."""
    spec = series.spec
    return spec.study_instance_uid or derived_uid(
        "phantom", "study", spec.patient_id, spec.accession_number, str(spec.seed)
    )


def series_instance_uid(series: PhantomSeries) -> str:
    """The Series Instance UID of the files of `series`."""
    spec = series.spec
    bare = replace(spec, study_instance_uid="", series_instance_uid="")
    return spec.series_instance_uid or derived_uid(
        "phantom", "series", study_instance_uid(series), repr(bare)
    )


def sop_instance_uids(series: PhantomSeries) -> tuple[str, ...]:
    """SOP Instance UIDs, in the order of axis 0 of the arrays."""
    parent = series_instance_uid(series)
    return tuple(derived_uid("phantom", "instance", parent, str(i + 1)) for i in range(series.hu.shape[0]))


def datasets(series: PhantomSeries) -> Iterator[FileDataset]:
    """One CT image per slice, in the order of axis 0, each complete with file meta information."""
    shared = _shared(series)
    stored = series.hu.astype(np.int32) + 1024
    for index, uid in enumerate(sop_instance_uids(series)):
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = UID(uid)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = "AIRWAY_PHANTOM"
        image = FileDataset("", {}, file_meta=meta, preamble=b"\x00" * 128)
        image.update(deepcopy(shared))
        image.SOPInstanceUID = uid
        image.InstanceNumber = index + 1
        position = series.affine @ np.array([index, 0, 0, 1])
        image.ImagePositionPatient = [_ds(p) for p in position[:3]]
        normal = np.cross(series.affine[:3, 2], series.affine[:3, 1])
        image.SliceLocation = _ds(position[:3] @ normal / np.linalg.norm(normal))
        image.PixelData = stored[index].astype("<u2").tobytes()
        yield image


def write_series(series: PhantomSeries, folder: Path) -> list[Path]:
    """Write one file per slice into `folder`, made if it is not there, and return them in slice order.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for image in datasets(series):
        path = folder / f"CT.{int(image.InstanceNumber):05d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _ds(value: float) -> DSfloat:
    return DSfloat(round(float(value), 6) + 0.0, auto_format=True)


def _shared(series: PhantomSeries) -> Dataset:
    """What all slices have in common."""
    spec = series.spec
    reformatted = spec.plane is not Plane.AXIAL
    shared = Dataset()
    shared.SpecificCharacterSet = "ISO_IR 192"
    shared.ImageType = ["DERIVED", "SECONDARY", "AXIAL"] if reformatted else ["ORIGINAL", "PRIMARY", "AXIAL"]
    shared.SOPClassUID = CTImageStorage
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(shared, keyword, spec.study_date)
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(shared, keyword, spec.study_time)
    shared.AccessionNumber = spec.accession_number
    shared.Modality = "CT"
    shared.Manufacturer = "Airway"
    shared.ManufacturerModelName = "Chest phantom"
    shared.SoftwareVersions = "1"
    shared.DeviceSerialNumber = "1"
    shared.StationName = spec.station_name
    shared.ReferringPhysicianName = spec.referring_physician_name
    shared.StudyDescription = spec.study_description
    shared.SeriesDescription = spec.series_description
    shared.PatientName = spec.patient_name
    shared.PatientID = spec.patient_id
    if spec.issuer_of_patient_id:
        shared.IssuerOfPatientID = spec.issuer_of_patient_id
    shared.PatientBirthDate = spec.patient_birth_date
    shared.PatientSex = spec.patient_sex
    shared.BodyPartExamined = "CHEST"
    steps = np.linalg.norm(series.affine[:3, :3], axis=0)
    normal = np.cross(series.affine[:3, 2], series.affine[:3, 1])
    shared.SliceThickness = _ds(abs(float(series.affine[:3, 0] @ normal)) / float(np.linalg.norm(normal)))
    shared.KVP = "120"
    shared.ReconstructionDiameter = _ds(steps[2] * series.hu.shape[2])
    shared.GantryDetectorTilt = _ds(spec.gantry_tilt_deg)
    shared.RotationDirection = "CW"
    shared.ExposureTime = "500"
    shared.XRayTubeCurrent = "200"
    shared.Exposure = "100"
    shared.ConvolutionKernel = "PHANTOM"
    shared.PatientPosition = "HFS"
    shared.StudyInstanceUID = study_instance_uid(series)
    shared.SeriesInstanceUID = series_instance_uid(series)
    shared.StudyID = spec.study_id
    shared.SeriesNumber = spec.series_number
    shared.AcquisitionNumber = 1
    rows, columns = series.affine[:3, 1] / steps[1], series.affine[:3, 2] / steps[2]
    shared.ImageOrientationPatient = [_ds(v) for v in (*columns, *rows)]
    shared.FrameOfReferenceUID = derived_uid("phantom", "frame", study_instance_uid(series))
    shared.PositionReferenceIndicator = ""
    shared.SamplesPerPixel = 1
    shared.PhotometricInterpretation = "MONOCHROME2"
    shared.Rows, shared.Columns = series.hu.shape[1:]
    shared.PixelSpacing = [_ds(steps[1]), _ds(steps[2])]
    shared.BitsAllocated, shared.BitsStored, shared.HighBit, shared.PixelRepresentation = 16, 12, 11, 0
    shared.WindowCenter, shared.WindowWidth = "-500", "1500"
    shared.RescaleIntercept, shared.RescaleSlope, shared.RescaleType = "-1024", "1", "HU"
    return shared
