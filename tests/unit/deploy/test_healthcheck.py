# SPDX-License-Identifier: Apache-2.0
"""The container health check believes a process that holds its role and, as a gateway, says it is ready."""

from __future__ import annotations

import fcntl
import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conformance.peers.process import free_port

HEALTHCHECK = Path(__file__).parents[3] / "deploy" / "healthcheck.py"
is_healthy: Callable[[Path], bool] = runpy.run_path(str(HEALTHCHECK))["is_healthy"]


@contextmanager
def holding(data: Path, *roles: str) -> Iterator[None]:
    """Hold the locks of roles, as `airway serve` does."""
    with ExitStack() as stack:
        for role in roles:
            lock = stack.enter_context((data / f"{role}.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Serve ``/health/ready`` with a status."""

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


def announce(data: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (data / "endpoints.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("roles", [("task_manager",), ("performer",), ("performer", "task_manager")], ids=str)
def test_process_without_doors_is_healthy_while_it_holds_its_role(
    tmp_path: Path, roles: tuple[str, ...]
) -> None:
    with holding(tmp_path, *roles):
        assert is_healthy(tmp_path)

    assert not is_healthy(tmp_path)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (503, False)], ids=["ready", "not-ready"])
def test_gateway_is_what_its_http_door_says(tmp_path: Path, status: int, expected: bool) -> None:
    with holding(tmp_path, "gateway", "task_manager"), answering(status) as url:
        announce(tmp_path, {"pid": 1, "http": url})

        assert is_healthy(tmp_path) is expected


def test_gateway_whose_door_is_closed_is_not_healthy(tmp_path: Path) -> None:
    announce(tmp_path, {"http": f"http://127.0.0.1:{free_port()}"})

    with holding(tmp_path, "gateway"):
        assert not is_healthy(tmp_path)


def test_endpoints_left_by_a_process_that_ended_are_not_believed(tmp_path: Path) -> None:
    (tmp_path / "gateway.lock").touch()
    with answering(200) as url:
        announce(tmp_path, {"http": url})

        assert not is_healthy(tmp_path)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"http": 7}', '{"http": "ftp:"}'])
def test_gateway_with_unreadable_endpoints_is_not_healthy(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        announce(tmp_path, content)

    with holding(tmp_path, "gateway"):
        assert not is_healthy(tmp_path)


def test_folder_that_is_empty_or_missing_is_not_healthy(tmp_path: Path) -> None:
    assert not is_healthy(tmp_path)
    assert not is_healthy(tmp_path / "nothing")


def test_command_says_it_by_its_status(tmp_path: Path) -> None:
    command = [sys.executable, str(HEALTHCHECK), str(tmp_path)]

    with holding(tmp_path, "performer"):
        held = subprocess.run(command, timeout=30).returncode
    released = subprocess.run(command, timeout=30).returncode

    assert (held, released) == (0, 1)
