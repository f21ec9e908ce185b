# SPDX-License-Identifier: Apache-2.0
"""Checksums, counting, orphans and verification on real files, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from task_manager.errors import NoRoomError, StoreError
from task_manager.outcome import Accepted
from task_manager.space import SpaceLimits
from task_manager.store import checksums
from task_manager.store.checksums import Damage, checksum_of
from task_manager.store.counting import Counting, keep_count, last_count
from task_manager.store.orphans import OrphanSweep, find_orphans, quarantined, study_folders
from task_manager.store.room import DiskRoom
from task_manager.store.summing import Summing
from task_manager.store.upkeep import Upkeep
from task_manager.store.verifying import Verified, forget_settled, verify
from tests.instances import STUDY, ct
from tests.service import TestBed, make_service
from tests.watching import until


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url)
    yield made
    made.database.close()


@dataclass
class Ticking:
    """A clock that runs by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def receive(bed: TestBed, *numbers: int) -> None:
    for number in numbers:
        assert isinstance(bed.receive(ct(number)), Accepted)


def file_of(bed: TestBed, number: int) -> Path:
    return next((bed.folder / "store" / "objects").rglob(f"{STUDY}.1.{number}.dcm"))


def summing(bed: TestBed, clock: Ticking) -> Summing:
    made = Summing(bed.database, clock=bed.clock, monotonic=clock)
    made.look_after(bed.objects)
    return made


def sum_all(bed: TestBed) -> None:
    own = summing(bed, Ticking())
    while own.step() == 0.0:
        pass


def verified(bed: TestBed) -> Verified:
    *_, last = verify(bed.database, bed.objects, clock=bed.clock)
    return last


def age(path: Path, bed: TestBed, hours: float) -> None:
    """Let the clock of the service be so much later than the file's change, which no one can set back."""
    bed.clock.pass_(path.stat().st_ctime - bed.clock.now.timestamp() + hours * 3600)


def test_the_data_set_is_summed_apart_from_its_meta(bed: TestBed, tmp_path: Path) -> None:
    one, other = tmp_path / "one.dcm", tmp_path / "other.dcm"
    content = ct(1)
    one.write_bytes(content)
    other.write_bytes(content.replace(b"1.2.3.4\0", b"1.2.3.5\0", 1))
    first, second = checksum_of(one), checksum_of(other)
    assert first.data_set_sha256 == second.data_set_sha256
    assert first.meta_sha256 != second.meta_sha256
    assert first.size == len(content)


def test_arrivals_are_summed_only_when_they_pause(bed: TestBed) -> None:
    receive(bed, 1, 2)
    clock = Ticking()
    own = summing(bed, clock)
    paths = [one.path for one in bed.service.archive.find_instances(study_instance_uid=STUDY)]
    for path in paths:
        own.arrived(path)
    assert own.step() > 0
    assert own.waiting == 2, "the sender is still sending"
    clock.now += 3
    own.step()
    assert own.waiting == 0
    with bed.database.read() as connection:
        kept = checksums.kept_checksum(connection, paths[0])
    assert kept == checksum_of(bed.objects.absolute(paths[0]))


def test_arrivals_that_never_pause_are_summed_in_the_end(bed: TestBed) -> None:
    receive(bed, 1)
    clock = Ticking()
    own = summing(bed, clock)
    own.arrived(bed.service.archive.find_instances(study_instance_uid=STUDY)[0].path)
    clock.now += 700
    own.arrived("objects/00/1.2.3/1.2.3.4.dcm")
    own.step()
    assert own.waiting == 0, "the second is gone already and is passed over"


def test_the_walk_sums_what_was_forgotten_by_a_crash(bed: TestBed) -> None:
    receive(bed, *range(1, 6))
    assert verified(bed).unsummed == 5, "said so, not counted as good"
    sum_all(bed)
    assert (verified(bed).good, verified(bed).unsummed) == (5, 0)


def test_the_walk_tells_of_records_without_a_file(bed: TestBed, caplog: pytest.LogCaptureFixture) -> None:
    receive(bed, 1, 2, 3)
    file_of(bed, 2).unlink()
    with file_of(bed, 3).open("ab") as file:
        file.write(b"more")
    with caplog.at_level(logging.ERROR):
        sum_all(bed)
    with bed.database.read() as connection:
        found = {one.path.rsplit("/", 1)[1]: one.kind for one in checksums.damage(connection)}
        assert checksums.count_damage(connection) == {Damage.MISSING: 1, Damage.CHANGED: 1}
    assert found == {f"{STUDY}.1.2.dcm": Damage.MISSING, f"{STUDY}.1.3.dcm": Damage.CHANGED}
    assert {record.action for record in caplog.records} >= {"disk.missing", "disk.changed"}  # type: ignore[attr-defined]
    assert len(bed.service.archive.find_instances(study_instance_uid=STUDY)) == 3, "no record is dropped"


def test_verification_finds_one_changed_bit_and_forgets_it_when_it_is_right_again(bed: TestBed) -> None:
    receive(bed, 1, 2)
    sum_all(bed)
    path = file_of(bed, 1)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (one,) = verified(bed).damaged
    assert (one.kind, one.path.endswith(f"{STUDY}.1.1.dcm")) == (Damage.CHANGED, True)
    path.write_bytes(good)
    assert verified(bed).damaged == ()
    with bed.database.read() as connection:
        assert checksums.damage(connection) == []


def test_a_sample_and_a_beginning_leave_others_out(bed: TestBed) -> None:
    receive(bed, 1, 2)
    bed.clock.pass_(3600)
    later = bed.clock.now
    receive(bed, 3)
    *_, last = verify(bed.database, bed.objects, since=later, clock=bed.clock)
    assert last.looked_at == 1
    turns = iter([True, False, False])
    *_, last = verify(bed.database, bed.objects, choose=lambda: next(turns), clock=bed.clock)
    assert (last.looked_at, last.skipped) == (1, 2)


def orphan(bed: TestBed, name: str = f"{STUDY}.1.77.dcm") -> Path:
    """A file as a crash between its sync and the commit of its record leaves it."""
    path = file_of(bed, 1).parent / name
    path.write_bytes(ct(77))
    return path


def test_orphans_are_set_aside_and_told(bed: TestBed) -> None:
    receive(bed, 1)
    path = orphan(bed)
    sweep = OrphanSweep(bed.database, bed.objects, clock=bed.clock, monotonic=Ticking())
    assert sweep.step() > 0, "what a start has to do comes first"
    age(path, bed, 0.9)
    sweep.step()
    assert path.exists(), "its record may be about to be committed"
    age(path, bed, 1.1)
    sweep = OrphanSweep(bed.database, bed.objects, clock=bed.clock, monotonic=Ticking())
    sweep.step()
    sweep.step()
    relative = path.relative_to(bed.objects.root).as_posix()
    aside = quarantined(bed.objects, relative)
    assert (path.exists(), aside.read_bytes()) == (False, ct(77))
    assert file_of(bed, 1).exists()
    with bed.database.read() as connection:
        assert [one.kind for one in checksums.damage(connection)] == [Damage.UNRECORDED]
    forget_settled(bed.database, bed.objects)
    with bed.database.read() as connection:
        assert len(checksums.damage(connection)) == 1, "as long as it lies there"
    aside.unlink()
    forget_settled(bed.database, bed.objects)
    with bed.database.read() as connection:
        assert checksums.damage(connection) == []


def test_a_second_orphan_of_the_same_name_takes_no_place(bed: TestBed) -> None:
    receive(bed, 1)
    for content in (b"first", b"second"):
        path = orphan(bed)
        path.write_bytes(content)
        age(path, bed, 2)
        sweep = OrphanSweep(bed.database, bed.objects, clock=bed.clock, monotonic=Ticking())
        sweep.settle(find_orphans(bed.database, bed.objects, path.parent, bed.clock.now))
    folder = bed.objects.root / "quarantine" / STUDY
    assert sorted(one.read_bytes() for one in folder.iterdir()) == [b"first", b"second"]


def test_orphans_are_removed_where_the_site_wants_it(bed: TestBed) -> None:
    receive(bed, 1)
    path = orphan(bed)
    age(path, bed, 2)
    sweep = OrphanSweep(bed.database, bed.objects, remove=True, clock=bed.clock, monotonic=Ticking())
    for folder in study_folders(bed.objects):
        sweep.settle(find_orphans(bed.database, bed.objects, folder, bed.clock.now))
    assert not path.exists()
    assert not (bed.objects.root / "quarantine").exists()
    assert file_of(bed, 1).exists()


def test_what_is_still_staged_is_no_orphan(bed: TestBed) -> None:
    receive(bed, 1)
    staged = bed.service.intake.stage()
    staged.write(ct(5))
    path = bed.objects.absolute(
        bed.objects.commit(staged, study_instance_uid=STUDY, sop_instance_uid=f"{STUDY}.1.5")
    )
    age(path, bed, 48)
    assert find_orphans(bed.database, bed.objects, path.parent, bed.clock.now) == []
    staged.settle()
    age(path, bed, 48)
    assert len(find_orphans(bed.database, bed.objects, path.parent, bed.clock.now)) == 1


def test_a_restart_leaves_alone_what_another_living_process_stages(bed: TestBed) -> None:
    other = make_service(bed.folder, str(bed.database.engine.url.render_as_string(hide_password=False)))
    staged = other.objects.stage()
    staged.write(b"bytes")
    assert bed.objects.sweep_incoming(lambda path: False) == 0
    assert staged.path.exists()
    other.objects.close()
    assert bed.objects.sweep_incoming(lambda path: False) == 1
    assert list((bed.objects.root / "owners").iterdir()) == []
    other.database.close()


def test_what_a_crash_left_is_looked_for_among_the_records_of_its_study(bed: TestBed) -> None:
    receive(bed, 1)
    recorded = file_of(bed, 1).relative_to(bed.objects.root).as_posix()
    assert bed.service.is_recorded(recorded)
    assert not bed.service.is_recorded(recorded.replace(".dcm", "~2.dcm"))
    assert not bed.service.is_recorded(recorded.replace(STUDY, "1.2.3.99"))


def test_the_folder_is_counted_and_the_count_survives(tmp_path: Path) -> None:
    (tmp_path / "store" / "objects").mkdir(parents=True)
    for number in range(5000):
        (tmp_path / "store" / "objects" / f"{number}").write_bytes(b"x" * 3)
    room = DiskRoom(tmp_path, SpaceLimits(most_bytes=20_000, least_free_bytes=0, reserve_bytes=0))
    own = Counting(tmp_path, room)
    steps = 1
    while own.step() == 0.0:
        steps += 1
    assert steps > 2, "in parts, so that it can be stopped"
    assert room.report().used_bytes == 15_000
    assert last_count(tmp_path) == 15_000
    with pytest.raises(NoRoomError):
        room.promise(6_000)
    keep_count(tmp_path, 7)
    assert last_count(tmp_path) == 7


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"used_bytes": -1}', b'{"used_bytes": "1"}'])
def test_a_count_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "disk_usage.json").write_bytes(content)
    assert last_count(tmp_path) == 0


@dataclass
class Chore:
    """Counts its steps; fails as it is told."""

    name: str
    wait_s: float = 0.0
    failing: Exception | None = None
    steps: list[int] = field(default_factory=list)

    def step(self) -> float:
        self.steps.append(os.getpid())
        if self.failing is not None:
            raise self.failing
        return self.wait_s


@pytest.mark.parametrize(
    ("error", "action"),
    [
        pytest.param(StoreError("away"), "upkeep.store_error", id="store"),
        pytest.param(NoRoomError("full"), "upkeep.store_error", id="full"),
        pytest.param(ValueError("ours"), "upkeep.error", id="a-fault-of-ours"),
    ],
)
def test_a_chore_that_fails_waits_and_the_others_go_on(
    error: Exception, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing, idle, busy = Chore("a", failing=error), Chore("b", wait_s=60), Chore("c", wait_s=0.001)
    upkeep = Upkeep([failing, idle, busy])
    upkeep.start()
    try:
        until(lambda: len(busy.steps) > 5, "steps of the chore that goes well")
    finally:
        upkeep.stop()
    assert (len(failing.steps), len(idle.steps)) == (1, 1)
    assert action in {record.action for record in caplog.records if hasattr(record, "action")}
