# SPDX-License-Identifier: Apache-2.0
"""The object store on disk: durable, never overwriting, never outside its root."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from conformance.peers.process import wait_until
from task_manager.errors import StoreError
from task_manager.ports import ObjectStore, StagedObject
from task_manager.store.objects import FileObjectStore
from tests.instances import STUDY as CT_STUDY
from tests.instances import ct

STUDY = "1.2.3.4"
SOP = "1.2.3.4.5"


def stage(store: ObjectStore, content: bytes = b"bytes") -> StagedObject:
    staged = store.stage()
    staged.write(content)
    return staged


def commit(store: ObjectStore, staged: StagedObject) -> str:
    return store.commit(staged, study_instance_uid=STUDY, sop_instance_uid=SOP)


def test_committed_bytes_are_found_again_by_another_store(tmp_path: Path) -> None:
    staged = stage(FileObjectStore(tmp_path), b"abc")
    relative = commit(FileObjectStore(tmp_path), staged)
    staged.settle()
    top, shard, study, name = relative.split("/")
    assert (top, study, name) == ("objects", STUDY, f"{SOP}.dcm")
    assert len(shard) == 2
    assert FileObjectStore(tmp_path).absolute(relative).read_bytes() == b"abc"
    assert list((tmp_path / "incoming").iterdir()) == []


def test_pieces_and_views_are_appended(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    staged = stage(store, b"ab")
    staged.write(memoryview(b"cde"))
    staged.write(b"")
    assert (staged.size, staged.path.read_bytes()) == (5, b"abcde")


def test_same_name_gets_a_suffix_and_keeps_both(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    paths = [commit(store, stage(store, content)) for content in (b"1", b"2", b"3")]
    assert [Path(path).name for path in paths] == [f"{SOP}.dcm", f"{SOP}~2.dcm", f"{SOP}~3.dcm"]
    assert [store.absolute(path).read_bytes() for path in paths] == [b"1", b"2", b"3"]


def test_concurrent_commits_of_one_name_lose_nothing(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    contents = [str(number).encode() for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda content: commit(store, stage(store, content)), contents))
    assert sorted(store.absolute(path).read_bytes() for path in paths) == sorted(contents)


_COMMITS_AND_TELLS_WHAT_IS_SYNCED = """
import os, sys
from pathlib import Path
from task_manager.store.objects import FileObjectStore

opened = []
sys.addaudithook(lambda event, args: opened.append(args) if event == "open" else None)
store = FileObjectStore(Path(sys.argv[1]))
for sop in ("1.2.3.4.5", "1.2.3.4.6"):
    opened.clear()
    staged = store.stage()
    staged.write(b"bytes")
    store.commit(staged, study_instance_uid="1.2.3.4", sop_instance_uid=sop)
    print(*(path for path, _, flags in opened if flags & os.O_DIRECTORY))
"""


def test_a_folder_that_another_made_is_synced_into_its_parents_once(tmp_path: Path) -> None:
    other = FileObjectStore(tmp_path)
    folder = other.absolute(commit(other, stage(other))).parent
    done = subprocess.run(
        [sys.executable, "-c", _COMMITS_AND_TELLS_WHAT_IS_SYNCED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.split() == [str(folder.parents[1]), str(folder.parent), str(folder)]
    assert second.split() == [str(folder)]


def test_discard_removes_and_is_harmless_twice_and_after_commit(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    staged = stage(store)
    staged.discard()
    staged.discard()
    assert not staged.path.exists()
    kept = stage(store)
    relative = commit(store, kept)
    kept.discard()
    assert store.absolute(relative).exists()


def test_sweep_removes_what_was_never_committed(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    settled = stage(store)
    relative = commit(store, settled)
    settled.settle()
    stage(store)
    stage(store)
    store.close()
    assert FileObjectStore(tmp_path).sweep_incoming(lambda path: False) == 2
    assert list((tmp_path / "incoming").iterdir()) == []
    assert store.absolute(relative).exists()


def test_two_sweeps_at_once_are_harmless(tmp_path: Path) -> None:
    """The second takes all from under the first, which has listed it and asks about its own first file."""
    store, content = FileObjectStore(tmp_path), ct()
    for _ in range(4):
        staged = stage(store, content)
        store.commit(staged, study_instance_uid=CT_STUDY, sop_instance_uid=f"{CT_STUDY}.1.1")
    store.close()
    second: list[int] = []

    def is_recorded(path: str) -> bool:
        del path
        if not second:
            second.append(0)
            second[0] = store.sweep_incoming(lambda path: True)
        return True

    assert store.sweep_incoming(is_recorded) + second[0] == 4
    assert list((tmp_path / "incoming").iterdir()) == []


def test_sweep_leaves_alone_what_another_begins_to_stage_meanwhile(tmp_path: Path) -> None:
    """Who begins once it was looked who lives is not known to; two pipes hold the sweep up at that point."""
    store, other = FileObjectStore(tmp_path), FileObjectStore(tmp_path)
    pipes = [tmp_path / "owners" / name for name in ("a", "b")]
    for pipe in pipes:
        os.mkfifo(pipe)
    opened: list[int] = []

    def lets_one_pass() -> bool:
        for pipe in list(pipes):
            with suppress(OSError):  # nobody reads it yet
                opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                pipes.remove(pipe)
                return True
        return False

    with ThreadPoolExecutor(1) as pool:
        swept = pool.submit(store.sweep_incoming, lambda path: False)
        wait_until(lets_one_pass, "the sweep looks who lives")
        staged = stage(other)
        wait_until(lets_one_pass, "the sweep goes on")
        assert swept.result(20) == 0
    for descriptor in opened:
        os.close(descriptor)
    assert other.absolute(commit(other, staged)).exists()


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "without-record"])
def test_sweep_keeps_of_what_is_not_settled_only_what_is_recorded(tmp_path: Path, recorded: bool) -> None:
    store = FileObjectStore(tmp_path)
    content = ct()
    names = {"study_instance_uid": CT_STUDY, "sop_instance_uid": f"{CT_STUDY}.1.1"}
    before = stage(store, content)
    kept = store.commit(before, **names)
    before.settle()
    in_doubt = stage(store, content)
    relative = store.commit(in_doubt, **names)
    in_doubt.discard()
    asked: list[str] = []
    store.close()
    assert store.sweep_incoming(lambda path: asked.append(path) or recorded) == 1
    assert asked == [relative]
    assert store.absolute(relative).exists() == recorded
    assert store.absolute(kept).exists()
    assert list((tmp_path / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("study", "sop"),
    [("../..", SOP), (STUDY, "../../x"), ("", SOP), (STUDY, ""), (STUDY, "1.2/3"), ("1.2.3\n", SOP)],
)
def test_only_well_formed_uids_become_names(tmp_path: Path, study: str, sop: str) -> None:
    store = FileObjectStore(tmp_path)
    with pytest.raises(StoreError):
        store.commit(stage(store), study_instance_uid=study, sop_instance_uid=sop)
    assert list((tmp_path / "objects").iterdir()) == []


@pytest.mark.parametrize(
    "relative",
    [
        "../x",
        "objects/../../x",
        "/etc/passwd",
        "incoming/a.part",
        "objects",
        "",
        "objects/\0",
        "objects/link/x",
    ],
)
def test_no_path_leaves_the_committed_objects(tmp_path: Path, relative: str) -> None:
    store = FileObjectStore(tmp_path / "store")
    (tmp_path / "store" / "objects" / "link").symlink_to("/tmp")
    with pytest.raises(StoreError):
        store.absolute(relative)


def test_a_full_disk_is_a_store_error_and_leaves_nothing(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    staged = store.stage()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StoreError):
            staged.write(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    staged.discard()
    assert list((tmp_path / "incoming").iterdir()) == []


def test_what_was_discarded_cannot_be_written_or_committed(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path)
    staged = stage(store)
    staged.discard()
    with pytest.raises(StoreError):
        staged.write(b"more")
    with pytest.raises(StoreError):
        commit(store, staged)


def test_objects_staged_elsewhere_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        commit(FileObjectStore(tmp_path / "a"), stage(FileObjectStore(tmp_path / "b")))


def test_a_lost_folder_is_a_store_error(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path / "store")
    (tmp_path / "store" / "incoming").rmdir()
    with pytest.raises(StoreError):
        store.stage()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        FileObjectStore(tmp_path / "file")
