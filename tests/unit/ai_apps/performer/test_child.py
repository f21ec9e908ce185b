# SPDX-License-Identifier: Apache-2.0
"""Runs from both sides: success, refusal, crash, time-out, cancel and a parent that is killed.

The apps here are small files written by the tests; the shipped app has its own test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
import yaml

from ai_apps.catalog import BUILT_IN
from ai_apps.performer.child import Canceled, Failed, Finished, RunOutcome, Standby, TimedOut, run_job
from ai_apps.performer.job import Job, JobError, read_job, read_result, write_job
from ai_apps.performer.runner import main
from conformance.peers.process import wait_until
from conformance.phantoms import ChestPhantom, datasets, make_ct_chest, sop_instance_uids, write_series
from profiles.air.model import ResultContext
from profiles.codes import EQUIPMENT_FAILURE, OBJECT_SET_INCOMPLETE, WORKITEM_LUNG_CT

MADE = make_ct_chest(ChestPhantom(seed=4, shape=(14, 48, 48), patient_name="Øster^Åse"))
CONTEXT = ResultContext(
    workitem_uid="2.25.1",
    performed_at=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    station_name="STATION",
    scheduled_workitem_code=WORKITEM_LUNG_CT,
)

BALL = """
import numpy as np
from pydicom import dcmread
from profiles.air.model import AlgorithmIdentity, Analysis, Measurement, Region
from profiles.codes import *

class Probe:
    def __init__(self, manifest, *, threads, use_gpu):
        pass

    def run(self, app_input, report):
        print("noise on standard output")
        report(50, "half way")
        headers = sorted(map(dcmread, app_input.paths), key=lambda h: h.InstanceNumber)
        mask = np.zeros((len(headers), 48, 48), bool)
        mask[4:9, 10:20, 10:20] = {found}
        region = Region(
            mask=mask, label="Probe", category=ANATOMICAL_STRUCTURE, type=LUNG, laterality=LEFT,
            tracking_identifier="Probe",
            measurements=(Measurement(name=VOLUME, value=1.5, unit=MILLILITRE),) if mask.any() else (),
        )
        return Analysis(
            algorithm=AlgorithmIdentity(manufacturer="T", name="probe", version="1", weights_sha256="0"),
            sop_instance_uids=tuple(h.SOPInstanceUID for h in headers),
            regions=(region,),
        )
"""

OTHER = """
import os, sys, time
from ai_apps.contract import AppError
from profiles.codes import OBJECT_SET_INCOMPLETE

class Probe:
    def __init__(self, manifest, *, threads, use_gpu):
        pass

    def run(self, app_input, report):
        report(10, str(os.getpid()))
        {body}
"""


@pytest.fixture(name="images", scope="module")
def _images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return tuple(write_series(MADE, tmp_path_factory.mktemp("images")))


def job_in(folder: Path, images: tuple[Path, ...], source: str) -> Path:
    """A job folder for an app with the code `source`."""
    app = folder / "apps" / "probe"
    app.mkdir(parents=True)
    (app / "app.py").write_text(source)
    document = yaml.safe_load((BUILT_IN / "lung_ct" / "app.yaml").read_text())
    del document["model"]
    (app / "app.yaml").write_text(yaml.safe_dump({**document, "name": "probe", "entry": "./app.py:Probe"}))
    job = Job(app="probe", inputs=images, context=CONTEXT, app_folders=(folder / "apps",))
    write_job(folder / "job", job)
    return folder / "job"


def run(
    folder: Path,
    *,
    timeout_s: float = 60,
    on_progress: Callable[[int, str], None] = lambda percent, text: None,
    cancel: threading.Event | None = None,
    command: tuple[str, ...] = (sys.executable, "-m", "ai_apps.performer.runner"),
    standby: Standby | None = None,
) -> RunOutcome:
    return run_job(
        folder,
        timeout_s=timeout_s,
        on_progress=on_progress,
        cancel=cancel or threading.Event(),
        command=command,
        standby=standby,
    )


def gone(pid: int, within_s: float = 20) -> bool:
    """Whether the process ends (or is a zombie of somebody else's) in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        threading.Event().wait(0.05)
    return False


def test_a_run_leaves_the_segmentation_and_the_report(tmp_path: Path, images: tuple[Path, ...]) -> None:
    folder = job_in(tmp_path, images[::-1], BALL.replace("{found}", "True"))
    told: list[tuple[int, str]] = []
    outcome = run(folder, on_progress=lambda percent, text: told.append((percent, text)))
    assert isinstance(outcome, Finished)
    seg, report = (pydicom.dcmread(file.path) for file in outcome.result.files)
    assert [file.modality for file in outcome.result.files] == ["SEG", "SR"]
    assert (outcome.result.app_name, outcome.result.app_version) == ("probe", "0.1.0")
    assert seg.SOPInstanceUID == outcome.result.files[0].sop_instance_uid
    assert report.SOPClassUID == outcome.result.files[1].sop_class_uid
    assert str(report.PatientName) == "Øster^Åse"
    assert seg.NumberOfFrames == 5
    sources = {
        item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert sources <= set(sop_instance_uids(MADE))
    assert (45, "half way") in told
    assert [percent for percent, _ in told] == sorted(percent for percent, _ in told)
    assert told[-1][0] == 100


def test_a_run_that_finished_is_not_run_again_and_one_that_did_not_gives_the_same_bytes(
    tmp_path: Path, images: tuple[Path, ...]
) -> None:
    folder = job_in(tmp_path, images, BALL.replace("{found}", "True"))
    first = run(folder)
    assert isinstance(first, Finished)
    contents = [file.path.read_bytes() for file in first.result.files]
    (folder / "job.json").rename(folder / "kept")
    assert run(folder) == first
    # As after a kill between the last output and result.json.
    (folder / "kept").rename(folder / "job.json")
    (folder / "result.json").unlink()
    (folder / "outputs" / "003.dcm").write_bytes(b"of a run that was killed")
    assert run(folder) == first
    assert [path.read_bytes() for path in sorted((folder / "outputs").iterdir())] == contents


def test_the_shipped_app_takes_mixed_frames_of_reference_when_allowed(tmp_path: Path) -> None:
    paths = []
    for image in datasets(make_ct_chest(ChestPhantom(seed=5, shape=(24, 64, 64)))):
        image.FrameOfReferenceUID = f"{image.FrameOfReferenceUID}.{image.InstanceNumber}"[-60:].lstrip("0.")
        paths.append(tmp_path / f"{image.InstanceNumber}.dcm")
        image.save_as(paths[-1], enforce_file_format=True)
    parameters = {"allow_mixed_frame_of_reference": "true"}
    job = Job(app="lung-ct", inputs=tuple(paths), context=CONTEXT, parameters=parameters, threads=1)
    write_job(tmp_path / "job", job)
    outcome = run(tmp_path / "job")
    assert isinstance(outcome, Finished)
    assert [file.modality for file in outcome.result.files] == ["SEG", "SR"]
    assert (tmp_path / "job" / "runner.log").read_text() == ""


def test_nothing_found_is_a_report_alone(tmp_path: Path, images: tuple[Path, ...]) -> None:
    outcome = run(job_in(tmp_path, images, BALL.replace("{found}", "False")))
    assert isinstance(outcome, Finished)
    assert [file.modality for file in outcome.result.files] == ["SR"]


def test_a_refusal_of_the_app_comes_with_its_reason(tmp_path: Path, images: tuple[Path, ...]) -> None:
    body = "raise AppError('three slices are missing', OBJECT_SET_INCOMPLETE)"
    folder = job_in(tmp_path, images, OTHER.replace("{body}", body))
    outcome = run(folder)
    assert isinstance(outcome, Failed)
    assert outcome.failure.message == "three slices are missing"
    assert outcome.failure.reason == OBJECT_SET_INCOMPLETE
    assert read_result(folder) is None
    (folder / "job.json").unlink()
    assert run(folder) == outcome


def test_an_exception_of_the_app_is_told_without_its_message(
    tmp_path: Path, images: tuple[Path, ...]
) -> None:
    body = "raise ValueError('Do' + 'e^John')"
    folder = job_in(tmp_path, images, OTHER.replace("{body}", body))
    outcome = run(folder)
    assert isinstance(outcome, Failed)
    assert "ended with status 1" in outcome.failure.message
    log = (folder / "runner.log").read_text()
    assert "ValueError" in log
    assert "Doe" not in log


def light(source: str) -> tuple[str, ...]:
    """A child that starts at once: `source` instead of the runner."""
    return (sys.executable, "-c", source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os; os._exit(7)", "ended with status 7"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("pass", "ended with status 0 and without a result"),
    ],
    ids=["exit", "signal", "silent"],
)
def test_an_end_without_result_is_an_equipment_failure(source: str, message: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, command=light(source))
    assert isinstance(outcome, Failed)
    assert message in outcome.failure.message
    assert outcome.failure.reason == EQUIPMENT_FAILURE


SLEEPER = """
import json, os, subprocess, time
for pid in (os.getpid(), subprocess.Popen(["sleep", "600"]).pid):
    print(json.dumps({"percent": 1, "text": str(pid)}), flush=True)
time.sleep(600)
"""


def test_a_run_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    pids: list[int] = []
    outcome = run(
        tmp_path,
        timeout_s=3,
        on_progress=lambda percent, text: pids.append(int(text)),
        command=light(SLEEPER),
    )
    assert outcome == TimedOut(timeout_s=3)
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hold_the_run(tmp_path: Path) -> None:
    pids: list[int] = []
    outcome = run(
        tmp_path,
        on_progress=lambda percent, text: pids.append(int(text)),
        command=light(SLEEPER.replace("time.sleep(600)", "")),
    )
    assert isinstance(outcome, Failed)
    assert gone(pids[1])


def test_a_run_is_canceled_by_the_caller(tmp_path: Path, images: tuple[Path, ...]) -> None:
    folder = job_in(tmp_path, images, OTHER.replace("{body}", "time.sleep(600)"))
    cancel = threading.Event()
    pids: list[int] = []

    def told(percent: int, text: str) -> None:
        if text.isdigit():
            pids.append(int(text))
            cancel.set()

    assert run(folder, on_progress=told, cancel=cancel) == Canceled()
    assert gone(pids[0])


PARENT = """
import sys, threading
from pathlib import Path
from ai_apps.performer.child import run_job
run_job(Path(sys.argv[1]), timeout_s=300, cancel=threading.Event(),
        on_progress=lambda percent, text: print(text, flush=True))
"""


def test_the_child_dies_with_a_parent_that_is_killed(tmp_path: Path, images: tuple[Path, ...]) -> None:
    folder = job_in(tmp_path, images, OTHER.replace("{body}", "time.sleep(600)"))
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = next(int(line) for line in parent.stdout if line.strip().isdigit())
        parent.kill()
        parent.wait()
        assert gone(child)
    assert read_result(folder) is None


NOISE = """
print("not json")
print("[1]")
print('{"percent": "x", "text": 1}')
print("x" * 200_000)
print('{"percent": 900, "text": "late"}')
"""


def test_lines_that_are_no_progress_are_ignored(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    outcome = run(
        tmp_path, on_progress=lambda percent, text: told.append((percent, text)), command=light(NOISE)
    )
    assert isinstance(outcome, Failed)
    assert told == [(100, "late")]


def test_an_unknown_app_is_a_failure(tmp_path: Path, images: tuple[Path, ...]) -> None:
    write_job(tmp_path / "job", Job(app="no-such-app", inputs=images, context=CONTEXT))
    outcome = run(tmp_path / "job")
    assert isinstance(outcome, Failed)
    assert "no app named" in outcome.failure.message


def test_an_image_that_was_not_given_is_a_failure(tmp_path: Path, images: tuple[Path, ...]) -> None:
    source = BALL.replace("{found}", "True").replace(
        "tuple(h.SOPInstanceUID for h in headers)", "('1.2.3',) * len(headers)"
    )
    outcome = run(job_in(tmp_path, images, source))
    assert isinstance(outcome, Failed)
    assert "was not given" in outcome.failure.message


def test_too_little_memory_ends_the_run(tmp_path: Path, images: tuple[Path, ...]) -> None:
    folder = job_in(tmp_path, images, OTHER.replace("{body}", "bytearray(4 << 30)"))
    write_job(folder, replace(read_job(folder), memory_limit_mib=3000))
    outcome = run(folder)
    assert isinstance(outcome, Failed)
    assert "MemoryError" in (folder / "runner.log").read_text()


def test_jobs_are_read_as_written(tmp_path: Path) -> None:
    job = Job(
        app="a",
        inputs=(Path("/x/ä.dcm"),),
        context=replace(CONTEXT, requested_procedure_code=WORKITEM_LUNG_CT),
        parameters={"threshold": "0.4"},
        threads=2,
    )
    write_job(tmp_path, job)
    assert read_job(tmp_path) == job


@pytest.mark.parametrize(
    "change",
    [
        {"context": None},
        {"context": {"workitem_uid": "1.2", "performed_at": "yesterday", "station_name": "S"}},
        {"context": {"workitem_uid": "1.2", "performed_at": "2026-01-01T00:00:00", "station_name": "S"}},
        {
            "context": {
                "workitem_uid": "1.2",
                "performed_at": "2026-01-01T00:00:00+00:00",
                "station_name": "S",
                "more": 1,
            }
        },
        {"inputs": 5},
        {"parameters": [1]},
        {"threads": "many"},
    ],
    ids=["no-context", "time", "zone", "unknown", "inputs", "parameters", "threads"],
)
def test_jobs_that_make_no_sense_are_refused(change: dict[str, object], tmp_path: Path) -> None:
    write_job(tmp_path, Job(app="a", inputs=(), context=CONTEXT))
    document = json.loads((tmp_path / "job.json").read_text())
    (tmp_path / "job.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(JobError, match=r"job\.json"):
        read_job(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": []}'], ids=["empty", "list", "torn", "missing"])
def test_results_that_make_no_sense_are_a_failure(text: str, tmp_path: Path) -> None:
    write_job(tmp_path, Job(app="a", inputs=(), context=CONTEXT))
    (tmp_path / "result.json").write_text(text)
    assert isinstance(run(tmp_path), Failed)


def test_a_result_outside_the_job_folder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "job"
    folder.mkdir()
    entry = dict.fromkeys(
        ("sop_class_uid", "sop_instance_uid", "series_instance_uid", "study_instance_uid", "modality"), "1.2"
    )
    document = {
        "app_name": "a",
        "app_version": "1",
        "files": [{**entry, "description": "", "path": "../secret"}],
    }
    (folder / "result.json").write_text(json.dumps(document))
    with pytest.raises(JobError, match="not in the job folder"):
        read_result(folder)


def test_usage_is_told_on_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage:")


NO_PROGRAM = ("/nonexistent/program",)


def test_a_prepared_child_runs_the_job(tmp_path: Path, images: tuple[Path, ...]) -> None:
    source = BALL.replace("{found}", "True").replace(
        "import numpy", "import sys; sys.stderr.write('loaded')\nimport numpy"
    )
    folder = job_in(tmp_path, images, source)
    standby = Standby()
    standby.prepare()
    standby.prepare()
    told: list[tuple[int, str]] = []
    outcome = run(
        folder,
        on_progress=lambda percent, text: told.append((percent, text)),
        command=NO_PROGRAM,
        standby=standby,
    )
    assert isinstance(outcome, Finished)
    assert (45, "half way") in told
    assert "loaded" in (folder / "runner.log").read_text()
    assert standby.take(folder) is None


SAYS_JOB = """
import json, sys
print(json.dumps({"percent": 5, "text": sys.argv[1]}))
"""


def test_a_program_that_cannot_wait_is_no_hindrance(tmp_path: Path) -> None:
    standby = Standby(NO_PROGRAM)
    standby.prepare()
    assert told_job(tmp_path, standby) == [str(tmp_path)]


def test_for_a_prepared_child_that_ended_another_is_started(tmp_path: Path) -> None:
    standby = Standby(("true",))
    standby.prepare()
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    assert told_job(tmp_path, standby) == [str(tmp_path)]


def told_job(folder: Path, standby: Standby) -> list[str]:
    """What a child that says its job folder says."""
    told: list[str] = []
    run(folder, on_progress=lambda percent, text: told.append(text), command=light(SAYS_JOB), standby=standby)
    return told


def test_closing_ends_the_child_that_waits(tmp_path: Path) -> None:
    said = tmp_path / "pid"
    source = (
        f"import os, sys, pathlib; pathlib.Path({str(said)!r}).write_text(str(os.getpid())); sys.stdin.read()"
    )
    standby = Standby(light(source))
    standby.prepare()
    wait_until(lambda: said.exists() and said.read_text(), "the child has started")
    standby.close()
    standby.close()
    assert gone(int(said.read_text()))


def test_a_child_that_is_never_given_a_job_ends_with_its_parent(tmp_path: Path) -> None:
    ending = subprocess.run(
        [sys.executable, "-m", "ai_apps.performer.runner", "-", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ending.returncode, ending.stdout) == (0, b"")
