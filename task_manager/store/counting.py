# SPDX-License-Identifier: Apache-2.0
"""What the data folder holds: counted off the answer's path, so that a quota survives restarts and strangers.

The last count lies in a small file beside the store; it is what a start begins with.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson

from task_manager.store.room import DiskRoom

_NAME = "disk_usage.json"
_AT_ONCE = 2000
_LEAST_PAUSE_S = 600.0
_SHARE = 50


def last_count(data: Path) -> int:
    """Bytes in `data` as they were counted or kept last; 0 if they never were."""
    try:
        found = orjson.loads((data / _NAME).read_bytes())["used_bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return found if isinstance(found, int) and found >= 0 else 0


def keep_count(data: Path, used_bytes: int) -> None:
    """Keep what is used for the next start; where there is no room for that, the former count stays."""
    partial = data / f"{_NAME}.part"
    with suppress(OSError):
        partial.write_bytes(orjson.dumps({"used_bytes": used_bytes}))
        partial.replace(data / _NAME)


def sizes(folder: Path) -> Iterator[int]:
    """The size of each file under `folder`; what goes away meanwhile is left out."""
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    with suppress(OSError):
                        yield entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue


class Counting:
    """The chore that counts the data folder, at most a fiftieth of the time."""

    name = "counting"

    def __init__(
        self, data: Path, room: DiskRoom, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._data = data
        self._room = room
        self._monotonic = monotonic
        self._found: Iterator[int] | None = None
        self._total = 0
        self._spent_s = 0.0

    def step(self) -> float:
        """Count some files; seconds until the next."""
        began = self._monotonic()
        if self._found is None:
            self._found, self._total, self._spent_s = sizes(self._data), 0, 0.0
            self._room.begin_count()
        ended = True
        for number, size in enumerate(self._found, start=1):
            self._total += size
            if number >= _AT_ONCE:
                ended = False
                break
        self._spent_s += self._monotonic() - began
        if not ended:
            return 0.0
        self._found = None
        self._room.recount(self._total)
        keep_count(self._data, self._total)
        return max(_LEAST_PAUSE_S, _SHARE * self._spent_s)
