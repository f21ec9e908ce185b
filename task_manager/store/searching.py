# SPDX-License-Identifier: Apache-2.0
"""Searching workitems: by columns alone where they decide, else by looking at the candidates they leave.

Worklist order: HIGH priority first, then scheduled start, then arrival. Takes a connection; commits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, case, collate, func, select

from profiles.dicom_json import DicomJson
from profiles.ups.matching import matches
from profiles.ups.returning import always_returned, search_result
from task_manager.ports import MOST_COUNTED, SearchPage, WorkitemQuery
from task_manager.store.tables import METADATA
from task_manager.workitem.columns import SEVERAL, narrowing

_WORKITEM = METADATA.tables["workitem"]
_READ_AT_ONCE = 200


def search_page(connection: Connection, query: WorkitemQuery) -> SearchPage:
    """One page of the workitems that match."""
    if query.limit <= 0:
        return SearchPage(results=(), remaining=0)
    narrowed = narrowing(query.matching)
    decided = narrowed.exact and not any(SEVERAL in values for values in narrowed.equal.values())
    if decided:
        return _decided_page(connection, query, narrowed.equal)
    return _examined_page(connection, query, narrowed.equal, exact=narrowed.exact)


def _decided_page(
    connection: Connection, query: WorkitemQuery, equal: Mapping[str, Sequence[str | int]]
) -> SearchPage:
    statement = _candidates(connection, equal).limit(query.limit).offset(query.offset)
    results = tuple(
        _result(row.summary, row.attributes, query.returned)
        for row in connection.execute(statement.add_columns(*_content(query)))
    )
    remaining = 0
    if len(results) == query.limit:
        counted = query.offset + query.limit + MOST_COUNTED
        inner = select(_WORKITEM.c.uid).where(*_conditions(equal)).limit(counted).subquery()
        total = connection.execute(select(func.count()).select_from(inner)).scalar_one()
        remaining = max(0, total - query.offset - query.limit)
    return SearchPage(results=results, remaining=remaining)


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
        if (several or not exact) and not matches(query.matching, orjson.loads(row.attributes)):
            continue
        if skip:
            skip -= 1
        elif len(results) < query.limit:
            results.append(_result(row.summary, row.attributes, query.returned))
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
        _WORKITEM.c.summary, _WORKITEM.c.attributes, *flags
    )
    with connection.execution_options(yield_per=_READ_AT_ONCE).execute(statement) as found:
        yield from found


def _candidates(connection: Connection, equal: Mapping[str, Sequence[str | int]]) -> Any:
    return (
        select(_WORKITEM.c.uid)
        .where(*_conditions(equal))
        .order_by(_WORKITEM.c.priority_rank, _WORKITEM.c.scheduled_start, _WORKITEM.c.created_at)
        .order_by(collate(_WORKITEM.c.uid, "BINARY" if connection.dialect.name == "sqlite" else "C"))
    )


def _conditions(equal: Mapping[str, Sequence[str | int]]) -> list[Any]:
    return [
        _WORKITEM.c[name] == values[0] if len(values) == 1 else _WORKITEM.c[name].in_(list(values))
        for name, values in equal.items()
    ]


def _content(query: WorkitemQuery) -> list[Any]:
    """The texts that the answer needs: summaries alone where they hold all that is wanted."""
    if query.returned is not None and query.returned <= always_returned():
        return [_WORKITEM.c.summary, func.coalesce(_older_attributes(), "").label("attributes")]
    return [_WORKITEM.c.summary, _WORKITEM.c.attributes]


def _older_attributes() -> Any:
    """Attributes of rows of the first release, which have no summary."""
    return case((_WORKITEM.c.summary == "", _WORKITEM.c.attributes), else_="")


def _result(summary: str, attributes: str, returned: frozenset[str] | None) -> bytes:
    if returned is None:
        return attributes.encode()
    if summary and returned <= always_returned():
        return summary.encode()
    content: DicomJson = orjson.loads(attributes)
    return orjson.dumps(search_result(content, returned))
