# SPDX-License-Identifier: Apache-2.0
"""Storage commitment that we ask of others: of Orthanc, of DCMTK that has none, and of ourselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from conformance.peers.dcmtk import run_storescp
from conformance.peers.orthanc import Modality, Orthanc
from conformance.peers.process import wait_until
from informatics_gateway.dimse.commitment import SOP_INSTANCE, ActionStatus
from informatics_gateway.dimse.commitment_scp import CommitmentProvider
from informatics_gateway.dimse.commitment_scu import CommittingDeliverer, read_report
from informatics_gateway.dimse.commitment_spool import CommitmentSpool
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.server import DimseServer
from task_manager.delivery.commitment import Answer, CommitmentAsk, CommitmentReport
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError, StoreError
from tests.instances import STUDY, FolderIntake, ct, shipment

HOST = "127.0.0.1"
STORED, MISSING = (str(CTImageStorage), f"{STUDY}.1.1"), (str(CTImageStorage), f"{STUDY}.1.9")


class Ledger:
    """Keeps reports of the transactions it knows."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.reports: list[CommitmentReport] = []
        self.broken = False

    def take(self, report: CommitmentReport) -> bool:
        if self.broken:
            raise StoreError("the disk is full")
        self.reports.append(report)
        return report.transaction_uid in self.known


def ask(uid: str, *instances: tuple[str, str]) -> CommitmentAsk:
    return CommitmentAsk(transaction_uid=uid, instances=instances)


def deliverer(port: int, called: str, wait_s: float = 0.0) -> CommittingDeliverer:
    address = DicomAddress(host=HOST, port=port, called_ae_title=called)
    return CommittingDeliverer(address, timeout_s=10, wait_s=wait_s)


@contextmanager
def our_port(intake: FolderIntake, ledger: Ledger, **more: Any) -> Iterator[DimseServer]:
    server = DimseServer(intake, reported=ledger.take, **more)
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=0.2)


@contextmanager
def peer(status: int, *, reports: bool) -> Iterator[int]:
    """A peer that answers N-ACTION with `status`, and may report on the same association."""

    def act(event: Any) -> tuple[int, None]:
        if reports:
            asked = event.action_information
            threading.Thread(target=report, args=(event.assoc, asked)).start()
        return status, None

    def report(association: Any, asked: Dataset) -> None:
        told = Dataset()
        told.TransactionUID = asked.TransactionUID
        told.ReferencedSOPSequence = asked.ReferencedSOPSequence
        association.send_n_event_report(told, 1, StorageCommitmentPushModel, SOP_INSTANCE)

    entity = AE(ae_title="PEER")
    entity.add_supported_context(StorageCommitmentPushModel)
    listener = entity.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, act)])
    assert listener is not None
    try:
        yield int(listener.server_address[1])
    finally:
        entity.shutdown()


@pytest.mark.peers
def test_orthanc_reports_to_our_port_what_it_keeps_and_what_it_does_not(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.clear()
    ledger = Ledger("2.25.1", "2.25.2")
    with our_port(FolderIntake(tmp_path / "own"), ledger) as server:
        orthanc.add_modality(Modality(name="airway", ae_title="AIRWAY", host=HOST, port=server.port))
        archive = deliverer(orthanc.dicom_port, "ORTHANC")
        archive.deliver(shipment(tmp_path / "load", ct(1)))
        assert archive.ask_commitment(ask("2.25.1", STORED), ledger.take) is Answer.TAKEN
        assert archive.ask_commitment(ask("2.25.2", STORED, MISSING), ledger.take) is Answer.TAKEN
        wait_until(lambda: len(ledger.reports) == 2, what="both reports of Orthanc", timeout_s=20)
    told = {report.transaction_uid: report for report in ledger.reports}
    assert (told["2.25.1"].committed, told["2.25.1"].failed) == ((STORED[1],), ())
    assert told["2.25.2"].committed == (STORED[1],)
    assert told["2.25.2"].failed == ((MISSING[1], 0x0112),)


@pytest.mark.peers
def test_a_peer_without_the_service_says_so() -> None:
    ledger = Ledger()
    with run_storescp() as dcmtk:
        asked = deliverer(dcmtk.port, "STORESCP").ask_commitment(ask("2.25.1", STORED), ledger.take)
    assert asked is Answer.NOT_OFFERED


def test_we_are_asked_by_ourselves(tmp_path: Path) -> None:
    load = shipment(tmp_path / "load", ct(1))
    ledger = Ledger("2.25.3")
    asker = FolderIntake(tmp_path / "asker")
    keeper = FolderIntake(tmp_path / "keeper")
    with our_port(asker, ledger) as server:
        peers = {"AIRWAY": DicomAddress(host=HOST, port=server.port, called_ae_title="AIRWAY")}
        provider = CommitmentProvider(
            keeper, CommitmentSpool(tmp_path / "owed"), peers, clock=lambda: datetime.now(UTC)
        )
        with our_port(keeper, Ledger(), commitment=provider) as other:
            archive = deliverer(other.port, "AIRWAY")
            archive.deliver(load)
            assert archive.ask_commitment(ask("2.25.3", STORED, MISSING), ledger.take) is Answer.TAKEN
            wait_until(lambda: bool(ledger.reports), what="the report", timeout_s=20)
    assert ledger.reports[0].committed == (STORED[1],)
    assert ledger.reports[0].failed == ((MISSING[1], 0x0112),)


def test_the_report_may_come_on_the_association_that_asked() -> None:
    ledger = Ledger("2.25.4")
    with peer(0x0000, reports=True) as port:
        assert deliverer(port, "PEER", wait_s=10).ask_commitment(ask("2.25.4", STORED), ledger.take) is (
            Answer.TAKEN
        )
    assert [report.committed for report in ledger.reports] == [(STORED[1],)]


@pytest.mark.parametrize(
    ("status", "error"),
    [(0x0110, RetryableDeliveryError), (0x0213, RetryableDeliveryError), (0x0112, FinalDeliveryError)],
)
def test_refusals(status: int, error: type[Exception]) -> None:
    with peer(status, reports=False) as port, pytest.raises(error, match=f"{status:04X}"):
        deliverer(port, "PEER").ask_commitment(ask("2.25.5", STORED), Ledger().take)


def test_a_status_that_says_there_is_no_such_service() -> None:
    with peer(0x0122, reports=False) as port:
        asked = deliverer(port, "PEER").ask_commitment(ask("2.25.6", STORED), Ledger().take)
    assert asked is Answer.NOT_OFFERED


@pytest.mark.parametrize(
    ("instance", "transaction", "status"),
    [
        pytest.param("1.2.3", "2.25.1", ActionStatus.NO_SUCH_INSTANCE, id="another instance"),
        pytest.param(SOP_INSTANCE, "", ActionStatus.INVALID_ARGUMENT, id="no transaction"),
    ],
)
def test_reports_that_are_none(instance: str, transaction: str, status: ActionStatus) -> None:
    told = Dataset()
    told.TransactionUID = transaction
    assert read_report(instance, told) is status
    assert read_report(SOP_INSTANCE, None) is ActionStatus.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("broken", "known", "status"),
    [(False, "2.25.7", 0x0000), (False, "2.25.8", 0x0115), (True, "2.25.7", 0x0213)],
    ids=["known", "unknown", "not kept"],
)
def test_what_our_port_answers_to_a_report(tmp_path: Path, *, broken: bool, known: str, status: int) -> None:
    ledger = Ledger(known)
    ledger.broken = broken
    with our_port(FolderIntake(tmp_path), ledger) as server:
        entity = AE(ae_title="PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        told = Dataset()
        told.TransactionUID = "2.25.7"
        association = entity.associate(HOST, server.port)
        answer, _ = association.send_n_event_report(told, 1, StorageCommitmentPushModel, SOP_INSTANCE)
        association.release()
    assert answer.Status == status
