# SPDX-License-Identifier: Apache-2.0
"""Files of a folder destination: whole or not there, once, inside, and what a bad disk comes to."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from informatics_gateway.folder_delivery import SCHEMA, FolderDeliverer, FolderPlace, Sources
from informatics_gateway.folder_layout import Layout
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError, StoppedDeliveryError
from task_manager.ports import Shipment
from task_manager.study.model import Instance
from tests.shipments import IMAGE, INSTANCE, NOW, SHIPMENT, written_shipment


class Archive:
    """The images of one study in memory."""

    def __init__(self, folder: Path, *instances: Instance) -> None:
        self._folder = folder
        self._instances = instances

    def find_instances(
        self, *, study_instance_uid: str = "", series_instance_uid: str = "", sop_instance_uid: str = ""
    ) -> Sequence[Instance]:
        return [
            one
            for one in self._instances
            if study_instance_uid == one.study_instance_uid
            and series_instance_uid in ("", one.series_instance_uid)
            and sop_instance_uid in ("", one.sop_instance_uid)
        ]

    def open_path(self, instance: Instance) -> Path:
        return self._folder / instance.path


@pytest.fixture
def shipped(tmp_path: Path) -> Shipment:
    objects = tmp_path / "objects"
    objects.mkdir()
    (objects / IMAGE.path).write_bytes(b"1234567")
    return written_shipment(objects)


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


def deliverer(share: Path, layout: str = "{study_instance_uid}/{sop_instance_uid}.dcm") -> FolderDeliverer:
    return FolderDeliverer(FolderPlace(path=share, layout=Layout(layout)), clock=lambda: NOW)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


PART = ".2.25.100.dcm.338c001a4745.part"
WHOLE = ["2.25.98/2.25.100.dcm", "complete/2.25.77.json"]


def test_files_and_an_index_that_says_they_are_whole(shipped: Shipment, share: Path) -> None:
    receipt = deliverer(share).deliver(shipped)
    assert (receipt.summary, receipt.sent_at) == ("1 files and their index", NOW)
    assert files(share) == WHOLE
    assert (share / WHOLE[0]).read_bytes() == b"12345"
    assert orjson.loads((share / WHOLE[1]).read_bytes()) == {
        "schema": SCHEMA,
        "workitem_uid": "2.25.77",
        "study_instance_uid": "2.25.98",
        "workitem_code": "AW1001",
        "files": [
            {
                "path": WHOLE[0],
                "role": "result",
                "sop_class_uid": INSTANCE.sop_class_uid,
                "sop_instance_uid": "2.25.100",
                "series_instance_uid": "2.25.99",
                "study_instance_uid": "2.25.98",
                "size": 5,
                "sha256": hashlib.sha256(b"12345").hexdigest(),
            }
        ],
    }


def test_nothing_there_names_the_patient(shipped: Shipment, share: Path) -> None:
    deliverer(share).deliver(shipped)
    assert "Doe" not in " ".join(files(share)) + (share / WHOLE[1]).read_text()
    assert "PAT-0001" not in (share / WHOLE[1]).read_text()


def test_a_second_time_changes_nothing(shipped: Shipment, share: Path) -> None:
    deliverer(share).deliver(shipped)
    before = {name: (share / name).stat().st_mtime_ns for name in files(share)}
    deliverer(share).deliver(shipped)
    assert {name: (share / name).stat().st_mtime_ns for name in files(share)} == before


def test_what_a_crash_left_is_written_over(shipped: Shipment, share: Path) -> None:
    folder = share / "2.25.98"
    folder.mkdir()
    (folder / PART).write_bytes(b"half of something longer than the file")
    (folder / "2.25.100.dcm").write_bytes(b"other")
    deliverer(share).deliver(shipped)
    assert files(share) == WHOLE
    assert (share / WHOLE[0]).read_bytes() == b"12345"


def test_what_another_delivery_writes_just_now_stays(shipped: Shipment, share: Path) -> None:
    deliverer(share).deliver(replace(shipped, workitem_uid="2.25.78"))
    (share / WHOLE[0]).rename(share / "2.25.98" / PART)  # as if it were not done
    deliverer(share).deliver(replace(shipped, workitem_uid="2.25.78"))
    assert (share / "2.25.98" / PART).exists()


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (Sources.NONE, []),
        (Sources.INPUTS, ["2.25.50.dcm"]),
        (Sources.STUDY, ["2.25.50.dcm", "2.25.51.dcm"]),
    ],
)
def test_sources_beside_the_results(
    shipped: Shipment, share: Path, tmp_path: Path, sources: Sources, names: list[str]
) -> None:
    other = replace(IMAGE, sop_instance_uid="2.25.51", series_instance_uid="2.25.96")
    archive = Archive(tmp_path / "objects", IMAGE, other, INSTANCE)
    place = FolderPlace(path=share, layout=Layout("{sop_instance_uid}.dcm"), sources=sources)
    FolderDeliverer(place, archive=archive).deliver(shipped)
    assert files(share) == [*sorted([*names, "2.25.100.dcm"]), "complete/2.25.77.json"]
    index = orjson.loads((share / "complete" / "2.25.77.json").read_bytes())
    assert [one["role"] for one in index["files"]] == [*["source"] * len(names), "result"]


@pytest.mark.parametrize(
    ("mode", "folder_mode"),
    [(0o640, 0o750), (0o600, 0o700), (0o644, 0o755), (0o660, 0o770), (0o440, 0o750)],
)
def test_permissions(shipped: Shipment, share: Path, mode: int, folder_mode: int) -> None:
    place = FolderPlace(path=share, layout=Layout(), mode=mode)
    umask = os.umask(0o002)
    try:
        FolderDeliverer(place).deliver(shipped)
    finally:
        os.umask(umask)
    modes = {path.stat().st_mode & 0o777 for path in share.rglob("*") if path.is_file()}
    assert modes == {mode}
    assert {path.stat().st_mode & 0o777 for path in share.rglob("*") if path.is_dir()} == {folder_mode}


# What a bad disk or share comes to


def test_a_folder_that_is_not_there_is_not_made(shipped: Shipment, tmp_path: Path) -> None:
    with pytest.raises(RetryableDeliveryError) as failed:
        deliverer(tmp_path / "unmounted").deliver(shipped)
    assert failed.value.unreachable
    assert not (tmp_path / "unmounted").exists()


def test_a_file_in_place_of_a_folder(shipped: Shipment, share: Path) -> None:
    (share / "2.25.98").write_bytes(b"")
    with pytest.raises(RetryableDeliveryError, match="cannot be written"):
        deliverer(share).deliver(shipped)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_passes_and_leaves_nothing(shipped: Shipment, share: Path) -> None:
    with largest_file(3), pytest.raises(RetryableDeliveryError, match="has no room"):
        deliverer(share).deliver(shipped)
    assert files(share) == []
    deliverer(share).deliver(shipped)
    assert files(share) == WHOLE


def test_no_room_for_the_index_leaves_no_index(shipped: Shipment, share: Path) -> None:
    with largest_file(100), pytest.raises(RetryableDeliveryError, match="has no room"):
        deliverer(share).deliver(shipped)
    assert files(share) == WHOLE[:1]


@pytest.mark.parametrize("content", [b"", b"123", b"1234567"])
def test_an_object_that_changed_its_length_is_not_written(
    shipped: Shipment, share: Path, content: bytes
) -> None:
    shipped.paths[0].write_bytes(content)
    with pytest.raises(RetryableDeliveryError, match="not as long"):
        deliverer(share).deliver(shipped)
    assert files(share) == []


def test_an_object_that_is_gone(shipped: Shipment, share: Path) -> None:
    shipped.paths[0].unlink()
    with pytest.raises(RetryableDeliveryError, match="not there") as failed:
        deliverer(share).deliver(shipped)
    assert not failed.value.unreachable  # the folder is well


def test_a_link_does_not_lead_out(shipped: Shipment, share: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (share / "2.25.98").symlink_to(outside)
    with pytest.raises(FinalDeliveryError, match="leads out"):
        deliverer(share, "{study_instance_uid}/{series_instance_uid}/{sop_instance_uid}").deliver(shipped)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["2.25.100.dcm", PART])
def test_a_link_in_place_of_a_file_is_not_followed(
    shipped: Shipment, share: Path, tmp_path: Path, name: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"12345")
    (share / "2.25.98").mkdir()
    (share / "2.25.98" / name).symlink_to(precious)
    deliverer(share).deliver(shipped)
    assert files(share) == WHOLE
    assert not (share / WHOLE[0]).is_symlink()
    assert precious.read_bytes() == b"12345"
    assert not precious.samefile(share / WHOLE[0])


@pytest.mark.parametrize("name", ["2.25.100.dcm", PART])
def test_what_others_put_there_is_not_written_into_and_holds_nothing_up(
    shipped: Shipment, share: Path, tmp_path: Path, name: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (share / "2.25.98").mkdir()
    (share / "2.25.98" / name).hardlink_to(precious)
    deliverer(share).deliver(shipped)
    assert precious.read_bytes() == b"precious"
    (share / "2.25.98" / "2.25.100.dcm").unlink()
    os.mkfifo(share / "2.25.98" / name)
    deliverer(share).deliver(shipped)
    assert (share / WHOLE[0]).read_bytes() == b"12345"


def test_a_link_inside_is_not_followed_either(shipped: Shipment, share: Path) -> None:
    (share / "complete").symlink_to(share / "2.25.98")
    with pytest.raises(FinalDeliveryError, match="leads out"):
        deliverer(share).deliver(shipped)
    assert files(share) == WHOLE[:1]


def test_a_workitem_with_no_uid(shipped: Shipment, share: Path) -> None:
    with pytest.raises(FinalDeliveryError, match="well-formed"):
        deliverer(share).deliver(replace(shipped, workitem_uid="../x"))


def test_its_turn_is_awaited_for_every_file(shipped: Shipment, share: Path) -> None:
    def stopped() -> None:
        raise StoppedDeliveryError("the process ends")

    with pytest.raises(StoppedDeliveryError):
        deliverer(share).deliver(shipped, stopped)
    assert files(share) == []


def test_without_results_only_the_index_is_written(share: Path) -> None:
    deliverer(share).deliver(replace(SHIPMENT, instances=(), paths=()))
    assert files(share) == ["complete/2.25.77.json"]
