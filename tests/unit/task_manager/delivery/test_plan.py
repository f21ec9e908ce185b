# SPDX-License-Identifier: Apache-2.0
"""The order in which the objects of a result are sent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from profiles import dicom_json
from task_manager.delivery.plan import ship_order
from task_manager.study.model import Instance

SEG, SR, KEY_OBJECT, CT, PR = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.59",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.11.1",
)


def thing(name: str, sop_class: str, *refers: str, number: int = 1) -> Instance:
    """An object whose UID ends with `name`, in a series of its own, that refers to others deep inside."""
    items = [dicom_json.element("ReferencedSOPInstanceUID", f"1.2.{other}") for other in refers]
    inner = dicom_json.element("ReferencedSOPSequence", *items)
    return Instance(
        sop_instance_uid=f"1.2.{name}",
        sop_class_uid=sop_class,
        series_instance_uid=f"1.3.{name}",
        study_instance_uid="1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=number,
        path="",
        size=0,
        received_at=datetime(2026, 3, 1, tzinfo=UTC),
        attributes=dicom_json.element("CurrentRequestedProcedureEvidenceSequence", inner) if refers else {},
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(
            [thing("1", SR), thing("2", SEG)], ["2", "1"], id="report last though its series is first"
        ),
        pytest.param(
            [thing("1", SR, "2", "3"), thing("2", SR), thing("3", SEG)],
            ["3", "2", "1"],
            id="root report after the report it refers to",
        ),
        pytest.param(
            [thing("1", KEY_OBJECT, "9"), thing("9", CT), thing("2", SR, "1")],
            ["9", "1", "2"],
            id="a chain",
        ),
        pytest.param([thing("1", PR, "2"), thing("2", CT)], ["2", "1"], id="a presentation after its image"),
        pytest.param([thing("1", SR, "2"), thing("2", SR, "1")], ["2", "1"], id="a ring"),
        pytest.param([thing("1", SR, "1", "77")], ["1"], id="itself and what is not here"),
    ],
)
def test_ship_order(given: list[Instance], expected: list[str]) -> None:
    assert [one.sop_instance_uid.rpartition(".")[2] for one in ship_order(given)] == expected
    assert [one.sop_instance_uid for one in ship_order(reversed(given))] == [
        one.sop_instance_uid for one in ship_order(given)
    ]


def test_a_long_chain_of_references_is_no_deep_recursion() -> None:
    chain = [thing(str(number), CT, str(number + 1)) for number in range(1, 3000)]
    assert ship_order(chain)[0].sop_instance_uid == "1.2.2999"
