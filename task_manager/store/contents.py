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
from task_manager.store.compiled import Statement, change, fetch
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
_DROP = Statement(lambda _: delete(_CONTENT).where(_CONTENT.c.number == bindparam("number")))
_LAST_NUMBER = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'workitem_content'"
_RESERVE = (
    "SELECT nextval(pg_get_serial_sequence('workitem_content', 'number')) FROM generate_series(1, %(count)s)"
)
_ADD_TEXTS = (
    "INSERT INTO workitem_content (number, attributes, summary) "
    "SELECT * FROM unnest(%(numbers)b::integer[], %(attributes)b::text[], %(summaries)b::text[])"
)
"""Binary arrays of long texts are neither escaped nor parsed."""

_RESERVED = 128
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
    """Contents by number, as many as there is room for, and numbers for new ones; safe for many threads.

    Only what is committed may be added: SQLite gives the numbers of a transaction that was rolled back again.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._contents: dict[int, Content] = {}
        self._bytes = 0
        self._numbers: list[int] = []

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
            self._numbers.clear()

    def new_numbers(self, connection: Connection, count: int) -> Sequence[int]:
        """Numbers that nobody else gets: PostgreSQL, which counts for all who write, gives some for later."""
        if connection.dialect.name == "sqlite":
            [[last]] = fetch(connection, _LAST_NUMBER, ())  # one writer at a time
            return range(last + 1, last + 1 + count)
        with self._lock:
            if len(self._numbers) < count:
                given = fetch(connection, _RESERVE, {"count": count + _RESERVED})
                self._numbers += [row[0] for row in given]
            taken, self._numbers = self._numbers[:count], self._numbers[count:]
        return taken


def add_contents(
    connection: Connection, attributes: Sequence[DicomJson], known: Contents
) -> dict[int, Content]:
    """Write the lasting part of each workitem's attributes; the contents by new numbers, in this order."""
    if not attributes:
        return {}
    contents = []
    for one in attributes:
        part = lasting_part(one)
        contents.append(Content(orjson.dumps(part), orjson.dumps(lasting_summary(one)), part))
    numbers = known.new_numbers(connection, len(contents))
    texts = [content.attributes.decode() for content in contents]
    summaries = [content.summary.decode() for content in contents]
    if connection.dialect.name == "sqlite":
        _ADD.change_each(connection, list(zip(numbers, texts, summaries, strict=True)))
    else:
        change(connection, _ADD_TEXTS, {"numbers": numbers, "attributes": texts, "summaries": summaries})
    return dict(zip(numbers, contents, strict=True))


def drop_contents(connection: Connection, numbers: Sequence[int]) -> None:
    """Delete what no workitem names any more."""
    for number in numbers:
        _DROP.change(connection, {"number": number})


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
