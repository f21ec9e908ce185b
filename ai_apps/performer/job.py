# SPDX-License-Identifier: Apache-2.0
"""The files between the performer and the child process that runs an app.

::

    JOBDIR/job.json        what to run; written by the parent
    JOBDIR/outputs/*.dcm   results, SEG first, SR last
    JOBDIR/result.json     written last, atomically: present means finished
    JOBDIR/failure.json    why the app gave no result
    JOBDIR/runner.log      standard error of the child
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from profiles.air.model import ResultContext
from profiles.codes import Code

_SIZE_LIMIT = 16 * 1024 * 1024
_CODE_FIELDS = ("requested_procedure_code", "scheduled_workitem_code")


class JobError(Exception):
    """A file of the job folder cannot be used; the message holds no patient data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of one app.

    Attributes
    ----------
    app
        Name in the catalogue.
    inputs
        DICOM files of the selected instances.
    context
        What the workitem says about the results.
    parameters
        Name to value; the manifest gives the rest.
    app_folders
        Folders of further apps, beside the ones that come with Airway.
    threads
        CPU threads for inference; 0 lets the runtime choose.
    memory_limit_mib
        Limit of the child's address space; 0 is no limit.
    """

    app: str
    inputs: tuple[Path, ...]
    context: ResultContext
    parameters: Mapping[str, str] = field(default_factory=dict)
    app_folders: tuple[Path, ...] = ()
    threads: int = 0
    memory_limit_mib: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """One result object. `path` is absolute when read."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    modality: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a finished run left: `files` in the order to be stored, the root SR last."""

    app_name: str
    app_version: str
    files: tuple[ResultFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailure:
    """Why the app gave no result; `message` names no patient."""

    message: str
    reason: Code


def write_job(folder: Path, job: Job) -> None:
    """Write ``job.json`` into `folder`, made if it is not there.

    Raises
    ------
    OSError
        If the disk fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = asdict(job.context)
    context["performed_at"] = job.context.performed_at.isoformat()
    document = {
        "app": job.app,
        "inputs": [str(path) for path in job.inputs],
        "parameters": dict(job.parameters),
        "context": context,
        "app_folders": [str(path) for path in job.app_folders],
        "threads": job.threads,
        "memory_limit_mib": job.memory_limit_mib,
    }
    write_json(folder / "job.json", document)


def read_job(folder: Path) -> Job:
    """The job of `folder`.

    Raises
    ------
    JobError
        If ``job.json`` is missing or not what :func:`write_job` writes.
    """
    document = _read_json(folder / "job.json")
    try:
        given = dict(document["context"])
        given["performed_at"] = datetime.fromisoformat(given["performed_at"])
        for name in _CODE_FIELDS:
            given[name] = Code(**given[name]) if given.get(name) else None
        unknown = set(given) - {f.name for f in fields(ResultContext)}
        if unknown or given["performed_at"].tzinfo is None:
            raise JobError("job.json: context has an unknown field or a time without zone")
        return Job(
            app=str(document["app"]),
            inputs=tuple(Path(str(path)) for path in document["inputs"]),
            context=ResultContext(**given),
            parameters={str(k): str(v) for k, v in document.get("parameters", {}).items()},
            app_folders=tuple(Path(str(path)) for path in document.get("app_folders", [])),
            threads=int(document.get("threads", 0)),
            memory_limit_mib=int(document.get("memory_limit_mib", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise JobError(f"job.json: {type(error).__name__} while reading") from error


def write_result(folder: Path, result: RunResult) -> None:
    """Write ``result.json``; from then on the run counts as finished."""
    document = asdict(result)
    for written in document["files"]:
        written["path"] = os.path.relpath(written["path"], folder)
    write_json(folder / "result.json", document)


def read_result(folder: Path) -> RunResult | None:
    """The result in `folder`, or None if the run has not finished there.

    Raises
    ------
    JobError
        If ``result.json`` or a file it names cannot be used.
    """
    path = folder / "result.json"
    if not path.is_file():
        return None
    document = _read_json(path)
    try:
        files = []
        for entry in document["files"]:
            target = (folder / str(entry["path"])).resolve()
            if not target.is_relative_to(folder.resolve()) or not target.is_file():
                raise JobError("result.json: names a file that is not in the job folder")
            files.append(ResultFile(**{**entry, "path": target}))
        return RunResult(
            app_name=str(document["app_name"]),
            app_version=str(document["app_version"]),
            files=tuple(files),
        )
    except (KeyError, TypeError) as error:
        raise JobError(f"result.json: {type(error).__name__} while reading") from error


def write_failure(folder: Path, failure: RunFailure) -> None:
    """Write ``failure.json``."""
    write_json(folder / "failure.json", asdict(failure))


def read_failure(folder: Path) -> RunFailure | None:
    """The failure in `folder`, or None.

    Raises
    ------
    JobError
        If ``failure.json`` is not what :func:`write_failure` writes.
    """
    path = folder / "failure.json"
    if not path.is_file():
        return None
    document = _read_json(path)
    try:
        return RunFailure(message=str(document["message"]), reason=Code(**document["reason"]))
    except (KeyError, TypeError) as error:
        raise JobError(f"failure.json: {type(error).__name__} while reading") from error


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Replace `path` by `document`, durably: either the old file or the whole new one is there."""
    staged = path.with_name(path.name + ".part")
    with staged.open("w", encoding="utf-8") as out:
        json.dump(document, out, ensure_ascii=False, indent=1)
        out.flush()
        os.fsync(out.fileno())
    staged.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise JobError(f"{path.name}: larger than {_SIZE_LIMIT} bytes")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise JobError(f"{path.name}: {error.strerror}") from error
    except ValueError as error:
        raise JobError(f"{path.name}: not JSON") from error
    if not isinstance(document, dict):
        raise JobError(f"{path.name}: not a JSON object")
    return document
