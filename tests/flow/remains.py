# SPDX-License-Identifier: Apache-2.0
"""What an Airway leaves on its machine: rows, objects, files and processes, read without asking it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any


class Remains:
    """A view on the data folder of an Airway on SQLite, running or not."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def workitem_states(self, study_instance_uid: str) -> list[str]:
        """States of the study's workitems."""
        return [
            row[0]
            for row in self._rows(
                "SELECT state FROM workitem WHERE study_instance_uid = ? ORDER BY created_at",
                study_instance_uid,
            )
        ]

    def unfinished_jobs(self) -> list[str]:
        """Keys of jobs that are not done."""
        return [row[0] for row in self._rows("SELECT key FROM job WHERE state != 'DONE' ORDER BY id")]

    def deadline_at(self, study_instance_uid: str) -> str | None:
        """The stored deadline of a study, as its column has it."""
        ((deadline,),) = self._rows(
            "SELECT deadline_at FROM study WHERE study_instance_uid = ?", study_instance_uid
        )
        return None if deadline is None else str(deadline)

    def is_finished(self, study_instance_uid: str) -> bool:
        """Whether a workitem of the study is COMPLETED and nothing is left to deliver or tell."""
        if not (self._data / "airway.db").exists():
            return False
        completed = "COMPLETED" in self.workitem_states(study_instance_uid)
        return completed and not self.unfinished_jobs()

    def object_of(self, sop_instance_uid: str) -> Path:
        """The stored file of an instance, which has one copy only."""
        ((path,),) = self._rows("SELECT path FROM instance WHERE sop_instance_uid = ?", sop_instance_uid)
        return self._data / "store" / str(path)

    def instances(self, study_instance_uid: str) -> list[str]:
        """SOP Instance UIDs recorded for a study."""
        return [
            row[0]
            for row in self._rows(
                "SELECT sop_instance_uid FROM instance WHERE study_instance_uid = ?", study_instance_uid
            )
        ]

    def objects_without_record(self) -> list[Path]:
        """Committed files that no row names."""
        known = {self._data / "store" / row[0] for row in self._rows("SELECT path FROM instance")}
        return [path for path in (self._data / "store" / "objects").rglob("*.dcm") if path not in known]

    def objects(self) -> list[Path]:
        """Committed files."""
        return list((self._data / "store" / "objects").rglob("*.dcm"))

    def incoming(self) -> list[Path]:
        """Files on their way in."""
        return list((self._data / "store" / "incoming").iterdir())

    def claims(self) -> list[Path]:
        """Folders of work the performer has not finished."""
        return list((self._data / "performer" / "claims").iterdir())

    def events_log(self) -> list[str]:
        """What the event log tells, one message per line."""
        path = self._data / "events.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def processes(self) -> list[int]:
        """Living processes whose command line names the data folder: serve, performer and app."""
        name = str(self._data).encode()
        return [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if name in _content(path)
        ]

    def _rows(self, statement: str, *parameters: str) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._data / "airway.db", timeout=30)) as connection:
            yield connection


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended just now
