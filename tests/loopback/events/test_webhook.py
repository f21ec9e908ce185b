# SPDX-License-Identifier: Apache-2.0
"""Webhooks over real sockets: a receiver that checks the signature, and receivers that misbehave."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from conformance.peers.certificates import Certificate, CertificateAuthority
from informatics_gateway.events.http_post import Reach, Target
from informatics_gateway.events.webhook import Secret, Webhook, WebhookDeliverer
from informatics_gateway.events.webhook_message import WebhookEvent
from informatics_gateway.result_destinations import client_tls_context
from profiles.sole.events import EventType, OperationalEvent
from task_manager.errors import (
    ConfigurationError,
    DeliveryError,
    FinalDeliveryError,
    RetryableDeliveryError,
    StoppedDeliveryError,
)
from task_manager.ports import Deliverer, EventSink
from tests.receivers import WEBHOOK_KEY as KEY
from tests.receivers import webhook_receiver as receiver
from tests.shipments import NOW, SHIPMENT

EVENT = OperationalEvent(
    key="study-complete:2.25.98:1",
    type=EventType.STUDY_COMPLETE,
    occurred_at=NOW,
    study_instance_uid="2.25.98",
    patient_id="PAT-0001",
)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


@dataclass
class Opener:
    """Makes deliverers that sign with one key."""

    key_file: Path

    def __call__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        reach: Reach = Reach.ANY,
        timeout_s: float = 5.0,
        events: frozenset[WebhookEvent] = frozenset(),
    ) -> WebhookDeliverer:
        webhook = Webhook(
            name="HOOK",
            target=Target(url=url, tls=tls, reach=reach, timeout_s=timeout_s),
            secret=Secret(file=self.key_file),
            events=events,
        )
        return WebhookDeliverer(webhook, http_address=lambda: "http://airway.example/", clock=lambda: NOW)


@pytest.fixture
def opened(key_file: Path) -> Opener:
    return Opener(key_file)


def test_a_result_is_posted_and_signed(opened: Opener) -> None:
    with receiver() as hook:
        receipt = opened(hook.url).deliver(SHIPMENT)
    assert (receipt.summary, receipt.sent_at) == ("result.available: HTTP 204", NOW)
    ((path, headers, body),) = hook.requests
    assert path == "/hook?site=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] == hook.url.split("/")[2]
    assert headers["Idempotency-Key"] == headers["webhook-id"] == orjson.loads(body)["id"]
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert hook.signature_is_right(0)
    assert orjson.loads(body)["study"]["url"] == "http://airway.example/dicom-web/studies/2.25.98"


def test_a_second_try_has_the_same_identity(opened: Opener) -> None:
    with receiver((503, {}), (200, {})) as hook:
        with pytest.raises(RetryableDeliveryError):
            opened(hook.url).deliver(SHIPMENT)
        opened(hook.url).deliver(SHIPMENT)
    first, second = hook.requests
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    assert first[2] == second[2]


def test_a_key_may_be_renewed_in_place(opened: Opener, key_file: Path) -> None:
    with receiver() as hook:
        deliverer = opened(hook.url)
        key_file.write_text(f"another key of enough bytes\n{KEY}\n")
        deliverer.deliver(SHIPMENT)
        key_file.write_text("another key of enough bytes\n")
        deliverer.deliver(SHIPMENT)
        key_file.unlink()
        with pytest.raises(RetryableDeliveryError, match="secret"):
            deliverer.deliver(SHIPMENT)
    assert [hook.signature_is_right(number) for number in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("status", "headers", "error", "pause"),
    [
        (301, {"Location": "http://127.0.0.1:1/"}, FinalDeliveryError, None),
        (307, {"Location": "/other"}, FinalDeliveryError, None),
        (400, {}, FinalDeliveryError, None),
        (401, {}, FinalDeliveryError, None),
        (404, {}, FinalDeliveryError, None),
        (410, {}, FinalDeliveryError, None),
        (408, {}, RetryableDeliveryError, None),
        (425, {}, RetryableDeliveryError, None),
        (429, {"Retry-After": "17"}, RetryableDeliveryError, timedelta(seconds=17)),
        (
            503,
            {"Retry-After": "Mon, 04 May 2026 09:16:27 GMT"},
            RetryableDeliveryError,
            timedelta(minutes=1),
        ),
        (503, {"Retry-After": "999999"}, RetryableDeliveryError, timedelta(hours=1)),
        (500, {"Retry-After": "soon"}, RetryableDeliveryError, None),
    ],
)
def test_what_statuses_mean(
    opened: Opener,
    status: int,
    headers: Mapping[str, str],
    error: type[DeliveryError],
    pause: timedelta | None,
) -> None:
    with receiver((status, headers)) as hook, pytest.raises(error, match=f"HTTP {status}") as failed:
        opened(hook.url).deliver(SHIPMENT)
    assert len(hook.requests) == 1
    if isinstance(failed.value, RetryableDeliveryError):
        assert failed.value.retry_after == pause
        assert not failed.value.unreachable


# Servers that misbehave


Peer = Callable[[socket.socket], None]


@contextmanager
def peer(behave: Peer) -> Iterator[str]:
    """A server that does to each connection what a test wants, after it read the head of a request."""

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    behave(connection)
                except ConnectionError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def saying(*pieces: bytes, pause_s: float = 0.0, times: int = 1) -> Peer:
    def behave(connection: socket.socket) -> None:
        for _ in range(times):
            for piece in pieces:
                connection.sendall(piece)
                threading.Event().wait(pause_s)

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(lambda connection: connection.recv(1 << 20) and connection.recv(1), id="hangs"),
        pytest.param(lambda connection: None, id="closes"),
        pytest.param(saying(b"HTTP/1.1 20"), id="is cut in the status"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nX: "), id="is cut in the headers"),
        pytest.param(saying(b"garbage\r\n\r\n"), id="answers garbage"),
        pytest.param(saying(b"\x0bMSH|^~\\&\x1c\r"), id="speaks HL7"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n", pause_s=0.05, times=99), id="dribbles"),
        pytest.param(saying(b"H", pause_s=0.05, times=99), id="dribbles bytes"),
        pytest.param(saying(b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.02, times=200), id="always says 100"),
        pytest.param(saying(b"HTTP/1.1 200 " + b"x" * 200_000), id="a status without end"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 5000), id="headers without end"),
    ],
)
def test_a_server_that_gives_no_answer_is_tried_again(opened: Opener, behave: Peer) -> None:
    with peer(behave) as url, pytest.raises(RetryableDeliveryError) as failed:
        opened(url, timeout_s=0.6).deliver(SHIPMENT)
    assert failed.value.unreachable


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"), id="a body that is cut"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 1_000_000] * 20), id="a body without end"),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 99, pause_s=0.05), id="a body that dribbles"
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), id="a broken chunk"
        ),
    ],
)
def test_the_body_of_an_answer_decides_nothing(opened: Opener, behave: Peer) -> None:
    with peer(behave) as url:
        assert opened(url, timeout_s=0.6).deliver(SHIPMENT).summary.endswith("HTTP 200")


def test_nobody_listens(opened: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RetryableDeliveryError) as failed:
        opened(f"http://127.0.0.1:{port}/").deliver(SHIPMENT)
    assert failed.value.unreachable


# TLS, and where an address may lead


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("tls"))


def _server_context(issued: Certificate, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(issued.certificate, issued.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_the_certificate_is_checked(opened: Opener, authority: CertificateAuthority) -> None:
    trusting = client_tls_context(authority.certificate, None, None, where="x")
    with receiver(tls=_server_context(authority.issue("hook")), host="localhost") as hook:
        opened(hook.url, tls=trusting).deliver(SHIPMENT)
        for context in (client_tls_context(None, None, None, where="x"), None):
            with pytest.raises(RetryableDeliveryError):
                opened(hook.url, tls=context).deliver(SHIPMENT)
    assert len(hook.requests) == 1


def test_our_certificate_is_shown(opened: Opener, authority: CertificateAuthority) -> None:
    ours = authority.issue("airway")
    server = _server_context(authority.issue("hook"), authority.certificate)
    named = client_tls_context(authority.certificate, ours.certificate, ours.key, where="x")
    nameless = client_tls_context(authority.certificate, None, None, where="x")
    with receiver(tls=server) as hook:
        opened(hook.url, tls=named).deliver(SHIPMENT)
        with pytest.raises(RetryableDeliveryError):
            opened(hook.url, tls=nameless).deliver(SHIPMENT)
    assert len(hook.requests) == 1


@pytest.mark.parametrize("reach", [Reach.PUBLIC, Reach.PRIVATE])
def test_a_name_that_leads_to_this_machine_is_not_followed(opened: Opener, reach: Reach) -> None:
    with receiver(host="localhost") as hook:
        with pytest.raises(FinalDeliveryError, match="may not go"):
            opened(hook.url, reach=reach).deliver(SHIPMENT)
    assert hook.requests == []


# Events


WANTED = frozenset({WebhookEvent.STUDY_COMPLETED, WebhookEvent.DELIVERY_DONE})


def numbered(number: int, kind: EventType = EventType.STUDY_COMPLETE) -> OperationalEvent:
    return replace(EVENT, key=f"event:{number}", type=kind)


def test_events_that_are_wanted_are_told_in_order(opened: Opener) -> None:
    own = replace(numbered(4, EventType.EXPORTED), destination="HOOK")
    events = [
        numbered(1),
        numbered(2, EventType.PROCESSING_STARTED),
        numbered(3, EventType.EXPORTED),
        own,
        numbered(5),
    ]
    with receiver() as hook:
        assert opened(hook.url, events=WANTED).send_all(events) == 5
    told = [orjson.loads(body)["event"] for _, _, body in hook.requests]
    assert told == ["study.completed", "delivery.done", "study.completed"]
    assert all(hook.signature_is_right(number) for number in range(3))


def test_the_first_that_cannot_be_told_ends_the_row(opened: Opener) -> None:
    events = [numbered(1), numbered(2), numbered(3)]
    with receiver((200, {}), (503, {})) as hook:
        sink = opened(hook.url, events=WANTED)
        assert sink.send_all(events) == 1
        with pytest.raises(RetryableDeliveryError):
            sink.send_all(events[1:])
    assert len(hook.requests) == 3


def test_what_is_not_wanted_is_passed_over_without_a_request(opened: Opener) -> None:
    with receiver((500, {})) as hook:
        sink: EventSink = opened(hook.url, events=WANTED)
        assert sink.send_all([numbered(1, EventType.PATIENT_MERGED)]) == 1
    assert hook.requests == []


# What is not logged, and what is refused at the start


def test_the_log_names_no_patient_and_no_key(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiver() as hook:
        opened(hook.url).deliver(SHIPMENT)
    told = "".join(f"{record.getMessage()}{vars(record)}" for record in caplog.records)
    assert "webhook told" in told
    assert not any(one in told for one in ("PAT-0001", "Doe", KEY, "ACC-77"))


def test_its_turn_is_awaited(opened: Opener) -> None:
    def stopped() -> None:
        raise StoppedDeliveryError("the process ends")

    with receiver() as hook:
        one: Deliverer = opened(hook.url)
        with pytest.raises(StoppedDeliveryError):
            one.deliver(SHIPMENT, stopped)
    assert hook.requests == []


def test_all_faults_at_once(tmp_path: Path) -> None:
    webhook = Webhook(
        name="HOOK",
        target=Target(url="ftp://x y/", tls=None),
        secret=Secret(file=tmp_path / "nothing"),
    )
    with pytest.raises(ConfigurationError) as refused:
        WebhookDeliverer(webhook, http_address=str)
    assert {fault.path for fault in refused.value.faults} == {"url", "secret_file"}


def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Secret(variable="AIRWAY_TEST_WEBHOOK_KEY")
    with pytest.raises(ValueError, match="is not set"):
        secret.keys()
    monkeypatch.setenv("AIRWAY_TEST_WEBHOOK_KEY", KEY)
    assert secret.keys() == (KEY.encode(),)
