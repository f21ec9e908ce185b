# SPDX-License-Identifier: Apache-2.0
"""A few small DICOM files for the tests of the peers themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

STUDY_INSTANCE_UID = "2.25.101"


@pytest.fixture
def scanned(tmp_path: Path) -> list[Path]:
    """Three secondary captures of one study, two by two pixels each."""
    return [_write_capture(tmp_path / f"{number}.dcm", number) for number in (1, 2, 3)]


def _write_capture(path: Path, number: int) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = f"2.25.101.1.{number}"
    dataset.StudyInstanceUID = STUDY_INSTANCE_UID
    dataset.SeriesInstanceUID = "2.25.101.1"
    dataset.PatientID = "PEER-1"
    dataset.PatientName = "Peer^Test"
    dataset.Modality = "OT"
    dataset.InstanceNumber = number
    dataset.Rows = dataset.Columns = 2
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.PixelData = b"\x00\x01\x02\x03"
    dataset.save_as(path, enforce_file_format=True)
    return path
