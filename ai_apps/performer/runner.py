# SPDX-License-Identifier: Apache-2.0
"""The child process that runs one app on one job: ``python -m ai_apps.performer.runner JOBDIR [PARENT_PID]``.

``-`` for JOBDIR waits until a line on standard input names it, with all code loaded meanwhile.

Standard output carries progress lines only, ``{"percent": 40, "text": "..."}``; whatever an app or library
prints goes to standard error. Exit status: 0 with ``result.json``, 3 with ``failure.json``, 1 for a crash.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from ai_apps.catalog import catalog, load_app, preload
from ai_apps.contract import AppError, AppInput, Progress
from ai_apps.manifest import Manifest, ManifestError
from ai_apps.performer.child import STANDBY
from ai_apps.performer.job import (
    Job,
    JobError,
    ResultFile,
    RunFailure,
    RunResult,
    read_job,
    sync_folder,
    write_failure,
    write_result,
)
from profiles.air.grid import ResultError
from profiles.air.model import Analysis
from profiles.air.seg import encode_segmentation
from profiles.air.sr import encode_report
from profiles.codes import EQUIPMENT_FAILURE, OBJECTS_INCORRECTLY_FORMATTED

logger = logging.getLogger(__name__)

FAILED_STATUS = 3
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def main(arguments: Sequence[str]) -> int:
    """Run the job of the folder ``arguments[0]``; the result is the exit status."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m ai_apps.performer.runner JOBDIR [PARENT_PID]\n")
        return 2
    if len(arguments) == 2 and not _bound_to(int(arguments[1])):
        return 1
    named = Path(arguments[0]) if arguments[0] != STANDBY else _awaited()
    if named is None:
        return 0
    folder = named.resolve()
    try:
        with _own_standard_output() as out:
            write_result(folder, _run(folder, _progress_to(out)))
    except AppError as error:
        failure = RunFailure(message=str(error), reason=error.reason)
    except (JobError, ManifestError) as error:
        failure = RunFailure(message=str(error), reason=EQUIPMENT_FAILURE)
    except ResultError as error:
        failure = RunFailure(message=str(error), reason=OBJECTS_INCORRECTLY_FORMATTED)
    except Exception as error:  # noqa: BLE001 - the edge: nothing may leave without a word
        # Places only: the message of an unexpected error may quote what was read.
        places = "".join(traceback.format_tb(error.__traceback__))
        logger.error("app crashed", extra={"action": "run-crashed"})  # noqa: TRY400
        sys.stderr.write(f"{type(error).__name__}\n{places}")
        return 1
    else:
        return 0
    write_failure(folder, failure)
    return FAILED_STATUS


def _awaited() -> Path | None:
    """The job folder that the parent names once it has a job; None if it never does.

    Standard error then goes where that of a child with a job goes.
    """
    preload()
    line = sys.stdin.buffer.readline().rstrip(b"\n")
    if not line:
        return None
    folder = Path(os.fsdecode(line))
    log = os.open(folder / "runner.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.dup2(log, 2)
    os.close(log)
    return folder


def _run(folder: Path, report: Progress) -> RunResult:
    """Run the app and write its result objects."""
    job = read_job(folder)
    _limit_memory(job.memory_limit_mib)
    manifest = catalog(job.app_folders).get(job.app)
    if manifest is None:
        raise AppError(f"no app named {job.app[:64]!r}", EQUIPMENT_FAILURE)
    report(0, "loading")
    app = load_app(manifest, threads=job.threads)
    analysis = app.run(
        AppInput(paths=job.inputs, parameters=job.parameters),
        # The last tenth is encoding.
        lambda percent, text: report(max(0, min(100, percent)) * 9 // 10, text),
    )
    report(90, "encoding")
    return _encoded(folder, job, manifest, analysis, report)


def _encoded(folder: Path, job: Job, manifest: Manifest, analysis: Analysis, report: Progress) -> RunResult:
    """Encode, write and sync the result objects: segmentation first, report last."""
    sources = _sources(job.inputs, analysis.sop_instance_uids)
    mixed = analysis.algorithm.parameters.get("allow_mixed_frame_of_reference") == "true"
    segmentation = encode_segmentation(analysis, job.context, sources, unify_frame_of_reference=mixed)
    report(95, "encoding the report")
    objects = [] if segmentation is None else [segmentation]
    objects.append(encode_report(analysis, job.context, sources, segmentation))
    outputs = folder / "outputs"
    # What a run that was killed left here is not finished.
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir()
    files = []
    for number, result in enumerate(objects, start=1):
        path = outputs / f"{number:03d}.dcm"
        with path.open("wb") as out:
            result.save_as(out, enforce_file_format=True)
            out.flush()
            os.fsync(out.fileno())
        files.append(
            ResultFile(
                path=path,
                sop_class_uid=str(result.SOPClassUID),
                sop_instance_uid=str(result.SOPInstanceUID),
                series_instance_uid=str(result.SeriesInstanceUID),
                study_instance_uid=str(result.StudyInstanceUID),
                modality=str(result.Modality),
                description=str(result.get("SeriesDescription", "")),
            )
        )
    sync_folder(outputs)
    report(100, "done")
    return RunResult(app_name=manifest.name, app_version=manifest.version, files=tuple(files))


def _sources(paths: Sequence[Path], sop_instance_uids: Sequence[str]) -> list[Dataset]:
    """Headers of the images analysed, in the order of the analysis.

    Raises
    ------
    AppError
        If the analysis names an image that was not given.
    """
    found: dict[str, Dataset] = {}
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        found[str(header.SOPInstanceUID)] = header
    try:
        return [found[uid] for uid in sop_instance_uids]
    except KeyError as error:
        raise AppError("the app names an image it was not given", EQUIPMENT_FAILURE) from error


@contextlib.contextmanager
def _own_standard_output() -> Iterator[TextIO]:
    """The standard output for progress alone; prints of others go to standard error from here on."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield out


def _progress_to(out: TextIO) -> Progress:
    def report(percent: int, text: str) -> None:
        # A parent that has gone away is no reason to stop here: the kernel's signal is.
        with contextlib.suppress(BrokenPipeError):
            out.write(json.dumps({"percent": percent, "text": text}) + "\n")
            out.flush()

    return report


def _bound_to(parent: int) -> bool:
    """Ask the kernel (Linux) to end this process with its parent; False when the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def _limit_memory(limit_mib: int) -> None:
    """Limit the address space where the platform can; onnxruntime reserves far more than it uses."""
    if limit_mib > 0:
        import resource  # POSIX only

        limit = limit_mib * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
