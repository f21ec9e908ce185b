# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks``: every figure is there and positive, nothing stays behind. No time is judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.dicomweb import GROUP as WEB
from conformance.peers.process import wait_until

pytestmark = pytest.mark.peers

PROJECT = Path(__file__).resolve().parents[2]
DOOR_TO_DOOR = "one study, door to door"
RECEIVED = "received by C-STORE"
INSIDE = "in process"
FIGURES = {
    (DOOR_TO_DOOR, "last image received to IN PROGRESS", None),
    (DOOR_TO_DOOR, "last image received to IN PROGRESS, net of the quiet period", None),
    (DOOR_TO_DOOR, "IN PROGRESS to results stored", None),
    (DOOR_TO_DOOR, "  of which inputs fetched by WADO-RS", None),
    (DOOR_TO_DOOR, "  of which app: start, inference, encoding", None),
    (DOOR_TO_DOOR, "  of which results stored by STOW-RS", None),
    (DOOR_TO_DOOR, "results stored to delivered: Orthanc, C-STORE", None),
    (DOOR_TO_DOOR, "results stored to delivered: Orthanc, STOW-RS", None),
    (DOOR_TO_DOOR, "results stored to delivered: stand-in EMR, FHIR", None),
    (DOOR_TO_DOOR, "last image to all delivered, net of the quiet period", None),
    (RECEIVED, "plain storescu, 1 association", "Orthanc"),
    (RECEIVED, "fast sender, 1 association", "Orthanc"),
    (RECEIVED, "fast sender, 4 associations", "Orthanc"),
    (RECEIVED, "plain storescu, 1 association", "DCMTK storescp --fork"),
    (RECEIVED, "fast sender, 1 association", "DCMTK storescp --fork"),
    (RECEIVED, "fast sender, 4 associations", "DCMTK storescp --fork"),
    (RECEIVED, "processor time, fast sender, 1 association", "Orthanc"),
    (RECEIVED, "processor time, fast sender, 4 associations", "Orthanc"),
    (RECEIVED, "memory, 640 instances, 64 associations", "after a tenth of them"),
    *(
        (WEB, name, "Orthanc")
        for name in (
            "STOW-RS, one image a request",
            "STOW-RS, all images in one request",
            "WADO-RS, metadata of 500 images",
            "WADO-RS, a series as it is stored",
        )
    ),
    (INSIDE, "header read, one instance", "pydicom, read without pixels, to JSON"),
    (INSIDE, "rules, one study of ten series", "parsing its stored headers"),
    (INSIDE, "volume stacked from files", "pydicom and numpy, unchecked"),
    (INSIDE, "SEG of 3 segments, built and written", "numpy.packbits of its frames alone"),
    (INSIDE, "SR of 3 groups, built and written", "pydicom writing the same report"),
}


CONSTANT = "FastAPI, a constant of that size"
WORKLIST = {
    *(
        (f"worklist over HTTP, {store}, 16 connections", name, CONSTANT)
        for store in ("SQLite", "PostgreSQL")
        for name in (
            *("create", "retrieve", "search 50", "claim"),
            *("update", "update with results", "complete"),
        )
    ),
    *(
        (f"worklist that grows, {store}, one connection", name, reference)
        for store in ("SQLite", "PostgreSQL")
        for name, reference in (
            ("search 50 that wait, of 600", "the same, of 60"),
            ("search 50 for one station, of 600", "the same, of 60"),
            ("search for one patient, of 600", "the same, of 60"),
            ("find and claim, 200 wait", "the same, 10 wait"),
            ("change sent to event received, 10 watchers", None),
        )
    ),
    *(("two replicas on one PostgreSQL", name, "one process") for name in ("create", "retrieve", "claim")),
}

OPEN = "completeness, 1,000 open studies"
COMPLETENESS = {
    (OPEN, "a tick, none due", "the same, no study open"),
    (OPEN, "the longest tick while 50 are due and wait on", None),
    (OPEN, "one study that is due and waits on", None),
    (OPEN, "a tick that completes one by evidence", None),
}


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "--quick", *options],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("part", "expected", "peers"),
    [
        pytest.param("studies", FIGURES, {"orthanc", "dcmtk"}, id="studies"),
        pytest.param("worklist", WORKLIST, {"postgresql"}, id="worklist"),
        pytest.param("completeness", COMPLETENESS, set(), id="completeness"),
    ],
)
def test_quick_run_tells_every_figure(
    part: str, expected: set[tuple[str, str, str | None]], peers: set[str], tmp_path: Path
) -> None:
    told = tmp_path / "figures.json"
    process = start("--only", part, "--folder", str(tmp_path), "--json", str(told))
    table, notes = process.communicate(timeout=240)
    assert process.returncode == 0, notes
    content = json.loads(told.read_text(encoding="utf-8"))
    figures = {(f["group"], f["name"], f["reference_name"] or None): f for f in content["figures"]}
    assert set(figures) == expected
    for figure in figures.values():
        for measured in (figure["airway"], figure["reference"] or figure["airway"]):
            assert 0 < measured["min"] <= measured["median"] <= measured["max"]
            assert len(measured["values"]) == content["runs"] == 1
        assert (figure["ratio"] is None) == (figure["reference"] is None)
        assert figure["target"] is None or figure["ratio"] is not None
        assert figure["name"].strip() in table
    machine = content["machine"]
    assert machine["cores"] >= 1
    assert machine["model"]
    assert machine["python"] == sys.version.split()[0]
    assert set(content["peers"]) == peers
    assert content["command"] in table
    assert list(tmp_path.iterdir()) == [told]


def test_interrupt_stops_every_peer(tmp_path: Path) -> None:
    process = start("--folder", str(tmp_path))

    def served() -> list[Path]:
        return list(tmp_path.glob("*/receiving/data/endpoints.json"))

    try:
        wait_until(served, "airway serves for the benchmark", 90)
        airway = json.loads(served()[0].read_text(encoding="utf-8"))["pid"]
        process.send_signal(signal.SIGINT)
        _, notes = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in notes
    assert not is_alive(airway)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("--runs", "0"), "must be at least 1", id="no run"),
        pytest.param(("--quiet-period", "0"), "must be positive", id="no quiet period"),
        pytest.param(("--folder", "/does/not/exist"), "is no folder", id="folder missing"),
    ],
)
def test_bad_options_are_refused(
    options: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(options)
    assert ending.value.code == 2
    assert said in capsys.readouterr().err
