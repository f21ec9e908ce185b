# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of the checks' own: a fresh cluster in a temporary folder, on a free loopback port.

It never runs as root, asks for a password made for this run, and trades durability for speed unless told not
to.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.peers.installed import postgresql_program
from conformance.peers.process import PeerFailedError, PeerProcess, free_port

_ROLE = "airway"
_ACCOUNT_FOR_ROOT = "postgres"
_SETTINGS = {"listen_addresses": "127.0.0.1", "max_connections": "200", "timezone": "UTC"}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgresql:
    """A running PostgreSQL server, in which each test makes a database of its own."""

    def __init__(self, process: PeerProcess, *, port: int, password: str) -> None:
        self.process = process
        self.host = "127.0.0.1"
        self.port = port
        self._password = password
        self._databases = 0

    def dsn(self, database: str = "postgres") -> str:
        """Return the libpq address of a database."""
        return f"postgresql://{_ROLE}:{self._password}@{self.host}:{self.port}/{database}"

    def sqlalchemy_url(self, database: str = "postgres") -> str:
        """Return the address of a database for SQLAlchemy with psycopg 3."""
        return self.dsn(database).replace("postgresql://", "postgresql+psycopg://", 1)

    def create_database(self) -> str:
        """Create an empty database and return its name.

        Raises
        ------
        PeerFailedError
            When the server refuses.
        """
        self._databases += 1
        name = f"check_{self._databases}"
        self._run("createdb", name)
        return name

    def answers(self) -> bool:
        """Whether the server takes connections."""
        program = postgresql_program("pg_isready")
        command = [str(program), "--quiet", "--host", self.host, "--port", str(self.port)]
        return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(postgresql_program(program)), "--host", self.host, "--port", str(self.port)]
        command += ["--username", _ROLE, "--no-password", *arguments]
        environment = {**os.environ, "PGPASSWORD": self._password}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60)
        if done.returncode:
            raise PeerFailedError(f"{program}: {done.stderr.decode('utf-8', 'replace')}")


def _initialise(data: Path, password_file: Path, account: str | None) -> None:
    command = [
        str(postgresql_program("initdb")),
        "--pgdata",
        str(data),
        "--username",
        _ROLE,
        "--encoding",
        "UTF8",
    ]
    command += ["--locale", "C", "--auth", "scram-sha-256", "--pwfile", str(password_file), "--no-sync"]
    done = subprocess.run(
        command,
        cwd=data.parent,
        check=False,
        capture_output=True,
        timeout=120,
        user=account,
        group=account,
        extra_groups=[] if account else None,
    )
    if done.returncode:
        raise PeerFailedError(f"initdb: {done.stderr.decode('utf-8', 'replace')}")


@contextmanager
def run_postgresql(*, durable: bool = False, folder: Path | None = None) -> Iterator[Postgresql]:
    """Run a fresh PostgreSQL cluster and yield it once it answers; stop and remove it afterwards.

    A `durable` one commits as a server in service does; without, it is faster and a power loss destroys it.
    Its files are in a new folder within `folder`, which should have a short name; else where temporary files
    are.

    Raises
    ------
    PeerMissingError
        When no PostgreSQL server is installed.
    PeerFailedError
        When it does not come up; quotes its log.
    """
    account = _ACCOUNT_FOR_ROOT if os.geteuid() == 0 else None  # the server refuses to run as root
    # A short path: the name of the server's Unix socket may have 107 bytes only.
    with tempfile.TemporaryDirectory(prefix="pg-", dir=folder, ignore_cleanup_errors=True) as temporary:
        home, password = Path(temporary), secrets.token_urlsafe(16)
        password_file = home / "password"
        password_file.write_text(password, encoding="ascii")
        password_file.chmod(0o600)
        if account:
            for path in (home, password_file):
                shutil.chown(path, account, account)
        _initialise(home / "data", password_file, account)
        port = free_port()
        command: list[str | Path] = [postgresql_program("postgres"), "-D", home / "data", "-p", str(port)]
        given = {**_SETTINGS, **({} if durable else _NOT_DURABLE), "unix_socket_directories": str(home)}
        for name, value in given.items():
            command += ["-c", f"{name}={value}"]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients that stay connected.
        process = PeerProcess("postgresql", command, home, user=account, stop_signal=signal.SIGINT)
        with process:
            server = Postgresql(process, port=port, password=password)
            process.wait_ready(server.answers)
            yield server
