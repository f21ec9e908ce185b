# SPDX-License-Identifier: Apache-2.0
"""A disk that runs full under a running server: true answers at every door, nothing lost, and on it goes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from conformance.peers.dcmtk import ToolResult, storescu
from conformance.peers.process import wait_until
from informatics_gateway.hl7.sender import send_message
from profiles.dicom_json import element
from profiles.hl7.order_text import order_message
from tests.contract.workitems import minimal
from tests.dicom_wire import (
    CT,
    EXPLICIT,
    associate,
    message,
    read_answer,
    read_pdu,
    status_of,
    store_command,
)
from tests.fhir_requests import service_request
from tests.flow.airway import SENT_AT
from tests.instances import STUDY, ct, data_set_bytes
from tests.loopback.small_disk import MIB, SmallDisk
from tests.unit.task_manager.steps import ORDER

pytestmark = pytest.mark.peers

PIXELS = 400_000 // 256 * 256
OUT_OF_RESOURCES = 0xA700


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path, 48 * MIB, {"disk": request.param})
    made.start()
    try:
        yield made
    finally:
        made.process.stop(30)


class Peers:
    """A scanner, a web client and a RIS at the doors of one server."""

    def __init__(self, disk: SmallDisk, folder: Path) -> None:
        self._ends = disk.endpoints
        self._folder = folder
        self._numbers = iter(range(1, 1000))
        self.kept: dict[str, bytes] = {}

    def _images(self, count: int) -> dict[str, bytes]:
        numbers = [next(self._numbers) for _ in range(count)]
        return {f"{STUDY}.1.{number}": ct(number, pixels=PIXELS) for number in numbers}

    def scan(self, count: int) -> ToolResult:
        """Send new images by C-STORE, all of them whatever is answered; remembers those that were taken."""
        images = self._images(count)
        paths = []
        for uid, content in images.items():
            path = self._folder / f"{uid}.dcm"
            path.write_bytes(content)
            paths.append(path)
        door = self._ends["dicom"]
        sent = storescu(door["host"], door["port"], paths, called_ae_title="AIRWAY", options=["--no-halt"])
        for (uid, content), answer in zip(images.items(), sent.responses, strict=False):
            if answer == "Success":
                self.kept[uid] = content
        return sent

    def store(self, count: int) -> httpx.Response:
        """Store new images by one STOW-RS request; remembers those that were taken."""
        images = self._images(count)
        body = b"".join(
            b"--b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n"
            for content in images.values()
        )
        answer = httpx.post(
            f"{self._ends['http']}/dicom-web/studies",
            content=body + b"--b--\r\n",
            headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
            timeout=60,
        )
        for item in answer.json().get("00081199", {}).get("Value", []):
            (uid,) = item["00081155"]["Value"]
            self.kept[uid] = images[uid]
        return answer

    def order(self, number: int) -> str:
        """Send an order over MLLP; the acknowledgement."""
        asked = replace(ORDER, placer_order_number=f"P{number}", accession_number=f"A{number}")
        asked = replace(asked, filler_order_number=f"F{number}", study_instance_uid=f"1.2.3.{number}")
        raw = order_message(asked, control_id=f"M{number}", sent_at=SENT_AT)
        return send_message(self._ends["hl7"]["host"], self._ends["hl7"]["port"], raw).decode()

    def create(self, number: int) -> int:
        """Create a workitem; the HTTP status."""
        body = json.dumps([minimal() | element("SOPClassUID", "1.2.840.10008.5.1.4.34.6.1")])
        answer = httpx.post(
            f"{self._ends['http']}/dicom-web/workitems?2.25.{number}",
            content=body,
            headers={"Content-Type": "application/dicom+json"},
            timeout=60,
        )
        return answer.status_code

    def request(self) -> int:
        """Create a ServiceRequest; the HTTP status."""
        answer = httpx.post(
            f"{self._ends['http']}/fhir/ServiceRequest",
            content=json.dumps(service_request()),
            headers={"Content-Type": "application/fhir+json"},
            timeout=60,
        )
        return answer.status_code

    def look(self, path: str) -> Any:
        """An answer of the server's own REST."""
        return httpx.get(f"{self._ends['http']}{path}", timeout=60).json()

    def metrics(self) -> str:
        """The metrics."""
        return httpx.get(f"{self._ends['http']}/metrics", timeout=60).text

    def read(self, uid: str) -> bytes:
        """The data set of an instance by WADO-RS."""
        url = f"{self._ends['http']}/dicom-web/studies/{STUDY}/series/{STUDY}.1/instances/{uid}"
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        answer = httpx.get(url, headers={"Accept": accept}, timeout=60)
        assert answer.status_code == 200, answer.text
        begin = answer.content.index(b"\r\n\r\n") + 4
        return data_set_bytes(answer.content[begin : answer.content.rindex(b"\r\n--")])


def code_of(acknowledgement: str) -> tuple[str, str]:
    """MSA-1, and the error code of the first ERR segment."""
    lines = {line[:3]: line.split("|") for line in acknowledgement.replace("\n", "\r").split("\r")}
    return lines["MSA"][1], lines["ERR"][3].split("^")[0] if "ERR" in lines else ""


def all_are_kept(disk: SmallDisk, peers: Peers) -> None:
    """What was answered Success is there, bit for bit; nothing else is, and nothing half-written."""
    files = disk.objects()
    assert {name.removesuffix(".dcm") for name in files} == set(peers.kept)
    for uid, content in peers.kept.items():
        assert data_set_bytes(files[f"{uid}.dcm"]) == data_set_bytes(content)
        assert peers.read(uid) == data_set_bytes(content)
    assert disk.incoming() == []


@pytest.mark.parametrize("disk", [{"least_free_mib": 0, "reserve_mib": 0}], indirect=True)
def test_a_disk_without_a_byte_left(disk: SmallDisk, tmp_path: Path) -> None:
    peers = Peers(disk, tmp_path)
    assert peers.scan(3).responses == ("Success",) * 3
    assert peers.store(2).status_code == 200
    assert code_of(peers.order(1))[0] == "AA"
    assert peers.create(1) == 201
    disk.fill()
    for round_ in (1, 2):
        sent = peers.scan(2)
        assert "Success" not in sent.responses
        assert len(sent.responses) == 2, sent.output
        answer = peers.store(2)
        assert answer.status_code == 507
        reasons = [
            item["00081197"]["Value"][0]
            for name in ("00081198", "0008119A")
            for item in answer.json().get(name, {}).get("Value", [])
        ]
        assert reasons == [OUT_OF_RESOURCES] * 2
        assert code_of(peers.order(10 + round_)) == ("AE", "207")
        assert peers.create(10 + round_) in ((507,) if disk.mounted else (503, 507))
        assert peers.request() in ((507,) if disk.mounted else (503, 507))
        assert peers.look("/health/live") == {"status": "live"}
    assert disk.incoming() == []
    for uid, content in list(peers.kept.items()):
        assert peers.read(uid) == data_set_bytes(content), "what is here is still served"
    disk.empty()
    wait_until(lambda: peers.scan(1).responses == ("Success",), "images are taken again")
    assert peers.store(2).status_code == 200
    assert code_of(peers.order(11))[0] == "AA", "the same message as was refused"
    assert peers.create(11) == 201
    assert peers.request() == 201
    all_are_kept(disk, peers)
    assert disk.process.running


@pytest.mark.parametrize("disk", [{"least_free_mib": 0, "reserve_mib": 0}], indirect=True)
def test_a_disk_that_runs_full_within_two_transfers(disk: SmallDisk, tmp_path: Path) -> None:
    """Room was promised, and somebody else took it: the write itself fails, and only this instance."""
    peers = Peers(disk, tmp_path)
    large = ct(900, pixels=8 * MIB)
    sent = message(1, store_command(f"{STUDY}.1.900"), data_set_bytes(large))
    http, dicom = disk.endpoints["http"], disk.endpoints["dicom"]

    def body() -> Iterator[bytes]:
        yield large[: 3 * MIB]
        connection.sendall(sent[: 3 * MIB])
        wait_until(
            lambda: [one.stat().st_size > 2 * MIB for one in disk.incoming()] == [True] * 2, "both come"
        )
        disk.fill()
        yield large[3 * MIB :]

    with socket.create_connection((dicom["host"], dicom["port"]), timeout=60) as connection:
        connection.sendall(associate([(1, CT, EXPLICIT)]))
        assert read_pdu(connection)[0] == 2
        headers = {"Content-Type": "application/dicom"}
        answer = httpx.post(f"{http}/dicom-web/studies", content=body(), headers=headers, timeout=60)
        assert answer.status_code == 507
        connection.sendall(sent[3 * MIB :])
        assert status_of(read_answer(connection)) == OUT_OF_RESOURCES
        wait_until(lambda: disk.incoming() == [], "nothing half-written stays")
        disk.empty()
        for _ in range(50):  # room that was not there a moment ago is believed in after two seconds
            connection.sendall(sent)
            if status_of(read_answer(connection)) == 0:
                break
            wait_until(lambda: peers.look("/health/ready")["disk"] == "ok", "there is room again")
    peers.kept[f"{STUDY}.1.900"] = large
    all_are_kept(disk, peers)


@pytest.mark.parametrize(
    "disk", [{"least_free_mib": 12, "reserve_mib": 6, "reject_associations": False}], indirect=True
)
def test_refused_before_the_disk_is_full(disk: SmallDisk, tmp_path: Path) -> None:
    """Low water: no images. Below the floor: nothing that adds content. Both end by themselves."""
    if not disk.mounted:  # a limit on the size of files shows nothing of a file system that fills
        disk.fill()
        assert "Success" not in Peers(disk, tmp_path).scan(1).responses
        return
    peers = Peers(disk, tmp_path)
    assert peers.scan(2).responses == ("Success",) * 2
    disk.fill(leaving=15 * MIB)
    wait_until(lambda: peers.look("/health/ready").get("disk") == "low", "the state is seen")
    assert "Success" not in peers.scan(2).responses
    assert peers.store(1).status_code == 507
    assert code_of(peers.order(1))[0] == "AA", "a message costs little and may finish work"
    assert peers.create(1) == 201
    assert 'airway_disk_state{state="low"} 1.0' in peers.metrics()
    disk.fill(leaving=11 * MIB)
    wait_until(lambda: peers.look("/health/ready").get("disk") == "full", "the state is seen")
    assert "Success" not in peers.scan(1).responses
    assert peers.store(1).status_code == 507
    assert code_of(peers.order(2)) == ("AE", "207")
    assert peers.create(2) == 507
    assert peers.request() == 507
    found = peers.look("/api/disk")
    assert (found["state"], found["left_bytes"], found["refused"] > 0) == ("full", 0, True)
    assert disk.free >= 10 * MIB, "what was refused took nothing"
    disk.empty()
    wait_until(lambda: peers.look("/health/ready").get("disk") == "ok", "there is room again")
    assert peers.scan(2).responses == ("Success",) * 2
    assert code_of(peers.order(2))[0] == "AA"
    all_are_kept(disk, peers)
    log = disk.process.log_path.read_text(encoding="utf-8")
    for action in ("disk.low", "disk.full", "disk.recovered"):
        assert f'"{action}"' in log


@pytest.mark.parametrize(
    "disk",
    [{"most_gib": 0.004, "least_free_mib": 0, "reserve_mib": 2, "reject_associations": True}],
    indirect=True,
)
def test_many_scanners_at_once_do_not_overrun_a_quota(disk: SmallDisk, tmp_path: Path) -> None:
    """4 MiB may be used; more is refused, then new associations are, and what is held stays within."""
    peers = Peers(disk, tmp_path)
    answers: list[str] = []
    for _ in range(4):
        answers += peers.scan(8).responses
    assert "Success" in answers
    assert len(peers.kept) < 32
    used = sum(path.stat().st_size for path in disk.data.rglob("*") if path.is_file())
    assert used <= 6 * MIB, "the quota, and what a database adds between two counts"
    assert disk.incoming() == []
    rejected = peers.scan(1)
    assert rejected.responses == ()
    assert "Temporary Congestion" in rejected.output
    assert peers.look("/health/ready")["disk"] != "ok"
