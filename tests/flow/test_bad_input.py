# SPDX-License-Identifier: Apache-2.0
"""Bad input through the real doors of a running Airway: each answers in its own words and nothing is lost.

One Airway for the module. What is refused leaves nothing behind, and a good study still runs at the end.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from conformance.peers.fhir_server import FhirServer
from conformance.peers.orthanc import Orthanc
from conformance.peers.process import wait_until
from profiles.order import OrderControl
from tests.flow.airway import RunningAirway, is_delivered
from tests.flow.bad_input import association, echoes, hangs_up, send_object, store_bytes
from tests.flow.ends import (
    archive_config,
    check_archive,
    check_emr,
    check_events,
    emr_config,
    results_in_store,
)
from tests.flow.remains import Remains
from tests.flow.studies import SLICES, SentStudy, encoded_data_set, make_study

pytestmark = pytest.mark.peers

FINISH_S = 120.0
DESTINATIONS = ["emr", "pacs", "pacs-web"]
TWO_SCRIPTS = "Yamada^Tarou=山田^太郎=やまだ^たろう"
STUDY = "2.25.4711"
JSON = {"content-type": "application/dicom+json"}
RELATED = {"content-type": 'multipart/related; type="application/dicom"; boundary=B'}
START, END = b"\x0b", b"\x1c\x0d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A running Airway, what it leaves, and an image to misuse."""

    airway: RunningAirway
    remains: Remains
    image_uid: str
    image: Path

    @property
    def dicom(self) -> tuple[str, int]:
        """Host and port of the DICOM door."""
        door = self.airway.endpoints["dicom"]
        return door["host"], door["port"]

    @property
    def hl7(self) -> tuple[str, int]:
        """Host and port of the MLLP door."""
        door = self.airway.endpoints["hl7"]
        return door["host"], door["port"]

    def explained(self, study_instance_uid: str) -> str:
        """What `airway explain` prints."""
        command = [sys.executable, "-m", "informatics_gateway", "explain", study_instance_uid]
        command += ["--data", str(self.airway.data)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def send(self, study: SentStudy) -> None:
        """Send the order, then the images."""
        assert "MSA|AA" in self.airway.send_order(study.order, study.order.placer_order_number)
        assert self.airway.send_images(study.folder).succeeded

    def wait_finished(self, study: SentStudy) -> dict[str, Any]:
        """The story once everything is delivered and told."""
        self.airway.wait_story(study.study_instance_uid, is_delivered, FINISH_S)
        wait_until(lambda: not self.remains.unfinished_jobs(), "all events told", FINISH_S)
        return self.airway.story(study.study_instance_uid)


@pytest.fixture(scope="module")
def door(
    tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc, fhir_server: FhirServer
) -> Iterator[Door]:
    orthanc.clear()
    fhir_server.clear()
    folder = tmp_path_factory.mktemp("bad")
    airway = RunningAirway(
        folder,
        {
            "destinations": [*archive_config(orthanc), emr_config(fhir_server.base_url)],
            "events": [{"name": "log", "kind": "file"}],
        },
    )
    study = make_study(folder, "B0")
    image_uid, image = next(iter(study.files.items()))
    airway.start()
    try:
        yield Door(airway=airway, remains=Remains(airway.data), image_uid=image_uid, image=image)
    finally:
        airway.stop()


class TestDicomPort:
    @pytest.mark.parametrize("share", [0.0, 0.2, 0.999], ids=["zero-bytes", "cut-in-header", "cut-in-pixels"])
    def test_an_object_that_is_not_whole_is_answered_cannot_understand(
        self, door: Door, share: float
    ) -> None:
        whole = encoded_data_set(door.image)
        cut = whole[: int(len(whole) * share) // 2 * 2]
        with association(*door.dicom) as peer:
            answer = store_bytes(peer, door.image_uid, cut)
            assert answer.Status == 0xC000  # PS3.4 B.2.3
            assert answer.ErrorComment
            assert peer.send_c_echo().Status == 0
        assert door.airway.story(STUDY) == {}
        assert door.remains.incoming() == []

    @pytest.mark.parametrize(
        "content",
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(4096), b"MSH|^~\\&|RIS\r", b"\x01\x00\xff"],
        ids=["http", "zeros", "hl7", "half-a-header"],
    )
    def test_bytes_that_are_not_dicom_are_hung_up_on(self, door: Door, content: bytes) -> None:
        assert hangs_up(*door.dicom, content)
        assert echoes(*door.dicom)

    @pytest.mark.parametrize("how", ["a-abort", "connection-lost"])
    def test_an_association_that_ends_inside_an_object_leaves_nothing(self, door: Door, how: str) -> None:
        content = encoded_data_set(door.image)
        with association(*door.dicom) as peer:
            send_object(peer, door.image_uid, content[:1000], claimed=len(content))
            if how == "a-abort":
                peer.abort()
            else:
                peer.dul.socket.socket.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: not peer.is_established, "the association ended")
        assert echoes(*door.dicom)
        wait_until(lambda: door.remains.incoming() == [], "nothing staged")
        assert door.remains.objects_without_record() == []


class TestStow:
    def post(self, door: Door, *parts: bytes, end: bytes = b"--B--\r\n") -> httpx.Response:
        body = b"".join(b"--B\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts)
        url = f"{door.airway.http}/dicom-web/studies"
        return httpx.post(url, content=body + end, headers=RELATED, timeout=30)

    @pytest.mark.parametrize("size", [0, 200, -10], ids=["zero-bytes", "cut-in-header", "cut-in-pixels"])
    def test_an_object_that_is_not_whole_fails_with_a_reason(self, door: Door, size: int) -> None:
        whole = door.image.read_bytes()
        answer = self.post(door, whole[:size] if size else b"")
        assert answer.status_code == 409
        failures = [
            item["00081197"]["Value"]
            for sequence in ("00081198", "0008119A")
            for item in answer.json().get(sequence, {}).get("Value", [])
        ]
        assert failures == [[0xC000]]
        assert door.remains.incoming() == []

    def test_a_body_that_breaks_off_is_a_bad_request(self, door: Door) -> None:
        assert self.post(door, b"no DICOM at all", end=b"").status_code == 400
        assert door.remains.incoming() == []


class TestMllpPort:
    @pytest.mark.parametrize(
        ("message", "acknowledgement"),
        [
            (b"MSH|^~\\&|RIS|H|AIRWAY|H|20260101||ORM^O01^ORM_O01|X1|P|2.5.1\rORC|NW\r", b"MSA|AE|X1"),
            (b"MSH|^~\\&|RIS|H|AIRWAY|H|20260101||MDM^T02^MDM_T02|X2|P|2.5.1\rPID|1\r", b"MSA|AR|X2"),
            (b"MSH|^~\\&|RIS|H|AIRWAY|H|20260101||ADT^A08^ADT_A01|X4|P|2.5.1\rPID|1\r", b"MSA|AE|X4"),
            (b"MSH|^~\\&|RIS|H|AIRWAY|H|20260101||ORM^O01|X3|P|9.9\rZZZ|\xff\xfe\r", b"MSA|A"),
        ],
        ids=["order-without-patient", "other-message", "nobody-updated", "unknown-version-and-bytes"],
    )
    def test_a_message_that_is_no_order_is_answered(
        self, door: Door, message: bytes, acknowledgement: bytes
    ) -> None:
        with socket.create_connection(door.hl7, timeout=30) as connection:
            connection.sendall(START + message + END)
            answer = b""
            while END not in answer:
                answer += connection.recv(4096)
        assert acknowledgement in answer
        assert b"MSA|AA" not in answer
        assert b"\rERR|" in answer

    @pytest.mark.parametrize(
        "content", [START + b"nonsense" + END, b"GET / HTTP/1.1\r\n\r\n"], ids=["no-header", "no-frame"]
    )
    def test_what_cannot_be_answered_is_hung_up_on(self, door: Door, content: bytes) -> None:
        assert hangs_up(*door.hl7, content)

    def test_cancelling_an_order_nobody_knows_is_an_error(self, door: Door, tmp_path: Path) -> None:
        order = replace(make_study(tmp_path, "B1").order, control=OrderControl.CANCEL)
        answer = door.airway.send_order(order, "CANCEL-B1")
        assert "MSA|AE|CANCEL-B1" in answer
        assert "204" in answer

    def test_an_order_for_a_patient_without_images_waits_and_joins_no_other_patient(
        self, door: Door, tmp_path: Path
    ) -> None:
        study = make_study(tmp_path, "B2")
        order = replace(study.order, patient_id="SOMEBODY-ELSE", study_instance_uid="")
        assert "MSA|AA" in door.airway.send_order(order, "UNKNOWN-B2")
        for path in list(study.files.values())[2:]:
            path.unlink()
        assert door.airway.send_images(study.folder).succeeded
        story = door.airway.wait_story(study.study_instance_uid, lambda told: told["state"] == "COMPLETE")
        assert story["order"] is None
        assert story["workitems"] == []
        assert [explanation["verdict"] for explanation in story["explanations"]] != ["matched"]
        explained = door.explained(study.study_instance_uid)
        assert "none joined" in explained
        assert "No workitem was created" in explained


class TestUpsRs:
    @pytest.mark.parametrize(
        ("body", "headers", "status"),
        [
            (b"", JSON, 400),
            (b"{", JSON, 400),
            (b"\xff\xfe", JSON, 400),
            (b'{"00741000": 7}', JSON, 400),
            (b"[" * 100_000, JSON, 400),
            (b"[{}]", JSON, 400),
            (b"<x/>", {"content-type": "application/dicom+xml"}, 400),
            (b"<x/>", {"content-type": "text/xml"}, 415),
        ],
        ids=["empty", "half", "not-utf-8", "not-an-element", "deep", "no-attributes", "xml", "other-xml"],
    )
    def test_a_body_that_is_no_workitem_is_refused(
        self, door: Door, body: bytes, headers: dict[str, str], status: int
    ) -> None:
        url = f"{door.airway.http}/dicom-web/workitems?2.25.99"
        answer = httpx.post(url, content=body, headers=headers, timeout=30)
        assert answer.status_code == status
        assert answer.json()["faults"]
        assert httpx.get(f"{door.airway.http}/dicom-web/workitems/2.25.99").status_code == 404


def test_a_study_with_a_missing_slice_is_canceled_with_a_coded_reason(door: Door, tmp_path: Path) -> None:
    study = make_study(tmp_path, "B3")
    list(study.files.values())[SLICES // 2].unlink()
    door.send(study)
    story = door.airway.wait_story(
        study.study_instance_uid,
        lambda told: [workitem["state"] for workitem in told["workitems"]] == ["CANCELED"],
        FINISH_S,
    )
    (workitem,) = story["workitems"]
    assert workitem["reason"]
    assert workitem["outputs"] == []
    assert workitem["deliveries"] == []
    assert f"reason: {workitem['reason']}" in door.explained(study.study_instance_uid)
    (stored,) = httpx.get(f"{door.airway.http}/dicom-web/workitems/{workitem['uid']}").json()
    (progress,) = stored["00741002"]["Value"]
    (reason,) = progress["0074100E"]["Value"]  # Procedure Step Discontinuation Reason Code Sequence
    assert reason["00080102"]["Value"] == ["DCM"]
    (failed,) = [event for event in story["events"] if event["name"] == "PROCESSING_COMPLETED"]
    assert failed["outcome"] != "0"


@pytest.fixture(scope="module")
def twins(door: Door, tmp_path_factory: pytest.TempPathFactory) -> tuple[SentStudy, SentStudy]:
    """Two studies of one patient with a name in three scripts, sent at the same time, and then finished."""
    folder = tmp_path_factory.mktemp("twins")
    first, second = (
        make_study(folder, name, patient_name=TWO_SCRIPTS, patient_id="ONE-PATIENT") for name in ("B4", "B5")
    )
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(door.send, (first, second)))
    for study in (first, second):
        door.wait_finished(study)
    return first, second


def test_two_studies_of_one_patient_at_once_stay_apart(
    door: Door, twins: tuple[SentStudy, SentStudy], orthanc: Orthanc, fhir_server: FhirServer
) -> None:
    for study in twins:
        story = door.airway.story(study.study_instance_uid)
        assert story["order"]["accession_number"] == study.accession_number
        check_archive(orthanc, study, results_in_store(door.remains, story))
        check_emr(fhir_server, study)
        check_events(door.remains, story, DESTINATIONS)


def test_names_in_other_scripts_arrive_unharmed(
    door: Door, twins: tuple[SentStudy, SentStudy], orthanc: Orthanc, fhir_server: FhirServer
) -> None:
    story = door.airway.story(twins[0].study_instance_uid)
    for result in results_in_store(door.remains, story).values():
        assert result.PatientName == TWO_SCRIPTS
    patient = check_emr(fhir_server, twins[0])
    told = json.dumps(patient["name"], ensure_ascii=False)
    for part in ("Yamada", "Tarou", "山田", "太郎", "やまだ", "たろう"):
        assert part in told
    log = door.airway.log_path.read_text(encoding="utf-8")
    assert "山田" not in log
    assert "Yamada" not in log


def test_the_same_message_twice_changes_nothing(door: Door, twins: tuple[SentStudy, SentStudy]) -> None:
    order = twins[0].order
    before = door.airway.story(twins[0].study_instance_uid)
    answer = door.airway.send_order(order, order.placer_order_number)
    assert f"MSA|AA|{order.placer_order_number}" in answer
    assert door.airway.story(twins[0].study_instance_uid) == before


def test_the_same_study_twice_runs_once(door: Door, twins: tuple[SentStudy, SentStudy]) -> None:
    before = door.airway.story(twins[0].study_instance_uid)
    again = door.airway.send_images(twins[0].folder)
    assert again.succeeded
    assert again.responses == ("Success",) * SLICES
    assert door.airway.story(twins[0].study_instance_uid) == before
    assert door.remains.incoming() == []
    assert door.remains.objects_without_record() == []


def test_a_good_study_still_runs_and_nothing_crashed(
    door: Door, orthanc: Orthanc, fhir_server: FhirServer, tmp_path: Path
) -> None:
    study = make_study(tmp_path, "B9")
    with ThreadPoolExecutor(2) as pool:
        # The scanner sends everything twice at once.
        list(pool.map(lambda _: door.send(study), range(2)))
    story = door.wait_finished(study)
    assert door.remains.workitem_states(study.study_instance_uid) == ["COMPLETED"]
    check_archive(orthanc, study, results_in_store(door.remains, story))
    check_emr(fhir_server, study)
    check_events(door.remains, story, DESTINATIONS)
    log = door.airway.log_path.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert '"level": "error"' not in log
