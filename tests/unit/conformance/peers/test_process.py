# SPDX-License-Identifier: Apache-2.0
"""A peer process is awaited with a deadline, quoted when it fails, and stopped with its children."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from conformance.peers.process import (
    PeerFailedError,
    PeerProcess,
    accepts_connections,
    free_port,
    wait_until,
)

LISTEN = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pause()
"""
IGNORE_TERM = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""
LEAVE_CHILD = """
import subprocess, signal, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


def python(name: str, program: str, folder: Path, *arguments: str) -> PeerProcess:
    return PeerProcess(name, [sys.executable, "-c", program, *arguments], folder)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50
    with socket.create_server(("127.0.0.1", ports[0])):
        assert accepts_connections(ports[0])
    assert not accepts_connections(ports[1])


def test_process_is_ready_once_it_listens_and_gone_after_the_block(tmp_path: Path) -> None:
    port = free_port()
    with python("listener", LISTEN, tmp_path, str(port)) as process:
        process.wait_ready(lambda: accepts_connections(port))
        assert process.running

    assert not process.running
    assert not accepts_connections(port)


def test_process_that_ends_early_is_an_error_that_quotes_its_log(tmp_path: Path) -> None:
    process = python("short", "import sys; print('no licence'); sys.exit(3)", tmp_path)
    process.start()

    with pytest.raises(PeerFailedError, match=r"short ended with status 3\nno licence"):
        process.wait_ready(lambda: False)


def test_process_that_never_answers_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    process = python("mute", "import signal; signal.pause()", tmp_path)
    process.start()

    with pytest.raises(PeerFailedError, match=r"not within 0\.2 s: mute ready"):
        process.wait_ready(lambda: False, timeout_s=0.2)
    assert not process.running


def test_process_deaf_to_the_stop_signal_is_killed(tmp_path: Path) -> None:
    process = python("deaf", IGNORE_TERM, tmp_path)
    process.start()
    process.wait_ready(lambda: "deaf" in process.log_tail())

    process.stop(timeout_s=0.2)
    process.stop(timeout_s=0.2)

    assert not process.running


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_children_of_the_process_end_with_it(tmp_path: Path, way: str) -> None:
    process = python("parent", LEAVE_CHILD, tmp_path)
    process.start()
    process.wait_ready(lambda: process.log_tail().strip())
    child = int(process.log_tail())

    process.stop() if way == "stop" else process.kill()

    wait_until(lambda: not is_alive(child), "the child ended", timeout_s=5)
    assert not process.running


def test_stop_signal_is_the_one_asked_for(tmp_path: Path) -> None:
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(7)); print('up', flush=True)"
    )
    command = [sys.executable, "-c", program + "; signal.pause()"]
    process = PeerProcess("polite", command, tmp_path, stop_signal=signal.SIGINT, environment={"A": "1"})
    process.start()
    process.wait_ready(lambda: "up" in process.log_tail())
    pid = process.pid

    process.stop()

    assert not is_alive(pid)
    assert pid != os.getpid()


def test_process_that_was_not_started_has_no_id_and_stops_quietly(tmp_path: Path) -> None:
    process = python("idle", "", tmp_path)

    process.stop()

    assert process.log_tail() == ""
    with pytest.raises(PeerFailedError, match="not started"):
        _ = process.pid


def test_waiting_names_what_did_not_happen() -> None:
    with pytest.raises(TimeoutError, match=r"not within 0\.05 s: the impossible"):
        wait_until(lambda: False, "the impossible", timeout_s=0.05)
