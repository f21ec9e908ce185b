# SPDX-License-Identifier: Apache-2.0
"""Command line: ``python -m benchmarks [--quick] [--only PART] [--runs N] [--json FILE] [--folder DIR]``.

Exit status: 0 with a table; 1 when a peer is missing or something failed; 130 when interrupted. Whatever
happens, every process that was started is stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from benchmarks.completeness import OPEN, measure_completeness
from benchmarks.dicomweb import measure_dicomweb
from benchmarks.fast_sender import SendingError
from benchmarks.figures import Figure
from benchmarks.flow import measure_flow
from benchmarks.http_load import LoadError
from benchmarks.inside import measure_inside
from benchmarks.machine import describe_machine, describe_peers, postgresql_version
from benchmarks.receiving import measure_receiving
from benchmarks.report import print_report, to_json
from benchmarks.studies import EncodedStudy, make_study
from benchmarks.worklist import measure_worklist
from benchmarks.worklist_setup import QUICK, WorklistSizes
from conformance.peers.installed import PeerMissingError
from conformance.peers.orthanc import Orthanc, run_orthanc
from conformance.peers.process import PeerFailedError

_INTERRUPTED = 130
_ORTHANC_SETTINGS = {"StableAge": 60, "DicomThreadsCount": 4}
_FULL = {"slices": 200, "size": 512, "runs": 3, "quiet_period": 2.0}
_QUICK = {"slices": 32, "size": 128, "runs": 1, "quiet_period": 0.5}
_SMALL_INSTANCES = {False: 20_000, True: 640}
"""Sent to see memory; the second in a quick run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and tell; the result is the exit status."""
    given = _arguments(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    if given.folder is not None:
        tempfile.tempdir = str(given.folder)  # peers write to the same disk
    try:
        with tempfile.TemporaryDirectory(
            prefix="airway-bench-", dir=given.folder, ignore_cleanup_errors=True
        ) as folder:
            facts, figures = _measure(given, Path(folder))
    except KeyboardInterrupt:
        _note("interrupted; all peers are stopped")
        return _INTERRUPTED
    except (
        PeerMissingError,
        PeerFailedError,
        SendingError,
        LoadError,
        TimeoutError,
        httpx.HTTPError,
        subprocess.TimeoutExpired,
    ) as error:
        _note(f"failed: {error}")
        return 1
    print_report(figures, facts)
    if given.json is not None:
        given.json.write_text(json.dumps(to_json(figures, facts), indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(given: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[Figure]]:
    facts: dict[str, Any] = {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(given),
        "runs": given.runs,
        "machine": describe_machine(folder),
        "peers": {},
    }
    start = time.monotonic()

    def stage(text: str) -> None:
        _note(f"[{time.monotonic() - start:5.0f} s] {text}")

    figures: list[Figure] = []
    if given.only in (None, "studies", "dicomweb", "receiving"):
        figures += _measure_studies(given, folder, facts, stage)
    if given.only in (None, "worklist"):
        stage("measuring the worklist on SQLite and PostgreSQL")
        facts["peers"]["postgresql"] = postgresql_version()
        sizes = QUICK if given.quick else WorklistSizes()
        figures += measure_worklist(folder, runs=given.runs, sizes=sizes, stage=stage)
    if given.only in (None, "completeness"):
        stage("measuring ticks while many studies are open")
        figures += measure_completeness(folder, runs=given.runs, open_studies=OPEN[given.quick])
    stage("done")
    return facts, figures


def _measure_studies(
    given: argparse.Namespace, folder: Path, facts: dict[str, Any], stage: Callable[[str], None]
) -> list[Figure]:
    stage(f"making a phantom of {given.slices} images")
    study = make_study(given.slices, given.size)
    facts["quiet_period_s"] = given.quiet_period
    facts["study"] = {"slices": given.slices, "size": given.size, "megabytes": round(study.size / 1e6, 1)}
    copies = itertools.count(1)
    with run_orthanc(settings=_ORTHANC_SETTINGS) as orthanc:
        facts["peers"].update(describe_peers(orthanc))
        if given.only == "receiving":
            stage("measuring what is received by C-STORE")
            return _measure_receiving(given, study, copies, orthanc, folder)
        if given.only == "dicomweb":
            stage("measuring what is stored and retrieved by DICOMweb")
            return measure_dicomweb(study, copies, orthanc, folder, runs=given.runs)
        stage("measuring in process")
        figures = measure_inside(study.write(folder / "inside"), runs=given.runs)
        stage("measuring what is received by C-STORE")
        received = _measure_receiving(given, study, copies, orthanc, folder)
        stage("measuring studies from door to door")
        flow = measure_flow(
            study, copies, orthanc, folder, runs=given.runs, quiet_period_s=given.quiet_period
        )
        stage("measuring what is stored and retrieved by DICOMweb")
        web = measure_dicomweb(study, copies, orthanc, folder, runs=given.runs)
    return [*flow, *received, *web, *figures]


def _measure_receiving(
    given: argparse.Namespace, study: EncodedStudy, copies: Iterator[int], orthanc: Orthanc, folder: Path
) -> list[Figure]:
    small = _SMALL_INSTANCES[given.quick]
    return measure_receiving(study, copies, orthanc, folder, runs=given.runs, small=small)


def _command(given: argparse.Namespace) -> str:
    """What to type to have the same measured again."""
    parts = ["python", "-m", "benchmarks", *(["--quick"] if given.quick else [])]
    if given.only is not None:
        parts += ["--only", given.only]
    if given.only not in ("worklist", "completeness"):
        parts += ["--slices", str(given.slices), "--size", str(given.size)]
        parts += ["--quiet-period", f"{given.quiet_period:g}"]
    return shlex.join([*parts, "--runs", str(given.runs)])


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few small images, one run: only to try it out")
    parser.add_argument(
        "--only",
        choices=("studies", "receiving", "dicomweb", "worklist", "completeness"),
        help="measure this part alone",
    )
    parser.add_argument("--slices", type=_positive, help="images of the phantom (200; quick 32)")
    parser.add_argument("--size", type=_positive, help="rows and columns (512; quick 128)")
    parser.add_argument("--runs", type=_positive, help="repetitions of everything (3; quick 1)")
    parser.add_argument(
        "--quiet-period", type=float, metavar="SECONDS", help="of Airway, for whole studies (2; quick 0.5)"
    )
    parser.add_argument("--folder", type=Path, help="where files go meanwhile; decides the disk (temporary)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every run to FILE")
    found = parser.parse_args(given)
    for name, value in (_QUICK if found.quick else _FULL).items():
        if getattr(found, name) is None:
            setattr(found, name, value)
    if found.quiet_period <= 0:
        parser.error("--quiet-period must be positive")
    if found.folder is not None and not found.folder.is_dir():
        parser.error("--folder is no folder")
    return found


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # once only: a second one must not cut the stopping short
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
