# SPDX-License-Identifier: Apache-2.0
"""A database of the first release upgrades with its data, and its workitems go on.

``first_release.json`` holds the rows that release wrote for one study from order to delivery and for
workitems of peers in every state; the tables around them are those of its migration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text
from sqlalchemy.schema import MetaData

import task_manager.store.migrations.versions as migrations
from informatics_gateway.commands.migrate import migrate
from profiles.dicom_json import DicomJson, element, merged
from profiles.dicom_json import text as value_of
from task_manager.actor import Actor
from task_manager.outcome import Accepted, Refused
from task_manager.ports import WorkitemQuery
from task_manager.store.database import Database
from task_manager.store.tables import METADATA
from task_manager.store.workitems import texts
from tests.contract.workitems import performed
from tests.instances import STUDY
from tests.service import TestBed, make_service

ROWS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "first_release.json").read_text(encoding="utf-8")
)
NUMBERED = ("event", "job", "workitem_report")
VIEWER = Actor(door="dicomweb", name="VIEWER", address="127.0.0.1")
PERFORMER = Actor(door="dicomweb", name="PERF1", address="127.0.0.1")
SCHEDULED, CLAIMED, CANCELED, ASKED, COMPLETED = (f"2.25.{number}" for number in range(1001, 1006))
LATER = datetime(2026, 9, 1, 8, tzinfo=UTC)


def fill(database: Database) -> None:
    """Make the tables of the first release and write its rows."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0]).parent))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    tables = MetaData()
    with database.write() as connection:
        tables.reflect(connection)
        for name, rows in ROWS.items():
            assert sorted(tables.tables[name].c.keys()) == sorted(rows[0])
            for row in rows:
                written = {key: value for key, value in row.items() if key != "id" or name not in NUMBERED}
                if name == "message":
                    written["raw"] = str(row["raw"]).encode()
                connection.execute(insert(tables.tables[name]).values(**written))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    """This release on a database of the first one; making the service upgrades it."""
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    former = Database(url or f"sqlite:///{tmp_path / 'airway.db'}")
    fill(former)
    former.close()
    made = make_service(tmp_path, url)
    made.clock.now = LATER
    yield made
    made.database.close()


def must(outcome: Accepted | Refused) -> Accepted:
    assert isinstance(outcome, Accepted), outcome
    return outcome


def found(bed: TestBed, *keys: DicomJson) -> list[str]:
    page = bed.service.worklist.search_workitems(WorkitemQuery(matching=merged(keys)))
    return [value_of(each, "SOPInstanceUID") for each in page]


def state(bed: TestBed, uid: str) -> str:
    held = bed.service.worklist.retrieve_workitem(uid)
    assert not isinstance(held, Refused)
    return value_of(held, "ProcedureStepState")


def test_every_row_is_kept_and_the_schema_is_the_present_one(bed: TestBed) -> None:
    with bed.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        for name, rows in ROWS.items():
            kept = connection.execute(text(f"SELECT * FROM {name}")).mappings().all()
            present = [{key: row[key] for key in rows[0]} for row in kept]
            for row in present:
                if name == "message":
                    row["raw"] = bytes(row["raw"]).decode()
                if name == "workitem":
                    [content] = texts(connection, [row["uid"]])
                    row["attributes"] = (content or b"").decode()
            assert sorted(map(str, present)) == sorted(map(str, rows)), name


def test_a_workitem_that_waited_is_found_claimed_and_completed(bed: TestBed) -> None:
    worklist, lock = bed.service.worklist, "2.25.77"
    assert found(bed, element("ProcedureStepState", "SCHEDULED")) == [SCHEDULED]
    must(worklist.change_state(SCHEDULED, "IN PROGRESS", transaction_uid=lock, actor=PERFORMER))
    must(worklist.update_workitem(SCHEDULED, performed(), transaction_uid=lock, actor=PERFORMER))
    must(worklist.change_state(SCHEDULED, "COMPLETED", transaction_uid=lock, actor=PERFORMER))
    assert state(bed, SCHEDULED) == "COMPLETED"
    assert SCHEDULED in found(bed, element("ProcedureStepState", "COMPLETED"))


def test_work_under_way_is_finished_with_the_lock_it_was_claimed_with(bed: TestBed) -> None:
    worklist, lock = bed.service.worklist, f"{CLAIMED}.9"
    assert isinstance(
        worklist.change_state(CLAIMED, "COMPLETED", transaction_uid="2.25.7", actor=VIEWER), Refused
    )
    must(worklist.update_workitem(CLAIMED, performed(), transaction_uid=lock, actor=PERFORMER))
    must(worklist.change_state(CLAIMED, "COMPLETED", transaction_uid=lock, actor=PERFORMER))
    must(worklist.change_state(ASKED, "CANCELED", transaction_uid=f"{ASKED}.9", actor=PERFORMER))
    assert (state(bed, CLAIMED), state(bed, ASKED)) == ("COMPLETED", "CANCELED")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param([element("PatientID", "P2")], 5, id="patient"),
        pytest.param(
            [element("ReferencedRequestSequence", element("AccessionNumber", "A2"))], 5, id="accession number"
        ),
        pytest.param(
            [element("ScheduledStationNameCodeSequence", element("CodeValue", "ST1"))], 5, id="station"
        ),
        pytest.param([element("ProcedureStepLabel", "Étude des poumons")], 1, id="label"),
        pytest.param([element("ScheduledProcedureStepPriority", "HIGH")], 2, id="priority"),
        pytest.param([element("StudyInstanceUID", STUDY)], 1, id="study"),
    ],
)
def test_workitems_of_the_first_release_are_found(bed: TestBed, keys: list[DicomJson], expected: int) -> None:
    assert len(found(bed, *keys)) == expected


def test_what_is_final_stays_so_and_is_known_since_when(bed: TestBed) -> None:
    for uid, final in ((CANCELED, "CANCELED"), (COMPLETED, "COMPLETED")):
        assert state(bed, uid) == final
        outcome = bed.service.worklist.change_state(
            uid, "IN PROGRESS", transaction_uid="2.25.5", actor=PERFORMER
        )
        assert isinstance(outcome, Refused)
    table = METADATA.tables["workitem"]
    with bed.database.read() as connection:
        rows = connection.execute(select(table.c.uid, table.c.state, table.c.final_at, table.c.modified_at))
        for row in rows:
            ended = row.state in ("COMPLETED", "CANCELED")
            assert row.final_at == (row.modified_at if ended else None)


def test_new_reports_follow_the_old_ones(bed: TestBed) -> None:
    must(bed.service.worklist.request_cancel(SCHEDULED, {}, actor=VIEWER))
    table = METADATA.tables["workitem_report"]
    statement = (
        select(table.c.id, table.c.state).where(table.c.workitem_uid == SCHEDULED).order_by(table.c.id)
    )
    with bed.database.read() as connection:
        states = [row.state for row in connection.execute(statement)]
        assert connection.execute(select(table.c.id).order_by(table.c.id)).scalars().all() == [
            *range(1, len(ROWS["workitem_report"]) + 3)
        ]
    assert states[-2:] == ["IN PROGRESS", "CANCELED"]


def test_the_story_of_a_study_of_the_first_release_is_told(bed: TestBed) -> None:
    story = bed.service.story(STUDY)
    assert story is not None
    (workitem,) = story.workitems
    assert workitem.state == "COMPLETED"
    assert len(story.study.series) == len(ROWS["series"])


def test_airway_migrate_upgrades_and_may_run_again(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    fill(database)
    database.close()
    migrate(tmp_path, None)
    migrate(tmp_path, None)
    upgraded = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    with upgraded.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert connection.execute(text("SELECT count(*) FROM workitem")).scalar() == len(ROWS["workitem"])
    upgraded.close()
