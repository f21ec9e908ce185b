# SPDX-License-Identifier: Apache-2.0
"""Which results a destination gets, and what is said of those it does not get."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from informatics_gateway.destination_settings import FilterSettings
from profiles import dicom_json
from profiles.dicom_json import DicomJson
from profiles.order import Order
from task_manager.delivery.filtering import FilterProgram
from task_manager.delivery.policy import ResultFilter
from task_manager.study.model import Instance, Series, Study, StudyState
from tests.unit.task_manager.steps import ORDER

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"


def header(**values: str) -> DicomJson:
    return dicom_json.merged([dicom_json.element(name, value) for name, value in values.items()])


def thing(modality: str, sop_class: str, **more: str) -> Instance:
    return Instance(
        sop_instance_uid=f"1.2.{len(modality)}",
        sop_class_uid=sop_class,
        series_instance_uid="1.3",
        study_instance_uid="1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=1,
        path="",
        size=0,
        received_at=NOW,
        attributes=header(Modality=modality, SOPClassUID=sop_class, **more),
    )


THINGS = (thing("SEG", SEG), thing("SR", SR, CompletionFlag="COMPLETE"))
STUDY = Study(
    study_instance_uid="1.4",
    state=StudyState.COMPLETE,
    revision=1,
    attributes=header(PatientName="Doe^Ann"),
    series=(
        Series(
            series_instance_uid="1.9",
            attributes=header(Modality="CT"),
            sop_class_uids=("1.2.840.10008.5.1.4.1.1.2",),
            number_of_instances=3,
        ),
    ),
    first_received_at=NOW,
    last_received_at=NOW,
    deadline_at=None,
)


def program(**asked: Any) -> FilterProgram:
    """A filter as it would be read from the settings."""
    given = FilterSettings.model_validate(asked)
    results = ResultFilter(apps=given.apps, rules=given.rules, when=given.when, objects=given.objects)
    return FilterProgram(results)


@pytest.mark.parametrize(
    ("asked", "order", "goes", "why"),
    [
        pytest.param({}, ORDER, ["SEG", "SR"], "", id="no filter"),
        pytest.param({"apps": ["lung-ct"]}, ORDER, ["SEG", "SR"], "", id="its app"),
        pytest.param(
            {"apps": ["head-mr", "knee"]},
            ORDER,
            [],
            "filter: app lung-ct is none of head-mr, knee",
            id="another app",
        ),
        pytest.param({"rules": ["x"]}, ORDER, [], "filter: rule every-ct is none of x", id="another rule"),
        pytest.param({"when": {"Modality": "CT"}}, ORDER, ["SEG", "SR"], "", id="study"),
        pytest.param(
            {"when": {"Modality": "MR"}},
            ORDER,
            [],
            "filter: Modality equals 'MR' is false ('CT')",
            id="not so",
        ),
        pytest.param({"when": {"order.Priority": "HIGH"}}, ORDER, ["SEG", "SR"], "", id="order"),
        pytest.param(
            {"when": {"order.Priority": "HIGH"}},
            None,
            [],
            "filter: order.Priority equals 'HIGH' is unknown (there is no order)",
            id="unknown does not hold",
        ),
        pytest.param(
            {"when": {"PatientName": "Roe*"}},
            ORDER,
            [],
            "filter: PatientName equals 'Roe*' is false ((not shown: patient data))",
            id="no names are told",
        ),
        pytest.param(
            {"objects": {"SOPClassUID": SR}},
            ORDER,
            ["SR"],
            f"filter left 1 of 2 objects out: SOPClassUID equals '{SR}' is false ('{SEG}')",
            id="one class",
        ),
        pytest.param({"objects": {"Modality": ["SR", "SEG"]}}, ORDER, ["SEG", "SR"], "", id="two modalities"),
        pytest.param(
            {"objects": {"not": {"CompletionFlag": "PARTIAL"}}},
            ORDER,
            ["SR"],
            "filter left 1 of 2 objects out: CompletionFlag equals 'PARTIAL' is unknown (no value)",
            id="status of the report",
        ),
    ],
)
def test_chosen(asked: dict[str, Any], order: Order | None, goes: list[str], why: str) -> None:
    chosen = program(**asked).chosen(THINGS, app="lung-ct", rule="every-ct", study=STUDY, order=order)
    modalities = [dicom_json.text(one.attributes, "Modality") for one in chosen.instances]
    assert (modalities, chosen.why) == (goes, why)


def test_a_condition_that_cannot_be_read_is_a_fault() -> None:
    with pytest.raises(ValueError, match="Modalty"):
        program(when={"Modalty": "CT"})
