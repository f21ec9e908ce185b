# SPDX-License-Identifier: Apache-2.0
"""Small stacks of image headers in any plane, and analyses of them with known masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from profiles import codes
from profiles.air.model import AlgorithmIdentity, Analysis, Measurement, Region, ResultContext
from profiles.codes import Code

SHAPE = (6, 22, 26)
"""Rows times columns is no multiple of 8, so frames of single bits do not begin at bytes."""
ROW_SPACING, COLUMN_SPACING, STEP = 0.7, 0.8, 2.5
VOXEL_ML = ROW_SPACING * COLUMN_SPACING * STEP / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Where a stack lies: direction cosines, and the step from one image to the next along the normal."""

    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
    step_mm: float = STEP
    shear_mm: float = 0.0


_ANGLE = np.deg2rad(25)
STACKS = {
    "axial": Stack(),
    "sagittal": Stack(orientation=(0, 1, 0, 0, 0, -1)),
    "coronal": Stack(orientation=(1, 0, 0, 0, 0, -1)),
    "oblique": Stack(
        orientation=(float(np.cos(_ANGLE)), float(np.sin(_ANGLE)), 0, 0, 0, -1),
    ),
    "double oblique": Stack(
        orientation=(0.8, 0.6, 0, -0.36, 0.48, -0.8),
    ),
    "reversed": Stack(step_mm=-STEP),
    "tilted gantry": Stack(orientation=(1, 0, 0, 0, float(np.cos(0.2)), float(-np.sin(0.2))), shear_mm=0.5),
}

ALGORITHM = AlgorithmIdentity(
    manufacturer="Airway project",
    name="lung-ct",
    version="1.2.0",
    weights_sha256="ab" * 32,
    parameters={"threshold": "0.5", "emphysema_hu": "-950"},
)
CONTEXT = ResultContext(
    workitem_uid="1.2.826.77.1",
    performed_at=datetime(2026, 3, 2, 9, 10, 11, 250000, tzinfo=UTC),
    station_name="performer-1",
    accession_number="ACC-9",
    requested_procedure_id="RP-1",
    requested_procedure_description="CT thorax",
    requested_procedure_code=Code("CTTHX", "99HOSP", "CT thorax"),
    referring_physician_name="Doe^Jane",
    scheduled_workitem_code=codes.WORKITEM_LUNG_CT,
    placer_order_number="PLACER-1",
    filler_order_number="FILLER-1",
    reason_for_requested_procedure="cough",
)
BARE_CONTEXT = ResultContext(
    workitem_uid="1.2.826.77.2", performed_at=datetime(2026, 3, 2, 9, 10, 11, tzinfo=UTC), station_name=""
)


def make_sources(stack: Stack = STACKS["axial"], shape: tuple[int, int, int] = SHAPE) -> list[Dataset]:
    """Headers of a CT series without pixel data, in the order of the stack."""
    orientation = np.array(stack.orientation, dtype=np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        _source(
            i,
            shape,
            stack,
            np.array([-80, -90, 30]) + normal * stack.step_mm * i + orientation[3:] * i * stack.shear_mm,
        )
        for i in range(shape[0])
    ]


def _source(index: int, shape: tuple[int, int, int], stack: Stack, position: NDArray[np.float64]) -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    image.SOPInstanceUID = f"1.2.826.1.{index + 1}"
    image.StudyInstanceUID = "1.2.826.2"
    image.SeriesInstanceUID = "1.2.826.3"
    image.FrameOfReferenceUID = "1.2.826.4"
    image.Modality = "CT"
    image.PatientName = "Müller^Jörg"
    image.PatientID = "PAT-0815"
    image.IssuerOfPatientID = "HOSPITAL"
    image.PatientBirthDate = "19500101"
    image.PatientSex = "M"
    image.PatientAge = "076Y"
    image.StudyDate = "20260302"
    image.StudyTime = "083000"
    image.StudyID = "S1"
    image.StudyDescription = "Thorax nativ"
    image.AccessionNumber = "ACC-OF-SOURCE"
    image.ReferringPhysicianName = "Source^Referrer"
    image.Manufacturer = "Scanner maker"
    image.ManufacturerModelName = "Scanner"
    image.StationName = "CT1"
    image.BodyPartExamined = "CHEST"
    image.InstanceNumber = index + 1
    image.Rows, image.Columns = shape[1:]
    image.ImagePositionPatient = [round(float(value), 6) for value in position]
    image.ImageOrientationPatient = [round(float(value), 9) for value in stack.orientation]
    image.PixelSpacing = [ROW_SPACING, COLUMN_SPACING]
    image.SliceThickness = 2.0
    return image


def random_mask(seed: int, shape: tuple[int, int, int] = SHAPE, filled: float = 0.3) -> NDArray[np.bool_]:
    """A mask without any symmetry, so that every exchange of axes or slices shows."""
    mask: NDArray[np.bool_] = np.random.default_rng(seed).random(shape) < filled
    return mask


def make_region(mask: NDArray[np.bool_], label: str, **changes: object) -> Region:
    """A lung with volume, mean and emphysema index."""
    region = Region(
        mask=mask,
        label=label,
        category=codes.ANATOMICAL_STRUCTURE,
        type=codes.LUNG,
        tracking_identifier=f"{label} tracked",
        measurements=(
            Measurement(name=codes.VOLUME, value=float(mask.sum()) * VOXEL_ML, unit=codes.MILLILITRE),
            Measurement(
                name=codes.MEAN_ATTENUATION,
                value=-812.123456789012345,
                unit=codes.HOUNSFIELD_UNIT,
                derivation=codes.MEAN,
            ),
            Measurement(name=codes.EMPHYSEMA_INDEX, value=3.25, unit=codes.PERCENT),
        ),
    )
    return replace(region, **changes)


def two_lungs() -> tuple[Region, Region]:
    """Two regions that share no voxel."""
    left = random_mask(1)
    right = random_mask(2) & ~left
    return (
        make_region(left, "Left lung", laterality=codes.LEFT),
        make_region(right, "Right lung", laterality=codes.RIGHT, colour_rgb=(220, 40, 40)),
    )


def make_analysis(sources: Sequence[Dataset], regions: Sequence[Region] | None = None) -> Analysis:
    """An analysis of all `sources`; two lungs unless regions are given."""
    return Analysis(
        algorithm=ALGORITHM,
        sop_instance_uids=tuple(str(source.SOPInstanceUID) for source in sources),
        regions=tuple(two_lungs() if regions is None else regions),
    )


def as_bytes(dataset: Dataset) -> bytes:
    """The object as a file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def stored(dataset: Dataset) -> Dataset:
    """The object written and read again, as any receiver gets it."""
    return dcmread(BytesIO(as_bytes(dataset)))
