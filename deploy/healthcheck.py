# SPDX-License-Identifier: Apache-2.0
"""Tells a container engine whether `airway serve` is healthy: exit status 0 is healthy.

A process holds one lock per role in its data folder for as long as it lives, however it ends. A gateway also
wrote ``endpoints.json``, and must say at its HTTP door that it is ready. Standard library and Linux only.
Usage: healthcheck.py DATA_FOLDER
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

_TIMEOUT_S = 4
_KERNEL_LOCKS = Path("/proc/locks")


def held_roles(data: Path) -> set[str]:
    """Return the roles whose lock in `data` a running process holds.

    The kernel's table is read, since trying the lock would take it from a process that is just starting.
    """
    rows = [line.split() for line in _KERNEL_LOCKS.read_text(encoding="ascii").splitlines()]
    held = {row[5].rpartition(":")[2] for row in rows if len(row) > 5 and row[1] == "FLOCK"}
    return {path.stem for path in data.glob("*.lock") if str(path.stat().st_ino) in held}


def is_healthy(data: Path) -> bool:
    """Whether a process serves from `data` and, as a gateway, has open doors and a store that answers."""
    try:
        roles = held_roles(data)
        if "gateway" not in roles:
            return bool(roles)
        endpoints = json.loads((data / "endpoints.json").read_text(encoding="utf-8"))
        url = f"{endpoints['http']}/health/ready"
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - airway wrote the file
            return bool(answer.status == 200)
    except (OSError, ValueError, KeyError, TypeError):
        return False


if __name__ == "__main__":
    sys.exit(0 if is_healthy(Path(sys.argv[1])) else 1)
