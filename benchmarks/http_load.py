# SPDX-License-Identifier: Apache-2.0
"""A load generator for HTTP/1.1 that costs next to nothing, in a process of its own: the server is measured.

``python -m benchmarks.http_load CONNECTIONS FILE HOST:PORT...`` sends the requests of FILE over keep-alive
connections, each the next request as soon as the answer is there, and prints one JSON object. Requests are
made before the clock starts; of an answer only status and length are read.
"""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson
import uvloop

_TIMEOUT_S = 300.0
_PROJECT = Path(__file__).resolve().parents[1]


class LoadError(RuntimeError):
    """A server closed a connection, or answered what was not expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a run came to.

    Attributes
    ----------
    rate
        Answers per second, over the whole run.
    statuses
        How often each HTTP status came.
    """

    rate: float
    statuses: Mapping[int, int]


def http_request(method: str, path: str, content: object | None = None, host: str = "127.0.0.1") -> bytes:
    """The bytes of one request, with `content` as DICOM JSON."""
    body = b"" if content is None else orjson.dumps(content)
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/dicom+json"]
    if content is not None:
        head += ["Content-Type: application/dicom+json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def run_load(
    requests: Sequence[bytes],
    addresses: Sequence[tuple[str, int]],
    folder: Path,
    *,
    connections: int = 16,
    expected: int | None = None,
) -> Load:
    """Send `requests` in another process; the connections are spread over `addresses`.

    Raises
    ------
    LoadError
        If a connection broke, or an answer had another status than `expected`.
    """
    path = folder / "requests"
    path.write_bytes(b"".join(struct.pack(">L", len(each)) + each for each in requests))
    command = [sys.executable, "-m", "benchmarks.http_load", str(connections), str(path)]
    command += [f"{host}:{port}" for host, port in addresses]
    done = subprocess.run(
        command, cwd=_PROJECT, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    path.unlink()
    if done.returncode:
        raise LoadError(f"the load generator failed: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    statuses = {int(status): count for status, count in told["statuses"].items()}
    if expected is not None and set(statuses) != {expected}:
        raise LoadError(f"answered {statuses}, not {expected}: {told['example']}")
    return Load(rate=len(requests) / told["seconds"], statuses=statuses)


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


def main(arguments: Sequence[str]) -> int:
    """Run from the command line."""
    connections, path, *places = arguments
    content, requests, at = Path(path).read_bytes(), [], 0
    while at < len(content):
        (length,) = struct.unpack_from(">L", content, at)
        requests.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    addresses = [(host, int(port)) for host, _, port in (place.rpartition(":") for place in places)]
    told = uvloop.run(_run(int(connections), requests, addresses))
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
