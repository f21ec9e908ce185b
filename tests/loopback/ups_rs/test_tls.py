# SPDX-License-Identifier: Apache-2.0
"""The library over TLS: a server is believed by the certificates given, for requests and channel alike."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.errors import NotFoundError, UnreachableError
from ai_apps.ups_rs.events import NO_RESYNC, Resynchronized, UpsEvent
from conformance.peers.certificates import CertificateAuthority

MESSAGE = '{"00001000":{"vr":"UI","Value":["2.25.9"]},"00741000":{"vr":"CS","Value":["COMPLETED"]}}'
QUIET = logging.getLogger("tests.websockets")
QUIET.setLevel(logging.CRITICAL)


def tell(connection: ServerConnection) -> None:
    connection.send(MESSAGE)
    for _ in connection:
        continue


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


@pytest.fixture
def base_url(authority: CertificateAuthority) -> Iterator[str]:
    issued = authority.issue("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)

    def route(connection: ServerConnection, request: object) -> object:
        path = getattr(request, "path", "")
        return connection.respond(404, "") if "/workitems" in path else None

    server: Server
    with serve(tell, "127.0.0.1", 0, ssl=context, process_request=route, logger=QUIET) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.socket.getsockname()[1]}/rs"
        server.shutdown()
        thread.join()


def test_a_server_with_a_certificate_of_the_given_authority(
    authority: CertificateAuthority, base_url: str
) -> None:
    with UpsRsClient(base_url, ca_file=authority.certificate) as client:
        with pytest.raises(NotFoundError):
            client.retrieve("2.25.9")
        with client.events("ME", targets=(), resync=NO_RESYNC) as stream:
            assert isinstance(stream.receive(20), Resynchronized)
            told = stream.receive(20)
            assert isinstance(told, UpsEvent)
            assert told.state == "COMPLETED"


def test_a_server_with_any_other_certificate(base_url: str) -> None:
    with UpsRsClient(base_url) as client:
        with pytest.raises(UnreachableError):
            client.retrieve("2.25.9")
        with client.events("ME", targets=(), resync=NO_RESYNC) as stream, pytest.raises(UnreachableError):
            stream.open()
