# SPDX-License-Identifier: Apache-2.0
"""`airway rules`: tried on files, replayed over a database, a classifier from a table to a rule."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from informatics_gateway.commands.rules import (
    COLUMNS,
    replay_rules,
    train_classifier,
    try_rules,
    write_headers,
)
from task_manager.errors import ConfigurationError
from task_manager.outcome import Accepted
from tests.instances import STUDY, ct
from tests.service import TestBed, make_service
from tests.unit.task_manager.rules.test_training import table_text
from tests.unit.task_manager.steps import complete

PROGRAM = Path(sys.executable).parent / "airway"
RULE = """
time_zone: Europe/Berlin
rules:
  - name: every-ct
    app: lung-ct
    active: [{{days: MON-FRI, from: "07:00", to: "19:00"}}]
    when: {{source.calling_ae: CT1}}
    series: [{{name: ct, where: {{Modality: {modality}}}, min_instances: 2}}]
"""
ORM = "\r".join(
    (
        "MSH|^~\\&|RIS|H|AIRWAY|H|20260301120000||ORM^O01|1|P|2.5",
        "PID|||P1^^^H||Doe^J",
        "ORC|NW|PL1|FI1||||^^^^^S",
        "OBR|1|PL1|FI1|CTCH^CT Chest^L||||||||||||||A1",
    )
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"{number}.dcm").write_bytes(ct(number))
    (folder / "notes.txt").write_text("no DICOM", encoding="utf-8")
    return folder


def rules_file(tmp_path: Path, text: str = RULE.format(modality="CT")) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def tried(rules: Path, study: Path, **more: object) -> None:
    asked = {"order": None, "calling": "CT1", "called": "AIRWAY", "at": "2026-03-02T09:00", "as_json": False}
    try_rules(rules, study, **{**asked, **more})  # type: ignore[arg-type]


def test_try_tells_what_rules_make_of_files(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(rules_file(tmp_path), files)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"Study {STUDY}: 3 instances in 1 series"
    assert out.splitlines()[1].endswith("matched, runs lung-ct")
    assert "arrived days MON-FRI from 07:00 to 19:00 (Europe/Berlin): MON 2026-03-02 10:00" in out
    assert "notes.txt" in err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"at": "2026-03-01T09:00"}, "✗ arrived"),
        ({"calling": "CT2"}, "✗ source.calling_ae equals 'CT1': 'CT2'"),
        ({"calling": ""}, "? source.calling_ae equals 'CT1' (no value)"),
    ],
    ids=["Sunday", "another sender", "no sender"],
)
def test_try_with_other_circumstances(
    more: dict[str, str], said: str, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried(rules_file(tmp_path), files, **more)
    assert said in capsys.readouterr().out


def test_try_with_an_order_as_json(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = tmp_path / "order.hl7"
    order.write_text(ORM.replace("\r", "\n"), encoding="utf-8")
    rules = rules_file(
        tmp_path,
        "rules:\n  - {name: r, app: a, when: {order.RequestedProcedureCode: CTCH}, series: [{name: s}]}",
    )
    tried(rules, files, order=order, as_json=True)
    [found] = json.loads(capsys.readouterr().out)
    assert found["study_instance_uid"] == STUDY
    assert found["explanations"][0]["verdict"] == "matched"


@pytest.mark.parametrize(
    ("rules", "study", "more", "said"),
    [
        ("none.yaml", "study", {}, "There is no file or folder"),
        ("rules.yaml", "none", {}, "There is no file or folder"),
        ("rules.yaml", "rules.yaml", {}, "There is no DICOM instance"),
        ("rules.yaml", "study", {"at": "noon"}, "--at must be a date or time"),
        ("rules.yaml", "study", {"order": Path("none.hl7")}, "cannot be read"),
        ("rules.yaml", "study", {"order": Path(__file__)}, "holds no order"),
    ],
    ids=["no rules", "no study", "no DICOM", "no time", "no order file", "no order"],
)
def test_try_says_what_is_wrong(
    rules: str,
    study: str,
    more: dict[str, object],
    said: str,
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules_file(tmp_path)
    assert files.exists()
    with pytest.raises(SystemExit):
        tried(tmp_path / rules, tmp_path / study, **more)
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_faults_of_rules_come_as_from_check_config(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"rules\.yaml:8 .*unknown keyword"):
        tried(rules_file(tmp_path, RULE.format(modality="CT").replace("{Modality:", "{Modalty:")), files)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    (tmp_path / "data").mkdir()
    made = make_service(tmp_path / "data")
    yield made
    made.database.close()


def _received(bed: TestBed) -> None:
    for number in (1, 2):
        assert isinstance(bed.receive(ct(number)), Accepted)
    complete(bed)


REPLAY = """
rules:
  - {name: every-ct, app: lung-ct, when: {Modality: CT}, series: [{name: ct, where: {Modality: %s}}]}
"""


@pytest.mark.parametrize(
    ("modality", "expected"),
    [
        ("CT", ["0 of 1 studies since 2026-03-01 00:00Z would be treated differently by"]),
        (
            "MR",
            [
                f"Study {STUDY}, received 2026-03-01 12:00Z",
                "  rule every-ct: matched -> not matched",
                "    because no series is input ct",
                "1 of 1 studies since 2026-03-01 00:00Z would be treated differently by",
            ],
        ),
    ],
)
def test_replay_tells_what_would_be_otherwise(
    modality: str, expected: list[str], bed: TestBed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _received(bed)
    before = bed.service.story(STUDY)
    changed = rules_file(tmp_path, REPLAY % modality)
    replay_rules(changed, "2026-03-01", tmp_path / "data", None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == expected[:-1]
    assert lines[-1].startswith(expected[-1])
    assert bed.service.story(STUDY) == before


def test_replay_as_json_and_since(bed: TestBed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _received(bed)
    changed = rules_file(tmp_path, "rules:\n  - {name: other, app: lung-ct, series: [{name: s}]}")
    replay_rules(changed, "2026-03-01T12:00+00:00", tmp_path / "data", None, as_json=True)
    [found] = json.loads(capsys.readouterr().out)
    told = {one["rule"]: (bool(one["before"]), bool(one["after"])) for one in found["differences"]}
    assert told == {"every-ct": (True, False), "other": (False, True)}
    replay_rules(changed, "2026-03-01T12:00:01+00:00", tmp_path / "data", None, as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_replay_without_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        replay_rules(rules_file(tmp_path), "2026-03-01", tmp_path / "nowhere", None, as_json=False)
    assert "There is no database" in capsys.readouterr().err


def test_from_a_table_to_a_rule(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "labelled.csv"
    table.write_text("\ufeff" + table_text(60), encoding="utf-8")
    model = tmp_path / "series.onnx"
    train_classifier(table, model)
    out = capsys.readouterr().out
    assert "60 rows, 3 labels" in out
    assert "confidence 0.8: " in out
    assert model.exists()
    rules = rules_file(
        tmp_path,
        "classifier: {model: series.onnx}\n"
        "rules:\n  - {name: r, app: a, series: [{name: s, where: {learned.class: {exists: true}}}]}",
    )
    tried(rules, files)
    assert "learned.class has a value" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe\x00", "cannot be read as UTF-8"), (b"label,PatientName\nA,B\n", "tells who or which")],
    ids=["no text", "names"],
)
def test_a_table_that_needs_attention(
    content: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content)
    with pytest.raises(SystemExit):
        train_classifier(table, tmp_path / "m.onnx")
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "m.onnx").exists()


def test_headers_become_a_table_to_label(files: Path, tmp_path: Path) -> None:
    table = tmp_path / "headers.csv"
    write_headers(files, table, ())
    with table.open(encoding="utf-8", newline="") as file:
        [row] = list(csv.DictReader(file))
    assert set(row) == {"label", "group", *COLUMNS}
    assert (row["label"], row["group"], row["Modality"]) == ("", "study 1", "CT")
    assert row["NumberOfSeriesRelatedInstances"] == "3"
    assert "Müller" not in table.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("output", "columns", "said"),
    [
        pytest.param("table.csv", ("Modalty",), "did you mean Modality?", id="no-attribute"),
        pytest.param("table.csv", ("PatientName",), "must not learn it", id="tells-who"),
        pytest.param("none/table.csv", (), "cannot be written", id="no-folder"),
    ],
)
def test_headers_say_what_is_wrong(
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
    columns: tuple[str, ...],
    said: str,
) -> None:
    with pytest.raises(SystemExit):
        write_headers(files, tmp_path / output, columns)
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_model_cannot_be_written_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text(table_text(12), encoding="utf-8")
    with pytest.raises(SystemExit):
        train_classifier(table, Path())
    assert "cannot be written" in capsys.readouterr().err


def test_the_commands_are_there() -> None:
    said = subprocess.run(
        [PROGRAM, "rules", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert all(name in said.stdout for name in ("try", "replay", "train", "headers"))


def test_try_as_if_somebody_had_asked(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    when = "{trigger.kind: person}"
    series = "[{name: s, where: {Modality: CT}}]"
    text = f"rules:\n  - {{name: r, app: a, when: {when}, series: {series}}}\n"
    rules = rules_file(tmp_path, text)
    tried(rules, files)
    assert "'person'" not in capsys.readouterr().out.replace("equals 'person'", "")
    tried(rules, files, asked_by=("person",))
    assert "'person'" in capsys.readouterr().out.replace("equals 'person'", "")
    with pytest.raises(SystemExit):
        tried(rules, files, asked_by=("nobody",))
