# SPDX-License-Identifier: Apache-2.0
"""Changes with values for each of many rows, sent as one statement, or as few where they are long.

SQLite's driver binds row after row within the process. PostgreSQL takes all rows as one JSON text: its driver
needs longer to bind a row, and to wait for each, than the server needs to read them from JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Connection,
    Integer,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql import Executable

from task_manager.store.compiled import Statement

_PLAIN = (Boolean, BigInteger, Integer)
_ROWS = "rows"
_MOST_BYTES = 4 * 1024**2


class RowStatement:
    """A change for each of many rows.

    Parameters
    ----------
    table
        Gives the types of the values.
    names
        Values that each row has, mostly those of columns; what else it has is left out.
    build
        Makes the expression from the name of a dialect and the values of a row by name.
    """

    def __init__(
        self, table: Table, names: Sequence[str], build: Callable[[str, Mapping[str, Any]], Executable]
    ) -> None:
        self._names = tuple(names)
        bound: dict[str, Any] = {name: bindparam(_PREFIX + name) for name in names}
        columns = [column(name, _plain_type(table, name)) for name in names]
        rows = func.json_to_recordset(cast(bindparam(_ROWS), JSON)).table_valued(*columns)
        given = rows.render_derived(name="given", with_types=True)
        self._bound = Statement(lambda dialect: build(dialect, bound))
        self._selected = Statement(lambda dialect: build(dialect, {name: given.c[name] for name in names}))

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Change all, in the order of the rows; nothing for none."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            placed = [name.removeprefix(_PREFIX) for name in self._bound.order(connection)]
            self._bound.change_each(connection, [[row[name] for name in placed] for row in rows])
        else:
            names = self._names
            for text in _lists([orjson.dumps({name: row[name] for name in names}) for row in rows]):
                self._selected.change(connection, {_ROWS: text})


def inserting(table: Table, names: Sequence[str], *, unless: Sequence[str] = ()) -> RowStatement:
    """Inserts rows, without those for which there is one of the same values in the columns `unless`."""

    def build(dialect: str, values: Mapping[str, Any]) -> Executable:
        statement: Any = upserting(dialect, table)
        if dialect == "sqlite":
            statement = statement.values(dict(values))
        else:
            statement = statement.from_select(list(values), select(*values.values()))
        if unless:
            statement = statement.on_conflict_do_nothing(index_elements=list(unless))
        done: Executable = statement
        return done

    return RowStatement(table, names, build)


def updating(table: Table, names: Sequence[str], *, key: str) -> RowStatement:
    """Updates the rows that have the value of the column `key`."""

    def build(dialect: str, values: Mapping[str, Any]) -> Executable:
        del dialect
        changed = {name: value for name, value in values.items() if name != key}
        return update(table).where(table.c[key] == values[key]).values(changed)

    return RowStatement(table, names, build)


def _lists(rows: Sequence[bytes]) -> Iterator[str]:
    """JSON lists of the rows in their order, mostly one: a value may not take 1 GB, nor need much memory."""
    begin = length = 0
    for end, row in enumerate(rows, start=1):
        length += len(row)
        if length >= _MOST_BYTES or end == len(rows):
            yield f"[{b','.join(rows[begin:end]).decode()}]"
            begin, length = end, 0


def upserting(dialect: str, table: Any) -> Any:
    """An INSERT of a dialect that knows ON CONFLICT."""
    return (sqlite_insert if dialect == "sqlite" else postgresql_insert)(table)


_PREFIX = "new_"
"""Of parameters: names of columns are reserved in statements that set these columns."""


def _plain_type(table: Table, name: str) -> Any:
    """The type of a value as it is sent: times are text already, and so is what is no column."""
    kind = table.c[name].type if name in table.c else None
    return kind if isinstance(kind, _PLAIN) else Text()
