# SPDX-License-Identifier: Apache-2.0
"""The two parts of a workitem: nothing is lost between them, and a step is told from a rescheduling."""

from __future__ import annotations

import orjson
import pytest

from profiles.dicom_json import DicomJson, element, merged
from profiles.ups.returning import search_result
from task_manager.workitem.parts import (
    lasting_part,
    lasting_summary,
    lasts,
    moving_part,
    moving_summary,
    whole_text,
)
from tests.contract.workitems import minimal, request

PLAIN = minimal(PatientID="P1", StudyInstanceUID="1.2.3", ReferencedRequestSequence=request())
OTHERS = {
    "later private": {"00771010": {"vr": "LO", "Value": ["x"]}},
    "earlier private": {"00091010": {"vr": "LO", "Value": ["x"]}},
    "comments": element("CommentsOnTheScheduledProcedureStep", "urgent"),
    "nothing more": {},
}


@pytest.mark.parametrize("more", OTHERS.values(), ids=OTHERS)
def test_both_parts_are_the_whole_in_tag_order(more: DicomJson) -> None:
    attributes = merged([PLAIN, more])
    lasting, moving = lasting_part(attributes), moving_part(attributes)
    assert list({**lasting, **moving}) == list(attributes)
    text = whole_text(orjson.dumps(lasting), orjson.dumps(moving))
    assert text == orjson.dumps(attributes)


@pytest.mark.parametrize("more", OTHERS.values(), ids=OTHERS)
def test_both_summaries_are_what_a_search_returns(more: DicomJson) -> None:
    attributes = merged([PLAIN, more])
    text = whole_text(orjson.dumps(lasting_summary(attributes)), orjson.dumps(moving_summary(attributes)))
    assert text == orjson.dumps(search_result(attributes, ()))


@pytest.mark.parametrize(
    ("lasting", "moving", "expected"),
    [
        (b'{"a":1}', b'{"b":2}', b'{"a":1,"b":2}'),
        (b"{}", b'{"b":2}', b'{"b":2}'),
        (b'{"a":1}', b"{}", b'{"a":1}'),
        (b"{}", b"{}", b"{}"),
    ],
)
def test_an_empty_part_adds_nothing(lasting: bytes, moving: bytes, expected: bytes) -> None:
    assert whole_text(lasting, moving) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(element("ProcedureStepState", "IN PROGRESS"), True, id="state"),
        pytest.param(element("WorklistLabel", "other"), True, id="label, which moves"),
        pytest.param(element("PatientID", "P1"), False, id="set again to the same"),
        pytest.param(element("PatientID", "P2"), False, id="another value"),
        pytest.param(element("PatientSex", "O"), False, id="one more"),
        pytest.param({}, True, id="nothing"),
    ],
)
def test_what_lasts_lasts_until_some_of_it_is_set(changes: DicomJson, expected: bool) -> None:
    assert lasts(PLAIN, merged([PLAIN, changes])) is expected


def test_what_is_taken_away_does_not_last() -> None:
    fewer = {tag: value for tag, value in PLAIN.items() if tag != "00100020"}
    assert not lasts(PLAIN, fewer)
