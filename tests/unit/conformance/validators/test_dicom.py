# SPDX-License-Identifier: Apache-2.0
"""The DICOM checkers pass what is right and fail each object that is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from conformance.validators.dicom import check_iod, check_structured_report
from tests.unit.conformance.validators.samples import ct_slices, segmentation, structured_report

pytestmark = pytest.mark.peers


def saved(dataset: Dataset, folder: Path) -> Path:
    path = folder / "object.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("make", "name"),
    [
        pytest.param(lambda: ct_slices()[0], "CTImage", id="phantom-ct"),
        pytest.param(segmentation, "Segmentation", id="seg"),
        pytest.param(structured_report, "Comprehensive3DSR", id="sr"),
    ],
)
def test_correct_object_passes_and_its_definition_is_named(
    make: Callable[[], Dataset], name: str, tmp_path: Path
) -> None:
    report = check_iod(saved(make(), tmp_path))

    assert report.errors == ()
    assert report.passed
    assert report.recognised == name


def without_label(seg: Dataset) -> None:
    del seg.SegmentSequence[0].SegmentLabel


def with_unknown_type(seg: Dataset) -> None:
    seg.SegmentationType = "BINRY"


def with_numbers_from_seven(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentNumber = 7


def without_dimensions(seg: Dataset) -> None:
    del seg.DimensionIndexSequence


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(without_label, "SegmentLabel", id="type-1-attribute-missing"),
        pytest.param(with_unknown_type, "BINRY", id="enumerated-value-unknown"),
        pytest.param(with_numbers_from_seven, "SegmentNumber", id="segment-numbers-not-from-one"),
        pytest.param(without_dimensions, "DimensionIndexSequence", id="module-sequence-missing"),
    ],
)
def test_broken_segmentation_fails(damage: Callable[[Dataset], None], words: str, tmp_path: Path) -> None:
    broken = copy.deepcopy(segmentation())
    damage(broken)

    report = check_iod(saved(broken, tmp_path))

    assert not report.passed
    assert any(words in error for error in report.errors), report.errors


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="zero-bytes"),
        pytest.param(b"garbage that is no DICOM", id="garbage"),
        pytest.param(b"\x00" * 128 + b"DICM", id="preamble-only"),
    ],
)
def test_what_is_no_object_fails(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(content)

    assert not check_iod(path).passed


def test_truncated_object_fails(tmp_path: Path) -> None:
    path = saved(segmentation(), tmp_path)
    path.write_bytes(path.read_bytes()[:-200])

    assert not check_iod(path).passed


def test_file_that_is_not_there_fails(tmp_path: Path) -> None:
    assert not check_iod(tmp_path / "nothing.dcm").passed


def test_warnings_are_told_and_tolerated(tmp_path: Path) -> None:
    image = copy.deepcopy(ct_slices()[0])
    image.RequestingService = "Ward 4"

    report = check_iod(saved(image, tmp_path))

    assert report.passed
    assert any("Requesting Service" in warning for warning in report.warnings)


def test_correct_report_passes_its_template(tmp_path: Path) -> None:
    report = check_structured_report(saved(structured_report(), tmp_path))

    assert report.errors == ()
    assert report.recognised == "TID_1500 (MeasurementReport)"


def test_code_outside_its_context_group_fails_the_template(tmp_path: Path) -> None:
    broken = copy.deepcopy(structured_report())
    broken.ContentSequence[0].ConceptCodeSequence[0].CodeValue = "xx"

    report = check_structured_report(saved(broken, tmp_path))

    assert any("not found in context group 5000" in error for error in report.errors)


def test_object_that_is_no_report_fails_the_template(tmp_path: Path) -> None:
    report = check_structured_report(saved(segmentation(), tmp_path))

    assert "the root template is not TID_1500" in report.errors
    assert "no structured report definition was recognised" in report.errors
