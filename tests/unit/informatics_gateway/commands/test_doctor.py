# SPDX-License-Identifier: Apache-2.0
"""`airway doctor` and `airway retention` as a person runs them: what is printed, and exit statuses."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from informatics_gateway.__main__ import app
from task_manager.errors import ConfigurationError
from task_manager.outcome import Accepted
from task_manager.store.summing import Summing
from tests.instances import STUDY, ct
from tests.service import TestBed, make_service


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def airway(*arguments: str | Path) -> Done:
    """Run a command as `airway` does, in this process: starting another takes seconds."""
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            app([str(one) for one in arguments])
        except SystemExit as ended:
            status = ended.code
        except ConfigurationError as error:
            return Done(2, out.getvalue(), str(error))
    return Done(status if isinstance(status, int) else 0, out.getvalue(), err.getvalue())


def configured(folder: Path, **content: Any) -> Path:
    doors = {door: {"port": 0} for door in ("http", "dicom", "hl7")}
    gateway = doors | content.pop("gateway", {})
    path = folder / "airway.yaml"
    path.write_text(yaml.safe_dump({"gateway": gateway, **content}), encoding="utf-8")
    return path


def filled(folder: Path, *, summed: bool = True) -> TestBed:
    bed = make_service(folder)
    for number in (1, 2, 3):
        assert isinstance(bed.receive(ct(number)), Accepted)
    if summed:
        own = Summing(bed.database, clock=bed.clock)
        own.look_after(bed.objects)
        while own.step() == 0.0:
            pass
    bed.database.close()
    return bed


def file_of(folder: Path, number: int) -> Path:
    return next((folder / "store" / "objects").rglob(f"{STUDY}.1.{number}.dcm"))


def doctor(folder: Path, *arguments: str, **content: Any) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON."""
    folder.chmod(0o700)
    done = airway("doctor", "--data", folder, "--config", configured(folder, **content), "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def grades(found: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["grade"] for one in found["checks"]}


def test_a_new_folder_is_fit_and_stays_empty(tmp_path: Path) -> None:
    status, found = doctor(tmp_path)
    assert (status, found["fit"]) == (0, True)
    assert set(grades(found).values()) == {"ok"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["airway.yaml"], "looking makes nothing"


def test_what_is_unfit_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, found = doctor(
            tmp_path,
            gateway={
                "dicom": {"port": port},
                "peers": [{"ae_title": "HERE", "host": "127.0.0.1", "port": port}],
            },
            disk={"least_free_mib": 900_000_000},
        )
    assert (status, found["fit"]) == (1, False)
    assert {name for name, grade in grades(found).items() if grade == "unfit"} == {"disk", "port dicom"}
    assert grades(found)["peer HERE"] == "ok"
    assert all(one["advice"] for one in found["checks"] if one["grade"] != "ok")


def test_a_peer_that_is_away_is_no_reason_not_to_serve(tmp_path: Path) -> None:
    peers = [{"ae_title": "GONE", "host": "127.0.0.1", "port": 1}]
    status, found = doctor(tmp_path, gateway={"peers": peers})
    assert (status, grades(found)["peer GONE"]) == (0, "warn")


@pytest.mark.parametrize(("mode", "grade"), [(0o700, "ok"), (0o750, "ok"), (0o755, "warn"), (0o777, "unfit")])
def test_who_may_look_into_the_folder(tmp_path: Path, mode: int, grade: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    done = airway("doctor", "--data", data, "--config", configured(tmp_path), "--json")
    assert grades(json.loads(done.stdout))["permissions"] == grade


def test_good_objects_are_read_and_told(tmp_path: Path) -> None:
    filled(tmp_path)
    status, found = doctor(tmp_path, "--verify")
    assert status == 0
    assert found["objects"]["good"] == 3
    assert found["objects"]["damaged"] == []


def test_what_was_not_summed_yet_is_said_so(tmp_path: Path) -> None:
    filled(tmp_path, summed=False)
    status, found = doctor(tmp_path, "--verify")
    assert (status, found["objects"]["good"], found["objects"]["unsummed"]) == (0, 0, 3)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-10] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        pytest.param(_flip, "changed", id="one-bit"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-2]), "changed", id="cut"),
        pytest.param(Path.unlink, "missing", id="missing"),
    ],
)
def test_a_damaged_object_is_named_and_the_status_is_1(
    tmp_path: Path, damage: Callable[[Path], None], kind: str
) -> None:
    filled(tmp_path)
    path = file_of(tmp_path, 2)
    damage(path)
    status, found = doctor(tmp_path, "--verify")
    assert status == 1
    (one,) = found["objects"]["damaged"]
    assert (one["kind"], Path(one["path"]).name, one["study_instance_uid"]) == (kind, path.name, STUDY)
    assert found["objects"]["good"] == 2
    _, later = doctor(tmp_path)
    assert grades(later)["objects"] == "warn", "known until it is right again"


def test_a_person_reads_what_was_done_and_what_to_do(tmp_path: Path) -> None:
    filled(tmp_path)
    _flip(file_of(tmp_path, 1))
    tmp_path.chmod(0o700)
    done = airway("doctor", "--data", tmp_path, "--config", configured(tmp_path), "--verify")
    assert done.returncode == 1
    assert "read 2 objects" in done.stdout
    assert "DAMAGED changed: objects/" in done.stdout
    assert "restore them from a backup" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_only_what_arrived_since_or_a_sample_is_read(tmp_path: Path) -> None:
    filled(tmp_path)
    _, none = doctor(tmp_path, "--verify", "--since", "2027-01-01")
    assert (none["objects"]["good"], none["objects"]["skipped"]) == (0, 0)
    _, sampled = doctor(tmp_path, "--verify", "--sample", "0")
    assert (sampled["objects"]["good"], sampled["objects"]["skipped"]) == (0, 3)
    wrong = airway("doctor", "--data", tmp_path, "--verify", "--since", "yesterday")
    assert (wrong.returncode, "--since" in wrong.stderr) == (2, True)


POLICY = {"retention": [{"name": "old", "objects": "all", "older_than_d": 1, "delivered": False}]}


def test_retention_is_tried_first_and_then_done(tmp_path: Path) -> None:
    bed = make_service(tmp_path)
    for number in (1, 2):
        bed.receive(ct(number, Modality="MR"))
    bed.clock.pass_(60)
    assert bed.service.scheduler.complete_due_studies() == 1
    bed.database.close()
    config = configured(tmp_path, disk=POLICY)
    dry = airway("retention", "--data", tmp_path, "--config", config, "--dry-run")
    assert (dry.returncode, "would go" in dry.stdout, "Nothing was done" in dry.stdout) == (0, True, True)
    (plan,) = json.loads(
        airway("retention", "--data", tmp_path, "--config", config, "--dry-run", "--json").stdout
    )
    assert (plan["study_instance_uid"], plan["policies"], plan["kept_by"]) == (STUDY, {"old": 2}, [])
    done = airway("retention", "--data", tmp_path, "--config", config, "--json")
    assert json.loads(done.stdout)["removed"] == 2
    told = airway("explain", STUDY, "--data", tmp_path, "--config", config)
    assert "2 instances" in told.stdout
    assert "by policy old" in told.stdout


def test_without_a_policy_nothing_is_removed(tmp_path: Path) -> None:
    filled(tmp_path)
    done = airway("retention", "--data", tmp_path, "--config", configured(tmp_path))
    assert (done.returncode, "No policy" in done.stdout) == (0, True)
    assert file_of(tmp_path, 1).exists()
