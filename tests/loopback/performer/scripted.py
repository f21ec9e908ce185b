# SPDX-License-Identifier: Apache-2.0
"""An HTTP server on loopback that answers what a test wrote down, for the ways a peer can misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class Script:
    """What is answered, and the requests that came as (method, path, headers, body)."""

    base_url: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    declared_length: int | None = None
    requests: list[tuple[str, str, Mapping[str, str], bytes]] = field(default_factory=list)


@contextmanager
def scripted_peer() -> Iterator[Script]:
    """Serve a script on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            content = self.rfile.read(length)
            script.requests.append((self.command, self.path, dict(self.headers), content))
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            declared = script.declared_length
            self.send_header("Content-Length", str(len(script.body) if declared is None else declared))
            self.end_headers()
            try:
                self.wfile.write(script.body)
            except ConnectionError:
                self.close_connection = True
            self.close_connection |= declared is not None

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - names of the base class

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - name of the base class
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script = Script(base_url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
