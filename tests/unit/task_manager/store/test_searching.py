# SPDX-License-Identifier: Apache-2.0
"""Searches of the store answer what matching in memory answers, and by an index where there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text as sql

from profiles.dicom_json import DicomJson, element, merged, tag_key
from profiles.ups.matching import key_faults
from task_manager.outcome import Accepted
from task_manager.ports import SearchPage, WorkitemQuery
from task_manager.store.contents import Contents
from task_manager.store.searching import search_pages
from task_manager.workitem.commands import ChangeState, Create
from task_manager.workitem.memory import MemoryWorklist
from tests.contract.workitems import NOW, code, minimal, request
from tests.service import PERFORMER, TestBed, make_service

_CODES = ("AW1", "AW2", "AW*", "aw1")
_SCHEMES = ("99A", "L")
_NAMES = ("A", "A B", "a", "B", "Ä", "A?")
_STUDIES = ("1.2", "1.2.3", "1.20")
_STARTS = ("20260301120000+0000", "20260301130000+0100", "20260302", "2026")
_PATIENTS = ({"Alphabetic": "Doe^Jane"}, {"Alphabetic": "DOE^JOHN"})

_some = st.sampled_from
_code = st.builds(code, _some(_CODES), _some(_SCHEMES))
_codes = st.lists(_code, max_size=2).map(tuple)
_human = st.builds(
    lambda of, name: (
        merged([element("HumanPerformerCodeSequence", of), element("HumanPerformerName", "D^J")])
        | element("HumanPerformerOrganization", name)
    ),
    _code,
    _some(_NAMES),
)
_workitem = st.fixed_dictionaries(
    {
        "ScheduledProcedureStepPriority": _some(("HIGH", "MEDIUM", "LOW")),
        "ProcedureStepLabel": _some(_NAMES),
        "WorklistLabel": _some(("", *_NAMES)),
        "ScheduledProcedureStepStartDateTime": _some(_STARTS),
        "InputReadinessState": _some(("READY", "INCOMPLETE")),
        "ScheduledWorkitemCodeSequence": st.lists(_code, max_size=1).map(tuple),
        "ScheduledStationNameCodeSequence": _codes,
        "ScheduledStationClassCodeSequence": _codes,
        "PatientID": _some(("P1", "p1", "P 1", "P*")),
        "PatientName": _some(_PATIENTS),
        "StudyInstanceUID": _some(_STUDIES),
        "ReferencedRequestSequence": st.lists(
            st.builds(lambda number: request(AccessionNumber=number), _some(("A1", "A2", "a1"))), max_size=2
        ).map(tuple),
        "CommentsOnTheScheduledProcedureStep": _some(("", "urgent", "please")),
    },
    optional={"ScheduledHumanPerformersSequence": st.lists(_human, min_size=1, max_size=2).map(tuple)},
)


def _text_key(*values: str) -> st.SearchStrategy[Any]:
    return _some(("", "*", "A*", "?", " ", *values, *(f" {value} " for value in values)))


def _item_key(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An item of keys with some of `parts`, by keyword; sometimes no item."""
    item = st.fixed_dictionaries({}, optional=parts).map(
        lambda chosen: merged(element(keyword, value) for keyword, value in chosen.items())
    )
    return st.one_of(item, item, item, st.just(None))


_CODE_KEY = _item_key(
    CodeValue=_text_key(*_CODES), CodingSchemeDesignator=_text_key(*_SCHEMES), CodeMeaning=_text_key("Lung*")
)
_keys = st.fixed_dictionaries(
    {},
    optional={
        "ScheduledProcedureStepPriority": _text_key("HIGH", "MEDIUM", "LOW"),
        "ProcedureStepLabel": _text_key(*_NAMES),
        "WorklistLabel": _text_key(*_NAMES),
        "ScheduledProcedureStepStartDateTime": _some(
            ("", "20260301", "20260301-20260302", "2026", "-20260301")
        ),
        "InputReadinessState": _text_key("READY", "INCOMPLETE", "UNAVAILABLE"),
        "ProcedureStepState": _text_key("SCHEDULED", "IN PROGRESS"),
        "ScheduledWorkitemCodeSequence": _CODE_KEY,
        "ScheduledStationNameCodeSequence": _CODE_KEY,
        "ScheduledStationClassCodeSequence": _CODE_KEY,
        "ScheduledHumanPerformersSequence": _item_key(
            HumanPerformerOrganization=_text_key(*_NAMES),
            HumanPerformerName=_text_key("d^j"),
            HumanPerformerCodeSequence=_CODE_KEY,
        ),
        "PatientID": _text_key("P1", "p1", "P 1", "P*"),
        "PatientName": _text_key("doe^j*", "DOE^JANE"),
        "StudyInstanceUID": _some(("", *_STUDIES, ("1.2", "1.2.3"), "1.2\\1.20")),
        "SOPInstanceUID": _some(("", "1.5.1", ("1.5.1", "1.5.2"), "1.5.9")),
        "ReferencedRequestSequence": _item_key(
            AccessionNumber=_text_key("A1", "A2"),
            RequestedProcedureID=_text_key("RP1"),
            StudyInstanceUID=_some(("1.2.3",)),
        ),
        "CommentsOnTheScheduledProcedureStep": _text_key("urgent"),
        "AdmissionID": _text_key("X"),
        "AccessionNumber": _text_key("A1"),
    },
)
_returned = st.one_of(
    st.none(),
    st.frozensets(
        _some(("PatientID", "PatientName", "AdmissionID", "ReferencedRequestSequence", "Manufacturer")).map(
            tag_key
        )
    ),
)


def _matching(keys: dict[str, Any]) -> DicomJson:
    return merged(
        element(keyword, *(value if isinstance(value, tuple) else (value,)))
        for keyword, value in keys.items()
    )


@pytest.fixture
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url)
    made.clock.now = NOW
    yield made
    made.database.close()


_BOTH = pytest.mark.parametrize(
    "bed", ["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)], indirect=True
)


@_BOTH
def test_a_search_finds_what_matching_in_memory_finds(bed: TestBed) -> None:
    stored = bed.service.worklist

    @settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        items=st.lists(_workitem, min_size=1, max_size=6),
        claimed=st.integers(0, 6),
        older=st.integers(0, 6),
        searches=st.lists(
            st.tuples(_keys, _returned, st.integers(0, 3), st.integers(0, 4)), min_size=4, max_size=8
        ),
    )
    def run(
        items: list[dict[str, Any]],
        claimed: int,
        older: int,
        searches: list[tuple[dict[str, Any], frozenset[str] | None, int, int]],
    ) -> None:
        with bed.database.write() as connection:
            connection.execute(sql("DELETE FROM workitem"))
        memory = MemoryWorklist(bed.clock)
        commands: list[tuple[str, Create | ChangeState]] = []
        for number, given_values in enumerate(items):
            uid = f"1.5.{number + 1}"
            commands.append((uid, Create(uid=uid, attributes=minimal(**given_values))))
            if number == claimed:
                commands.append((uid, ChangeState(state="IN PROGRESS", transaction_uid="1.9")))
        for worklist in (stored, memory):
            done = [worklist.submit(uid, command, actor=PERFORMER) for uid, command in commands]
            assert all(isinstance(one.result(), Accepted) for one in done)
        with bed.database.write() as connection:  # as the first release wrote it
            connection.execute(
                sql("UPDATE workitem SET summary = '' WHERE uid = :uid"), {"uid": f"1.5.{older}"}
            )
        for keys, returned, offset, limit in searches:
            matching = _matching(keys)
            if key_faults(matching):
                continue
            query = WorkitemQuery(matching=matching, offset=offset, limit=limit, returned=returned)
            assert _content(stored.search(query).result()) == _content(memory.search(query).result()), keys

    run()


def _content(page: SearchPage) -> tuple[list[DicomJson], int]:
    return [orjson.loads(one) for one in page.results], page.remaining


def _in(sequence: str, **keys: str) -> DicomJson:
    return element(sequence, merged(element(keyword, value) for keyword, value in keys.items()))


_STATE = element("ProcedureStepState", "SCHEDULED")
_CODE = _in("ScheduledWorkitemCodeSequence", CodeValue="AW1", CodingSchemeDesignator="99A")
_STATION = _in("ScheduledStationNameCodeSequence", CodeValue="S1")


@pytest.mark.parametrize("bed", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("matching", "index", "sorts"),
    [
        ({}, "workitem_sorted", False),
        (_STATE, "workitem_state", False),
        (_STATE | _CODE, "workitem_queue", False),
        (_STATE | _CODE | element("InputReadinessState", "READY"), "workitem_queue", False),
        (_STATE | _STATION, "workitem_station", False),
        (_STATE | _in("ScheduledStationClassCodeSequence", CodeValue="C1"), "workitem_class", False),
        (element("PatientID", "P1"), "workitem_patient", True),
        (element("StudyInstanceUID", "1.2"), "workitem_study", True),
        (_in("ReferencedRequestSequence", AccessionNumber="A1"), "workitem_accession", True),
        (element("SOPInstanceUID", "1.2"), "sqlite_autoindex_workitem_1", False),
    ],
    ids=(
        *("all", "state", "state and code", "state, readiness and code", "station and state"),
        *("class and state", "patient", "study", "accession number", "uid"),
    ),
)
def test_a_common_search_goes_by_an_index(bed: TestBed, matching: DicomJson, index: str, sorts: bool) -> None:
    query = WorkitemQuery(matching=matching, limit=50, returned=frozenset())
    asked: list[str] = []
    with bed.database.read() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.set_trace_callback(asked.append)
        search_pages(connection, [query], Contents())[0]
        driver.set_trace_callback(None)
        statements = [one for one in asked if one.startswith("SELECT")]
        plans = [
            " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}").all())
            for one in statements
        ]
    assert plans
    assert all(f"INDEX {index}" in plan for plan in plans), plans
    assert any("TEMP B-TREE" in plan for plan in plans) == sorts, plans


@pytest.mark.parametrize("bed", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("matching", "index"),
    [
        pytest.param({}, "workitem_sorted", id="all"),
        pytest.param(_STATE, "workitem_state", id="state"),
        pytest.param(_STATE | _CODE, "workitem_", id="state and code"),
        pytest.param(_STATE | _STATION, "workitem_station", id="station and state"),
    ],
)
def test_postgresql_reads_a_page_along_its_index(bed: TestBed, matching: DicomJson, index: str) -> None:
    """Nothing is sorted, in whatever locale the database is: as long as a page, however long the worklist."""
    query = WorkitemQuery(matching=matching, limit=50)
    with bed.database.read() as connection:
        for other in ("seqscan", "bitmapscan"):
            connection.exec_driver_sql(f"SET LOCAL enable_{other} = off")  # which suit a table of no rows
        for _ in range(7):
            search_pages(connection, [query], Contents())[0]
        prepared = connection.exec_driver_sql(
            "SELECT name, statement FROM pg_prepared_statements WHERE statement LIKE '%% OFFSET %%'"
        ).all()
        plans = [
            connection.exec_driver_sql(f"EXPLAIN EXECUTE {name}({_values(statement)})").scalars().all()
            for name, statement in prepared
        ]
    assert plans
    told = " ".join(line for plan in plans for line in plan)
    assert f"using {index}" in told
    assert "Sort" not in told


def _values(statement: str) -> str:
    """As many as the statement has; it is only explained."""
    return ", ".join(["'1'"] * len(set(re.findall(r"\$\d+", statement))))
