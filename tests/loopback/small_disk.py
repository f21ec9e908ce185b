# SPDX-License-Identifier: Apache-2.0
"""A real `airway serve` whose data folder is a disk of a few MiB that tests fill and empty.

The disk is a tmpfs that only the server's own mount namespace sees: made as root, or by any user where user
namespaces are allowed. Where neither is, a limit on the size of files makes writes fail instead.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from conformance.peers.process import PeerProcess, free_port

_PROJECT = Path(__file__).resolve().parents[2]
_MOUNT = 'mount -t tmpfs -o size={size} airway "$0" && exec "$@"'
_BLOCK = 4096
_NO_MORE = 1024  # bytes of any file: every write of the server lies behind
MIB = 1024**2


@cache
def _unsharing() -> tuple[str, ...] | None:
    """How to get a mount namespace here; None where nobody lets us."""
    for options in (("-m",), ("-rm",)):
        command = ["unshare", *options, "mount", "-t", "tmpfs", "-o", "size=1m", "airway", "/mnt"]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return ("unshare", *options)
    return None


class SmallDisk:
    """A server and its disk.

    Parameters
    ----------
    size
        Bytes of the disk.
    config
        Content of ``airway.yaml`` beside roles and times.

    Attributes
    ----------
    mounted
        Whether the disk is a file system of its own; else only large writes fail.
    """

    def __init__(self, folder: Path, size: int, config: Mapping[str, Any]) -> None:
        self._data = folder / "data"
        self._data.mkdir()
        content = {
            "roles": ["gateway", "task_manager"],
            "study": {"quiet_period_s": 600},
            "performer": {"manager_url": "http://127.0.0.1:1/dicom-web"},
            **config,
        }
        path = folder / "airway.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        doors = [
            part for door in ("http", "dicom", "hl7") for part in (f"--{door}", f"127.0.0.1:{free_port()}")
        ]
        serve = [sys.executable, "-m", "informatics_gateway", "serve", "--data", str(self._data)]
        serve += ["--config", str(path), *doors]
        unsharing = _unsharing()
        self.mounted = unsharing is not None
        command: Sequence[str] = serve
        if unsharing is not None:
            command = [*unsharing, "sh", "-c", _MOUNT.format(size=size), str(self._data), *serve]
        environment = {"PYTHONPATH": str(_PROJECT)}
        self.process = PeerProcess("airway", command, folder, environment=environment)

    def start(self) -> None:
        """Start it, and wait until every door is open."""
        self.process.start()
        self.process.wait_ready(lambda: (self.data / "endpoints.json").exists(), 60)

    @property
    def data(self) -> Path:
        """The data folder as the server sees it."""
        return Path(f"/proc/{self.process.pid}/root{self._data}") if self.mounted else self._data

    @property
    def endpoints(self) -> dict[str, Any]:
        """The content of ``endpoints.json``."""
        found: dict[str, Any] = json.loads((self.data / "endpoints.json").read_text(encoding="utf-8"))
        return found

    @property
    def free(self) -> int:
        """Bytes that are free."""
        found = os.statvfs(self.data)
        return found.f_bavail * found.f_frsize

    def fill(self, leaving: int = 0) -> None:
        """Let others take what is free but `leaving` bytes; without a disk of its own, all of it."""
        if not self.mounted:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (_NO_MORE, resource.RLIM_INFINITY))
            return
        block = b"\0" * _BLOCK
        with (self.data / "of_others").open("ab", buffering=0) as file:
            while self.free > leaving:
                try:
                    file.write(block * max(1, min(256, (self.free - leaving) // _BLOCK)))
                except OSError:
                    return

    def empty(self) -> None:
        """Let others give back what they took."""
        if self.mounted:
            (self.data / "of_others").unlink()
        else:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, unlimited)

    def objects(self) -> dict[str, bytes]:
        """Content of each object file by name."""
        return {path.name: path.read_bytes() for path in (self.data / "store" / "objects").rglob("*.dcm")}

    def incoming(self) -> list[Path]:
        """What is staged."""
        return list((self.data / "store" / "incoming").iterdir())
