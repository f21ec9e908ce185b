# SPDX-License-Identifier: Apache-2.0
"""Room that is promised, written and given back, by one thread and by many; the file system's own words."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from task_manager.errors import NoRoomError, StoreError
from task_manager.space import SpaceLimits, SpaceState
from task_manager.store.objects import FileObjectStore
from task_manager.store.room import DiskRoom, is_full, store_error
from task_manager.store.staging import StagedFile

MIB = 1024**2


@dataclass
class Ticking:
    """A clock that runs by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def room_of(folder: Path, most_mib: int, clock: Ticking | None = None, **limits: int) -> DiskRoom:
    wanted = SpaceLimits(most_bytes=most_mib * MIB, least_free_bytes=0, **{"reserve_bytes": 0, **limits})
    return DiskRoom(folder, wanted, monotonic=clock or Ticking())


def test_promises_count_until_they_are_given_back(tmp_path: Path) -> None:
    room = room_of(tmp_path, 10)
    room.promise(8 * MIB)
    with pytest.raises(NoRoomError):
        room.promise(3 * MIB)
    room.give_back(8 * MIB)
    room.promise(10 * MIB)
    room.written(10 * MIB)
    report = room.report()
    assert (report.used_bytes, report.promised_bytes, report.left_bytes) == (10 * MIB, 0, 0)
    assert report.refused == 1
    room.removed(4 * MIB)
    room.promise(4 * MIB)


def test_many_transfers_at_once_cannot_overrun_a_quota(tmp_path: Path) -> None:
    room = room_of(tmp_path, 40)
    store = FileObjectStore(tmp_path / "store", room=room)
    block = b"x" * MIB

    def transfer(_: int) -> int:
        try:
            staged = store.stage()
        except NoRoomError:
            return 0
        for _ in range(3):
            try:
                staged.write(block)
            except NoRoomError:
                staged.discard()
                return 0
        staged.make_durable()
        return staged.size

    with ThreadPoolExecutor(16) as pool:
        written = sum(pool.map(transfer, range(64)))
    held = sum(path.stat().st_size for path in (tmp_path / "store" / "incoming").iterdir())
    assert written == held
    assert 0 < held <= 40 * MIB
    assert room.report().used_bytes == held
    assert room.report().promised_bytes == 0


def test_what_this_process_wrote_counts_before_the_next_look(tmp_path: Path) -> None:
    clock = Ticking()
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    limits = SpaceLimits(least_free_bytes=free // 2, reserve_bytes=0)
    room = DiskRoom(tmp_path, limits, monotonic=clock)
    room.promise(free // 4)
    room.written(free // 4)
    with pytest.raises(NoRoomError):
        room.promise(free // 3)
    clock.now += 1.0  # nothing was really written: the next look finds room
    room.promise(free // 3)


def test_images_are_refused_before_messages(tmp_path: Path) -> None:
    clock = Ticking()
    room = room_of(tmp_path, 100, clock, reserve_bytes=40 * MIB)
    assert room.takes_images()
    room.promise(70 * MIB)
    room.written(70 * MIB)
    clock.now += 1.0
    assert (room.takes_images(), room.takes_messages()) == (False, True)
    room.promise(30 * MIB)
    clock.now += 1.0
    assert (room.takes_images(), room.takes_messages()) == (False, False)
    room.give_back(30 * MIB)
    room.removed(70 * MIB)
    clock.now += 1.0
    assert room.state is SpaceState.OK, "and it recovers by itself"


def test_a_full_disk_is_believed_for_a_moment_and_then_asked_again(tmp_path: Path) -> None:
    clock = Ticking()
    room = DiskRoom(tmp_path, SpaceLimits(least_free_bytes=0, reserve_bytes=0), monotonic=clock)
    room.promise(1)
    room.hit_the_end()
    assert room.state is SpaceState.FULL
    with pytest.raises(NoRoomError):
        room.promise(1)
    clock.now += 3.0
    room.promise(1)
    assert room.state is SpaceState.OK


def test_a_file_system_that_cannot_be_asked_stops_nothing(tmp_path: Path) -> None:
    room = DiskRoom(tmp_path / "away", SpaceLimits())
    room.promise(MIB)
    assert room.state is SpaceState.OK


def test_what_changes_while_the_folder_is_counted_is_kept(tmp_path: Path) -> None:
    room = room_of(tmp_path, 100)
    assert not room.report().counted
    room.begin_count()
    room.promise(5 * MIB)
    room.written(5 * MIB)
    room.recount(20 * MIB)
    assert room.report().used_bytes == 25 * MIB
    assert room.report().counted


@pytest.mark.parametrize(
    ("number", "no_room", "full"),
    [
        pytest.param(errno.ENOSPC, True, True, id="ENOSPC"),
        pytest.param(errno.EDQUOT, True, True, id="EDQUOT"),
        pytest.param(errno.EFBIG, True, False, id="EFBIG-is-of-this-file-only"),
        pytest.param(errno.EIO, False, False, id="EIO"),
    ],
)
def test_errors_of_the_file_system(number: int, no_room: bool, full: bool) -> None:
    error = OSError(number, os.strerror(number))
    assert isinstance(store_error("said so", error), NoRoomError) is no_room
    assert isinstance(store_error("said so", error), StoreError)
    assert is_full(error) is full


def test_a_device_without_room_is_told_and_leaves_nothing_promised(tmp_path: Path) -> None:
    """``/dev/full`` takes no byte, as a full disk does."""
    room = DiskRoom(tmp_path, SpaceLimits(least_free_bytes=0, reserve_bytes=0))
    link = tmp_path / "part"
    staged = StagedFile(str(link), room)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, staged._descriptor)
    os.close(full)
    with pytest.raises(NoRoomError):
        staged.write(b"bytes")
    staged.discard()
    assert not link.exists()
    assert room.report().promised_bytes == 0
    assert room.state is SpaceState.FULL
