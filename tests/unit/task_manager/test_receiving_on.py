# SPDX-License-Identifier: Apache-2.0
"""Images of studies that receive anyway: recorded with less, and the same in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from task_manager.outcome import Accepted, WarningCode
from task_manager.store import studies
from task_manager.study.model import Evidence, Study, StudyState
from tests.instances import STUDY, ct
from tests.service import QUIET, START, TestBed
from tests.unit.task_manager.steps import complete


def study(bed: TestBed) -> Study:
    with bed.database.read() as connection:
        found = studies.whole_study(connection, STUDY)
    assert found is not None
    return found


def change(bed: TestBed, changes: Callable[[Study], Study]) -> None:
    with bed.database.write() as connection:
        known = studies.locked_study(connection, STUDY)
        assert known is not None
        studies.put_study(connection, changes(known), patient_id="P1", accession_number="A1")


def receive(bed: TestBed, numbers: range, *, seconds: float = 1.0) -> None:
    for number in numbers:
        bed.clock.pass_(seconds)
        answer = bed.receive(ct(number))
        assert isinstance(answer, Accepted)
        assert answer.warnings == ()


def test_each_image_puts_the_deadline_off(bed: TestBed) -> None:
    receive(bed, range(1, 6))
    found = study(bed)
    assert found.last_received_at == bed.clock()
    assert found.deadline_at == bed.clock() + QUIET
    assert found.receiving_since == found.first_received_at
    assert [one.number_of_instances for one in found.series] == [5]


def test_a_clock_that_goes_back_moves_nothing_back(bed: TestBed) -> None:
    receive(bed, range(1, 4))
    before = study(bed)
    bed.clock.now = START
    receive(bed, range(4, 6), seconds=0.001)
    found = study(bed)
    assert found.last_received_at == before.last_received_at
    assert found.deadline_at == before.deadline_at
    assert [one.number_of_instances for one in found.series] == [5]


def test_the_same_bytes_and_other_bytes_are_told_apart(bed: TestBed) -> None:
    receive(bed, range(1, 4))
    same, other = bed.receive(ct(2)), bed.receive(ct(2, PatientComments="other"))
    assert isinstance(same, Accepted)
    assert isinstance(other, Accepted)
    assert (same.warnings, other.warnings) == ((WarningCode.DUPLICATE,), (WarningCode.KEPT_APART,))
    receive(bed, range(4, 6))
    assert [one.number_of_instances for one in study(bed).series] == [5]


@pytest.mark.parametrize("claimed", [0, 0x400, 0x7FFFFFFF], ids=hex)
def test_a_length_of_file_meta_that_is_wrong_hides_no_other_bytes(bed: TestBed, claimed: int) -> None:
    def wrong(content: bytes) -> bytes:
        return content[:140] + claimed.to_bytes(4, "little") + content[144:]

    first, other = wrong(ct(1, StudyDescription="one")), wrong(ct(1, StudyDescription="two"))
    answers = [bed.receive(content) for content in (first, other, ct(1, StudyDescription="one"))]
    assert [getattr(answer, "warnings", None) for answer in answers] == [
        (),
        (WarningCode.KEPT_APART,),
        (WarningCode.DUPLICATE,),
    ]


def test_a_new_series_is_recorded_among_images_of_another(bed: TestBed) -> None:
    receive(bed, range(1, 4))
    bed.receive(ct(4, SeriesInstanceUID=f"{STUDY}.2"))
    receive(bed, range(5, 7))
    bed.receive(ct(7, SeriesInstanceUID=f"{STUDY}.2"))
    assert sorted(one.number_of_instances for one in study(bed).series) == [2, 5]


def test_an_image_after_completion_reopens(bed: TestBed) -> None:
    receive(bed, range(1, 4))
    complete(bed)
    assert study(bed).state is StudyState.COMPLETE
    receive(bed, range(4, 7))
    found = study(bed)
    assert (found.state, found.revision, found.completed_at) == (StudyState.RECEIVING, 1, None)
    assert found.deadline_at == bed.clock() + QUIET


@pytest.mark.parametrize(
    "decided",
    [
        lambda known: replace(known, state=StudyState.HELD, deadline_at=None),
        lambda known: replace(known, state=StudyState.DISCARDED, deadline_at=None),
        lambda known: replace(known, evidence=Evidence.PERSON, deadline_at=START),
    ],
    ids=["held", "discarded", "forced"],
)
def test_what_a_person_decided_meanwhile_stays(bed: TestBed, decided: Callable[[Study], Study]) -> None:
    receive(bed, range(1, 4))
    change(bed, decided)
    before = study(bed)
    receive(bed, range(4, 7))
    found = study(bed)
    assert (found.state, found.deadline_at, found.evidence) == (
        before.state,
        before.deadline_at,
        before.evidence,
    )
    assert found.last_received_at == bed.clock()
    assert [one.number_of_instances for one in found.series] == [6]


def test_what_comes_after_a_lost_record_is_recorded_whole(bed: TestBed) -> None:
    receive(bed, range(1, 4))
    with bed.database.write() as connection:
        for table in ("instance", "series", "study"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    receive(bed, range(4, 6))
    assert [one.number_of_instances for one in study(bed).series] == [2]
