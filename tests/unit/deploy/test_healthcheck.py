# SPDX-License-Identifier: Apache-2.0
"""The container health check believes a process that runs and, with an HTTP door, says it is ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conformance.peers.process import free_port

HEALTHCHECK = Path(__file__).parents[3] / "deploy" / "healthcheck.py"


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def exit_status(data: Path, endpoints: object = None) -> int:
    if endpoints is not None:
        content = endpoints if isinstance(endpoints, str) else json.dumps(endpoints)
        (data / "endpoints.json").write_text(content, encoding="utf-8")
    return subprocess.run([sys.executable, HEALTHCHECK, data], timeout=30).returncode


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_process_without_an_http_door_is_healthy_while_it_runs(tmp_path: Path) -> None:
    assert exit_status(tmp_path, {"pid": os.getpid()}) == 0


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)], ids=["ready", "not-ready"])
def test_http_door_decides_where_there_is_one(tmp_path: Path, status: int, expected: int) -> None:
    with answering(status) as url:
        assert exit_status(tmp_path, {"pid": os.getpid(), "http": url}) == expected


def test_closed_door_is_not_healthy(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    assert exit_status(tmp_path, {"pid": os.getpid(), "http": url}) == 1


def test_ended_process_is_not_healthy(tmp_path: Path) -> None:
    assert exit_status(tmp_path, {"pid": ended_pid()}) == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no-file"),
        pytest.param("", id="empty-file"),
        pytest.param("{", id="cut-short"),
        pytest.param("[]", id="no-object"),
        pytest.param("{}", id="no-process"),
        pytest.param('{"pid": "x"}', id="no-number"),
    ],
)
def test_unreadable_endpoints_are_not_healthy(tmp_path: Path, content: str | None) -> None:
    assert exit_status(tmp_path, content) == 1
