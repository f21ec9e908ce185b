# SPDX-License-Identifier: Apache-2.0
"""`airway workitems` against our own doors: what people see, and what they are told when it fails."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ai_apps.ups_rs.client import UpsRsClient
from informatics_gateway.__main__ import app
from profiles.dicom_json import element, text
from tests.contract.workitems import code, minimal, performed
from tests.loopback.ups_rs.doors import Doors, free_port, wait_for

A, B = "2.25.1", "2.25.2"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["workitems", *arguments])


def test_list_shows_no_patient(doors: Doors) -> None:
    doors.create(A, PatientName="Doe^Jane", PatientID="P-77", ProcedureStepLabel="Lung [red]analysis[/red]")
    doors.create(B, WorklistLabel="HUMAN")
    shown = run("list", "--url", doors.base_url)
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.output.splitlines()[1:]] == [A, B]
    assert "SCHEDULED" in shown.output
    assert "Lung CT quantification" in shown.output
    assert "Lung [red]analysis[/red]" in shown.output
    assert "Doe" not in shown.output
    assert "P-77" not in shown.output


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--state", "scheduled"], [A, B]),
        (["--state", "in_progress"], []),
        (["--code", "AW1001"], [A, B]),
        (["--station", "OTHER"], []),
        (["--patient-id", "P-77"], [A]),
        (["--match", "WorklistLabel=HU*"], [B]),
        (["--match", "WorklistLabel=AI", "--patient-id", "P-77"], [A]),
        (["--limit", "1"], [A]),
    ],
    ids=["state", "other state", "code", "station", "patient", "match", "two keys", "limit"],
)
def test_filters(doors: Doors, filters: list[str], found: list[str]) -> None:
    doors.create(A, PatientID="P-77")
    doors.create(B, WorklistLabel="HUMAN")
    answer = run("list", "--json", "--url", doors.base_url, *filters)
    assert [text(one, "SOPInstanceUID") for one in json.loads(answer.stdout)] == found


def test_more_than_is_shown_is_told(doors: Doors) -> None:
    doors.create(A)
    doors.create(B)
    assert "--limit 10" in run("list", "--limit", "1", "--url", doors.base_url).output
    assert "No workitem matches" in run("list", "--code", "X", "--url", doors.base_url).output


def test_show_tells_everything(doors: Doors) -> None:
    doors.create(A, PatientName="Doe^Jane")
    shown = run("show", A, "--url", doors.base_url)
    assert "Doe^Jane" in shown.output
    assert (
        text(json.loads(run("show", A, "--json", "--url", doors.base_url).stdout), "PatientName")
        == "Doe^Jane"
    )


def test_create_cancel_and_watch_to_the_end(doors: Doors, tmp_path: Path) -> None:
    file = tmp_path / "workitem.json"
    file.write_text(json.dumps([minimal(ScheduledWorkitemCodeSequence=code())]), encoding="utf-8")
    created = run("create", str(file), "--uid", A, "--url", doors.base_url)
    assert created.output.splitlines()[0] == A
    assert f"workitems watch {A}" in created.output
    canceled = run(
        "cancel", A, "--reason", "not needed", "--code", "110514^DCM^Incorrect", "--url", doors.base_url
    )
    assert f"{A} is canceled" in canceled.output
    watched = run("watch", A, "--seconds", "20", "--url", doors.base_url)
    assert watched.exit_code == 0
    assert f"{A}  is CANCELED" in watched.output


def test_watch_prints_what_happens(doors: Doors) -> None:
    doors.create(A)

    def is_watched() -> bool:
        with doors.database.read() as connection:
            return bool(connection.exec_driver_sql("SELECT count(*) FROM subscription").scalar())

    def happen() -> None:
        wait_for(is_watched)
        item = element("ProcedureStepProgress", "40")
        with UpsRsClient(doors.base_url) as client:
            lock = client.claim(A)
            client.update(A, element("ProcedureStepProgressInformationSequence", item), transaction_uid=lock)
            doors.cancel(A)
            client.update(A, performed(), transaction_uid=lock)
            client.change_state(A, "COMPLETED", transaction_uid=lock)

    thread = threading.Thread(target=happen)
    thread.start()
    watched = run("watch", A, "--ae", "PERSON", "--seconds", "30", "--url", doors.base_url)
    thread.join()
    told = [line.partition("  ")[2] for line in watched.output.splitlines()[1:]]
    assert told[0].startswith(f"{A}  is ")
    assert [line for line in told if " is " not in line] == [
        f"{A}  SCHEDULED, inputs READY",
        f"{A}  IN PROGRESS",
        f"{A}  40 % ",
        f"{A}  cancellation requested by REQUESTER",
        f"{A}  COMPLETED",
    ]
    assert not is_watched()  # nothing is kept for a person who left


def test_watch_all_begins_with_what_is_open(doors: Doors) -> None:
    doors.create(A)
    doors.create(B)
    doors.cancel(B)
    watched = run("watch", "--all", "--seconds", "1", "--url", doors.base_url)
    assert [line.partition("  ")[2] for line in watched.output.splitlines()[1:]] == [f"{A}  is SCHEDULED"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", A], "no such workitem"),
        (["show", "x"], "not a UID"),
        (["cancel", A], "no such workitem"),
        (["cancel", A, "--code", "110514"], "VALUE^SCHEME^MEANING"),
        (["list", "--match", "Label"], "KEY=VALUE"),
        (["list", "--match", "NoSuchAttribute=1", "--match", "PatientID=^[bad]"], ""),
        (["watch"], "Name a workitem, or say --all"),
        (["watch", A], "no such workitem"),
        (["create", "no-such-file.json"], "cannot be read"),
        (["list", "--ca-file", "no-such-file.pem"], "CA file"),
        (["list", "--token-file", "no-such-file"], "token file cannot be read"),
    ],
)
def test_errors_are_plain(doors: Doors, arguments: list[str], told: str) -> None:
    answer = run(*arguments, "--url", doors.base_url)
    assert answer.exit_code in (1, 2) if told else answer.exit_code == 0
    assert told in answer.output
    assert "Traceback" not in answer.output


@pytest.mark.parametrize("content", ["", "{", "[1]", "[{}, {}]", '"x"'])
def test_files_that_are_no_workitem(doors: Doors, tmp_path: Path, content: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(content, encoding="utf-8")
    answer = run("create", str(file), "--url", doors.base_url)
    assert answer.exit_code == 2
    assert str(file) in answer.output


def test_a_refusal_names_every_fault(doors: Doors, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text("{}", encoding="utf-8")
    answer = run("create", str(file), "--url", doors.base_url)
    assert answer.exit_code == 1
    assert "ProcedureStepLabel" in answer.output


def test_a_server_that_is_away(tmp_path: Path) -> None:
    answer = run("list", "--url", f"http://127.0.0.1:{free_port()}/dicom-web")
    assert answer.exit_code == 1
    assert "serve" in answer.output


def test_the_server_of_a_data_folder_is_found(doors: Doors, tmp_path: Path) -> None:
    doors.create(A)
    announced = {"http": doors.base_url.removesuffix("/dicom-web")}
    (tmp_path / "endpoints.json").write_text(json.dumps(announced), encoding="utf-8")
    assert A in run("list", "--data", str(tmp_path)).output
