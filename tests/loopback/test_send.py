# SPDX-License-Identifier: Apache-2.0
"""`airway send` against our own doors: orders, images, and what it says when they are not taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.peers.process import free_port
from informatics_gateway.commands.send import send
from informatics_gateway.dimse.server import DimseServer
from tests.instances import STUDY, FolderIntake, ct
from tests.loopback.hl7.test_mllp_listener import listening
from tests.unit.informatics_gateway.hl7.intakes import MemoryIntake
from tests.unit.profiles.hl7.messages import message, with_field

HOST = "127.0.0.1"


class Doors:
    """A MLLP and a DICOM door, each with what came through it."""

    def __init__(self, hl7_port: int, dicom_port: int, orders: MemoryIntake, images: FolderIntake) -> None:
        self.hl7 = f"{HOST}:{hl7_port}"
        self.dicom = f"{HOST}:{dicom_port}"
        self.orders = orders
        self.images = images

    def send(self, *paths: Path) -> None:
        send(paths, to=self.dicom, hl7=self.hl7, called="AIRWAY", calling="TESTER")


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    orders, images = MemoryIntake(), FolderIntake(tmp_path / "store")
    server = DimseServer(images, port=0)
    server.start()
    try:
        with listening(orders) as listener:
            yield Doors(listener.port, server.port, orders, images)
    finally:
        server.stop()


def file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def told(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_an_order_and_its_images(doors: Doors, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = file(tmp_path, "order.hl7", message())
    folder = tmp_path / "study"
    folder.mkdir()
    for number in (1, 2):
        file(folder, f"{number}.dcm", ct(number))
    file(folder, "notes.txt", b"no image")
    doors.send(folder, order)
    assert doors.orders.raw == [message()]
    assert len(doors.images.instances) == 2
    said = told(capsys)
    assert "order.hl7 was answered AA" in said
    assert "2 instances sent to AIRWAY" in said
    assert "notes.txt" in said
    assert f"explain {STUDY}" in said


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(message().replace(b"\r", b"\n"), id="LF"),
        pytest.param(message().replace(b"\r", b"\r\n"), id="CRLF"),
        pytest.param(b"\x0b" + message() + b"\x1c\r", id="framed"),
        pytest.param(b"\xef\xbb\xbf" + message(), id="byte order mark"),
    ],
)
def test_files_of_editors_and_engines(doors: Doors, tmp_path: Path, content: bytes) -> None:
    doors.send(file(tmp_path, "order.txt", content))
    assert doors.orders.raw == [message()]


def test_a_file_with_several_messages(doors: Doors, tmp_path: Path) -> None:
    second = with_field("MSH", 10, "RIS0003")
    doors.send(file(tmp_path, "day.hl7", message() + b"\n" + second))
    assert doors.orders.raw == [message(), second]


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        pytest.param(with_field("ORC", 1, "ZZ"), ("answered AE", "ORC-1"), id="refused, 2.3.1"),
        pytest.param(
            with_field("ORC", 1, "ZZ").replace(b"|2.3.1|", b"|2.5.1|"),
            ("answered AE", "ORC-1"),
            id="refused, 2.5.1",
        ),
        pytest.param(with_field("MSH", 9, "MDM^T02"), ("answered AR", "ORM"), id="rejected"),
    ],
)
def test_an_order_that_is_not_taken(
    doors: Doors, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, reasons: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        doors.send(file(tmp_path, "order.hl7", content))
    assert ended.value.code == 1
    said = told(capsys)
    for reason in reasons:
        assert reason in said


@pytest.mark.parametrize(
    ("name", "content", "status", "reason"),
    [
        pytest.param("gone", None, 2, "no such file", id="missing"),
        pytest.param("text", b"hello", 1, "no DICOM instance", id="no DICOM"),
        pytest.param("empty", b"", 1, "no DICOM instance", id="empty"),
    ],
)
def test_nothing_to_send_is_no_success(
    doors: Doors,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    status: int,
    reason: str,
) -> None:
    path = tmp_path / name if content is None else file(tmp_path, name, content)
    with pytest.raises(SystemExit) as ended:
        doors.send(path)
    assert ended.value.code == status
    said = told(capsys)
    assert reason in said
    assert name in said


# pynetdicom drops a socket that was refused without closing it
@pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("content", [pytest.param(message(), id="order"), pytest.param(ct(1), id="image")])
def test_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    nobody = f"{HOST}:{free_port()}"
    with pytest.raises(SystemExit) as ended:
        send([file(tmp_path, "it", content)], to=nobody, hl7=nobody, called="AIRWAY", calling="TESTER")
    assert ended.value.code == 1
    assert f"{nobody} did not take" in told(capsys)


def test_an_address_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        send([tmp_path], to="somewhere", hl7="", called="AIRWAY", calling="TESTER")
    assert ended.value.code == 2
    assert "HOST:PORT" in told(capsys)
