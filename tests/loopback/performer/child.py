# SPDX-License-Identifier: Apache-2.0
"""A child process in the place of the runner: ``child.py JOBDIR PARENT_PID``.

The job's parameter ``behaviour`` says what it does: ``finish`` (default), ``fail``, ``hang``, ``crash``, or
``kill-parent``, which ends the performer in the middle of the first run and finishes in the next.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from pathlib import Path

from ai_apps.performer.job import ResultFile, RunFailure, RunResult, read_job, write_failure, write_result
from profiles.codes import OBJECTS_INCORRECTLY_FORMATTED
from profiles.uids import derived_uid

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"


def progress(percent: int, text: str) -> None:
    sys.stdout.write(json.dumps({"percent": percent, "text": text}) + "\n")
    sys.stdout.flush()


def part10(elements: list[tuple[int, int, bytes, bytes]]) -> bytes:
    """A Part 10 file in Explicit VR Little Endian, without the time a library takes to import."""

    def encoded(group: int, element: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        return struct.pack("<HH2sH", group, element, vr, len(value)) + value

    meta = encoded(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta + b"".join(encoded(*each) for each in elements)


def result(folder: Path, workitem_uid: str, number: int, sop_class_uid: str, performed_at: str) -> ResultFile:
    """One object whose bytes depend on the workitem and the time of the claim only."""
    uid = derived_uid(workitem_uid, sop_class_uid)
    series_uid = derived_uid(workitem_uid, sop_class_uid, "series")
    modality = "SEG" if sop_class_uid == SEG else "SR"
    content = part10(
        [
            (8, 0x16, b"UI", sop_class_uid.encode()),
            (8, 0x18, b"UI", uid.encode()),
            (8, 0x33, b"TM", performed_at[11:19].replace(":", "").encode()),
            (8, 0x60, b"CS", modality.encode()),
            (0x10, 0x20, b"LO", b"P-1"),
            (0x20, 0x0D, b"UI", b"1.2.3"),
            (0x20, 0x0E, b"UI", series_uid.encode()),
        ]
    )
    path = folder / "outputs" / f"{number:03d}.dcm"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return ResultFile(
        path=path,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=uid,
        series_instance_uid=series_uid,
        study_instance_uid="1.2.3",
        modality=modality,
        description="",
    )


def main() -> None:
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    job = read_job(folder)
    assert all(path.is_file() for path in job.inputs)
    behaviour = job.parameters.get("behaviour", "finish")
    progress(10, "started")
    if behaviour == "fail":
        write_failure(folder, RunFailure(message="slices are missing", reason=OBJECTS_INCORRECTLY_FORMATTED))
        return
    if behaviour == "crash":
        os._exit(9)
    if behaviour == "hang":
        while True:
            time.sleep(0.05)
    marker = folder.parent / "parent-was-killed"
    if behaviour == "kill-parent" and not marker.exists():
        marker.touch()
        os.kill(parent, signal.SIGKILL)
    progress(60, "half")
    context = job.context
    when = context.performed_at.isoformat()
    files = tuple(
        result(folder, context.workitem_uid, number, sop_class_uid, when)
        for number, sop_class_uid in enumerate((SEG, SR), start=1)
    )
    write_result(folder, RunResult(app_name=job.app, app_version="1", files=files))


if __name__ == "__main__":
    main()
