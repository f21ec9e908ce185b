# SPDX-License-Identifier: Apache-2.0
"""The DICOM port against real senders, and against peers that misbehave."""

from __future__ import annotations

import io
import socket
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from conformance.peers.dcmtk import dcmsend, echoscu, storescu
from conformance.peers.process import wait_until
from informatics_gateway.dimse.admission import Admission
from informatics_gateway.dimse.requestor import DicomAddress, keep_answers
from informatics_gateway.dimse.send import send_folder
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.store_scu import FileToSend, store_files
from task_manager.errors import FinalDeliveryError, StoreError
from task_manager.outcome import Refused
from task_manager.study.header import read_header
from tests.instances import STUDY, FolderIntake, ct, ct_data_set, data_set_bytes, part10

HOST = "127.0.0.1"
PRIVATE_CLASS = "1.2.826.0.1.3680043.8.498.99"
ENCAPSULATED = (
    struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    + struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    + struct.pack("<HHL4s", 0xFFFE, 0xE000, 4, b"abcd")
    + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
)


def write(folder: Path, *contents: bytes) -> Path:
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number:03}.dcm").write_bytes(content)
    return folder


@contextmanager
def association(server: DimseServer, *contexts: tuple[str, str | list[str]]) -> Iterator[Any]:
    entity = AE(ae_title="TESTER")
    entity.add_requested_context(Verification)
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, syntaxes)
    sockets: list[socket.socket] = []
    keep = (evt.EVT_CONN_OPEN, lambda event: sockets.append(event.assoc.dul.socket.socket))
    found = entity.associate(HOST, server.port, ae_title="AIRWAY", evt_handlers=[keep])
    keep_answers(found)
    try:
        yield found
    finally:
        if found.is_established:
            found.release()
        for connection in sockets:
            connection.close()  # the library leaves it open when the other side hung up first


def echoes(server: DimseServer) -> bool:
    with association(server) as peer:
        return bool(peer.is_established and peer.send_c_echo().Status == 0)


def ended(connection: socket.socket) -> bool:
    """Whether the other side closes `connection` before its timeout."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.mark.peers
class TestDcmtk:
    def test_echoscu(self, server: DimseServer) -> None:
        assert echoscu(HOST, server.port, called_ae_title="AIRWAY").succeeded

    def test_storescu_stores_what_it_sends(
        self, server: DimseServer, intake: FolderIntake, tmp_path: Path
    ) -> None:
        sent = [ct(number) for number in range(1, 11)]
        folder = write(tmp_path / "out", *sent)
        result = storescu(HOST, server.port, [folder], called_ae_title="AIRWAY", calling_ae_title="CT1")
        assert result.succeeded, result.output
        assert list(result.responses) == ["Success"] * 10
        stored = {uid: data_set_bytes(content) for uid, content in intake.stored().items()}
        assert stored == {f"{STUDY}.1.{number + 1}": data_set_bytes(ct) for number, ct in enumerate(sent)}
        assert {(actor.door, actor.name, actor.address, actor.called) for actor in intake.actors} == {
            ("dicom", "CT1", HOST, "AIRWAY")
        }
        assert intake.leftovers() == []

    @pytest.mark.parametrize(
        ("option", "syntax"),
        [
            ("--propose-implicit", ImplicitVRLittleEndian),
            ("--propose-little", ExplicitVRLittleEndian),
            ("--propose-deflated", DeflatedExplicitVRLittleEndian),
        ],
    )
    def test_storescu_in_the_transfer_syntax_it_proposes_first(
        self, server: DimseServer, intake: FolderIntake, tmp_path: Path, option: str, syntax: str
    ) -> None:
        folder = write(tmp_path / "out", ct(1))
        result = storescu(HOST, server.port, [folder], called_ae_title="AIRWAY", options=[option])
        assert result.succeeded, result.output
        assert intake.instances[0].transfer_syntax_uid == syntax
        kept = dcmread(io.BytesIO(intake.stored()[f"{STUDY}.1.1"]))
        assert kept.file_meta.TransferSyntaxUID == syntax
        assert kept.pixel_array.tolist() == dcmread(io.BytesIO(ct(1))).pixel_array.tolist()

    def test_dcmsend_sends_compressed_as_it_is(
        self, server: DimseServer, intake: FolderIntake, tmp_path: Path
    ) -> None:
        image = ct_data_set(1)
        del image.PixelData
        content = part10(image, JPEG2000Lossless) + ENCAPSULATED
        result = dcmsend(HOST, server.port, [write(tmp_path / "out", content)], called_ae_title="AIRWAY")
        assert result.succeeded, result.output
        assert intake.instances[0].transfer_syntax_uid == JPEG2000Lossless
        assert data_set_bytes(intake.stored()[f"{STUDY}.1.1"]) == data_set_bytes(content)

    def test_a_refused_object_does_not_end_the_association(
        self, server: DimseServer, intake: FolderIntake, tmp_path: Path
    ) -> None:
        folder = write(tmp_path / "out", ct(1), ct(2, SeriesInstanceUID=None), ct(3))
        result = storescu(HOST, server.port, [folder], called_ae_title="AIRWAY", options=["--no-halt"])
        assert {item.instance_number for item in intake.instances} == {1, 3}
        assert "SeriesInstanceUID" in result.output or "annot" in result.output


@pytest.mark.real_data
def test_every_odd_encoding_is_stored_untouched(
    server: DimseServer, intake: FolderIntake, shared_data: Path
) -> None:
    folder = shared_data / "odd-encodings"
    by_uid: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = read_header(path)
        if not isinstance(header, Refused):
            by_uid.setdefault(header.sop_instance_uid, path)
    for path in by_uid.values():
        send_folder([path], host=HOST, port=server.port)
    stored = intake.stored()
    assert stored.keys() == by_uid.keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for uid, path in by_uid.items():
            sent = path.read_bytes()
            length = len(data_set_bytes(stored[uid]))
            assert sent[-length:] == data_set_bytes(stored[uid]), path.name
            assert (
                dcmread(path).file_meta.TransferSyntaxUID
                == dcmread(io.BytesIO(stored[uid])).file_meta.TransferSyntaxUID
            )


class TestNegotiation:
    def test_the_peers_first_transfer_syntax_is_taken(self, server: DimseServer) -> None:
        proposed = [str(JPEG2000Lossless), str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)]
        with association(server, (CTImageStorage, proposed)) as peer:
            taken = {context.abstract_syntax: context.transfer_syntax for context in peer.accepted_contexts}
        assert taken[CTImageStorage] == [JPEG2000Lossless]

    def test_other_services_and_unknown_classes_are_refused(self, server: DimseServer) -> None:
        with association(
            server,
            (PRIVATE_CLASS, ExplicitVRLittleEndian),
            ("1.2.840.10008.5.1.4.1.2.2.1", ImplicitVRLittleEndian),
            (CTImageStorage, "1.2.3.4"),
        ) as peer:
            assert [context.abstract_syntax for context in peer.accepted_contexts] == [Verification]

    def test_listed_private_classes_are_stored(self, intake: FolderIntake, tmp_path: Path) -> None:
        server = DimseServer(intake, extra_sop_classes=[PRIVATE_CLASS])
        server.start()
        try:
            folder = write(tmp_path / "out", part10(ct_data_set(1, SOPClassUID=PRIVATE_CLASS)))
            assert send_folder([folder], host=HOST, port=server.port).sent == 1
        finally:
            server.stop()
        assert intake.instances[0].sop_class_uid == PRIVATE_CLASS

    def test_another_called_ae_title_is_rejected_when_asked_for(self, intake: FolderIntake) -> None:
        server = DimseServer(intake, ae_title="OTHER", admission=Admission(called=frozenset({"OTHER"})))
        server.start()
        try:
            with association(server) as peer:
                assert peer.is_rejected
        finally:
            server.stop()

    def test_associations_over_the_limit_are_rejected_for_now(self, server: DimseServer) -> None:
        with ExitStack() as open_ones:
            peers = [open_ones.enter_context(association(server)) for _ in range(5)]
            rejected = [peer for peer in peers if peer.is_rejected]
            assert len(rejected) == 1
            answer = rejected[0].acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)


class TestMisbehaviour:
    @pytest.mark.parametrize(
        "content",
        [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            bytes(1000),
            b"\x01\x00\x00\x00\x00\x04abcd",
            b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03",
            b"\x01\x00\xff",
        ],
        ids=["http", "zeros", "short-associate", "data-first", "half-a-header"],
    )
    def test_bytes_that_are_no_association(self, impatient: DimseServer, content: bytes) -> None:
        with socket.create_connection((HOST, impatient.port), timeout=10) as connection:
            connection.sendall(content)
            assert ended(connection)
        assert echoes(impatient)

    def test_silence_is_hung_up_on(self, impatient: DimseServer) -> None:
        with socket.create_connection((HOST, impatient.port), timeout=10) as connection:
            assert ended(connection)
        assert echoes(impatient)

    def test_an_idle_association_is_ended(self, impatient: DimseServer) -> None:
        with association(impatient) as peer:
            wait_until(lambda: not peer.is_established, "the idle association ended", 10)
        assert echoes(impatient)

    @pytest.mark.parametrize("stall", [True, False], ids=["goes-silent", "hangs-up"])
    def test_an_object_that_ends_half_way_leaves_nothing(
        self, impatient: DimseServer, intake: FolderIntake, stall: bool
    ) -> None:
        with association(impatient, (CTImageStorage, ExplicitVRLittleEndian)) as peer:
            raw = peer.dul.socket.socket
            context = next(c for c in peer.accepted_contexts if c.abstract_syntax == CTImageStorage)
            # the command set, then a data fragment that claims more than ever comes
            raw.sendall(_store_command(context.context_id))
            claimed = 100_000
            raw.sendall(
                struct.pack(">BBLLBB", 4, 0, claimed + 6, claimed + 2, context.context_id, 0) + b"x" * 500
            )
            if not stall:
                raw.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: not peer.is_established, "the association ended", 10)
        assert echoes(impatient)
        assert intake.instances == []
        assert intake.leftovers() == []

    def test_a_full_disk_is_out_of_resources(
        self, server: DimseServer, intake: FolderIntake, tmp_path: Path
    ) -> None:
        intake.broken = StoreError("full")
        with association(server, (CTImageStorage, ExplicitVRLittleEndian)) as peer:
            answer = peer.send_c_store(ct_file(tmp_path))
            assert answer.Status == 0xA700
            intake.broken = None
            assert peer.send_c_store(ct_file(tmp_path)).Status == 0x0000

    def test_the_error_comment_says_what_is_wrong(self, server: DimseServer, tmp_path: Path) -> None:
        with association(server, (CTImageStorage, ExplicitVRLittleEndian)) as peer:
            answer = peer.send_c_store(ct_file(tmp_path, StudyInstanceUID=None))
        assert answer.Status == 0xC000
        assert answer.ErrorComment.startswith("StudyInstanceUID")


class TestLifeCycle:
    def test_stop_lets_an_association_finish_and_frees_the_port(
        self, intake: FolderIntake, tmp_path: Path
    ) -> None:
        server = DimseServer(intake)
        server.start()
        with association(server, (CTImageStorage, ExplicitVRLittleEndian)) as peer:
            assert peer.send_c_store(ct_file(tmp_path)).Status == 0x0000
        server.stop()
        again = DimseServer(intake, port=server.port)
        again.start()
        assert echoes(again)
        again.stop()
        again.stop()

    def test_stop_aborts_what_does_not_end(self, intake: FolderIntake) -> None:
        server = DimseServer(intake)
        server.start()
        with association(server) as peer:
            server.stop(grace_s=0.1)
            wait_until(lambda: not peer.is_established, "the association was aborted", 10)

    def test_a_taken_port_is_an_error_at_start(self, server: DimseServer, intake: FolderIntake) -> None:
        with pytest.raises(OSError, match="in use"):
            DimseServer(intake, port=server.port).start()


class TestSendFolder:
    def test_sends_instances_and_names_what_is_none(
        self, server: DimseServer, intake: FolderIntake, tmp_path: Path
    ) -> None:
        folder = write(tmp_path / "out", ct(1), ct(2), b"no DICOM", ct(1, study="1.2.3"))
        seen: list[tuple[int, int]] = []
        paths = [folder, folder / "000.dcm"]
        summary = send_folder(paths, host=HOST, port=server.port, progress=lambda *done: seen.append(done))
        assert (summary.sent, summary.study_instance_uids) == (4, (STUDY, "1.2.3"))
        assert [path.name for path in summary.skipped] == ["002.dcm"]
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def test_more_kinds_than_one_association_holds(
        self, server: DimseServer, intake: FolderIntake, tmp_path: Path
    ) -> None:
        classes = sorted(_storage_classes())[:140]
        contents = [
            part10(ct_data_set(number, SOPClassUID=uid)) for number, uid in enumerate(classes, start=1)
        ]
        summary = send_folder([write(tmp_path / "out", *contents)], host=HOST, port=server.port)
        assert summary.sent == 140
        assert {item.sop_class_uid for item in intake.instances} == set(classes)

    def test_a_class_the_peer_does_not_take(self, server: DimseServer, tmp_path: Path) -> None:
        path = tmp_path / "a.dcm"
        path.write_bytes(part10(ct_data_set(1, SOPClassUID="1.2.3.4.5")))
        file = FileToSend(path=path, sop_class_uid="1.2.3.4.5", transfer_syntax_uid=ExplicitVRLittleEndian)
        with pytest.raises(FinalDeliveryError):
            store_files([file], DicomAddress(host=HOST, port=server.port, called_ae_title="AIRWAY"))


def ct_file(folder: Path, **changes: Any) -> Any:
    """A data set as pynetdicom sends it."""
    return dcmread(io.BytesIO(ct(1, **changes)))


def _storage_classes() -> set[str]:
    from pynetdicom import AllStoragePresentationContexts

    return {str(context.abstract_syntax) for context in AllStoragePresentationContexts}


def _store_command(context_id: int, *, data_set: bool = True) -> bytes:
    """A P-DATA-TF PDU with a C-STORE-RQ command set (PS3.7 9.3.1.1)."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    command = b"".join(
        (
            element(0x0002, b"1.2.840.10008.5.1.4.1.1.2\0"),
            element(0x0100, struct.pack("<H", 0x0001)),
            element(0x0110, struct.pack("<H", 7)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 0x0001 if data_set else 0x0101)),
            element(0x1000, b"1.2.3.4\0"),
        )
    )
    command = element(0x0000, struct.pack("<L", len(command))) + command
    return struct.pack(">BBLLBB", 4, 0, len(command) + 6, len(command) + 2, context_id, 3) + command
