# SPDX-License-Identifier: Apache-2.0
"""Which studies are priors: every test with its verdict, the ranking, and that it is kept and told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from task_manager.fetching.prior_search import PatientKey, same_patient
from task_manager.rules.model import All, PriorRequirement, SeriesRequirement, Verdict
from task_manager.rules.prior_outcomes import (
    PriorOutcome,
    PriorStudy,
    prior_from_json,
    prior_lines,
    prior_to_json,
)
from task_manager.rules.prior_selection import PriorCandidate, PriorSubject, ranked_priors

TRUE, FALSE, UNKNOWN = Verdict.TRUE, Verdict.FALSE, Verdict.UNKNOWN
SUBJECT = PriorSubject(
    study_instance_uid="1.1", study_date="20260301", modalities=("CT",), body_parts=("CHEST",)
)
FITS = PriorCandidate(
    study_instance_uid="1.2",
    same_patient=TRUE,
    study_date="20250301",
    modalities=("CT", "SR"),
    body_parts=("Chest",),
    description="CT Thorax nativ",
    places=("pacs",),
)
ANY = PriorRequirement(name="before", series=SeriesRequirement(name="before", where=All(())))


def wanting(**changes: object) -> PriorRequirement:
    return replace(ANY, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "changes", "verdict"),
    [
        (ANY, {}, TRUE),
        (ANY, {"same_patient": FALSE}, FALSE),
        (ANY, {"same_patient": UNKNOWN}, UNKNOWN),
        (ANY, {"study_date": "20260301"}, TRUE),
        (ANY, {"study_date": "20260302"}, FALSE),
        (ANY, {"study_date": ""}, UNKNOWN),
        (ANY, {"study_date": "20251399"}, UNKNOWN),
        (wanting(min_age_days=1), {"study_date": "20260301"}, FALSE),
        (wanting(min_age_days=1), {"study_date": "20260228"}, TRUE),
        (wanting(max_age_days=365), {}, TRUE),
        (wanting(max_age_days=364), {}, FALSE),
        (wanting(modality=("ct",)), {}, TRUE),
        (wanting(modality=("MR",)), {}, FALSE),
        (wanting(modality=("MR", "same")), {}, TRUE),
        (wanting(modality=("same",)), {"modalities": ("MR",)}, FALSE),
        (wanting(modality=("CT",)), {"modalities": ()}, UNKNOWN),
        (wanting(body_part=("CHEST", "THORAX")), {}, TRUE),
        (wanting(body_part=("same",)), {"body_parts": ("HEAD",)}, FALSE),
        (wanting(body_part=("CHEST",)), {"body_parts": ()}, UNKNOWN),
        (wanting(description=("*thorax*",)), {}, TRUE),
        (wanting(description=("*abdomen*", "*head*")), {}, FALSE),
        (wanting(description=("*thorax*",)), {"description": ""}, UNKNOWN),
        (wanting(archives=("pacs",)), {}, TRUE),
        (wanting(archives=("vna",)), {}, FALSE),
        (wanting(archives=("vna",)), {"places": ("store",)}, TRUE),
        (wanting(modality=("MR",)), {"same_patient": UNKNOWN}, FALSE),
    ],
    ids=lambda value: "",
)
def test_one_candidate(wanted: PriorRequirement, changes: dict[str, object], verdict: Verdict) -> None:
    candidate = replace(FITS, **changes)  # type: ignore[arg-type]
    (outcome,) = ranked_priors(wanted, SUBJECT, [candidate])
    assert (outcome.verdict, outcome.selected) == (verdict, verdict is TRUE)


def test_a_study_that_is_looked_at_tells_nothing_of_its_own_part() -> None:
    subject = replace(SUBJECT, body_parts=())
    (outcome,) = ranked_priors(wanting(body_part=("same",)), subject, [FITS])
    assert (outcome.verdict, outcome.tests[-1].asked) == (UNKNOWN, "body part as this study's")


def test_the_newest_come_first_and_the_study_itself_is_none() -> None:
    candidates = [
        replace(FITS, study_instance_uid="1.5", study_date="20240101"),
        replace(FITS, study_instance_uid="1.4", study_date="20250101"),
        replace(FITS, study_instance_uid="1.3", study_date="20250101"),
        replace(FITS, study_instance_uid="1.1", study_date="20260301"),
        replace(FITS, study_instance_uid="1.6", study_date="20260101", same_patient=UNKNOWN),
    ]
    found = ranked_priors(wanting(count=2), SUBJECT, candidates)
    assert [(one.study_instance_uid, one.selected) for one in found] == [
        ("1.3", True),
        ("1.4", True),
        ("1.5", False),
        ("1.6", False),
    ]
    assert [one.reason for one in found] == [
        "selected: place 1 of 3, the newest first",
        "selected: place 2 of 3, the newest first",
        "not selected: place 3 of 3, 2 wanted",
        "not selected: it is not known whether it fits",
    ]
    assert ranked_priors(wanting(count=2), SUBJECT, list(reversed(candidates))) == found


@pytest.mark.parametrize(
    ("one", "other", "is_shared", "verdict"),
    [
        (("P1", "A"), ("P1", "A"), True, TRUE),
        (("P1", "A"), ("P1", "B"), False, FALSE),
        (("P1", "A"), ("P2", "A"), False, FALSE),
        (("P1", "A"), ("P1", ""), False, TRUE),
        (("P1", ""), ("P1", "A"), True, UNKNOWN),
        (("P1", ""), ("P1", ""), False, TRUE),
        (("P1", ""), ("P1", ""), True, UNKNOWN),
        (("", "A"), ("", "A"), False, UNKNOWN),
        (("P1", "A"), ("", "A"), False, UNKNOWN),
    ],
    ids=[
        "same issuer",
        "another issuer",
        "another id",
        "issuer not told, id of one",
        "issuer not told, id of several",
        "neither issuer told, id of one",
        "neither issuer told, id of several",
        "no ids",
        "one id missing",
    ],
)
def test_who_is_the_same_patient(
    one: tuple[str, str], other: tuple[str, str], is_shared: bool, verdict: Verdict
) -> None:
    keys = [PatientKey(patient_id=patient_id, issuer=issuer) for patient_id, issuer in (one, other)]
    assert same_patient(keys[0], keys[1], is_shared=is_shared)[0] is verdict


@pytest.mark.parametrize(
    ("required", "series", "notes", "lacks"),
    [
        (False, (), (), ""),
        (True, ("1.2.1",), ("pacs does not answer",), ""),
        (True, (), (), "prior before: no earlier study fits"),
        (True, (), ("pacs does not answer",), "prior before: pacs does not answer"),
    ],
    ids=["may be missing", "there is one", "none fits", "not known"],
)
def test_what_a_rule_lacks(
    required: bool, series: tuple[str, ...], notes: tuple[str, ...], lacks: str
) -> None:
    studies = (PriorStudy(study_instance_uid="1.2", series=series),) if series else ()
    assert PriorOutcome(name="before", required=required, studies=studies, notes=notes).lacks == lacks


def test_an_outcome_is_kept_and_told() -> None:
    outcome = PriorOutcome(
        name="before",
        required=True,
        parameter="prior_series",
        candidates=ranked_priors(wanting(modality=("CT",)), SUBJECT, [FITS]),
        studies=(PriorStudy(study_instance_uid="1.2", series=("1.2.1", "1.2.2"), note="was here"),),
        notes=("vna does not answer",),
    )
    assert prior_from_json(prior_to_json(outcome)) == outcome
    assert list(prior_lines([outcome])) == [
        "✓ prior before: 1 earlier study, 2 series",
        "  ! vna does not answer",
        "  ✓ study of 20250301, CT/SR",
        "      selected: place 1 of 1, the newest first",
        "      was here",
        "      ✓ same patient",
        "      ✓ made earlier: 365 days before",
        "      ✓ modality is one of CT: CT, SR",
    ]
