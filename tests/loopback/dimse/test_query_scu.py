# SPDX-License-Identifier: Apache-2.0
"""Asking an archive what it has of a study: Orthanc, and archives that fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from conformance.peers.orthanc import run_orthanc
from conformance.peers.process import free_port
from informatics_gateway.dimse.query_scu import STUDY_ROOT_FIND, DicomArchive
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.send import send_folder
from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError
from tests.instances import STUDY, ct

HOST = "127.0.0.1"
# pynetdicom drops a socket that was refused without closing it
REFUSED = pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")


def archive(port: int, called: str = "ARCHIVE") -> DicomArchive:
    address = DicomAddress(host=HOST, port=port, called_ae_title=called)
    return DicomArchive("archive", address, timeout_s=5)


@contextmanager
def scripted(answers: list[tuple[int, dict[str, str]]], sop_class: str = STUDY_ROOT_FIND) -> Iterator[int]:
    """An archive that answers every question alike; a status of 0 hangs up instead."""

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for status, given in answers:
            if not status:
                event.assoc.abort()
                return
            identifier = Dataset()
            for keyword, value in given.items():
                setattr(identifier, keyword, value)
            yield status, identifier if given else None

    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(sop_class)
    port = free_port()
    server = entity.start_server((HOST, port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        yield port
    finally:
        server.shutdown()


@pytest.mark.peers
def test_what_orthanc_has_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    wanted = {f"{STUDY}.1.{number}" for number in range(1, 4)}
    for number in range(1, 4):
        (folder / f"{number}.dcm").write_bytes(ct(number))
    with run_orthanc(settings={"DicomAlwaysAllowFind": True}) as orthanc:
        send_folder([folder], host=HOST, port=orthanc.dicom_port, called_ae_title=orthanc.ae_title)
        asked = archive(orthanc.dicom_port, orthanc.ae_title)
        assert asked.available_instances(STUDY) == wanted
        assert asked.available_instances("1.2.3.404") == frozenset()


@pytest.mark.parametrize(
    ("availability", "found"),
    [("ONLINE", True), ("NEARLINE", True), ("", True), ("OFFLINE", False), ("UNAVAILABLE", False)],
)
def test_availability_decides(availability: str, found: bool) -> None:
    answer = {
        "SeriesInstanceUID": "1.2.3.4",
        "SOPInstanceUID": "1.2.3.4.5",
        "InstanceAvailability": availability,
    }
    with scripted([(0xFF00, answer)]) as port:
        assert archive(port).available_instances("1.2.3") == ({"1.2.3.4.5"} if found else frozenset())


@pytest.mark.parametrize(
    ("answers", "sop_class", "error"),
    [
        ([(0xA700, {})], STUDY_ROOT_FIND, RetryableDeliveryError),
        ([(0xC001, {})], STUDY_ROOT_FIND, RetryableDeliveryError),
        ([(0xFF00, {"SeriesInstanceUID": "1.2"}), (0, {})], STUDY_ROOT_FIND, RetryableDeliveryError),
        ([], "1.2.840.10008.5.1.4.31", FinalDeliveryError),
    ],
    ids=["out of resources", "failure", "hangs up", "other model"],
)
def test_archives_that_fail(
    answers: list[tuple[int, dict[str, str]]], sop_class: str, error: type[DeliveryError]
) -> None:
    with scripted(answers, sop_class) as port, pytest.raises(error):
        archive(port).available_instances("1.2.3")


@REFUSED
def test_an_archive_that_is_down() -> None:
    with pytest.raises(RetryableDeliveryError):
        archive(free_port()).available_instances("1.2.3")
