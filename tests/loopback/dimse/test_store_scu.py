# SPDX-License-Identifier: Apache-2.0
"""Deliveries by C-STORE: to Orthanc and DCMTK, and to receivers that refuse in every way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from conformance.peers.dcmtk import run_storescp
from conformance.peers.orthanc import Orthanc, run_orthanc
from conformance.peers.process import free_port
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.store_scu import DicomDeliverer
from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError
from tests.instances import STUDY, FolderIntake, ct, data_set_bytes, shipment

HOST = "127.0.0.1"


def deliverer(port: int, called: str = "AIRWAY", timeout_s: float = 10.0) -> DicomDeliverer:
    address = DicomAddress(host=HOST, port=port, called_ae_title=called)
    return DicomDeliverer(address, timeout_s=timeout_s)


@contextmanager
def receiver(*statuses: int, **settings: Any) -> Iterator[int]:
    """A receiver that answers `statuses` in turn; yields its port."""
    answers = iter(statuses)
    entity = AE(ae_title="RECEIVER")
    for name, value in settings.items():
        setattr(entity, name, value)
    entity.add_supported_context(CTImageStorage if statuses else "1.2.840.10008.1.1")
    handlers = [(evt.EVT_C_STORE, lambda event: next(answers))]
    listener = entity.start_server((HOST, 0), block=False, evt_handlers=handlers)
    assert listener is not None
    try:
        yield int(listener.server_address[1])
    finally:
        entity.shutdown()


@pytest.mark.peers
class TestOrthanc:
    def test_delivered_twice_is_there_once(self, orthanc: Orthanc, tmp_path: Path) -> None:
        orthanc.clear()
        load = shipment(tmp_path, *[ct(number) for number in range(1, 6)])
        for _ in range(2):
            receipt = deliverer(orthanc.dicom_port, "ORTHANC").deliver(load)
            assert receipt.summary == "5 instances stored at ORTHANC"
        stored = {data_set_bytes(content) for content in orthanc.files_of_study(STUDY)}
        assert stored == {data_set_bytes(path.read_bytes()) for path in load.paths}

    def test_an_ae_title_it_does_not_have(self, orthanc: Orthanc, tmp_path: Path) -> None:
        with pytest.raises(FinalDeliveryError, match="association rejected"):
            deliverer(orthanc.dicom_port, "NOBODY").deliver(shipment(tmp_path, ct(1)))

    # pynetdicom drops a socket that was refused without closing it
    @pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
    def test_down_and_up_again(self, tmp_path: Path) -> None:
        port = free_port()
        load = shipment(tmp_path / "load", ct(1), ct(2))
        with pytest.raises(RetryableDeliveryError, match="connection refused"):
            deliverer(port, "ORTHANC").deliver(load)
        with run_orthanc(dicom_port=port) as orthanc:
            deliverer(port, "ORTHANC").deliver(load)
            assert len(orthanc.instances()) == 2


@pytest.mark.peers
@pytest.mark.parametrize(
    ("option", "error"),
    [("--refuse", FinalDeliveryError), ("--abort-after", RetryableDeliveryError)],
)
def test_dcmtk_that_refuses_or_aborts(tmp_path: Path, option: str, error: type[DeliveryError]) -> None:
    load, met = shipment(tmp_path, ct(1)), set()
    with run_storescp(options=[option]) as peer:
        for _ in range(
            5
        ):  # where it rejects it hangs up at once, which the library may see before the answer
            with pytest.raises(DeliveryError) as failure:
                deliverer(peer.port, peer.ae_title).deliver(load)
            met.add(failure.type)
            if error in met:
                return
    raise AssertionError(f"met only {met}")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0xA700, RetryableDeliveryError),
        (0xA7FF, RetryableDeliveryError),
        (0x0110, RetryableDeliveryError),
        (0x0213, RetryableDeliveryError),
        (0xA900, FinalDeliveryError),
        (0xC000, FinalDeliveryError),
        (0x0122, FinalDeliveryError),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) else value.__name__,
)
def test_failure_statuses(tmp_path: Path, status: int, error: type[DeliveryError]) -> None:
    with receiver(0x0000, status) as port:
        with pytest.raises(error, match=f"1 of 3 stored.*{status:04X}"):
            deliverer(port).deliver(shipment(tmp_path, ct(1), ct(2), ct(3)))


def test_warnings_are_successes(tmp_path: Path) -> None:
    with receiver(0xB000, 0xB007, 0xB006) as port:
        receipt = deliverer(port).deliver(shipment(tmp_path, ct(1), ct(2), ct(3)))
    assert receipt.summary.startswith("3 instances")
    assert receipt.sent_at.tzinfo is not None


def test_a_class_that_is_not_taken_is_final(tmp_path: Path) -> None:
    with receiver() as port:
        with pytest.raises(FinalDeliveryError, match="accepts none"):
            deliverer(port).deliver(shipment(tmp_path, ct(1)))


def test_too_many_associations_is_for_later(tmp_path: Path) -> None:
    with receiver(0x0000, maximum_associations=1) as port:
        entity = AE()
        entity.add_requested_context(CTImageStorage)
        other = entity.associate(HOST, port)
        with pytest.raises(RetryableDeliveryError, match="result 2"):
            deliverer(port).deliver(shipment(tmp_path, ct(1)))
        other.release()


def test_no_answer_in_time_is_for_later(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as silent:
        slow = deliverer(silent.getsockname()[1], timeout_s=0.2)
        with pytest.raises(RetryableDeliveryError):
            slow.deliver(shipment(tmp_path, ct(1)))


def test_a_peer_that_reads_no_more_is_for_later(tmp_path: Path) -> None:
    """Its window is full: what is still to be written to it is given up, too."""
    let_go = threading.Event()
    read = list[bytes]()

    def stop_reading(event: Any) -> None:
        read.append(event.data[:1])
        if len(read) > 3:
            let_go.wait(30)

    entity = AE(ae_title="RECEIVER")
    entity.add_supported_context(CTImageStorage)
    handlers = [(evt.EVT_DATA_RECV, stop_reading)]
    listener = entity.start_server((HOST, 0), block=False, evt_handlers=handlers)
    assert listener is not None
    try:
        with pytest.raises(RetryableDeliveryError) as failed:
            deliverer(int(listener.server_address[1]), timeout_s=1).deliver(
                shipment(tmp_path, ct(1, pixels=16 * 1024**2))
            )
    finally:
        let_go.set()
        entity.shutdown()
    assert failed.value.unreachable


def test_a_peer_that_stops_within_an_answer_is_for_later(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as listening:
        taken = list[socket.socket]()

        def begin_to_answer() -> None:
            connection, _ = listening.accept()
            taken.append(connection)
            connection.recv(65_536)
            connection.sendall(b"\x02\0\0\0\0\xb8\0\x01")

        thread = threading.Thread(target=begin_to_answer)
        thread.start()
        with pytest.raises(RetryableDeliveryError) as failed:
            deliverer(listening.getsockname()[1], timeout_s=1).deliver(shipment(tmp_path, ct(1)))
        thread.join()
        taken[0].close()
    assert failed.value.unreachable


def test_order_is_kept(tmp_path: Path, server: DimseServer, intake: FolderIntake) -> None:
    load = shipment(tmp_path / "load", ct(3), ct(1), ct(2))
    deliverer(server.port).deliver(load)
    assert [item.instance_number for item in intake.instances] == [3, 1, 2]


def test_a_lost_file_is_final(tmp_path: Path, server: DimseServer) -> None:
    load = shipment(tmp_path / "load", ct(1), ct(2))
    load.paths[1].unlink()
    with pytest.raises(FinalDeliveryError, match="1 of 2 stored"):
        deliverer(server.port).deliver(load)


def test_nothing_to_send(tmp_path: Path) -> None:
    assert deliverer(1).deliver(shipment(tmp_path)).summary.startswith("0 instances")
