# SPDX-License-Identifier: Apache-2.0
"""A load generator for HTTP/1.1 that costs next to nothing, in a process of its own: the server is measured.

``python -m benchmarks.http_load`` reads one JSON line per run from its input, sends the requests of a file
over keep-alive connections, each the next request as soon as the answer is there, and prints one JSON line.
Requests are made before the clock starts; of an answer only status and length are read.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import orjson
import uvloop

_PROJECT = Path(__file__).resolve().parents[1]


class LoadError(RuntimeError):
    """A server closed a connection, or answered what was not expected."""


def http_request(method: str, path: str, content: object | None = None, host: str = "127.0.0.1") -> bytes:
    """The bytes of one request, with `content` as DICOM JSON."""
    body = b"" if content is None else orjson.dumps(content)
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/dicom+json"]
    if content is not None:
        head += ["Content-Type: application/dicom+json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


class LoadGenerator:
    """The running process.

    Parameters
    ----------
    folder
        Gets the requests on their way.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._path = folder / "requests"

    def run(
        self,
        requests: Sequence[bytes],
        addresses: Sequence[tuple[str, int]],
        *,
        connections: int,
        expected: int,
    ) -> float:
        """Send `requests`, the connections spread over `addresses`; answers per second over the whole run.

        Raises
        ------
        LoadError
            If a connection broke, or an answer had another status than `expected`.
        """
        self._path.write_bytes(b"".join(struct.pack(">L", len(each)) + each for each in requests))
        asked = {"connections": connections, "path": str(self._path), "addresses": list(addresses)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            self._path.unlink()
        if not line:
            raise LoadError("the load generator ended: a server closed a connection")
        told = json.loads(line)
        if set(told["statuses"]) != {str(expected)}:
            raise LoadError(f"answered {told['statuses']}, not {expected}: {told['example']}")
        return float(len(requests) / told["seconds"])


@contextmanager
def load_generator(folder: Path) -> Iterator[LoadGenerator]:
    """Run a generator, and end it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http_load"],
        cwd=_PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield LoadGenerator(process, folder)
    finally:
        process.kill()
        process.communicate()


class _Connection(asyncio.Protocol):
    """Sends the next request of those all connections share as soon as the last one is answered."""

    def __init__(self, requests: Iterator[bytes], statuses: Counter[int], examples: list[str]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._statuses = statuses
        self._examples = examples
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for `begin`."""
        self._transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        """Send the first or the next request; the run ends when there is none."""
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read on; count the answer when it is whole."""
        self._received = self._received + data if self._received else data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        length = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._received) < end + 4 + length:
            return
        status = int(head[9:12])
        self._statuses[status] += 1
        if status >= 300 and not self._examples:
            self._examples.append(self._received[:1000].decode("utf-8", "replace"))
        self._received = b""
        self.begin()

    def connection_lost(self, error: Exception | None) -> None:
        """A server that closes a connection ends the run."""
        if not self.done.done():
            self.done.set_exception(LoadError(f"the connection was closed: {error}"))


async def _run(
    connections: int, requests: list[bytes], addresses: list[tuple[str, int]]
) -> dict[str, object]:
    statuses: Counter[int] = Counter()
    examples: list[str] = []
    shared = iter(requests)
    loop = asyncio.get_running_loop()
    opened: list[_Connection] = []
    for number in range(connections):
        host, port = addresses[number % len(addresses)]
        _, protocol = await loop.create_connection(
            lambda: _Connection(shared, statuses, examples), host, port
        )
        opened.append(protocol)
    start = time.perf_counter()
    for connection in opened:
        connection.begin()
    await asyncio.gather(*(connection.done for connection in opened))
    return {
        "seconds": time.perf_counter() - start,
        "statuses": statuses,
        "example": examples[0] if examples else "",
    }


def main() -> int:
    """Run what the input asks for until it ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        content, requests, at = Path(asked["path"]).read_bytes(), [], 0
        while at < len(content):
            (length,) = struct.unpack_from(">L", content, at)
            requests.append(content[at + 4 : at + 4 + length])
            at += 4 + length
        addresses = [(str(host), int(port)) for host, port in asked["addresses"]]
        told = uvloop.run(_run(asked["connections"], requests, addresses))
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
