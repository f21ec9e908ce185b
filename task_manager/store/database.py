# SPDX-License-Identifier: Apache-2.0
"""The database: SQLite in WAL mode (embedded default) or PostgreSQL, behind two context managers.

``write()`` is one transaction that is durable when it returns; ``read()`` sees one consistent snapshot.
Statements live in the sibling modules and take the connection they are given.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from task_manager.errors import ConflictError, StoreError

__all__ = ["Connection", "Database"]

_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 4_180_112


class Database:
    """One database, safe to use from many threads.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``sqlite:///path`` or ``postgresql+psycopg://…``.

    Notes
    -----
    SQLite runs with ``synchronous=FULL``: what was answered survives a power loss. Its writers queue on a
    lock of this object instead of polling the file lock; other processes wait on the file lock for 30 s.
    """

    def __init__(self, url: str) -> None:
        self._sqlite = make_url(url).get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 16, "max_overflow": 48}
        if self._sqlite:
            options = {
                "pool_size": 16,
                "max_overflow": 48,
                "connect_args": {"timeout": 30, "check_same_thread": False},
            }
        self.engine: Engine = create_engine(url, **options)
        self._writer = threading.Lock()
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self._sqlite

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction; committed and durable on return, rolled back if the block raises.

        Raises
        ------
        ConflictError
            If another transaction wrote the same key first; nothing was committed.
        StoreError
            If the database cannot be reached or the disk is full; nothing was committed.
        """
        try:
            if not self._sqlite:
                with self.engine.begin() as connection:
                    yield connection
                return
            with self._writer, self.engine.connect() as connection:
                writing = connection.execution_options(airway_write=True)
                with writing.begin():
                    yield writing
        except IntegrityError as error:
            raise ConflictError("another transaction wrote the same key first") from error
        except OperationalError as error:
            raise StoreError(f"database: {type(error.orig).__name__}") from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot to read from.

        Raises
        ------
        StoreError
            If the database cannot be reached.
        """
        try:
            with self.engine.connect() as connection, connection.begin():
                yield connection
        except OperationalError as error:
            raise StoreError(f"database: {type(error.orig).__name__}") from error

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

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: Any, record: object) -> None:
    del record
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "temp_store=MEMORY"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("airway_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
