# SPDX-License-Identifier: Apache-2.0
"""Attribute matching, type by type: PS3.4 C.2.2.2."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.dicom_json import DicomJson, element, merged
from profiles.ups.matching import key_faults, matches, parse_range, wildcard_matches
from tests.contract.workitems import code, instances, minimal, request

WORKITEM = minimal(
    PatientName={"Alphabetic": "Yamada^Tarou^^Dr", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
    PatientID="P-001",
    PatientBirthDate="19700101",
    IssuerOfPatientID=(),
    ProcedureStepLabel="Lung analysis*",
    ScheduledProcedureStepStartDateTime="20260301120000+0100",
    StudyInstanceUID="1.2.3",
    AdmittingDiagnosesDescription=("cough", "fever"),
    ScheduledStationNameCodeSequence=(code("PERF1", "L", "One"), code("PERF2", "99X", "Two")),
    ScheduledWorkitemCodeSequence=code("AW1001", "99AIRWAY", "Lung"),
    ReferencedRequestSequence=(
        request(AccessionNumber="A1", RequestedProcedureID="RP1", IssueTimeOfImagingServiceRequest="1030"),
        request(
            AccessionNumber="A2",
            RequestedProcedureID="RP2",
            RequestedProcedureCodeSequence=code("C1", "L", "CT"),
        ),
    ),
    InputInformationSequence=instances(count=2),
    PregnancyStatus=4,
    PatientWeight="71.50",
)

Case = tuple[str, DicomJson, bool]
START = "ScheduledProcedureStepStartDateTime"
STATION = "ScheduledStationNameCodeSequence"
REQUEST = "ReferencedRequestSequence"
CASES: list[Case] = [
    # Single value (C.2.2.2.1)
    ("single value", element("PatientID", "P-001"), True),
    ("single value of another", element("PatientID", "P-002"), False),
    ("case-sensitive", element("PatientID", "p-001"), False),
    ("padding is not significant", element("PatientID", " P-001 "), True),
    ("part of a value", element("PatientID", "P-0"), False),
    ("state", element("ProcedureStepState", "SCHEDULED"), True),
    ("US by number", element("PregnancyStatus", 4), True),
    ("US as text", element("PregnancyStatus", "4"), True),
    ("US of another", element("PregnancyStatus", 1), False),
    ("DS by value", element("PatientWeight", "71.5"), True),
    ("DS no number", element("PatientWeight", "heavy"), False),
    # Universal (C.2.2.2.3)
    ("universal, value there", element("PatientID"), True),
    ("universal, value empty", element("IssuerOfPatientID"), True),
    ("universal, attribute absent", element("MedicalAlerts"), True),
    ("asterisk alone", element("MedicalAlerts", "*"), True),
    ("asterisk alone on a name", element("PatientName", "*"), True),
    ("universal sequence", element(STATION), True),
    (
        "sequence of universal keys only",
        element("ReplacedProcedureStepSequence", element("ReferencedSOPInstanceUID")),
        True,
    ),
    ("sequence of an empty item", element("ReplacedProcedureStepSequence", {}), True),
    # Empty stored values (K.2.2.1.1.1)
    ("empty stored value", element("IssuerOfPatientID", "SITE"), False),
    ("empty stored sequence", element("ScheduledStationClassCodeSequence", element("CodeValue", "X")), False),
    ("absent attribute", element("MedicalAlerts", "latex"), False),
    # Wild cards (C.2.2.2.4)
    ("asterisk", element("PatientID", "P*"), True),
    ("asterisk for nothing", element("PatientID", "P-001*"), True),
    ("question mark", element("PatientID", "P-00?"), True),
    ("question mark needs one", element("PatientID", "P-001?"), False),
    ("inner asterisk", element("PatientID", "*-*1"), True),
    ("wild card case-sensitive", element("PatientID", "p*"), False),
    ("no wild card in DA", element("PatientBirthDate", "1970*"), False),
    ("no wild card in UI", element("StudyInstanceUID", "1.2.*"), False),
    ("code value", element("ScheduledWorkitemCodeSequence", element("CodeValue", "AW1*")), True),
    # Names
    ("name of all groups", element("PatientName", "Yamada^Tarou^^Dr=山田^太郎=やまだ^たろう"), True),
    ("name without case", element("PatientName", "yamada^TAROU^^dr"), True),
    ("name by wild card", element("PatientName", "yam*"), True),
    ("name in another group", element("PatientName", "山田*"), True),
    ("name of the second group only", element("PatientName", "=山田^太郎"), True),
    ("name in the wrong group", element("PatientName", "=Yamada*"), False),
    ("trailing delimiters", element("PatientName", "Yamada^Tarou^^Dr^"), True),
    ("name of another", element("PatientName", "Doe*"), False),
    ("family name only is not the name", element("PatientName", "Yamada"), False),
    ("name as an object", element("PatientName", {"Alphabetic": "Yamada*", "Ideographic": "山田*"}), True),
    (
        "name as an object, one group wrong",
        element("PatientName", {"Alphabetic": "Y*", "Ideographic": "川*"}),
        False,
    ),
    # Dates and times (C.2.2.2.5)
    ("DA single", element("PatientBirthDate", "19700101"), True),
    ("DA range", element("PatientBirthDate", "19691231-19700101"), True),
    ("DA range before", element("PatientBirthDate", "-19691231"), False),
    ("DA range from", element("PatientBirthDate", "19700101-"), True),
    ("DT in another offset", element(START, "20260301110000+0000"), True),
    ("DT without offset is UTC", element(START, "20260301110000"), True),
    ("DT by day", element(START, "20260301"), True),
    ("DT by year", element(START, "2026"), True),
    ("DT of another day", element(START, "20260302"), False),
    ("DT range of days", element(START, "20260228-20260301"), True),
    ("DT range with offsets", element(START, "20260301115959+0100-20260301120000+0100"), True),
    ("DT range with negative offsets", element(START, "20260301050000-0600-20260301060000-0600"), True),
    ("DT range that ended", element(START, "20260228-20260301105959+0000"), False),
    ("DT open range", element(START, "20260301110000+0000-"), True),
    ("DT open range later", element(START, "20260301110001+0000-"), False),
    ("DT backwards", element(START, "20260302-20260228"), False),
    ("TM range", element(REQUEST, element("IssueTimeOfImagingServiceRequest", "10-11")), True),
    ("TM range missed", element(REQUEST, element("IssueTimeOfImagingServiceRequest", "1031-11")), False),
    # List of UID (C.2.2.2.2)
    ("UID", element("StudyInstanceUID", "1.2.3"), True),
    ("UID list", element("StudyInstanceUID", "1.2.9", "1.2.3"), True),
    ("UID list by backslash", element("StudyInstanceUID", "1.2.9\\1.2.3"), True),
    ("UID list without it", element("StudyInstanceUID", "1.2.9", "1.2.30"), False),
    # Sequences (C.2.2.2.6)
    ("any item", element(STATION, element("CodeValue", "PERF2")), True),
    (
        "one item has both",
        element(STATION, merged([element("CodeValue", "PERF2"), element("CodingSchemeDesignator", "99X")])),
        True,
    ),
    (
        "no item has both",
        element(STATION, merged([element("CodeValue", "PERF2"), element("CodingSchemeDesignator", "L")])),
        False,
    ),
    ("code meaning is never matched", element(STATION, element("CodeMeaning", "Nobody")), True),
    (
        "sequence in a sequence",
        element(REQUEST, element("RequestedProcedureCodeSequence", element("CodeValue", "C1"))),
        True,
    ),
    (
        "sequence in a sequence with its sibling",
        element(
            REQUEST,
            merged(
                [
                    element("AccessionNumber", "A1"),
                    element("RequestedProcedureCodeSequence", element("CodeValue", "C1")),
                ]
            ),
        ),
        False,
    ),
    (
        "input by instance",
        element(
            "InputInformationSequence",
            element("ReferencedSOPSequence", element("ReferencedSOPInstanceUID", "1.2.3.4.2")),
        ),
        True,
    ),
    # Multiple values (K.2.2.3)
    ("one of several values", element("AdmittingDiagnosesDescription", "fever"), True),
    ("none of several values", element("AdmittingDiagnosesDescription", "pain"), False),
    # Never matched
    ("character set", element("SpecificCharacterSet", "ISO_IR 6"), True),
    ("time zone", element("TimezoneOffsetFromUTC", "+0100"), True),
    (
        "progress",
        element("ProcedureStepProgressInformationSequence", element("ProcedureStepProgress", "5")),
        True,
    ),
    ("parameters", element("ScheduledProcessingParametersSequence", element("ValueType", "TEXT")), True),
    # All keys
    ("all keys", merged([element("PatientID", "P-001"), element("StudyInstanceUID", "1.2.3")]), True),
    ("one key fails", merged([element("PatientID", "P-001"), element("StudyInstanceUID", "1.2.4")]), False),
    ("no keys", {}, True),
]


@pytest.mark.parametrize(("keys", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_matching(keys: DicomJson, expected: bool) -> None:
    assert matches(keys, WORKITEM) is expected
    assert key_faults(keys) == () or not expected


@pytest.mark.parametrize(
    ("keys", "paths"),
    [
        pytest.param(element("TransactionUID"), ["TransactionUID"], id="transaction-uid"),
        pytest.param(element(START, "soon"), [START], id="no-time"),
        pytest.param(element(START, "-"), [START], id="range-without-ends"),
        pytest.param(element(START, "20260302-20260228"), [START], id="backwards"),
        pytest.param(element("PatientBirthDate", "1970*"), ["PatientBirthDate"], id="wild-date"),
        pytest.param(element("StudyInstanceUID", "1.2.*"), ["StudyInstanceUID"], id="wild-uid"),
        pytest.param(element("PregnancyStatus", "four"), ["PregnancyStatus"], id="no-number"),
        pytest.param(element("PatientID", "a", "b"), ["PatientID"], id="two-values"),
        pytest.param(element(STATION, {}, {}), [STATION], id="two-items"),
        pytest.param(
            element(REQUEST, element("IssueDateOfImagingServiceRequest", "x")),
            [f"{REQUEST}.IssueDateOfImagingServiceRequest"],
            id="nested",
        ),
        pytest.param(element("PatientID", "x" * 2000), ["PatientID"], id="endless"),
        pytest.param(element("PixelData", "x"), ["PixelData"], id="binary"),
    ],
)
def test_keys_that_are_none(keys: DicomJson, paths: list[str]) -> None:
    assert [fault.path for fault in key_faults(keys)] == paths


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("**", "abc", True),
        ("?", "", False),
        ("a?c", "abc", True),
        ("a*c", "ac", True),
        ("a*c", "abcb", False),
        ("*a*b", "xaxxb", True),
        ("a*b*c", "aXbXbc", True),
        ("[a]", "a", False),
        (".*", "x", False),
    ],
)
def test_wildcards(pattern: str, text: str, expected: bool) -> None:
    assert wildcard_matches(pattern, text) is expected


def test_a_hostile_wildcard_takes_no_time() -> None:
    started = time.process_time()
    assert not wildcard_matches("*a" * 200 + "b", "a" * 2000)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("vr", "text", "low", "high"),
    [
        ("DT", "20260101-0500", "2026-01-01T05:00", "2026-01-02T05:00"),
        ("DT", "20260101-2030", "2026-01-01T00:00", "2031-01-01T00:00"),
        ("DT", "2026-", "2026-01-01T00:00", None),
        ("DT", "-2026", None, "2027-01-01T00:00"),
        ("DA", "20260101-20260102", "2026-01-01T00:00", "2026-01-03T00:00"),
    ],
)
def test_ranges(vr: str, text: str, low: str | None, high: str | None) -> None:
    found = parse_range(vr, text)
    assert found is not None
    assert (found.low.start.isoformat()[:16] if found.low else None) == low
    assert (found.high.end.isoformat()[:16] if found.high else None) == high


KEYS: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(sorted(WORKITEM)),
    st.fixed_dictionaries(
        {
            "vr": st.sampled_from(["LO", "SQ", "DT"]),
            "Value": st.lists(
                st.none()
                | st.text(max_size=20)
                | st.integers()
                | st.dictionaries(
                    st.sampled_from(["00080100", "00080050"]),
                    st.fixed_dictionaries({"Value": st.lists(st.text())}),
                ),
                max_size=3,
            ),
        }
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(keys=KEYS)
def test_any_keys_have_an_answer(keys: DicomJson) -> None:
    assert isinstance(key_faults(keys), tuple)
    assert matches(keys, WORKITEM) in (True, False)
