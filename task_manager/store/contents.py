# SPDX-License-Identifier: Apache-2.0
"""Rows of content: what lasts of each workitem. Each function takes a connection; none commits.

A row is never changed: other content gets another number, and a number never names anything else. So what was
read once need not be read or parsed again, in whatever process it is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import orjson
from sqlalchemy import Connection, bindparam, delete, func, select

from profiles.dicom_json import DicomJson
from task_manager.store.compiled import Statement, fetch
from task_manager.store.rowwise import inserting
from task_manager.store.tables import METADATA
from task_manager.workitem.parts import lasting_part, lasting_summary

_CONTENT = METADATA.tables["workitem_content"]
_ADD = inserting(_CONTENT, ("number", "attributes", "summary"))
_TEXTS = Statement(
    lambda dialect: select(_CONTENT.c.number, _CONTENT.c.attributes).where(
        _CONTENT.c.number.in_(select(func.json_each(bindparam("numbers")).table_valued("value").c.value))
        if dialect == "sqlite"
        else _CONTENT.c.number == func.any(bindparam("numbers"))
    )
)
_LAST_NUMBER = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'workitem_content'"
_NEW_NUMBERS = (
    "SELECT nextval(pg_get_serial_sequence('workitem_content', 'number')) FROM generate_series(1, %(count)s)"
)
_MOST_BYTES = 16 * 1024**2
"""Of text; parsed it takes about eight times as much."""


NewParts = dict[int, tuple[DicomJson, int]]
"""Lasting parts by number, each with the length of its text."""


class Contents:
    """Lasting parts by number, as many as there is room for; safe to use from many threads.

    Nobody may change a part that is in here. Only what is committed may be added: SQLite gives the numbers of
    a transaction that was rolled back again.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._parts: NewParts = {}
        self._bytes = 0

    def get(self, number: int) -> DicomJson | None:
        """A part; None if it is not in here."""
        found = self._parts.get(number)
        return None if found is None else found[0]

    def add(self, parts: NewParts) -> None:
        """Keep parts, each with the length of its text; the oldest make room."""
        with self._lock:
            for number, part in parts.items():
                if number not in self._parts:
                    self._parts[number] = part
                    self._bytes += part[1]
            while self._bytes > self._most_bytes:
                oldest = next(iter(self._parts))
                self._bytes -= self._parts.pop(oldest)[1]

    def forget(self) -> None:
        """Know nothing any more: a server that came back without its last commits gives numbers again."""
        with self._lock:
            self._parts.clear()
            self._bytes = 0


def add_contents(connection: Connection, contents: Sequence[DicomJson]) -> NewParts:
    """Write the lasting part of each workitem's attributes; the parts by their new numbers, in this order."""
    if not contents:
        return {}
    rows = []
    parts: NewParts = {}
    for number, attributes in zip(_new_numbers(connection, len(contents)), contents, strict=True):
        part = lasting_part(attributes)
        text = orjson.dumps(part)
        summary = orjson.dumps(lasting_summary(attributes))
        rows.append({"number": number, "attributes": text.decode(), "summary": summary.decode()})
        parts[number] = (part, len(text))
    _ADD.run(connection, rows)
    return parts


def drop_contents(connection: Connection, numbers: Sequence[int]) -> None:
    """Delete what no workitem names any more."""
    if numbers:
        connection.execute(delete(_CONTENT).where(_CONTENT.c.number.in_(numbers)))


def lasting_parts(
    connection: Connection, numbers: Iterable[int], known: Contents
) -> tuple[dict[int, DicomJson], NewParts]:
    """The lasting parts of these numbers, and those among them that were not yet known."""
    found: dict[int, DicomJson] = {}
    missing = []
    for number in numbers:
        part = known.get(number)
        if part is None:
            missing.append(number)
        else:
            found[number] = part
    learned: NewParts = {}
    if missing:
        sqlite = connection.dialect.name == "sqlite"
        wanted = orjson.dumps(missing).decode() if sqlite else missing
        for number, text in _TEXTS.rows(connection, {"numbers": wanted}):
            learned[number] = (orjson.loads(text), len(text))
            found[number] = learned[number][0]
    return found, learned


def _new_numbers(connection: Connection, count: int) -> Sequence[int]:
    """Numbers for new rows: SQLite has one writer at a time, PostgreSQL counts for all."""
    if connection.dialect.name == "sqlite":
        [[last]] = fetch(connection, _LAST_NUMBER, ())
        return range(last + 1, last + 1 + count)
    return [row[0] for row in fetch(connection, _NEW_NUMBERS, {"count": count})]
