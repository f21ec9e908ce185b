# SPDX-License-Identifier: Apache-2.0
"""Searching the stored studies, on SQLite and on PostgreSQL: what is found, and how much is read for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import event

from profiles import dicom_json
from profiles.dicom_json import DicomJson
from task_manager.study.query import HoldingsQuery, Level
from tests.instances import ct, ct_data_set, part10
from tests.service import TestBed, make_service

ROOT = "1.2.826.0.1.3680043.8.498"
NUMBER = 120


def uid(number: int) -> str:
    return f"{ROOT}.{number}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)], scope="module")
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    url = ""
    if request.param == "postgresql":
        peer = request.getfixturevalue("postgresql")
        url = peer.sqlalchemy_url(peer.create_database())
    made = make_service(tmp_path_factory.mktemp("archive"), url)
    for number in range(1, NUMBER + 1):
        made.clock.pass_(1)
        made.receive(
            ct(1, study=uid(number), PatientID=f"P{number}", StudyDate=f"2026{number % 12 + 1:02}01")
        )
    report = ct_data_set(2, study=uid(7), Modality="SR", SeriesInstanceUID=f"{uid(7)}.9")
    made.receive(part10(report))
    yield made
    made.database.close()


def search(
    bed: TestBed, matching: dict[str, str], level: Level = Level.STUDY, *, offset: int = 0, limit: int = 1000
) -> Sequence[DicomJson]:
    keys = dicom_json.merged(
        dicom_json.element(keyword, *value.split(",")) for keyword, value in matching.items()
    )
    return bed.service.archive.search(HoldingsQuery(level=level, matching=keys, offset=offset, limit=limit))


def found(bed: TestBed, matching: dict[str, str], *, offset: int = 0, limit: int = 1000) -> list[str]:
    answers = search(bed, matching, offset=offset, limit=limit)
    return [dicom_json.text(answer, "StudyInstanceUID") for answer in answers]


@pytest.mark.parametrize(
    ("matching", "numbers"),
    [
        ({"PatientID": "P7"}, [7]),
        ({"PatientID": "P11*"}, [119, 118, 117, 116, 115, 114, 113, 112, 111, 110, 11]),
        ({"StudyInstanceUID": f"{uid(3)},{uid(5)}"}, [5, 3]),
        ({"PatientID": "p7"}, []),
        ({"PatientID": "*19"}, [119, 19]),
        ({"AccessionNumber": "A1", "PatientID": "P7"}, [7]),
        ({"SeriesInstanceUID": f"{uid(7)}.9", "PatientID": "P*"}, []),
        ({"NumberOfStudyRelatedInstances": "2"}, [7]),
        ({"StudyDate": "20260101", "PatientID": "P1?"}, [12]),
        ({"ModalitiesInStudy": "SR"}, [7]),
        ({"ModalitiesInStudy": "SR", "StudyDate": "20260101"}, []),
    ],
)
def test_studies_are_found_newest_first(bed: TestBed, matching: dict[str, str], numbers: list[int]) -> None:
    assert found(bed, matching) == [uid(number) for number in numbers]


def test_pages_join_without_gap(bed: TestBed) -> None:
    pages = [found(bed, {"StudyDate": "2026-"}, offset=offset, limit=50) for offset in (0, 50, 100)]
    assert [len(page) for page in pages] == [50, 50, 20]
    assert [one for page in pages for one in page] == [uid(number) for number in range(NUMBER, 0, -1)]


def test_a_page_takes_a_few_statements_and_its_series_are_those_of_each_study(bed: TestBed) -> None:
    statements = 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1

    event.listen(bed.database.engine, "before_cursor_execute", count)
    try:
        answers = search(bed, {}, limit=100)
    finally:
        event.remove(bed.database.engine, "before_cursor_execute", count)
    assert statements < 10
    assert [dicom_json.first(answer, "NumberOfStudyRelatedSeries") for answer in answers] == [1] * 100
    (study,) = search(bed, {"StudyInstanceUID": uid(7)}, limit=1)
    assert dicom_json.values(study, "ModalitiesInStudy") == ["CT", "SR"]
    assert dicom_json.first(study, "NumberOfStudyRelatedInstances") == 2


@pytest.mark.parametrize(
    ("level", "matching", "uids"),
    [
        (Level.SERIES, {"StudyInstanceUID": uid(7)}, [f"{uid(7)}.1", f"{uid(7)}.9"]),
        (Level.SERIES, {"Modality": "SR"}, [f"{uid(7)}.9"]),
        (Level.SERIES, {"SeriesInstanceUID": f"{uid(7)}.9,{uid(5)}.1"}, [f"{uid(7)}.9", f"{uid(5)}.1"]),
        (Level.SERIES, {"PatientID": "P7", "NumberOfStudyRelatedSeries": "1"}, []),
        (Level.INSTANCE, {"SOPInstanceUID": f"{uid(7)}.1.2"}, [f"{uid(7)}.1.2"]),
        (Level.INSTANCE, {"PatientID": "P7", "Modality": "CT"}, [f"{uid(7)}.1.1"]),
        (Level.INSTANCE, {"ModalitiesInStudy": "SR", "InstanceNumber": "1"}, [f"{uid(7)}.1.1"]),
        (
            Level.INSTANCE,
            {"StudyInstanceUID": uid(9), "AvailableTransferSyntaxUID": "1.2.840.10008.1.2.1"},
            [f"{uid(9)}.1.1"],
        ),
        (Level.INSTANCE, {"SOPClassUID": "1.2.3"}, []),
    ],
)
def test_series_and_instances_are_found_in_all_studies(
    bed: TestBed, level: Level, matching: dict[str, str], uids: list[str]
) -> None:
    keyword = "SeriesInstanceUID" if level is Level.SERIES else "SOPInstanceUID"
    answers = search(bed, matching, level)
    assert sorted(dicom_json.text(answer, keyword) for answer in answers) == sorted(uids)
    assert all(dicom_json.text(answer, "PatientID") for answer in answers)
