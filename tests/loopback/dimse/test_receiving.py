# SPDX-License-Identifier: Apache-2.0
"""Receiving over real sockets: any order of messages, many at once, TLS, limits, and hostile bytes."""

from __future__ import annotations

import os
import random
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from conformance.peers.certificates import CertificateAuthority
from conformance.peers.dcmtk import echoscu, storescu
from conformance.peers.process import wait_until
from informatics_gateway.dimse.admission import Admission, Caller
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse.tls import TlsFiles, TlsProfile, server_context
from task_manager.errors import ConfigurationError
from tests.dicom_wire import (
    CT,
    EXPLICIT,
    IMPLICIT,
    LAST,
    VERIFICATION,
    associate,
    echo_command,
    item,
    message,
    pdu,
    read_answer,
    read_pdu,
    status_of,
    store_command,
)
from tests.instances import STUDY, FolderIntake, ct, data_set_bytes

HOST = "127.0.0.1"
ECHO_CONTEXT, CT_CONTEXT = 1, 3
CONTEXTS = ((ECHO_CONTEXT, VERIFICATION, IMPLICIT), (CT_CONTEXT, CT, EXPLICIT))


@contextmanager
def running(server: DimseServer) -> Iterator[DimseServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=0.2)


@contextmanager
def raw(port: int, *, largest: int = 0, calling: str = "RAW") -> Iterator[socket.socket]:
    """An open association, as bytes."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(associate(CONTEXTS, largest=largest, calling=calling))
        kind, _ = read_pdu(connection)
        assert kind == 2, f"PDU type {kind} instead of an acceptance"
        yield connection


def store(number: int, *, pixels: int = 65536, piece: int = 16384) -> bytes:
    request = store_command(f"{STUDY}.1.{number}", message_id=number)
    return message(CT_CONTEXT, request, data_set_bytes(ct(number, pixels=pixels)), piece=piece)


def echoes(connection: socket.socket) -> bool:
    connection.sendall(message(ECHO_CONTEXT, echo_command()))
    return status_of(read_answer(connection)) == 0


def is_served(server: DimseServer) -> bool:
    with raw(server.port) as connection:
        return echoes(connection)


class TestOrder:
    def test_stores_and_echoes_in_any_order(self, server: DimseServer, intake: FolderIntake) -> None:
        with raw(server.port) as connection:
            for number in range(1, 6):
                assert echoes(connection)
                for _ in range(number):
                    connection.sendall(store(number, piece=1000 * number))
                    assert status_of(read_answer(connection)) == 0
                assert echoes(connection)
            connection.sendall(pdu(5, bytes(4)))
            assert read_pdu(connection)[0] == 6
            assert read_pdu(connection)[0] == 0
        assert {one.instance_number for one in intake.instances} == {1, 2, 3, 4, 5}

    def test_what_is_asked_before_the_answer_came_is_answered_too(
        self, server: DimseServer, intake: FolderIntake
    ) -> None:
        with raw(server.port) as connection:
            connection.sendall(b"".join(store(number) for number in range(1, 9)))
            answers = [read_answer(connection) for _ in range(8)]
        assert [int.from_bytes(answer[0x0120], "little") for answer in answers] == list(range(1, 9))
        assert [status_of(answer) for answer in answers] == [0] * 8

    def test_bytes_that_come_one_by_one(self, server: DimseServer, intake: FolderIntake) -> None:
        with raw(server.port) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in message(ECHO_CONTEXT, echo_command()) + store(1, pixels=512):
                connection.sendall(bytes((byte,)))
            assert status_of(read_answer(connection)) == 0
            assert status_of(read_answer(connection)) == 0
        assert len(intake.instances) == 1

    def test_an_answer_fits_the_least_pdu_of_the_peer(
        self, server: DimseServer, intake: FolderIntake
    ) -> None:
        with raw(server.port, largest=64) as connection:
            connection.sendall(store(1))
            assert status_of(read_answer(connection)) == 0

    def test_a_release_inside_an_object_leaves_nothing(
        self, server: DimseServer, intake: FolderIntake
    ) -> None:
        with raw(server.port) as connection:
            begun = message(CT_CONTEXT, store_command(f"{STUDY}.1.1")) + pdu(
                4, item(CT_CONTEXT, 0, bytes(999))
            )
            connection.sendall(begun + pdu(5, bytes(4)))
            while read_pdu(connection)[0]:
                pass
        wait_until(lambda: not intake.leftovers(), "nothing is left over")
        assert intake.instances == []
        assert is_served(server)

    def test_an_abort_inside_an_object_leaves_nothing(
        self, server: DimseServer, intake: FolderIntake
    ) -> None:
        with raw(server.port) as connection:
            connection.sendall(store(1)[: 16384 + 12 + 200])
            wait_until(lambda: intake.leftovers(), "the object is on its way")
            connection.sendall(pdu(7, bytes(4)))
        wait_until(lambda: not intake.leftovers(), "nothing is left over")
        assert intake.instances == []

    def test_stop_does_not_wait_for_an_object_that_never_ends(
        self, server: DimseServer, intake: FolderIntake
    ) -> None:
        with raw(server.port) as connection:
            connection.sendall(store(1)[:20_000])
            wait_until(lambda: intake.leftovers(), "the object is on its way")
            server.stop(grace_s=0.1)
            assert read_pdu(connection)[0] in (0, 7)
        assert intake.leftovers() == []


class TestMany:
    def test_many_associations_at_once(self, intake: FolderIntake) -> None:
        failures: list[BaseException] = []

        def send(start: int) -> None:
            try:
                with raw(port, calling=f"CT{start}") as connection:
                    for number in range(start, start + 10):
                        connection.sendall(store(number, piece=4096 + start))
                        assert status_of(read_answer(connection)) == 0
                        assert echoes(connection)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        with running(DimseServer(intake, max_associations=64)) as server:
            port = server.port
            threads = [threading.Thread(target=send, args=(start,)) for start in range(100, 340, 10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=60)
        assert failures == []
        assert len({one.sop_instance_uid for one in intake.instances}) == 240
        assert intake.leftovers() == []

    def test_an_object_is_never_in_memory(self, server: DimseServer, intake: FolderIntake) -> None:
        size = 192 * 1024 * 1024
        head = data_set_bytes(ct(1, pixels=0))[:-12]
        head += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, size)
        with raw(server.port) as connection:
            before = peak()
            connection.sendall(message(CT_CONTEXT, store_command(f"{STUDY}.1.1")))
            connection.sendall(pdu(4, item(CT_CONTEXT, 0, head)))
            piece = bytes(1 << 20)
            for at in range(0, size, len(piece)):
                last = LAST if at + len(piece) == size else 0
                connection.sendall(pdu(4, item(CT_CONTEXT, last, piece)))
            assert status_of(read_answer(connection)) == 0
            assert peak() - before < 24 * 1024 * 1024
        assert intake.instances[0].size > size


def peak() -> int:
    """The most memory this process held so far, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


class TestAdmission:
    def test_a_calling_ae_title_has_its_bound(self, intake: FolderIntake) -> None:
        admission = Admission(callers={"CT1": Caller(most_associations=1)})
        with running(DimseServer(intake, admission=admission)) as server:
            with raw(server.port, calling="CT1") as first:
                assert rejection(server, "CT1") == (2, 3, 2)
                assert rejection(server, "CT2") is None
                assert echoes(first)
            wait_until(lambda: rejection(server, "CT1") is None, "it may come again")

    def test_who_released_may_come_again_at_once(self, intake: FolderIntake) -> None:
        with running(DimseServer(intake, admission=Admission(most_of_one=1))) as server:
            entity = AE(ae_title="CT1")
            entity.add_requested_context(Verification)
            for _ in range(20):
                peer = entity.associate(HOST, server.port)
                assert peer.is_established
                peer.release()

    def test_unknown_callers_are_rejected_where_only_known_may_come(self, intake: FolderIntake) -> None:
        admission = Admission(callers={"CT1": Caller()}, only_callers=True)
        with running(DimseServer(intake, admission=admission)) as server:
            assert rejection(server, "CT1") is None
            assert rejection(server, "CT2") == (1, 1, 3)

    def test_who_may_not_store_is_offered_no_storage_class(self, intake: FolderIntake) -> None:
        admission = Admission(callers={"VIEWER": Caller(stores=False)})
        with running(DimseServer(intake, admission=admission)) as server:
            entity = AE(ae_title="VIEWER")
            entity.add_requested_context(Verification)
            entity.add_requested_context(CTImageStorage)
            peer = entity.associate(HOST, server.port)
            assert [one.abstract_syntax for one in peer.accepted_contexts] == [Verification]
            peer.release()

    def test_connections_from_elsewhere_are_closed(self, intake: FolderIntake) -> None:
        admission = Admission(sources=(ip_network("10.0.0.0/8"),))
        with running(DimseServer(intake, admission=admission)) as server:
            with socket.create_connection((HOST, server.port), timeout=10) as connection:
                assert read_pdu(connection) == (0, b"")


def rejection(server: DimseServer, calling: str) -> tuple[int, int, int] | None:
    """Result, source and reason of the rejection; None where the association is accepted."""
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        connection.sendall(associate(CONTEXTS, calling=calling))
        kind, body = read_pdu(connection)
        if kind == 2:
            connection.sendall(pdu(5, bytes(4)))
            read_pdu(connection)
            return None
        assert kind == 3
        return body[1], body[2], body[3]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def secured(authority: CertificateAuthority) -> ssl.SSLContext:
    """The side of a port that asks peers for certificates."""
    own = authority.issue("airway")
    return server_context(
        TlsFiles(certificate_file=own.certificate, key_file=own.key, client_ca_file=authority.certificate)
    )


class TestTls:
    @pytest.mark.peers
    def test_dcmtk_stores_and_echoes_with_its_certificate(
        self, intake: FolderIntake, authority: CertificateAuthority, secured: ssl.SSLContext, tmp_path: Path
    ) -> None:
        peer = authority.issue("scanner")
        tls = ["--enable-tls", str(peer.key), str(peer.certificate)]
        tls += ["--add-cert-file", str(authority.certificate)]
        (tmp_path / "out").mkdir()
        for number in range(1, 6):
            (tmp_path / "out" / f"{number}.dcm").write_bytes(ct(number, pixels=262144))
        with running(DimseServer(intake, tls=secured)) as server:
            assert echoscu(HOST, server.port, called_ae_title="AIRWAY", options=tls).succeeded
            sent = storescu(HOST, server.port, [tmp_path / "out"], called_ae_title="AIRWAY", options=tls)
        assert sent.succeeded, sent.output
        stored = {uid: data_set_bytes(content) for uid, content in intake.stored().items()}
        assert stored == {f"{STUDY}.1.{n}": data_set_bytes(ct(n, pixels=262144)) for n in range(1, 6)}

    @pytest.mark.peers
    def test_dcmtk_without_certificate_is_refused(
        self, intake: FolderIntake, authority: CertificateAuthority, secured: ssl.SSLContext
    ) -> None:
        with running(DimseServer(intake, tls=secured)) as server:
            anonymous = ["--anonymous-tls", "--add-cert-file", str(authority.certificate)]
            assert not echoscu(HOST, server.port, called_ae_title="AIRWAY", options=anonymous).succeeded
            assert not echoscu(HOST, server.port, called_ae_title="AIRWAY").succeeded

    def test_messages_in_any_order(
        self, intake: FolderIntake, authority: CertificateAuthority, secured: ssl.SSLContext
    ) -> None:
        with running(DimseServer(intake, tls=secured)) as server, tls_peer(server, authority) as connection:
            connection.sendall(associate(CONTEXTS))
            assert read_pdu(connection)[0] == 2
            for number in range(1, 4):
                connection.sendall(store(number) + message(ECHO_CONTEXT, echo_command()))
                assert status_of(read_answer(connection)) == 0
                assert status_of(read_answer(connection)) == 0
        assert len(intake.instances) == 3

    def test_who_is_slow_to_shake_hands_delays_nobody(
        self, intake: FolderIntake, authority: CertificateAuthority, secured: ssl.SSLContext
    ) -> None:
        with ExitStack() as silent, running(DimseServer(intake, tls=secured)) as server:
            for _ in range(5):
                silent.enter_context(socket.create_connection((HOST, server.port)))
            with tls_peer(server, authority) as connection:
                connection.sendall(associate(CONTEXTS))
                assert read_pdu(connection)[0] == 2
                assert echoes(connection)

    def test_a_record_that_comes_byte_by_byte_is_not_waited_for(
        self, intake: FolderIntake, authority: CertificateAuthority, secured: ssl.SSLContext
    ) -> None:
        with (
            running(DimseServer(intake, tls=secured, network_timeout_s=0.5)) as server,
            tls_peer(server, authority) as connection,
        ):
            connection.sendall(associate(CONTEXTS))
            assert read_pdu(connection)[0] == 2
            connection.sendall(store(1)[:400])
            wait_until(lambda: intake.leftovers(), "the object is on its way")
            with socket.socket(fileno=os.dup(connection.fileno())) as below:
                below.sendall(
                    struct.pack(">BHH", 23, 0x0303, 16_000)
                )  # a record that is to have so many bytes
                ended = threading.Event()
                dripping = threading.Thread(target=drip, args=(below, ended))
                dripping.start()
                try:
                    wait_until(lambda: not intake.leftovers(), "the object was given up")
                finally:
                    ended.set()
                    dripping.join(timeout=10)
        assert intake.instances == []

    def test_what_is_older_than_1_2_is_refused(
        self, intake: FolderIntake, authority: CertificateAuthority
    ) -> None:
        own = authority.issue("strong")
        files = TlsFiles(certificate_file=own.certificate, key_file=own.key, profile=TlsProfile.EXTENDED)
        context = server_context(files)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        old = {one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"}
        assert old == {
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "DHE-RSA-AES256-GCM-SHA384",
        }

    def test_a_missing_certificate_is_a_fault_of_the_configuration(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"gateway\.dicom\.tls"):
            server_context(TlsFiles(certificate_file=tmp_path / "a.pem", key_file=tmp_path / "a.key"))


@contextmanager
def tls_peer(server: DimseServer, authority: CertificateAuthority) -> Iterator[socket.socket]:
    own = authority.issue("peer")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(own.certificate, own.key)
    with (
        socket.create_connection((HOST, server.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="airway") as connection,
    ):
        yield connection


class TestHostile:
    @pytest.mark.parametrize("seed", range(4))
    def test_any_damage_ends_or_is_answered_and_leaves_nothing(self, intake: FolderIntake, seed: int) -> None:
        chance = random.Random(seed)
        whole = associate(CONTEXTS) + message(ECHO_CONTEXT, echo_command()) + store(1, piece=5000) + store(2)
        with running(DimseServer(intake, network_timeout_s=0.3)) as server:
            for _ in range(25):
                damaged = bytearray(whole)
                for _ in range(chance.randint(1, 4)):
                    at = chance.choice((chance.randrange(len(whole)), chance.randrange(700)))
                    damaged[at] = chance.randrange(256)
                sent = bytes(damaged[: chance.choice((len(whole), chance.randrange(1, len(whole))))])
                with socket.create_connection((HOST, server.port), timeout=10) as connection:
                    threading.Thread(target=drain, args=(connection,), daemon=True).start()
                    try:
                        connection.sendall(sent)
                        connection.shutdown(socket.SHUT_WR)
                    except OSError:
                        continue
            wait_until(lambda: not intake.leftovers(), "nothing is left over")
            assert is_served(server)
        assert not [one for one in threading.enumerate() if "AcceptorThread" in one.name]

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(struct.pack(">BBL", 4, 0, 0xFFFFFFFF) + bytes(100), id="pdu-of-4-gib"),
            pytest.param(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(100), id="second-request-of-4-gib"),
            pytest.param(struct.pack(">BBL", 99, 0, 4) + bytes(4), id="unknown-pdu"),
            pytest.param(pdu(4, b""), id="empty-pdu"),
            pytest.param(pdu(5, b""), id="release-without-body"),
            pytest.param(pdu(2, bytes(68)), id="acceptance-from-a-requestor"),
        ],
    )
    def test_absurd_pdus_inside_an_association(
        self, impatient: DimseServer, intake: FolderIntake, content: bytes
    ) -> None:
        with raw(impatient.port) as connection:
            connection.sendall(content)
            connection.settimeout(10)
            try:
                while read_pdu(connection)[0]:
                    pass
            except ConnectionResetError:
                pass
        assert is_served(impatient)
        assert intake.leftovers() == []

    def test_one_byte_at_a_time_is_not_waited_for(self, impatient: DimseServer, intake: FolderIntake) -> None:
        with raw(impatient.port) as connection:
            connection.sendall(store(1)[:400])
            ended = threading.Event()
            dripping = threading.Thread(target=drip, args=(connection, ended))
            dripping.start()
            try:
                wait_until(lambda: not intake.leftovers(), "the object was given up")
            finally:
                ended.set()
                dripping.join(timeout=10)
        assert intake.instances == []


def drip(connection: socket.socket, ended: threading.Event) -> None:
    while not ended.wait(0.05):
        try:
            connection.sendall(b"\0")
        except OSError:
            return


def drain(connection: socket.socket) -> None:
    try:
        while connection.recv(65536):
            pass
    except OSError:
        return
