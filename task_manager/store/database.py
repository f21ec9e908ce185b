# SPDX-License-Identifier: Apache-2.0
"""The database: SQLite in WAL mode (embedded default) or PostgreSQL, behind two context managers.

``write()`` is one transaction that is durable when it returns; ``read()`` sees one consistent snapshot.
Statements live in the sibling modules and take the connection they are given.
"""

from __future__ import annotations

import fcntl
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InternalError,
    InvalidatePoolError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection

from profiles.faults import Fault
from task_manager.errors import ConfigurationError, ConflictError, NoRoomError, StoreError

__all__ = ["Connection", "Database", "PlainCursor"]

_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 4_180_112
_DRIVERS = ("sqlite", "postgresql+psycopg")
_USED = "airway_used"
_TRUSTED_S = 1.0
_BEATEN_BY_ANOTHER = frozenset({"40001", "40P01"})
"""SQLSTATEs of a transaction that PostgreSQL gave up for another's sake: serialization failure, deadlock."""
_NO_ROOM = "53100"
"""SQLSTATE of a server whose disk is full."""
# A server that is gone without a word is noticed in seconds, not in hours (libpq's parameters).
_POSTGRESQL = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class PlainCursor:
    """A cursor of the driver, for statements that are the same for both databases but for places of values.

    Parameters
    ----------
    place
        How the driver marks the place of a value; statements mark it by ``?``.
    """

    def __init__(self, cursor: Any, place: str) -> None:
        self._cursor = cursor
        self._place = place

    def run(self, statement: str) -> None:
        """Run a statement without values."""
        self._cursor.execute(statement)

    def give_up(self) -> None:
        """Undo what was changed so far; the transaction ends in nothing."""
        self._cursor.connection.rollback()

    def change(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a change for each of `rows`; how many rows of the database it changed."""
        statement = statement if self._place == "?" else statement.replace("?", self._place)
        if len(rows) == 1:
            self._cursor.execute(statement, rows[0])
        else:
            self._cursor.executemany(statement, rows)
        return int(self._cursor.rowcount)


class Database:
    """One database, safe to use from many threads.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``sqlite:///path`` or ``postgresql+psycopg://…``; its own query options count more
        than ours.

    Raises
    ------
    ConfigurationError
        If the URL is none, or of another database.

    Notes
    -----
    SQLite runs with ``synchronous=FULL``: what was answered survives a power loss. Its writers queue on a
    lock of this object instead of polling the file lock; other processes wait on the file lock for 30 s.
    """

    def __init__(self, url: str) -> None:
        parsed = _parsed(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        connecting: dict[str, Any] = {"timeout": 30, "check_same_thread": False}
        if not self._sqlite:
            connecting = {name: value for name, value in _POSTGRESQL.items() if name not in parsed.query}
        self.engine: Engine = create_engine(
            parsed,
            pool_size=16,
            max_overflow=48,
            connect_args=connecting,
            hide_parameters=True,  # values of patients do not get into the text of an error
        )
        # PostgreSQL's default is a snapshot for each statement; SQLite has one for the transaction anyway
        self._reading = (
            self.engine if self._sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._writer = threading.Lock()
        self._held: Connection | None = None
        self._plain: tuple[PoolProxiedConnection, PlainCursor] | None = None
        self._turn_file = _turn_file(parsed) if self._sqlite else -1
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", _prepare_postgresql)
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", partial(_check_use, self.engine.dialect))

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self._sqlite

    def when_connected(self, call: Callable[[], None]) -> None:
        """Have `call` called with every connection that is made: the server may be another than before."""
        event.listen(self.engine, "connect", lambda connection, record: call())

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction; committed and durable on return, rolled back if the block raises.

        Raises
        ------
        ConflictError
            If another transaction wrote the same key first, or each waited for a row of the other; nothing
            was committed, and it may be done again at once.
        StoreError
            If the database cannot be reached or the disk is full. Nothing was committed, unless the server
            was lost in the very commit: then nobody knows, and nothing may be done again unasked.
        """
        with _store_errors():
            if not self._sqlite:
                with self.engine.begin() as connection:
                    yield connection
                return
            with self._writer, self._turn(), self._writing() as connection, connection.begin():
                yield connection

    @contextmanager
    def write_plainly(self) -> Iterator[PlainCursor]:
        """As :meth:`write`, for a few statements that run for each instance, in the driver's own words.

        Raises
        ------
        ConflictError, StoreError
            As :meth:`write`.
        """
        dialect = self.engine.dialect
        with _store_errors():
            try:
                if not self._sqlite:
                    with self.engine.begin() as connection:
                        yield PlainCursor(connection.connection.cursor(), "%s")
                    return
                with self._writer, self._turn(), self._plain_transaction() as cursor:
                    yield cursor
            except dialect.loaded_dbapi.Error as error:
                errors = dialect.loaded_dbapi.Error
                broken = dialect.is_disconnect(error, None, None)
                raise DBAPIError.instance("", None, error, errors, True, broken, dialect) from error

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Queue with other processes that write: SQLite would look again and again, and sleep between."""
        turn = self._turn_file
        if turn >= 0:
            with suppress(OSError):  # a file system without such locks: SQLite's own are enough
                fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if turn >= 0:
                with suppress(OSError):
                    fcntl.flock(turn, fcntl.LOCK_UN)

    @contextmanager
    def _plain_transaction(self) -> Iterator[PlainCursor]:
        """One transaction of SQLite's one writer; after an error its connection is made anew."""
        held, self._plain = self._plain, None
        if held is None:
            connection = self.engine.raw_connection()
            held = (connection, PlainCursor(connection.cursor(), "?"))
        connection, cursor = held
        try:
            cursor.run("BEGIN IMMEDIATE")
            yield cursor
            if connection.in_transaction:
                cursor.run("COMMIT")
        except BaseException:
            connection.invalidate()
            raise
        self._plain = held

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """SQLite's one writer has one connection: fetching it from the pool costs more than a commit.

        After an error it is made anew.
        """
        connection, self._held = self._held, None
        if connection is None or connection.closed or connection.invalidated:
            connection = self.engine.connect().execution_options(airway_write=True)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._held = connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot to read from.

        Raises
        ------
        StoreError
            If the database cannot be reached.
        """
        with _store_errors(), self._reading.connect() as connection, connection.begin():
            yield connection

    def migrate(self) -> None:
        """Bring the schema to the newest revision; several processes may call it at once.

        Raises
        ------
        StoreError
            If a migration fails; the database keeps its former revision.
        """
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        try:
            with self.write() as connection:
                if not self._sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except DBAPIError as error:
            raise StoreError("database: migration failed") from error

    def revision(self) -> tuple[str, str]:
        """The revision of the schema as it is, empty for a database without one, and the newest.

        Raises
        ------
        StoreError
            If the database cannot be reached.
        """
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        newest = ScriptDirectory.from_config(config).get_current_head()
        with self.read() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        return current or "", newest or ""

    def close(self) -> None:
        """Close all connections."""
        with self._writer:
            if self._held is not None:
                self._held.close()
                self._held = None
            if self._plain is not None:
                self._plain[0].close()
                self._plain = None
            if self._turn_file >= 0:
                os.close(self._turn_file)
                self._turn_file = -1
        self.engine.dispose()


def _turn_file(url: URL) -> int:
    """Beside a database in a file, what its writers queue on; -1 where there is none."""
    path = url.database or ""
    if not path or path == ":memory:" or path.startswith("file:"):
        return -1
    try:
        return os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername not in _DRIVERS:
        known = " or ".join(f"{driver}://" for driver in _DRIVERS)
        raise ConfigurationError(Fault("database.url", f"is no URL that begins with {known}")) from None
    return parsed


@contextmanager
def _store_errors() -> Iterator[None]:
    """What the database may do to us at any time as our errors; faults of a statement stay as they are."""
    try:
        yield
    except IntegrityError as error:
        raise ConflictError("another transaction wrote the same key first") from error
    except PoolTimeoutError as error:
        raise StoreError("database: no connection became free in time") from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _BEATEN_BY_ANOTHER:
            raise ConflictError("another transaction was in the way") from error
        broken = isinstance(error, OperationalError | InternalError) or type(error) is DatabaseError
        if not (broken or error.connection_invalidated):
            raise
        kind = NoRoomError if _is_full(error.orig) else StoreError
        raise kind(f"database: {type(error.orig).__name__}{_first_line(error.orig)}") from error


def _is_full(error: object) -> bool:
    """Whether the database says that it has no room."""
    code = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_FULL or getattr(error, "sqlstate", None) == _NO_ROOM


def _first_line(error: object) -> str:
    """What such an error says about the server, the disk or a table; values of rows are in later lines."""
    lines = str(error).splitlines()
    return f" ({lines[0][:200]})" if lines else ""


def _prepare_sqlite(connection: Any, record: object) -> None:
    del record
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_postgresql(connection: Any, record: object) -> None:
    """Expect pages to be in memory or on a solid-state disk, whatever the server was told.

    Else a worklist of which it has no statistics yet is sorted as a whole for each of its pages.
    """
    del record
    connection.execute("SET random_page_cost = 1.1")
    connection.commit()


def _note_use(connection: Any, record: Any) -> None:
    del connection
    record.info[_USED] = time.monotonic()


def _check_use(dialect: Dialect, connection: Any, record: Any, proxy: object) -> None:
    """Have a connection replaced that broke while nobody used it; one used a moment ago need not be asked."""
    del proxy
    if time.monotonic() - record.info.get(_USED, math.inf) < _TRUSTED_S:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise InvalidatePoolError("the connection is broken") from error


def _begin_sqlite(connection: Connection) -> None:
    """Begin in the driver's own words: the library's cost more than the statement."""
    begin = "BEGIN IMMEDIATE" if connection.get_execution_options().get("airway_write") else "BEGIN"
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute(begin)
    except sqlite3.Error as error:
        raise OperationalError(begin, None, error) from error
