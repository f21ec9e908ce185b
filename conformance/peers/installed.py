# SPDX-License-Identifier: Apache-2.0
"""Where the independent programs are that ``make peers`` installs.

The one place that knows paths of Debian packages and of the git-ignored ``.peers`` folder. A program that is
not there is an error that names the command to run, never a reason to skip a check.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PEERS_FOLDER = Path(os.environ.get("AIRWAY_PEERS") or PROJECT_ROOT / ".peers")
_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")


class PeerMissingError(RuntimeError):
    """A program the checks need is not installed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not installed; run: make peers")


def find_program(name: str) -> Path:
    """Return the path of an installed program.

    Raises
    ------
    PeerMissingError
        When no folder of PATH, nor a system folder, has it.
    """
    search = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_FOLDERS))
    found = shutil.which(name, path=search)
    if found is None:
        raise PeerMissingError(name)
    return Path(found)


def find_file(what: str, folder: str, pattern: str) -> Path:
    """Return the last file, in name order, that matches `pattern` below `folder`.

    Raises
    ------
    PeerMissingError
        When none does.
    """
    matches = sorted(Path(folder).glob(pattern))
    if not matches:
        raise PeerMissingError(what)
    return matches[-1]


def postgresql_program(name: str) -> Path:
    """Return a program of the newest installed PostgreSQL server (Debian keeps them off PATH)."""
    return find_file(f"PostgreSQL's {name}", "/usr/lib/postgresql", f"*/bin/{name}")


def node_modules() -> Path:
    """Return the folder of the npm packages that the lock in ``conformance/peers/node`` pins."""
    folder = PEERS_FOLDER / "node" / "node_modules"
    if not folder.is_dir():
        raise PeerMissingError("the npm packages of the Node peers")
    return folder


def node_program() -> Path:
    """Return the Node 22 binary that came with the npm packages, else the system's ``node``."""
    own = node_modules() / ".bin" / "node"
    return own if own.exists() else find_program("node")


def node_script(name: str) -> Path:
    """Return a script of this project that runs on Node."""
    return Path(__file__).resolve().parent / "node" / name
