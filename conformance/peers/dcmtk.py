# SPDX-License-Identifier: Apache-2.0
"""DCMTK's command-line tools: an independent scanner and an independent receiver.

Each call runs one tool and returns what it said; nothing here judges whether that was right.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance.peers.installed import find_program
from conformance.peers.process import PeerProcess, accepts_connections, free_port

_RESPONSE = re.compile(r"Received (?:C-)?(?:Store|STORE|Echo) Response \(([^)]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What one run of a tool left behind.

    Attributes
    ----------
    command : tuple of str
        Program and arguments.
    exit_status : int
        0 is success.
    output : str
        Standard output and error together.
    """

    command: tuple[str, ...]
    exit_status: int
    output: str

    @property
    def succeeded(self) -> bool:
        """Whether the tool ended with status 0."""
        return self.exit_status == 0

    @property
    def responses(self) -> tuple[str, ...]:
        """The status words of the DIMSE responses it reported, such as ``Success``, in order."""
        return tuple(_RESPONSE.findall(self.output))


def run_tool(name: str, arguments: Sequence[str | Path], *, timeout_s: float = 120.0) -> ToolResult:
    """Run a tool to its end.

    Raises
    ------
    PeerMissingError
        When it is not installed.
    subprocess.TimeoutExpired
        When it does not end within `timeout_s`.
    """
    command = (str(find_program(name)), *(str(argument) for argument in arguments))
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        check=False,
    )
    return ToolResult(
        command=command, exit_status=done.returncode, output=done.stdout.decode("utf-8", "replace")
    )


def _titles(calling_ae_title: str, called_ae_title: str) -> list[str]:
    return ["--aetitle", calling_ae_title, "--call", called_ae_title]


def echoscu(
    host: str,
    port: int,
    *,
    called_ae_title: str,
    calling_ae_title: str = "DCMTK",
    options: Sequence[str] = (),
    timeout_s: float = 30.0,
) -> ToolResult:
    """Send C-ECHO (PS3.7 9.1.5)."""
    titles = _titles(calling_ae_title, called_ae_title)
    return run_tool("echoscu", ["--verbose", *titles, *options, host, str(port)], timeout_s=timeout_s)


def storescu(
    host: str,
    port: int,
    paths: Sequence[Path],
    *,
    called_ae_title: str,
    calling_ae_title: str = "DCMTK",
    options: Sequence[str] = (),
    timeout_s: float = 300.0,
) -> ToolResult:
    """Send files, or all files below folders, by C-STORE over one association.

    Parameters
    ----------
    options : sequence of str
        More of the tool's options, such as ``--propose-lossless`` or ``--repeat 3``.
    """
    arguments: list[str | Path] = ["--verbose", *_titles(calling_ae_title, called_ae_title)]
    arguments += ["--scan-directories", "--recurse", "--required", *options, host, str(port), *paths]
    return run_tool("storescu", arguments, timeout_s=timeout_s)


def dcmsend(
    host: str,
    port: int,
    paths: Sequence[Path],
    *,
    called_ae_title: str,
    calling_ae_title: str = "DCMTK",
    options: Sequence[str] = (),
    timeout_s: float = 300.0,
) -> ToolResult:
    """Send files, or all files below folders, with DCMTK's newer sender, never decompressing."""
    arguments: list[str | Path] = ["--verbose", *_titles(calling_ae_title, called_ae_title)]
    arguments += ["--scan-directories", "--recurse", "--decompress-never", *options, host, str(port), *paths]
    return run_tool("dcmsend", arguments, timeout_s=timeout_s)


class StoreScp:
    """A running ``storescp``: its address and the files it received."""

    def __init__(self, process: PeerProcess, *, ae_title: str, port: int, received: Path) -> None:
        self.process = process
        self.ae_title = ae_title
        self.host = "127.0.0.1"
        self.port = port
        self._received = received

    def files(self) -> list[Path]:
        """Return the received DICOM files, in name order."""
        return sorted(path for path in self._received.rglob("*") if path.is_file())


@contextmanager
def run_storescp(
    *, ae_title: str = "STORESCP", port: int | None = None, options: Sequence[str] = ()
) -> Iterator[StoreScp]:
    """Run ``storescp`` and yield it once it listens; stop it afterwards.

    Parameters
    ----------
    options : sequence of str
        More of the tool's options: ``--refuse`` refuses every association, ``--abort-after`` aborts
        during a transfer.

    Raises
    ------
    PeerFailedError
        When it does not come up; quotes its log.
    """
    with tempfile.TemporaryDirectory(prefix="storescp-", ignore_cleanup_errors=True) as temporary:
        home = Path(temporary)
        received = home / "received"
        received.mkdir()
        chosen = port or free_port()
        command: list[str | Path] = [find_program("storescp"), "--verbose", "--aetitle", ae_title]
        command += ["--accept-all", "--output-directory", received, *options, str(chosen)]
        with PeerProcess("storescp", command, home) as process:
            process.wait_ready(lambda: accepts_connections(chosen))
            yield StoreScp(process, ae_title=ae_title, port=chosen, received=received)
