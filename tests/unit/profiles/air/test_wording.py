# SPDX-License-Identifier: Apache-2.0
"""What every receiver of a report is told in the same words; its plain text is tested with FHIR."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiles import codes
from profiles.air.model import ReportedEvaluation
from profiles.air.wording import (
    derived_observation_uid,
    is_number,
    measurement_title,
    site_text,
    stated_presence,
)
from profiles.codes import Code
from profiles.uids import is_uid
from tests.reported import DENSITY, FAILED, VOLUME, content, group


def _presence(value: Code) -> ReportedEvaluation:
    return ReportedEvaluation(observation_uid="", name=codes.PRESENCE_OF_PROPERTY, value=value)


@pytest.mark.parametrize(
    ("value", "stated"),
    [(codes.ABSENT, codes.ABSENT), (codes.UNDETERMINED, codes.UNDETERMINED), (codes.PRESENT, None)],
)
def test_presence_is_stated_when_it_is_not_there(value: Code, stated: Code | None) -> None:
    assert stated_presence(group(evaluations=(_presence(value),))) == stated


def test_other_statements_are_no_presence() -> None:
    other = ReportedEvaluation(observation_uid="", name=codes.FINDING, value=codes.ABSENT)
    assert stated_presence(group(evaluations=(other,))) is None
    assert stated_presence(group()) is None


def test_titles_and_sites() -> None:
    assert measurement_title(VOLUME) == "Volume"
    assert measurement_title(DENSITY) == "Attenuation Coefficient (Mean)"
    assert site_text(group()) == "Lung, left"
    assert site_text(group(laterality=None)) == "Lung"
    assert site_text(group(finding_site=None)) == ""


@pytest.mark.parametrize(
    ("value", "number"),
    [(1.5, True), (0.0, True), (None, False), (float("nan"), False), (float("inf"), False)],
)
def test_numbers(value: float | None, number: bool) -> None:
    assert is_number(replace(FAILED, value=value)) is number


def test_observations_without_a_uid_get_one_of_their_place() -> None:
    first = derived_observation_uid(content(), "0.1")
    assert is_uid(first)
    assert first == derived_observation_uid(content(), "0.1")
    others = {
        derived_observation_uid(content(), "0.2"),
        derived_observation_uid(content(sop_instance_uid="2.25.9"), "0.1"),
    }
    assert first not in others
    assert len(others) == 2
