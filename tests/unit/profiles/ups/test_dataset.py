# SPDX-License-Identifier: Apache-2.0
"""Reading DICOM JSON from peers."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.ups.dataset import MAX_COUNTED, MAX_DEPTH, MAX_FAULTS, MAX_ITEMS, path_of, read_dataset


def nested(depth: int) -> dict[str, Any]:
    item: dict[str, Any] = {}
    for _ in range(depth):
        item = {"00404018": {"vr": "SQ", "Value": [item]}}
    return item


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        pytest.param({"0040a370": {"vr": "SQ"}}, {"0040A370": {"vr": "SQ"}}, id="keys-become-upper-case"),
        pytest.param(
            {"00741204": {"Value": ["x"]}}, {"00741204": {"vr": "LO", "Value": ["x"]}}, id="vr-missing"
        ),
        pytest.param(
            {"00741000": {"vr": "LT", "Value": ["READY"]}},
            {"00741000": {"vr": "CS", "Value": ["READY"]}},
            id="vr-of-the-dictionary",
        ),
        pytest.param({"00741204": {"vr": "LO", "Value": []}}, {"00741204": {"vr": "LO"}}, id="empty-array"),
        pytest.param({"00741204": {"vr": "LO", "Value": [None]}}, {"00741204": {"vr": "LO"}}, id="null"),
        pytest.param({"00741204": {"vr": "LO", "Value": [""]}}, {"00741204": {"vr": "LO"}}, id="empty-text"),
        pytest.param(
            {"00741204": {"vr": "LO", "Value": ["  "]}}, {"00741204": {"vr": "LO"}}, id="only-spaces"
        ),
        pytest.param({"00741204": {"vr": "LO", "Value": None}}, {"00741204": {"vr": "LO"}}, id="no-value"),
        pytest.param(
            {"00100010": {"vr": "PN", "Value": ["Doe^J"]}},
            {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^J"}]}},
            id="name-as-text",
        ),
        pytest.param(
            {"00081080": {"vr": "LO", "Value": ["a", None, "b"]}},
            {"00081080": {"vr": "LO", "Value": ["a", None, "b"]}},
            id="empty-among-several",
        ),
        pytest.param(
            {"00404018": {"vr": "SQ", "Value": [{}]}}, {"00404018": {"vr": "SQ", "Value": [{}]}}, id="item"
        ),
        pytest.param({"00100000": {"vr": "UL", "Value": [5]}}, {}, id="group-length-goes"),
        pytest.param(
            {"00741204": {"vr": "LO"}, "00100010": {"vr": "PN"}},
            {"00100010": {"vr": "PN"}, "00741204": {"vr": "LO"}},
            id="ascending",
        ),
        pytest.param(
            {"00091001": {"vr": "OB", "InlineBinary": "QUJD"}},
            {"00091001": {"vr": "OB", "InlineBinary": "QUJD"}},
            id="private-binary",
        ),
    ],
)
def test_what_is_kept(payload: dict[str, Any], kept: dict[str, Any]) -> None:
    read = read_dataset(payload)
    assert (list(read.attributes.items()), read.faults) == (list(kept.items()), ())


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        pytest.param([], "", id="an-array"),
        pytest.param("text", "", id="text"),
        pytest.param(None, "", id="null"),
        pytest.param({"PatientID": {"vr": "LO"}}, "", id="key-is-a-keyword"),
        pytest.param({"0010": {"vr": "LO"}}, "", id="key-is-short"),
        pytest.param({"00100020": "P1"}, "PatientID", id="element-is-text"),
        pytest.param({"00100020": {"vr": "LO", "Value": "P1"}}, "PatientID", id="value-is-text"),
        pytest.param({"00100020": {"vr": "LO", "Value": {}}}, "PatientID", id="value-is-an-object"),
        pytest.param({"00100020": {"vr": "LO", "Value": [{}, 5]}}, "PatientID", id="too-many"),
        pytest.param({"00100020": {"vr": "LO", "Value": [5]}}, "PatientID", id="value-is-a-number"),
        pytest.param({"00100020": {"vr": "LO", "x": 1}}, "PatientID", id="other-member"),
        pytest.param({"00100020": {"vr": "LO", "BulkDataURI": "http://x"}}, "PatientID", id="bulk-data"),
        pytest.param({"00100020": {"vr": "LO", "InlineBinary": "QUJD"}}, "PatientID", id="binary-text"),
        pytest.param({"00091001": {"Value": ["x"]}}, "(0009,1001)", id="private-without-vr"),
        pytest.param({"00091001": {"vr": "XX"}}, "(0009,1001)", id="private-with-no-vr"),
        pytest.param({"00091001": {"vr": "OB", "Value": [1]}}, "(0009,1001)", id="binary-as-value"),
        pytest.param({"00091001": {"vr": "OB", "InlineBinary": "?"}}, "(0009,1001)", id="not-base64"),
        pytest.param({"7FE00010": {"vr": "OW"}}, "PixelData", id="pixels"),
        pytest.param({"00020010": {"vr": "UI"}}, "TransferSyntaxUID", id="file-meta"),
        pytest.param(
            {"00404018": {"vr": "SQ", "Value": ["x"]}}, "ScheduledWorkitemCodeSequence[0]", id="item-is-text"
        ),
        pytest.param(
            {"00404018": {"vr": "SQ", "Value": [{}, {"00080100": {"vr": "SH", "Value": ["x" * 17]}}]}},
            "ScheduledWorkitemCodeSequence[1].CodeValue",
            id="nested",
        ),
        pytest.param(
            {"00404018": {"vr": "SQ", "Value": [{"00001000": {"vr": "UI"}}]}},
            "ScheduledWorkitemCodeSequence[0].AffectedSOPInstanceUID",
            id="command-element-nested",
        ),
        pytest.param(
            {"0040a370": {"vr": "SQ"}, "0040A370": {"vr": "SQ"}}, "ReferencedRequestSequence", id="twice"
        ),
        pytest.param(
            {"00081080": {"vr": "LO", "Value": ["ok", "x" * 65]}},
            "AdmittingDiagnosesDescription[1]",
            id="one-of-two",
        ),
    ],
)
def test_what_is_refused(payload: Any, path: str) -> None:
    assert [fault.path for fault in read_dataset(payload).faults] == [path]


def test_nesting_is_bounded() -> None:
    assert read_dataset(nested(MAX_DEPTH)).faults == ()
    assert len(read_dataset(nested(MAX_DEPTH + 1)).faults) == 1


def test_faults_are_bounded_and_the_rest_is_counted() -> None:
    bad: dict[str, Any] = {f"0009{n:04X}": {} for n in range(0x1001, 0x1001 + MAX_FAULTS + 5)}
    faults = read_dataset(bad).faults
    assert len(faults) == MAX_FAULTS + 1
    assert faults[-1].message == "5 more faults are not listed"


def test_beyond_a_number_of_faults_nothing_more_is_looked_at() -> None:
    bad = {"00404025": {"vr": "SQ", "Value": [1] * (MAX_COUNTED + MAX_FAULTS + 5)}}
    assert read_dataset(bad).faults[-1].message == f"{MAX_COUNTED} or more faults are not listed"


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)], ids=["as many as may be", "one more"])
def test_the_items_of_all_sequences_are_bounded(more: int, fits: bool) -> None:
    half = MAX_ITEMS // 2
    payload = {
        "00404025": {"vr": "SQ", "Value": [{}] * half},
        "00404026": {"vr": "SQ", "Value": [{}] * (half + more)},
    }
    assert (read_dataset(payload).faults == ()) == fits


def test_faults_name_no_values() -> None:
    payload = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Secret^Name^a^b^c^d"}]}}
    assert all("Secret" not in str(fault) for fault in read_dataset(payload).faults)


@pytest.mark.parametrize(("key", "path"), [("00741000", "ProcedureStepState"), ("00091001", "(0009,1001)")])
def test_paths(key: str, path: str) -> None:
    assert path_of(key) == path
