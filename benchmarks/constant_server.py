# SPDX-License-Identifier: Apache-2.0
"""The limit of what the HTTP stack allows: FastAPI on uvicorn, set up as Airway's door, answering constants.

``python -m benchmarks.constant_server READY`` writes its port into the file READY. ``GET /constant/{size}``
answers a JSON of that many bytes.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from fastapi import FastAPI, Response

from conformance.peers.process import PeerProcess
from informatics_gateway.http_server import HttpServer

_START_S = 60.0
_PROJECT = Path(__file__).resolve().parents[1]


@contextmanager
def run_constant_server(folder: Path) -> Iterator[tuple[str, int]]:
    """Run one and yield its address; stop it afterwards.

    Raises
    ------
    PeerFailedError
        If it does not come up.
    """
    folder.mkdir(parents=True)
    ready = folder / "port"
    command = [sys.executable, "-m", "benchmarks.constant_server", str(ready)]
    environment = {"PYTHONPATH": str(_PROJECT)}
    with PeerProcess("constant", command, folder, environment=environment) as process:
        process.wait_ready(lambda: ready.exists() and ready.read_text().endswith("\n"), _START_S)
        yield "127.0.0.1", int(ready.read_text())


@cache
def _json(size: int) -> bytes:
    return b'{"a":"' + b"x" * max(0, size - 8) + b'"}'


def main(arguments: Sequence[str]) -> int:
    """Serve until asked to stop."""
    app = FastAPI()

    @app.get("/constant/{size}")
    async def constant(size: int) -> Response:
        return Response(_json(size), media_type="application/dicom+json")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    Path(arguments[0]).write_text(f"{server.port}\n")
    stop.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
