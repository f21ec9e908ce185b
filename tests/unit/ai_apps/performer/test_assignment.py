# SPDX-License-Identifier: Apache-2.0
"""Whose a workitem is (IHE RAD TF-2 4.82.4.1.1), and what an app cannot do."""

from __future__ import annotations

from typing import Any

import pytest

from ai_apps.manifest import InputRequirements
from ai_apps.performer.assignment import Identity, unfitness
from profiles.codes import Code
from profiles.dicom_json import element, merged

US = Identity(station="AIRWAY", station_class="GPU", organization="Radiology")


def station(*names: str) -> dict[str, Any]:
    return element("ScheduledStationNameCodeSequence", *(Code(n, "L", n).to_json() for n in names))


def station_class(name: str) -> dict[str, Any]:
    return element("ScheduledStationClassCodeSequence", Code(name, "L", name).to_json())


def person(organization: str = "", code: str = "") -> dict[str, Any]:
    parts = [element("HumanPerformerOrganization", organization)] if organization else []
    parts += [element("HumanPerformerCodeSequence", Code(code, "L", code).to_json())] if code else []
    return element("ScheduledHumanPerformersSequence", merged(parts))


@pytest.mark.parametrize(
    ("workitem", "ours"),
    [
        ({}, True),
        (
            merged(
                [element("ScheduledStationNameCodeSequence"), element("ScheduledHumanPerformersSequence")]
            ),
            True,
        ),
        (station("AIRWAY"), True),
        (station("OTHER"), False),
        (station("OTHER", "AIRWAY"), True),
        (merged([station("AIRWAY"), station_class("CPU")]), True),
        (merged([station("OTHER"), station_class("GPU")]), False),
        (station_class("GPU"), True),
        (station_class("CPU"), False),
        (merged([station_class("GPU"), person("Cardiology")]), False),
        (person("Radiology"), True),
        (person("Cardiology"), False),
        (person(code="DR1"), False),
        (person("Radiology", "DR1"), True),
    ],
    ids=[
        "open",
        "open, with empty sequences",
        "station",
        "other station",
        "one of two",
        "station before class",
        "other station of our class",
        "class",
        "other class",
        "class and other organization",
        "organization",
        "other organization",
        "a person",
        "a person of our organization",
    ],
)
def test_assignment(workitem: dict[str, Any], ours: bool) -> None:
    assert US.may_take(workitem) is ours


def test_without_class_and_organization_only_the_station_counts() -> None:
    alone = Identity(station="AIRWAY")
    assert not alone.may_take(station_class("GPU"))
    assert not alone.may_take(person("Radiology"))


@pytest.mark.parametrize(
    ("classes", "required", "fits"),
    [
        (["1.2.1"], ("1.2.1",), True),
        (["1.2.1", "1.2.9"], ("1.2.1",), True),
        (["1.2.9"], ("1.2.1",), False),
        (["1.2.9"], (), True),
        ([], ("1.2.1",), True),
    ],
    ids=["taken", "one of them", "none of them", "takes all", "not told"],
)
def test_inputs_of_another_kind(classes: list[str], required: tuple[str, ...], fits: bool) -> None:
    references = [element("ReferencedSOPClassUID", uid) for uid in classes]
    workitem = element(
        "InputInformationSequence", element("ReferencedSOPSequence", *references) if references else {}
    )
    requires = InputRequirements(modalities=(), sop_class_uids=required, minimum_slices=1)
    assert (unfitness(workitem, requires) == "") is fits
