# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on loopback that answers what a test wrote down, for the ways a FHIR server can fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; `declared_length` differs from the body's to break off in the middle."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/fhir+json"})
    declared_length: int | None = None


@dataclass(slots=True)
class Script:
    """Answers still to give, in order (the last one again and again), and the requests that came."""

    base_url: str
    answers: list[Answer]
    requests: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)


@contextmanager
def scripted_server(*answers: Answer) -> Iterator[Script]:
    """Serve `answers` on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            script.requests.append((self.path, dict(self.headers), content))
            answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            length = len(answer.body) if answer.declared_length is None else answer.declared_length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                self.wfile.write(answer.body)
            except ConnectionError:
                self.close_connection = True  # the client had enough
            if answer.declared_length is not None:
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - name of the base class
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script = Script(base_url=f"http://127.0.0.1:{server.server_address[1]}/fhir", answers=list(answers))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
