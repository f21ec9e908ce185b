# SPDX-License-Identifier: Apache-2.0
"""The shipped examples on generated headers: three routing rules, and a selection in two steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiles.codes import Code
from profiles.dicom_json import DicomJson
from task_manager.rules.explain import RuleExplanation, RuleVerdict, render
from task_manager.rules.parse import load_rules
from task_manager.study.model import InstanceHeader
from tests.unit.task_manager.rules.headers import SAGITTAL, explained_headers, header, stack
from tests.unit.task_manager.rules.studies import ORDER

EXAMPLES = Path(__file__).parents[4] / "informatics_gateway" / "defaults" / "examples"
MATCHED, NOT, UNKNOWN = RuleVerdict.MATCHED, RuleVerdict.NOT_MATCHED, RuleVerdict.UNKNOWN


def explained(name: str, headers: list[InstanceHeader], **more: Any) -> RuleExplanation:
    (one,) = explained_headers(load_rules(EXAMPLES / f"{name}.yaml"), headers, **more)
    return one


def brain(study_description: str | None = "BRAIN W WO NAVIGATION", **changes: Any) -> list[InstanceHeader]:
    study = {"Modality": "MR", "StudyDescription": study_description, "ImageType": ("ORIGINAL", "PRIMARY")}
    study.update(changes)
    return [
        *stack(2, 150, 1.0, SeriesDescription="AX T1 MPRAGE POST", ContrastBolusAgent="GADAVIST", **study),
        *stack(3, 30, 5.0, SeriesDescription="AX T1 FSE POST", ContrastBolusAgent="GADAVIST", **study),
        *stack(4, 150, 1.0, SeriesDescription="SAG T1 MPRAGE", orientation=SAGITTAL, **study),
        *stack(5, 30, 4.0, SeriesDescription="AX T2 FLAIR", MRAcquisitionType="2D", **study),
        *stack(6, 160, 1.0, SeriesDescription="CUBE T2 FLAIR", MRAcquisitionType="3D", **study),
        *stack(7, 30, 4.0, SeriesDescription="AX T2 FSE", **study),
        *stack(8, 3, 10.0, SeriesDescription="LOC", **study),
    ]


def test_brain_navigation_finds_each_of_four_inputs() -> None:
    one = explained("compass-brain-navigation", brain())
    assert one.verdict is MATCHED, render([one])
    assert {r.name: r.selected for r in one.requirements} == {
        "t1-contrast": ("1.2.3.2",),
        "t1": ("1.2.3.4",),
        "flair": ("1.2.3.6",),
        "t2": ("1.2.3.7",),
    }
    assert one.parameters["flair_series"] == "1.2.3.6"


@pytest.mark.parametrize(
    ("study_description", "verdict"),
    [
        ("BRAIN NAV", MATCHED),
        ("brain stealth nav", MATCHED),
        ("MR BRAIN NAV", NOT),
        ("BRAIN", NOT),
        (None, UNKNOWN),
    ],
)
def test_brain_navigation_by_what_the_study_is_called(
    study_description: str | None, verdict: RuleVerdict
) -> None:
    """``BRAIN*NAV*`` is like the whole description: one that only ends so is another study."""
    one = explained("compass-brain-navigation", brain(study_description))
    assert one.verdict is verdict, render([one])


def knee(**changes: Any) -> list[InstanceHeader]:
    study = {"Modality": "MR", "StationName": "MR3TSOUTH", "BodyPartExamined": "KNEE", **changes}
    return [
        *stack(1, 3, 10.0, **study),
        *stack(2, 40, 3.0, orientation=SAGITTAL, SeriesDescription="SAG PD", **study),
        *stack(3, 120, 0.7, orientation=SAGITTAL, SeriesDescription="SAG 3D", **study),
        *stack(4, 120, 0.5, orientation=SAGITTAL, without=(7,), SeriesDescription="SAG CUT", **study),
    ]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, MATCHED),
        ({"StationName": "mrc25047"}, MATCHED),
        ({"StationName": "MR1"}, NOT),
        ({"StationName": None}, UNKNOWN),
        ({"BodyPartExamined": None, "StudyDescription": "MR KNEE LEFT"}, MATCHED),
        ({"BodyPartExamined": None}, UNKNOWN),
        ({"BodyPartExamined": "HIP", "StudyDescription": "MR HIP"}, NOT),
    ],
    ids=["listed", "letter case", "another", "no station", "by description", "no body part", "hip"],
)
def test_stations(changes: dict[str, Any], verdict: RuleVerdict) -> None:
    one = explained("compass-stations", knee(**changes))
    assert one.verdict is verdict, render([one])
    if verdict is MATCHED:
        assert one.selected_series == ("1.2.3.3",)


def exam_code(code: str, creator: str = "SITE EXAM CODES", block: str = "11") -> DicomJson:
    return {
        f"000900{block}": {"vr": "LO", "Value": [creator]},
        f"0009{block}10": {"vr": "LO", "Value": [code]},
    }


@pytest.mark.parametrize(
    ("private", "ordered", "verdict"),
    [
        (exam_code("CTCHLD"), "", MATCHED),
        (exam_code("CTCHLD", block="42"), "", MATCHED),
        (exam_code("CTHEAD"), "", NOT),
        (exam_code("CTHEAD"), "CTCHW", NOT),
        (exam_code("CTCHLD", creator="OTHER"), "", UNKNOWN),
        ({}, "CTCHW", MATCHED),
        ({}, "CTHEAD", NOT),
        ({}, "", UNKNOWN),
    ],
    ids=[
        "code",
        "any block",
        "other code",
        "attribute before order",
        "other creator",
        "order",
        "order no",
        "nothing",
    ],
)
def test_exam_code(private: DicomJson, ordered: str, verdict: RuleVerdict) -> None:
    study = {"Modality": "CT", "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL")}
    headers = [
        *stack(2, 80, 5.0, private, ConvolutionKernel="STANDARD", **study),
        *stack(3, 300, 1.25, private, ConvolutionKernel="LUNG", **study),
    ]
    order = replace(ORDER, requested_procedure_code=Code(ordered, "L", "CT")) if ordered else None
    one = explained("compass-exam-code", headers, order=order)
    assert one.verdict is verdict, render([one])
    if verdict is MATCHED:
        assert one.selected_series == ("1.2.3.2",)


def radiograph(series: int, number: int, **changes: Any) -> InstanceHeader:
    return header(
        series,
        number,
        **{
            "Modality": "DX",
            "BodyPartExamined": "CHEST",
            "PatientAge": "061Y",
            "ImageType": ("ORIGINAL", "PRIMARY"),
            "SeriesDescription": "Chest Portable",
            "ViewPosition": "AP",
            **changes,
        },
    )


def test_the_latest_ap_view_without_catheter_is_taken() -> None:
    one = explained(
        "covid-chest-radiograph",
        [
            radiograph(1, 1, AcquisitionDateTime="20200401080000"),
            radiograph(1, 2, AcquisitionDateTime="20200401093000"),
            radiograph(1, 3, ViewPosition="LL", AcquisitionDateTime="20200401094500"),
            radiograph(2, 1, SeriesDescription="AP CATH PLACEMENT", AcquisitionDateTime="20200401110000"),
        ],
    )
    assert one.verdict is MATCHED, render([one])
    assert one.requirements[0].selected_images == ("1.2.3.1.2",)
    assert not one.takes("1.2.3.1", "1.2.3.1.1")
    assert not one.takes("1.2.3.2", "1.2.3.2.1")
    assert [i.reason.split(" by ")[0] for i in one.requirements[0].series[0].images] == [
        "selected: place 1 of 2 candidates",
        "not selected: place 2 of 2 candidates",
        "not selected: a condition is not met",
    ]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, MATCHED),
        ({"Modality": "CR"}, MATCHED),
        ({"Modality": "CT"}, NOT),
        ({"ViewPosition": "PA"}, NOT),
        ({"ViewPosition": None}, UNKNOWN),
        ({"SeriesDescription": "Chest AP post CATH"}, NOT),
        ({"SeriesDescription": None}, UNKNOWN),
        ({"PatientAge": "015Y"}, NOT),
        ({"BodyPartExamined": "ABDOMEN", "StudyDescription": "XR abdomen"}, NOT),
        ({"BodyPartExamined": None, "StudyDescription": "XR CHEST 1 VIEW"}, MATCHED),
        ({"ImageType": ("DERIVED", "PRIMARY")}, NOT),
    ],
    ids=[
        "AP",
        "CR",
        "CT",
        "PA",
        "no view",
        "CATH",
        "no description",
        "child",
        "abdomen",
        "by study",
        "derived",
    ],
)
def test_two_steps(changes: dict[str, Any], verdict: RuleVerdict) -> None:
    one = explained("covid-chest-radiograph", [radiograph(1, 1, **changes)])
    assert one.verdict is verdict, render([one])


def test_three_ap_views_wait_for_a_person() -> None:
    one = explained("covid-chest-radiograph", [radiograph(1, number) for number in (1, 2, 3)])
    assert one.verdict is RuleVerdict.REVIEW
    assert one.review == "3 images are candidates for input frontal, more than 2"
    assert "! input frontal: 3 images" in render([one])
