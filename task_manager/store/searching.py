# SPDX-License-Identifier: Apache-2.0
"""Searching workitems: by columns alone where they decide, else by looking at the candidates they leave.

Worklist order: HIGH priority first, then scheduled start, then arrival. Takes a connection; commits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, collate, func, literal_column, select

from profiles.dicom_json import DicomJson
from profiles.ups.matching import matches
from profiles.ups.returning import always_returned, search_result
from task_manager.ports import MOST_COUNTED, SearchPage, WorkitemQuery
from task_manager.store.compiled import Statement, pipelined
from task_manager.store.contents import Contents
from task_manager.store.records import WITH_CONTENT
from task_manager.store.tables import METADATA
from task_manager.store.whole_texts import WholeTexts
from task_manager.workitem.columns import SEVERAL, narrowing
from task_manager.workitem.parts import whole_text

_WORKITEM = METADATA.tables["workitem"]
_CONTENT = METADATA.tables["workitem_content"]
_READ_AT_ONCE = 200
_SPARSE = frozenset({"station_name", "station_class", "organization"})
"""Columns whose index holds only rows with a value: a statement has to say that it wants one."""


def search_pages(
    connection: Connection, queries: Sequence[WorkitemQuery], known: Contents
) -> list[SearchPage]:
    """A page for each of several searches, which PostgreSQL is asked for at once.

    Contents that are `known` are not read again.
    """
    with pipelined(connection):
        asked = [_asked_page(connection, query, known) for query in queries]
    return [page() for page in asked]


def _asked_page(connection: Connection, query: WorkitemQuery, known: Contents) -> Callable[[], SearchPage]:
    narrowed = narrowing(query.matching)
    if narrowed.exact and not _some_have_several(connection, narrowed.equal):
        return _decided_page(connection, query, narrowed.equal, known)
    return lambda: _examined_page(connection, query, narrowed.equal, exact=narrowed.exact)


def _some_have_several(connection: Connection, equal: Mapping[str, Sequence[str | int]]) -> bool:
    """Whether there are candidates with several items, which columns cannot decide; mostly there are none."""
    doubtful = [name for name, values in equal.items() if SEVERAL in values]
    certain = {name: values[0] for name, values in equal.items() if name not in doubtful}
    for name in doubtful:
        wanted = {f"of_{column}": value for column, value in {**certain, name: SEVERAL}.items()}
        if _any_statement((*certain, name)).rows(connection, wanted):
            return True
    return False


def _equal(columns: Sequence[str]) -> list[Any]:
    conditions = [_WORKITEM.c[name] == bindparam(f"of_{name}") for name in columns]
    return [*conditions, *(_WORKITEM.c[name] != literal_column("''") for name in columns if name in _SPARSE)]


@lru_cache(maxsize=512)
def _any_statement(columns: tuple[str, ...]) -> Statement:
    return Statement(lambda _: select(_WORKITEM.c.uid).where(*_equal(columns)).limit(literal_column("1")))


@lru_cache(maxsize=512)
def _page_texts(columns: tuple[str, ...], whole: bool) -> WholeTexts:
    """A page of the workitems that have one value in each of `columns`; made once for each kind of search."""

    def narrowed(dialect: str, selected: Any) -> Any:
        found = _in_order(selected.where(*_equal(columns)), dialect)
        return found.limit(bindparam("most")).offset(bindparam("skipped"))

    return WholeTexts(narrowed, whole=whole)


@lru_cache(maxsize=512)
def _count_statement(columns: tuple[str, ...]) -> Statement:
    """How many have one value in each of `columns`, counted to a bound, along the index of their order."""

    def counted(dialect: str) -> Any:
        some = _in_order(select(_WORKITEM.c.uid).where(*_equal(columns)), dialect).limit(bindparam("most"))
        return select(func.count()).select_from(some.subquery())

    return Statement(counted)


def _decided_page(
    connection: Connection, query: WorkitemQuery, equal: Mapping[str, Sequence[str | int]], known: Contents
) -> Callable[[], SearchPage]:
    columns = tuple(equal)
    wanted = {f"of_{name}": values[0] for name, values in equal.items()}
    place = {"most": query.limit, "skipped": query.offset}
    to = query.offset + query.limit + MOST_COUNTED
    asked = _page_texts(columns, _needs_attributes(query)).asked(connection, {**wanted, **place}, known)
    counted = _count_statement(columns).asked_rows(connection, {**wanted, "most": to})

    def collected() -> SearchPage:
        results = tuple(_result(text, query) for _, text in asked())
        remaining = 0
        if len(results) == query.limit:
            [[total]] = counted()
            remaining = max(0, total - query.offset - query.limit)
        return SearchPage(results=results, remaining=remaining)

    return collected


def _examined_page(
    connection: Connection,
    query: WorkitemQuery,
    equal: Mapping[str, Sequence[str | int]],
    *,
    exact: bool,
) -> SearchPage:
    """Look at candidates one by one; where columns are exact, only at those with several items."""
    results: list[bytes] = []
    skip, remaining = query.offset, 0
    doubtful = [name for name, values in equal.items() if SEVERAL in values]
    for row in _streamed(connection, query, equal, doubtful):
        several = any(getattr(row, f"{name}_of") == SEVERAL for name in doubtful)
        text = whole_text(row.lasting.encode(), row.moving.encode())
        if (several or not exact) and not matches(query.matching, orjson.loads(text)):
            continue
        if skip:
            skip -= 1
        elif len(results) < query.limit:
            results.append(_result(text, query, whole=True))
        else:
            remaining += 1
            if remaining >= MOST_COUNTED:
                break
    return SearchPage(results=tuple(results), remaining=remaining)


def _streamed(
    connection: Connection,
    query: WorkitemQuery,
    equal: Mapping[str, Sequence[str | int]],
    doubtful: Sequence[str],
) -> Iterator[Any]:
    flags = [_WORKITEM.c[name].label(f"{name}_of") for name in doubtful]
    statement = _candidates(connection, equal).add_columns(
        _CONTENT.c.attributes.label("lasting"), _WORKITEM.c.attributes.label("moving"), *flags
    )
    with connection.execution_options(yield_per=_READ_AT_ONCE).execute(statement) as found:
        yield from found


def _candidates(connection: Connection, equal: Mapping[str, Sequence[str | int]]) -> Any:
    wanted = select(_WORKITEM.c.uid).select_from(WITH_CONTENT).where(*_conditions(equal))
    return _in_order(wanted, connection.dialect.name)


def _in_order(statement: Any, dialect: str) -> Any:
    return statement.order_by(
        _WORKITEM.c.priority_rank,
        _WORKITEM.c.scheduled_start,
        _WORKITEM.c.created_at,
        collate(_WORKITEM.c.uid, "BINARY" if dialect == "sqlite" else "C"),
    )


def _conditions(equal: Mapping[str, Sequence[str | int]]) -> list[Any]:
    return [
        _WORKITEM.c[name] == values[0] if len(values) == 1 else _WORKITEM.c[name].in_(list(values))
        for name, values in equal.items()
    ]


def _needs_attributes(query: WorkitemQuery) -> bool:
    """Whether summaries do not hold all that is wanted."""
    return query.returned is None or not query.returned <= always_returned()


def _result(text: bytes, query: WorkitemQuery, *, whole: bool | None = None) -> bytes:
    """What is returned of `text`: all attributes (`whole`), or what a search always returns."""
    whole = _needs_attributes(query) if whole is None else whole
    if query.returned is None or not whole:
        return text
    content: DicomJson = orjson.loads(text)
    return orjson.dumps(search_result(content, query.returned))
