# SPDX-License-Identifier: Apache-2.0
"""Many watchers of a worklist over WebSocket, in a process of their own: when did each hear of a change?

``python -m benchmarks.watching COUNT HOST:PORT PREFIX READY`` opens COUNT channels and writes the file READY.
Told how many events to wait for, it prints, for each workitem, the monotonic times at which watchers heard of
its progress. The clock is that of the machine, so another process may subtract its own times.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
import uvloop
from websockets.asyncio.client import connect

from conformance.peers.process import wait_until

_PROJECT = Path(__file__).resolve().parents[1]
_OPEN_S = 60.0
_HEARD_S = 30.0
_LOOK_S = 0.02
_PROGRESS_REPORT = 3


class Watchers:
    """A running process of watchers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def times(self, wanted: int) -> Mapping[str, Sequence[float]]:
        """Wait until `wanted` changes were heard of, or too long, and end the process.

        Times in seconds of ``time.monotonic`` by workitem UID, one per change and watcher.
        """
        told, _ = self._process.communicate(f"{wanted}\n", timeout=_OPEN_S)
        heard: dict[str, list[float]] = json.loads(told)
        return heard


def watcher_name(number: int) -> str:
    """The AE title of a watcher."""
    return f"WATCHER{number}"


@contextmanager
def run_watchers(count: int, address: tuple[str, int], prefix: str, folder: Path) -> Iterator[Watchers]:
    """Open `count` channels and yield once all are open."""
    ready = folder / "watching"
    command = [sys.executable, "-m", "benchmarks.watching", str(count), f"{address[0]}:{address[1]}", prefix]
    process = subprocess.Popen(
        [*command, str(ready)], cwd=_PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "all watchers connected", _OPEN_S)
        yield Watchers(process)
    finally:
        process.kill()
        process.wait()
        ready.unlink(missing_ok=True)


async def _watch(count: int, address: str, prefix: str, ready: Path) -> dict[str, list[float]]:
    heard: dict[str, list[float]] = defaultdict(list)
    loop = asyncio.get_running_loop()

    async def listen(number: int, opened: asyncio.Event) -> None:
        url = f"ws://{address}{prefix}/subscribers/{watcher_name(number)}"
        async with connect(url, compression=None, open_timeout=_OPEN_S, proxy=None) as channel:
            opened.set()
            async for message in channel:
                at = time.monotonic()
                report = orjson.loads(message)
                if report["00001002"]["Value"][0] == _PROGRESS_REPORT:
                    heard[report["00001000"]["Value"][0]].append(at)

    opened = [asyncio.Event() for _ in range(count)]
    tasks = [asyncio.create_task(listen(number, event)) for number, event in enumerate(opened)]
    for task, event in zip(tasks, opened, strict=True):
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    ready.touch()
    wanted = int(await loop.run_in_executor(None, sys.stdin.readline) or 0)
    deadline = loop.time() + _HEARD_S
    while sum(map(len, heard.values())) < wanted and loop.time() < deadline:
        await asyncio.sleep(_LOOK_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return heard


def main(arguments: Sequence[str]) -> int:
    """Run from the command line."""
    count, address, prefix, ready = arguments
    sys.stdout.write(json.dumps(uvloop.run(_watch(int(count), address, prefix, Path(ready)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
