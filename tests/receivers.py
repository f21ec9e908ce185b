# SPDX-License-Identifier: Apache-2.0
"""Receivers of results that are not ours: an MLLP server of the `hl7` package, and one of webhooks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hl7
from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server

WEBHOOK_KEY = "a secret of enough bytes for all"


@dataclass(slots=True)
class ForeignReceiver:
    """The server of the `hl7` package: what came, parsed by it, and the answers it gives."""

    answers: list[str] = field(default_factory=lambda: ["AA"])
    received: list[hl7.Message] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        try:
            while not writer.is_closing():
                message = await reader.readmessage()
                self.received.append(message)
                code = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.writemessage(message.create_ack(code))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()


@contextmanager
def foreign_receiver(*answers: str) -> Iterator[ForeignReceiver]:
    receiver = ForeignReceiver(answers=list(answers) or ["AA"])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opening = start_hl7_server(receiver.serve, "127.0.0.1", 0, limit=2**24, encoding="utf-8")
    server = asyncio.run_coroutine_threadsafe(opening, loop).result(10)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(server.wait_closed(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass(slots=True)
class WebhookReceiver:
    """What came, and how it is answered: status and headers in turn, the last again and again."""

    url: str
    answers: list[tuple[int, Mapping[str, str]]]
    requests: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)

    def signature_is_right(self, number: int) -> bool:
        """Checked here as a receiver would, by Standard Webhooks 1.0.0."""
        _, headers, body = self.requests[number]
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(WEBHOOK_KEY.encode(), signed, hashlib.sha256)).decode()
        return f"v1,{expected}" in headers["webhook-signature"].split(" ")


@contextmanager
def webhook_receiver(
    *answers: tuple[int, Mapping[str, str]], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[WebhookReceiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.requests.append((self.path, dict(self.headers), body))
            status, headers = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - name of the base class
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A handshake that fails is the test's business."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "https" if tls else "http"
    url = f"{scheme}://{host}:{server.server_address[1]}/hook?site=1"
    told = WebhookReceiver(url=url, answers=list(answers) or [(204, {})])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
