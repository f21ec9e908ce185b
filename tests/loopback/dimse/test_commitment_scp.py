# SPDX-License-Identifier: Apache-2.0
"""Storage commitment over real associations: the same one, a new one, and after a restart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from conformance.peers.process import wait_until
from informatics_gateway.dimse.commitment_scp import CommitmentProvider
from informatics_gateway.dimse.commitment_spool import CommitmentSpool
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.server import DimseServer
from task_manager.outbox import RetryPolicy
from tests.instances import STUDY, FolderIntake, ct_data_set

HOST = "127.0.0.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"
TRANSACTION = "2.25.77"
# pynetdicom drops a socket that was refused without closing it
REFUSED = pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
KEPT, MISSING = f"{STUDY}.1.1", f"{STUDY}.1.9"


class Listening:
    """A peer that remembers the reports it gets."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        self.status = 0x0000

    def take(self, event: Any) -> tuple[int, None]:
        self.reports.append((event.request.EventTypeID, event.event_information))
        return self.status, None

    def told(self) -> list[tuple[int, dict[str, int | None]]]:
        """Event type, and each instance with its failure reason."""
        return [
            (
                kind,
                {
                    str(item.ReferencedSOPInstanceUID): item.get("FailureReason")
                    for name in ("ReferencedSOPSequence", "FailedSOPSequence")
                    for item in report.get(name, [])
                },
            )
            for kind, report in self.reports
        ]

    @contextmanager
    def serving(self, port: int = 0, *, largest: int = 16382) -> Iterator[int]:
        entity = AE(ae_title="ASKER")
        entity.maximum_pdu_size = largest
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        server = entity.start_server(
            (HOST, port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self.take)]
        )
        assert server is not None
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def make_server(intake: FolderIntake, folder: Path, peer_port: int = 0) -> DimseServer:
    peers = {}
    if peer_port:
        peers["ASKER"] = DicomAddress(host=HOST, port=peer_port, called_ae_title="ASKER")
    provider = CommitmentProvider(
        intake,
        CommitmentSpool(folder / "owed"),
        peers,
        clock=lambda: datetime.now(UTC),
        retry=RetryPolicy(first=timedelta(milliseconds=100)),
    )
    return DimseServer(intake, commitment=provider)


@contextmanager
def running(server: DimseServer) -> Iterator[DimseServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=0.2)


@contextmanager
def asking(port: int, listening: Listening | None = None, *, title: str = "ASKER") -> Iterator[Any]:
    entity = AE(ae_title=title)
    entity.add_requested_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_N_EVENT_REPORT, listening.take)] if listening else []
    roles = [build_role(StorageCommitmentPushModel, scu_role=True)]
    peer = entity.associate(HOST, port, ext_neg=roles, evt_handlers=handlers)
    assert peer.is_established
    try:
        yield peer
    finally:
        peer.release()


def information(*references: tuple[str, str], transaction: str = TRANSACTION) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = []
    for sop_class, instance in references:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = instance
        asked.ReferencedSOPSequence.append(item)
    return asked


def ask(peer: Any, asked: Dataset | None, *, action: int = 1, instance: str = WELL_KNOWN) -> int:
    status, _ = peer.send_n_action(asked, action, StorageCommitmentPushModel, instance)
    return int(status.Status)


def store(peer: Any, **changes: Any) -> None:
    image = ct_data_set(1, **changes)
    image.file_meta = Dataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert peer.send_c_store(image).Status == 0x0000


def owed(folder: Path) -> list[Path]:
    return list((folder / "owed").iterdir())


def test_the_report_comes_over_the_association_that_asked(intake: FolderIntake, tmp_path: Path) -> None:
    listening = Listening()
    with running(make_server(intake, tmp_path)) as server, asking(server.port, listening) as peer:
        store(peer)
        assert ask(peer, information((CTImageStorage, KEPT))) == 0x0000
        wait_until(lambda: listening.reports, "the report came")
        wait_until(lambda: not owed(tmp_path), "nothing is owed any more")
        store(peer)  # and the association goes on
    assert listening.told() == [(1, {KEPT: None})]
    assert listening.reports[0][1].TransactionUID == TRANSACTION


def test_what_is_not_kept_is_told_with_its_reason(intake: FolderIntake, tmp_path: Path) -> None:
    listening = Listening()
    with running(make_server(intake, tmp_path)) as server, asking(server.port, listening) as peer:
        store(peer)
        assert ask(peer, information((CTImageStorage, MISSING), (MRImageStorage, KEPT))) == 0x0000
        wait_until(lambda: listening.reports, "the report came")
    assert listening.told() == [(2, {MISSING: 0x0112, KEPT: 0x0119})]


def test_an_object_whose_file_is_gone_is_not_committed(intake: FolderIntake, tmp_path: Path) -> None:
    listening = Listening()
    with running(make_server(intake, tmp_path)) as server, asking(server.port, listening) as peer:
        store(peer)
        intake.open_path(intake.instances[0]).unlink()
        assert ask(peer, information((CTImageStorage, KEPT))) == 0x0000
        wait_until(lambda: listening.reports, "the report came")
    assert listening.told() == [(2, {KEPT: 0x0112})]


def test_a_peer_that_released_is_called(intake: FolderIntake, tmp_path: Path) -> None:
    listening = Listening()
    with listening.serving() as peer_port, running(make_server(intake, tmp_path, peer_port)) as server:
        with asking(server.port) as peer:
            store(peer)
            assert ask(peer, information((CTImageStorage, KEPT))) == 0x0000
        wait_until(lambda: listening.reports, "the report came")
        wait_until(lambda: not owed(tmp_path), "nothing is owed any more")
    assert listening.told() == [(1, {KEPT: None})]


@REFUSED
def test_what_is_owed_survives_a_restart_and_a_peer_that_is_away(
    intake: FolderIntake, tmp_path: Path
) -> None:
    listening = Listening()
    with listening.serving() as peer_port:
        pass
    with running(make_server(intake, tmp_path, peer_port)) as server, asking(server.port) as peer:
        store(peer)
        assert ask(peer, information((CTImageStorage, KEPT))) == 0x0000
    assert len(owed(tmp_path)) == 1
    with running(make_server(intake, tmp_path, peer_port)), listening.serving(peer_port):
        wait_until(lambda: listening.reports, "the report came")
        wait_until(lambda: not owed(tmp_path), "nothing is owed any more")


def test_a_peer_that_cannot_be_told_does_not_keep_the_report_of_another(
    intake: FolderIntake, tmp_path: Path
) -> None:
    listening = Listening()
    impossible = Listening().serving(largest=3)  # no message fits such PDUs
    with impossible as peer_port, running(make_server(intake, tmp_path, peer_port)) as server:
        with asking(server.port) as peer:
            store(peer)
            assert ask(peer, information((CTImageStorage, KEPT))) == 0x0000
        with asking(server.port, listening, title="OTHER") as other:
            assert ask(other, information((CTImageStorage, KEPT), transaction="2.25.78")) == 0x0000
            wait_until(lambda: listening.reports, "the report came")
        assert len(owed(tmp_path)) == 1


@pytest.mark.parametrize(
    ("asked", "options", "status"),
    [
        pytest.param(information((CTImageStorage, KEPT)), {"action": 2}, 0x0123, id="other-action"),
        pytest.param(information((CTImageStorage, KEPT)), {"instance": "1.2.3"}, 0x0112, id="other-instance"),
        pytest.param(information((CTImageStorage, KEPT), transaction=""), {}, 0x0115, id="no-transaction"),
        pytest.param(information(), {}, 0x0115, id="no-references"),
        pytest.param(information((CTImageStorage, "")), {}, 0x0115, id="no-uid"),
        pytest.param(None, {}, 0x0115, id="no-information"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    intake: FolderIntake, tmp_path: Path, asked: Dataset | None, options: dict[str, Any], status: int
) -> None:
    with running(make_server(intake, tmp_path)) as server, asking(server.port) as peer:
        assert ask(peer, asked, **options) == status
    assert owed(tmp_path) == []


def test_many_ask_at_once_while_objects_come(intake: FolderIntake, tmp_path: Path) -> None:
    listening = Listening()
    with running(make_server(intake, tmp_path)) as server:

        def one(number: int) -> None:
            with asking(server.port, listening) as peer:
                for _ in range(3):
                    store(peer, SOPInstanceUID=f"{STUDY}.1.{number}")
                kept = (CTImageStorage, f"{STUDY}.1.{number}")
                assert ask(peer, information(kept, transaction=f"2.25.{number}")) == 0x0000
                wait_until(lambda: any(f"{STUDY}.1.{number}" in told for _, told in listening.told()), "told")

        threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        wait_until(lambda: not owed(tmp_path), "nothing is owed any more")
    assert sorted(kind for kind, _ in listening.told()) == [1] * 5
