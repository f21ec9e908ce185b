# SPDX-License-Identifier: Apache-2.0
"""Whole workitems: the same whether what lasts of them is known or read."""

from __future__ import annotations

import orjson
from sqlalchemy import text as sql

from profiles.dicom_json import DicomJson, element, text
from task_manager.outcome import Accepted
from task_manager.ports import WorkitemQuery
from task_manager.store.contents import Contents
from task_manager.store.searching import search_pages
from task_manager.store.workitems import texts
from task_manager.workitem.commands import ChangeState, Rearrange
from tests.contract.workitems import minimal
from tests.service import PERFORMER, TestBed

UIDS = ["2.25.70", "2.25.71", "2.25.72"]
LOCK = "2.25.79"


def _create(bed: TestBed) -> None:
    for uid in UIDS:
        outcome = bed.service.worklist.create_workitem(uid, minimal(PatientID=f"P{uid}"), actor=PERFORMER)
        assert isinstance(outcome, Accepted)


def _parsed(found: list[bytes | None]) -> list[DicomJson | None]:
    return [None if one is None else orjson.loads(one) for one in found]


def test_known_contents_are_not_read_again(bed: TestBed) -> None:
    _create(bed)
    known = Contents()
    with bed.database.read() as connection:
        first = _parsed(texts(connection, [*UIDS, "2.25.99"], known))
        one = _parsed(texts(connection, UIDS[:1], known))
    assert [text(found, "PatientID") for found in first if found] == [f"P{uid}" for uid in UIDS]
    assert (first[-1], one) == (None, first[:1])
    with bed.database.write() as connection:
        connection.execute(sql("UPDATE workitem_content SET attributes = '{}', summary = '{}'"))
    with bed.database.read() as connection:
        assert _parsed(texts(connection, UIDS, known)) == first[:3]
        assert _parsed(texts(connection, UIDS)) != first[:3]


def test_what_moves_is_read_each_time(bed: TestBed) -> None:
    _create(bed)
    known = Contents()
    with bed.database.read() as connection:
        texts(connection, UIDS, known)
    claim = ChangeState(state="IN PROGRESS", transaction_uid=LOCK)
    assert isinstance(bed.service.worklist.submit(UIDS[1], claim, actor=PERFORMER).result(), Accepted)
    with bed.database.read() as connection:
        found = _parsed(texts(connection, UIDS, known))
    assert [text(one or {}, "ProcedureStepState") for one in found] == [
        "SCHEDULED",
        "IN PROGRESS",
        "SCHEDULED",
    ]


def test_one_that_is_not_known_among_others_is_read(bed: TestBed) -> None:
    _create(bed)
    known = Contents()
    query = WorkitemQuery(matching=element("ProcedureStepState", "SCHEDULED"), limit=9, returned=None)
    with bed.database.read() as connection:
        texts(connection, UIDS[:2], known)
        assert len(search_pages(connection, [query], known)[0].results) == 3
    with bed.service.worklist.transact() as work:
        changes = element("CommentsOnTheScheduledProcedureStep", "urgent")
        assert isinstance(work.apply(UIDS[0], Rearrange(changes=changes), actor=PERFORMER), Accepted)
    with bed.database.read() as connection:
        page = search_pages(connection, [query], known)[0]
        summary = WorkitemQuery(matching=query.matching, limit=9)
        summaries = search_pages(connection, [summary], known)[0]
    found = [orjson.loads(one) for one in page.results]
    assert [text(one, "CommentsOnTheScheduledProcedureStep") for one in found] == ["urgent", "", ""]
    assert [text(orjson.loads(one), "SOPInstanceUID") for one in summaries.results] == UIDS
    assert all(len(less) < len(more) for less, more in zip(summaries.results, page.results, strict=True))
