# SPDX-License-Identifier: Apache-2.0
"""FHIR data types from DICOM values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest

from profiles import codes
from profiles.fhir.datatypes import concept, fhir_date, fhir_date_time, human_names, instant, quantity
from profiles.fhir.identifiers import FhirIdentity

SITE = FhirIdentity(sid_base="https://hospital.example/sid")
CEST = timezone(timedelta(hours=2))
KIND = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


@pytest.mark.parametrize(
    ("da", "date"),
    [
        ("19610214", "1961-02-14"),
        ("1961.02.14", "1961-02-14"),
        ("196102", "1961-02"),
        ("1961", "1961"),
        ("", None),
        ("19611340", None),
        ("20230229", None),
        ("00000000", None),
        ("1961021", None),
        ("19610214-19620101", None),
        ("today", None),
    ],
)
def test_date_is_as_precise_as_the_da(da: str, date: str | None) -> None:
    assert fhir_date(da) == date


@pytest.mark.parametrize(
    ("da", "tm", "zone", "moment"),
    [
        pytest.param("20260504", "091000", CEST, "2026-05-04T09:10:00+02:00", id="whole"),
        pytest.param("20260504", "0910", CEST, "2026-05-04T09:10:00+02:00", id="minutes"),
        pytest.param("20260504", "091059.123456", UTC, "2026-05-04T09:10:59+00:00", id="fraction"),
        pytest.param("20260504", "09", CEST, "2026-05-04", id="hour only"),
        pytest.param("20260504", "", CEST, "2026-05-04", id="no time"),
        pytest.param("20260504", "091000", None, "2026-05-04", id="no zone"),
        pytest.param("20260504", "236160", CEST, "2026-05-04", id="no such time"),
        pytest.param("202605", "091000", CEST, "2026-05", id="partial date"),
        pytest.param("", "091000", CEST, None, id="no date"),
    ],
)
def test_date_time_never_invents_a_zone(da: str, tm: str, zone: tzinfo | None, moment: str | None) -> None:
    assert fhir_date_time(da, tm, zone) == moment


def test_instant_is_utc() -> None:
    assert instant(datetime(2026, 5, 4, 11, 15, 27, tzinfo=CEST)) == "2026-05-04T09:15:27Z"
    assert instant(datetime(2026, 5, 4, 9, 15, 27, 5000, tzinfo=UTC)) == "2026-05-04T09:15:27.005Z"


def test_instant_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"):
        instant(datetime(2026, 5, 4))


@pytest.mark.parametrize(
    ("person_name", "names"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("^^", [], id="carets only"),
        pytest.param("Doe^Jane", [{"text": "Jane Doe", "family": "Doe", "given": ["Jane"]}], id="two parts"),
        pytest.param(
            "Adams^John Robert^Quincy^Rev.^B.A.",
            [
                {
                    "text": "Rev. John Robert Quincy Adams B.A.",
                    "family": "Adams",
                    "given": ["John Robert", "Quincy"],
                    "prefix": ["Rev."],
                    "suffix": ["B.A."],
                }
            ],
            id="PS3.5 6.2.1.1 five parts",
        ),
        pytest.param("^Anonymous", [{"text": "Anonymous", "given": ["Anonymous"]}], id="no family"),
        pytest.param(
            "Müller^Jörg", [{"text": "Jörg Müller", "family": "Müller", "given": ["Jörg"]}], id="latin 1"
        ),
        pytest.param(
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            [
                {
                    "extension": [{"url": KIND, "valueCode": "ABC"}],
                    "text": "Tarou Yamada",
                    "family": "Yamada",
                    "given": ["Tarou"],
                },
                {
                    "extension": [{"url": KIND, "valueCode": "IDE"}],
                    "text": "太郎 山田",
                    "family": "山田",
                    "given": ["太郎"],
                },
                {
                    "extension": [{"url": KIND, "valueCode": "SYL"}],
                    "text": "たろう やまだ",
                    "family": "やまだ",
                    "given": ["たろう"],
                },
            ],
            id="three groups",
        ),
        pytest.param(
            "=山田",
            [{"extension": [{"url": KIND, "valueCode": "IDE"}], "text": "山田", "family": "山田"}],
            id="ideographic only",
        ),
        pytest.param(
            "A^B^C^D^E^F=x=y=z",
            [
                {
                    "extension": [{"url": KIND, "valueCode": "ABC"}],
                    "text": "D B C A E",
                    "family": "A",
                    "given": ["B", "C"],
                    "prefix": ["D"],
                    "suffix": ["E"],
                },
                {"extension": [{"url": KIND, "valueCode": "IDE"}], "text": "x", "family": "x"},
                {"extension": [{"url": KIND, "valueCode": "SYL"}], "text": "y", "family": "y"},
            ],
            id="too many parts and groups",
        ),
    ],
)
def test_human_names(person_name: str, names: list[object]) -> None:
    assert human_names(person_name) == names


def test_concept_of_a_private_scheme_is_text_only() -> None:
    assert concept(codes.Code("X1", "99OTHER", "Shape"), SITE) == {"text": "Shape"}
    assert concept(codes.Code("X1", "99OTHER", ""), SITE) == {"text": "X1"}


def test_concept_keeps_the_code_and_may_say_more_but_claims_no_display() -> None:
    assert concept(codes.LUNG, SITE, text="Lung, left") == {
        "coding": [{"system": "http://snomed.info/sct", "code": "39607008"}],
        "text": "Lung, left",
    }


def test_quantity_has_the_ucum_code() -> None:
    assert quantity(2310.25, codes.MILLILITRE) == {
        "value": 2310.25,
        "unit": "milliliter",
        "system": "http://unitsofmeasure.org",
        "code": "mL",
    }


def test_quantity_of_another_unit_scheme_has_no_code() -> None:
    assert quantity(1.0, codes.Code("au", "99OTHER", "arbitrary")) == {"value": 1.0, "unit": "arbitrary"}
