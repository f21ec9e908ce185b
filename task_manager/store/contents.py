# SPDX-License-Identifier: Apache-2.0
"""Rows of content: what lasts of each workitem. Each function takes a connection; none commits.

A row is never changed: other content gets another number, and a number never names anything else. So what was
read once need not be read or parsed again, in whatever process it is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select

from profiles.dicom_json import DicomJson
from task_manager.store.compiled import Statement, fetch
from task_manager.store.tables import METADATA
from task_manager.workitem.parts import lasting_part, lasting_summary

_CONTENT = METADATA.tables["workitem_content"]
_ADD = Statement(lambda _: insert(_CONTENT))
_ROWS = Statement(
    lambda dialect: select(_CONTENT.c.number, _CONTENT.c.attributes, _CONTENT.c.summary).where(
        _CONTENT.c.number.in_(select(func.json_each(bindparam("numbers")).table_valued("value").c.value))
        if dialect == "sqlite"
        else _CONTENT.c.number == func.any(bindparam("numbers"))
    )
)
_LAST_NUMBER = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'workitem_content'"
_ADD_NUMBERED = """
WITH given AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('workitem_content', 'number')) AS number, attributes, summary, place
    FROM unnest(%(attributes)b::text[], %(summaries)b::text[])
        WITH ORDINALITY AS texts (attributes, summary, place)
), added AS (
    INSERT INTO workitem_content (number, attributes, summary) SELECT number, attributes, summary FROM given
)
SELECT number FROM given ORDER BY place
"""
"""PostgreSQL counts for all who write. Binary arrays of long texts are neither escaped nor parsed."""
_MOST_BYTES = 16 * 1024**2
"""Of attributes as text; with the summary, and parsed, they take about ten times as much."""


class Content:
    """What a row holds: the lasting part of attributes and what of it a search returns, as JSON in UTF-8."""

    __slots__ = ("_part", "attributes", "summary")

    def __init__(self, attributes: bytes, summary: bytes, part: DicomJson | None = None) -> None:
        self.attributes = attributes
        self.summary = summary
        self._part = part

    @property
    def part(self) -> DicomJson:
        """The attributes, parsed when they are first asked for; nobody may change them."""
        part = self._part
        if part is None:
            part = self._part = orjson.loads(self.attributes)
        return part

    def text(self, *, whole: bool) -> bytes:
        """All attributes, or the summary."""
        return self.attributes if whole else self.summary


class Contents:
    """Contents by number, as many as there is room for; safe to use from many threads.

    Only what is committed may be added: SQLite gives the numbers of a transaction that was rolled back again.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._contents: dict[int, Content] = {}
        self._bytes = 0

    def get(self, number: int) -> Content | None:
        """A content; None if it is not in here."""
        return self._contents.get(number)

    def add(self, contents: Mapping[int, Content]) -> None:
        """Keep contents; the oldest make room."""
        with self._lock:
            for number, content in contents.items():
                if number not in self._contents:
                    self._contents[number] = content
                    self._bytes += len(content.attributes)
            while self._bytes > self._most_bytes:
                oldest = next(iter(self._contents))
                self._bytes -= len(self._contents.pop(oldest).attributes)

    def forget(self) -> None:
        """Know nothing any more: a server that came back without its last commits gives numbers again."""
        with self._lock:
            self._contents.clear()
            self._bytes = 0


def add_contents(connection: Connection, attributes: Sequence[DicomJson]) -> dict[int, Content]:
    """Write the lasting part of each workitem's attributes; the contents by new numbers, in this order."""
    if not attributes:
        return {}
    contents = []
    for one in attributes:
        part = lasting_part(one)
        contents.append(Content(orjson.dumps(part), orjson.dumps(lasting_summary(one)), part))
    return dict(zip(_added(connection, contents), contents, strict=True))


def _added(connection: Connection, contents: Sequence[Content]) -> Sequence[int]:
    """Insert rows; their new numbers."""
    texts = [content.attributes.decode() for content in contents]
    summaries = [content.summary.decode() for content in contents]
    if connection.dialect.name == "postgresql":
        values = {"attributes": texts, "summaries": summaries}
        return [row[0] for row in fetch(connection, _ADD_NUMBERED, values)]
    [[last]] = fetch(connection, _LAST_NUMBER, ())  # SQLite has one writer at a time
    numbers = range(last + 1, last + 1 + len(texts))
    _ADD.change_each(connection, list(zip(numbers, texts, summaries, strict=True)))
    return numbers


def drop_contents(connection: Connection, numbers: Sequence[int]) -> None:
    """Delete what no workitem names any more."""
    if numbers:
        connection.execute(delete(_CONTENT).where(_CONTENT.c.number.in_(numbers)))


def contents_by_number(
    connection: Connection, numbers: Iterable[int], known: Contents
) -> tuple[dict[int, Content], dict[int, Content]]:
    """The contents of these numbers, and those among them that were not yet known."""
    found: dict[int, Content] = {}
    missing = []
    for number in numbers:
        content = known.get(number)
        if content is None:
            missing.append(number)
        else:
            found[number] = content
    learned: dict[int, Content] = {}
    if missing:
        sqlite = connection.dialect.name == "sqlite"
        wanted = orjson.dumps(missing).decode() if sqlite else missing
        for text, attributes, summary in _ROWS.texts(connection, {"numbers": wanted}):
            learned[int(text)] = Content(attributes, summary)
        found |= learned
    return found, learned
