# SPDX-License-Identifier: Apache-2.0
"""Archives that fail, lie or hang: what they send is refused or bounded, and told in words."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from conformance.peers.certificates import CertificateAuthority
from conformance.peers.process import free_port
from informatics_gateway.dicomweb.outbound import DicomWebService
from informatics_gateway.dicomweb.study_archive import WadoRetrieval, WebStudyQuery
from informatics_gateway.dimse.query_scu import STUDY_ROOT_FIND
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.retrieve_scu import (
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    GetRetrieval,
    MoveRetrieval,
)
from informatics_gateway.dimse.study_query import DimseStudyQuery
from informatics_gateway.dimse.tls import TlsFiles, client_context, server_context
from task_manager.actor import Actor
from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError
from task_manager.fetching.archives import Piece, StudyQuestion
from task_manager.fetching.receiving import PieceReceiver
from tests.instances import STUDY, FolderIntake, ct, ct_data_set

HOST = "127.0.0.1"
ARCHIVE = Actor(door="dicom", name="ARCHIVE", called="AIRWAY")
PIECE = Piece(
    study_instance_uid=STUDY,
    series_instance_uid=f"{STUDY}.1",
    instances={f"{STUDY}.1.{number}": CTImageStorage for number in (1, 2)},
    is_whole=True,
)
Answers = Iterator[tuple[int, Dataset | None]]


@pytest.fixture
def intake(tmp_path: Path) -> FolderIntake:
    return FolderIntake(tmp_path / "store")


def receiver(intake: FolderIntake, stopping: Callable[[], bool] = lambda: False) -> PieceReceiver:
    return PieceReceiver(intake, PIECE, ARCHIVE, stopping)


@contextmanager
def archive(tls: ssl.SSLContext | None = None, **handlers: Callable[[Any], Any]) -> Iterator[DicomAddress]:
    """A scripted archive: what it does at `find`, `get` and `move`."""
    events = {"find": evt.EVT_C_FIND, "get": evt.EVT_C_GET, "move": evt.EVT_C_MOVE}
    entity = AE(ae_title="ARCHIVE")
    for sop_class in (STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE):
        entity.add_supported_context(sop_class)
    entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
    port = free_port()
    bound: list[Any] = [(events[name], handler) for name, handler in handlers.items()]
    opened: list[socket.socket] = []
    bound.append((evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket)))
    server = entity.start_server((HOST, port), block=False, evt_handlers=bound, ssl_context=tls)
    try:
        yield DicomAddress(host=HOST, port=port, called_ae_title="ARCHIVE")
    finally:
        server.shutdown()
        for connection in opened:
            connection.close()  # the library leaves it open when the other side aborted first


def image(number: int, **changes: Any) -> Dataset:
    found = ct_data_set(number, **changes)
    found.file_meta = Dataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return found


def sending(*images: Dataset) -> Callable[[Any], Iterator[Any]]:
    def get(event: Any) -> Iterator[Any]:
        yield len(images)
        for one in images:
            yield 0xFF00, one

    return get


def test_get_takes_what_was_asked_for_and_nothing_else(intake: FolderIntake) -> None:
    handed = (image(1), image(7), image(2, study="1.2.3"), image(2))
    with archive(get=sending(*handed)) as address:
        taking = receiver(intake)
        with pytest.raises(RetryableDeliveryError, match="could not send 2 instances"):
            GetRetrieval(address, ARCHIVE, timeout_s=5, silence_s=5).retrieve(PIECE, taking)
    assert sorted(one.sop_instance_uid for one in intake.instances) == sorted(PIECE.instances)
    assert len(taking.refused) == 2
    assert list((intake.folder / "incoming").iterdir()) == []


def test_a_silent_archive_is_left(intake: FolderIntake) -> None:
    going = threading.Event()

    def get(event: Any) -> Iterator[Any]:
        yield 1
        going.wait(10)
        yield 0xFF00, image(1)

    with archive(get=get) as address:
        with pytest.raises(RetryableDeliveryError, match="silent"):
            GetRetrieval(address, ARCHIVE, timeout_s=5, silence_s=0.6).retrieve(PIECE, receiver(intake))
        going.set()


def test_a_retrieval_ends_when_we_do(intake: FolderIntake) -> None:
    going = threading.Event()

    def get(event: Any) -> Iterator[Any]:
        yield 1
        going.wait(10)
        yield 0xFF00, image(1)

    with archive(get=get) as address:
        with pytest.raises(RetryableDeliveryError, match="we are stopping"):
            GetRetrieval(address, ARCHIVE, timeout_s=5).retrieve(PIECE, receiver(intake, lambda: True))
        going.set()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (0xA801, FinalDeliveryError, "does not know us"),
        (0xA900, FinalDeliveryError, "A900"),
        (0xA702, RetryableDeliveryError, "A702"),
        (0xC123, RetryableDeliveryError, "C123"),
        (0xFE00, RetryableDeliveryError, "FE00"),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) else "",
)
def test_answers_to_a_get(
    intake: FolderIntake, status: int, error: type[DeliveryError], message: str
) -> None:
    def get(event: Any) -> Iterator[Any]:
        yield 1
        yield status, None

    with archive(get=get) as address, pytest.raises(error, match=message):
        GetRetrieval(address, ARCHIVE, timeout_s=5, silence_s=5).retrieve(PIECE, receiver(intake))


def test_the_destination_of_a_move_is_our_own(intake: FolderIntake) -> None:
    asked: list[str] = []

    def move(event: Any) -> Iterator[Any]:
        asked.append(str(event.request.MoveDestination))
        yield None, None

    with archive(move=move) as address:
        retrieval = MoveRetrieval(address, destination="AIRWAY", timeout_s=5, silence_s=5)
        with pytest.raises(FinalDeliveryError, match="destination of a move"):
            retrieval.retrieve(PIECE, receiver(intake))
    assert asked == ["AIRWAY"]


def test_an_archive_is_asked_by_mutual_tls(tmp_path: Path, intake: FolderIntake) -> None:
    authority = CertificateAuthority(tmp_path)
    theirs, ours = authority.issue("archive"), authority.issue("airway")
    server = server_context(
        TlsFiles(
            certificate_file=theirs.certificate, key_file=theirs.key, client_ca_file=authority.certificate
        )
    )
    client = client_context(
        "tls", ca_file=authority.certificate, certificate_file=ours.certificate, key_file=ours.key
    )
    with archive(tls=server, get=sending(image(1), image(2))) as address:
        secured = replace(address, tls=client, server_name="archive")
        GetRetrieval(secured, ARCHIVE, timeout_s=5, silence_s=5).retrieve(PIECE, receiver(intake))
        for refused in (replace(secured, server_name="another"), address):
            with pytest.raises(RetryableDeliveryError, match="no association"):
                GetRetrieval(refused, ARCHIVE, timeout_s=2).retrieve(PIECE, receiver(intake))
    assert len(intake.instances) == 2


def test_an_archive_that_answers_for_ever_is_not_believed() -> None:
    def find(event: Any) -> Answers:
        number = 0
        while True:
            number += 1
            answer = Dataset()
            answer.SeriesInstanceUID = f"1.2.{number}"
            answer.SOPInstanceUID = f"1.2.3.{number}"
            answer.StudyInstanceUID = f"1.2.4.{number}"
            yield 0xFF00, answer

    with archive(find=find) as address:
        query = DimseStudyQuery("archive", address, timeout_s=5, most_series=9)
        assert len(query.find_studies(StudyQuestion(patient_id="P1"), limit=7)) == 7
        with pytest.raises(RetryableDeliveryError, match="more series"):
            query.find_series(STUDY)


def test_an_archive_that_repeats_itself_for_ever_is_left() -> None:
    def find(event: Any) -> Answers:
        while not event.is_cancelled:
            answer = Dataset()
            answer.SeriesInstanceUID = "1.2.3"
            yield 0xFF00, answer
            if not event.assoc.is_established:
                return

    with archive(find=find) as address:
        query = DimseStudyQuery("archive", address, timeout_s=5, longest_s=0.3)
        with pytest.raises(RetryableDeliveryError, match="without end"):
            query.find_studies(StudyQuestion(patient_id="P1"), limit=7)
        with pytest.raises(RetryableDeliveryError, match="without end"):
            query.find_series(STUDY)


def test_an_accession_number_is_asked_for_in_any_script() -> None:
    asked: list[Dataset] = []

    def find(event: Any) -> Answers:
        asked.append(event.identifier)
        yield 0x0000, None

    with archive(find=find) as address:
        query = DimseStudyQuery("archive", address, timeout_s=5)
        assert query.find_studies(StudyQuestion(accession_number="Ä17"), limit=7) == []
    (identifier,) = asked
    assert (identifier.SpecificCharacterSet, identifier.AccessionNumber) == ("ISO_IR 192", "Ä17")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_is_no_uid_is_left_out() -> None:
    def find(event: Any) -> Answers:
        for uid in ("../../etc/passwd", "1.2.3"):
            answer = Dataset()
            answer.add_new(0x0020000D, "LO", uid)
            answer.add_new(0x0020000E, "LO", uid)
            answer.add_new(0x00080018, "LO", uid)
            answer.add_new(0x00201208, "IS", "-5")
            yield 0xFF00, answer

    with archive(find=find) as address:
        query = DimseStudyQuery("archive", address, timeout_s=5)
        (study,) = query.find_studies(StudyQuestion(accession_number="A1"), limit=10)
        assert (study.study_instance_uid, study.instances) == ("1.2.3", 0)
        (series,) = query.find_instances(STUDY, limit=10)
        assert list(series.instances) == ["1.2.3"]


@dataclass
class Web:
    """What a scripted DICOMweb service answers: (status, content type, body) by the start of the path."""

    answers: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def web_service(web: Web) -> Iterator[DicomWebService]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append((self.path, self.headers.get("Accept", "")))
            status, kind, body = next(
                (answer for path, answer in web.answers.items() if self.path.startswith(path)), (404, "", b"")
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    service = DicomWebService(f"http://{HOST}:{server.server_address[1]}", timeout_s=5)
    try:
        yield service
    finally:
        service.close()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_that_drips_its_answer_is_left() -> None:
    listening = socket.create_server((HOST, 0))
    ended = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):  # it is hung up on
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not ended.wait(0.05):
                connection.sendall(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    service = DicomWebService(f"http://{HOST}:{listening.getsockname()[1]}", timeout_s=5, longest_s=0.3)
    try:
        with pytest.raises(RetryableDeliveryError, match="does not end"):
            WebStudyQuery("archive", service).find_series(STUDY)
    finally:
        ended.set()
        thread.join()
        service.close()
        listening.close()


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"--B\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts)


RELATED = 'multipart/related; type="application/dicom"; boundary=B'


def test_wado_takes_what_was_asked_for_and_nothing_else(intake: FolderIntake) -> None:
    body = multipart(ct(1), ct(7), ct(2, study="1.2.3"), b"no DICOM", ct(2)) + b"--B--\r\n"
    web = Web(answers={"/studies/": (200, RELATED, body)})
    taking = receiver(intake)
    with web_service(web) as service:
        WadoRetrieval(service).retrieve(PIECE, taking)
    assert sorted(one.sop_instance_uid for one in intake.instances) == sorted(PIECE.instances)
    assert len(taking.refused) == 3
    assert "transfer-syntax=*" in web.asked[0][1]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, RELATED, multipart(ct(1))), RetryableDeliveryError),
        ((200, RELATED, multipart(*(ct(1) for _ in range(40))) + b"--B--\r\n"), RetryableDeliveryError),
        ((200, 'multipart/related; type="application/dicom"', multipart(ct(1))), RetryableDeliveryError),
        ((200, "text/html", b"<html>log in</html>"), FinalDeliveryError),
        ((302, "text/html", b""), FinalDeliveryError),
        ((401, "text/html", b""), FinalDeliveryError),
        ((404, "", b""), RetryableDeliveryError),
        ((503, "", b""), RetryableDeliveryError),
    ],
    ids=["cut off", "too many parts", "no boundary", "a page", "elsewhere", "no entry", "gone", "busy"],
)
def test_wado_answers_that_cannot_be_taken(
    intake: FolderIntake, answer: tuple[int, str, bytes], error: type[DeliveryError]
) -> None:
    with web_service(Web(answers={"/studies/": answer})) as service, pytest.raises(error):
        WadoRetrieval(service).retrieve(PIECE, receiver(intake))
    assert list((intake.folder / "incoming").iterdir()) == []


def test_an_archive_that_does_not_know_the_asterisk_is_asked_without(intake: FolderIntake) -> None:
    web = Web(answers={"/studies/": (406, "", b"")})
    with web_service(web) as service, pytest.raises(FinalDeliveryError):
        WadoRetrieval(service).retrieve(PIECE, receiver(intake))
    assert ["transfer-syntax=*" in accept for _, accept in web.asked] == [True, False]


def test_an_archive_that_repeats_its_page_ends_a_search() -> None:
    page = b'[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}, {"0020000D": {"vr": "UI", "Value": ["../x"]}}]'
    web = Web(answers={"/studies": (200, "application/dicom+json", page)})
    with web_service(web) as service:
        found = WebStudyQuery("archive", service).find_studies(
            StudyQuestion(accession_number="A&limit=1"), limit=50
        )
    assert [one.study_instance_uid for one in found] == ["1.2.3"]
    assert len(web.asked) == 2
    assert "AccessionNumber=A%26limit%3D1" in web.asked[0][0]
