# SPDX-License-Identifier: Apache-2.0
"""Statements of hot paths: written as SQLAlchemy expressions, compiled once for each kind of database.

Compiling, or looking a compiled form up, costs more than running such a statement. Values are passed as the
driver takes them: times as text (:func:`utc_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable


@lru_cache(maxsize=256)
def utc_text(moment: datetime | None) -> str | None:
    """An aware time as it is stored; None stays None. One transaction writes the same time many times."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def utc_time(stored: str | None) -> datetime | None:
    """The aware time of stored text; None stays None."""
    return None if stored is None else datetime.fromisoformat(stored)


class Statement:
    """One statement with bound parameters by name.

    Parameters
    ----------
    build
        Makes the expression for a dialect (``sqlite`` or ``postgresql``).
    """

    def __init__(self, build: Callable[[str], Executable]) -> None:
        self._build = build
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it once; rows have named columns."""
        compiled = self._for(connection)
        return connection.exec_driver_sql(compiled.sql, compiled.given(values))

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a SELECT; all its rows as the driver gives them, which costs a tenth."""
        compiled = self._for(connection)
        return fetch(connection, compiled.sql, compiled.given(values))

    def texts(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[bytes, ...]]:
        """Run a SELECT of texts that are never NULL; all its rows as UTF-8, which no string is made of."""
        compiled = self._for(connection)
        given = compiled.given(values)
        with _cursor(connection, compiled.sql) as cursor:
            if connection.dialect.name == "sqlite":
                return _sqlite_texts(connection, cursor, compiled.sql, given)
            cursor.execute(compiled.sql, given)
            return _postgresql_texts(cursor)

    def asked_rows(
        self, connection: Connection, values: Mapping[str, Any]
    ) -> Callable[[], list[tuple[Any, ...]]]:
        """Ask PostgreSQL for what :meth:`rows` gives, without waiting; to be called once it was pipelined.

        On SQLite it is run when it is called.
        """
        if connection.dialect.name == "sqlite":
            return lambda: self.rows(connection, values)
        cursor = self._asking(connection, values)
        return lambda: _rows_of(cursor)

    def asked_texts(
        self, connection: Connection, values: Mapping[str, Any]
    ) -> Callable[[], list[tuple[bytes, ...]]]:
        """As :meth:`asked_rows`, for what :meth:`texts` gives."""
        if connection.dialect.name == "sqlite":
            return lambda: self.texts(connection, values)
        cursor = self._asking(connection, values)
        return lambda: _postgresql_texts(cursor)

    def _asking(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        compiled = self._for(connection)
        cursor = connection.connection.cursor()
        with _known_errors(connection, compiled.sql):
            cursor.execute(compiled.sql, compiled.given(values))
        return cursor

    def change(self, connection: Connection, values: Mapping[str, Any]) -> None:
        """Run a change."""
        compiled = self._for(connection)
        change(connection, compiled.sql, compiled.given(values))

    def order(self, connection: Connection) -> tuple[str, ...]:
        """Names of its values in the order of their places; empty where they are passed by name."""
        return self._for(connection).order or ()

    def change_each(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Run a change for each of `rows`, their values in the order of the places."""
        compiled = self._for(connection)
        with _cursor(connection, compiled.sql) as cursor:
            cursor.executemany(compiled.sql, rows)

    def _for(self, connection: Connection) -> _Compiled:
        dialect = connection.dialect
        known = self._compiled.get(dialect.name)
        if known is None:
            made: Any = self._build(dialect.name).compile(dialect=dialect)  # type: ignore[attr-defined]
            known = self._compiled[dialect.name] = _Compiled(
                sql=str(made),
                order=tuple(made.positiontup) if made.positional else None,
                literals={name: value for name, value in made.params.items() if value is not None},
            )
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """`order`: names of values taken by position; `literals`: values of the statement itself."""

    sql: str
    order: tuple[str, ...] | None
    literals: Mapping[str, Any]

    def given(self, values: Mapping[str, Any]) -> Any:
        whole = {**self.literals, **values} if self.literals else values
        return whole if self.order is None else tuple([whole[name] for name in self.order])


def fetch(connection: Connection, sql: str, values: Any) -> list[tuple[Any, ...]]:
    """The rows of a SELECT in the driver's own words."""
    with _cursor(connection, sql) as cursor:
        cursor.execute(sql, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def change(connection: Connection, sql: str, values: Any) -> None:
    """Run a change in the driver's own words."""
    with _cursor(connection, sql) as cursor:
        cursor.execute(sql, values)


def _rows_of(cursor: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _postgresql_texts(cursor: Any) -> list[tuple[bytes, ...]]:
    found = cursor.pgresult
    value, columns = found.get_value, range(found.nfields)
    return [tuple([value(row, column) for column in columns]) for row in range(found.ntuples)]


def _sqlite_texts(connection: Connection, cursor: Any, sql: str, values: Any) -> list[tuple[bytes, ...]]:
    """The connection is this thread's alone as long as its transaction lasts, and so is its setting."""
    driver: Any = connection.connection.dbapi_connection
    usual, driver.text_factory = driver.text_factory, bytes
    try:
        cursor.execute(sql, values)
        found: list[tuple[bytes, ...]] = cursor.fetchall()
        return found
    finally:
        driver.text_factory = usual


@contextmanager
def pipelined(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL work on statements while the next ones are made; errors come at the end at the latest.

    A SELECT whose rows are not only asked for waits for all before it. Only statements of this module may be
    run within.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    with _known_errors(connection, "pipeline"), driver.pipeline():
        yield


@contextmanager
def _cursor(connection: Connection, sql: str) -> Iterator[Any]:
    """A cursor of the driver within the connection's transaction."""
    cursor = connection.connection.cursor()
    with _known_errors(connection, sql):
        try:
            yield cursor
        finally:
            cursor.close()


@contextmanager
def _known_errors(connection: Connection, sql: str) -> Iterator[None]:
    """Errors of the driver as SQLAlchemy's."""
    dialect = connection.dialect
    errors: Any = dialect.dbapi
    try:
        yield
    except errors.Error as error:
        broken = dialect.is_disconnect(error, None, None)
        raise DBAPIError.instance(sql, None, error, errors.Error, True, broken, dialect) from error
