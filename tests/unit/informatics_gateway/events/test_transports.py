# SPDX-License-Identifier: Apache-2.0
"""The file and the refusals of the transports; sockets are tested against rsyslog in ``tests/loopback``."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from informatics_gateway.events.transports import (
    UDP_LARGEST_BYTES,
    FileTransport,
    TlsTransport,
    UdpTransport,
)
from task_manager.errors import ConfigurationError, FinalDeliveryError, RetryableDeliveryError


def test_one_message_per_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.log"
    transport = FileTransport(path)
    transport.write("<85>1 ä".encode())
    transport.write(b"two\r\nlines")
    transport.close()
    assert path.read_text(encoding="utf-8") == "<85>1 ä\ntwo  lines\n"
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH == 0


def test_a_line_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_bytes(b"whole\ncut sho")
    FileTransport(path).write(b"next")
    assert path.read_bytes() == b"whole\ncut sho\nnext\n"


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    transport = FileTransport(tmp_path / "events.log")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: transport.write(str(n % 10).encode() * 9000), range(50)))
    lines = (tmp_path / "events.log").read_text().split("\n")[:-1]
    assert len(lines) == 50
    assert all(len(line) == 9000 and len(set(line)) == 1 for line in lines)


def test_a_file_that_cannot_be_written_is_tried_again_later(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "events.log"):
        with pytest.raises(RetryableDeliveryError):
            FileTransport(path).write(b"x")


def test_a_message_too_large_for_a_datagram_never_leaves() -> None:
    with pytest.raises(FinalDeliveryError, match="65508 bytes"):
        UdpTransport("127.0.0.1", 9).write(b"x" * (UDP_LARGEST_BYTES + 1))


def test_a_name_nobody_knows_is_tried_again_later() -> None:
    with pytest.raises(RetryableDeliveryError):
        UdpTransport("repository.invalid", 514).write(b"x")


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "junk"])
def test_certificates_that_cannot_be_used_are_a_configuration_error(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        TlsTransport("127.0.0.1", 6514, ca_file=path)
    with pytest.raises(ConfigurationError):
        TlsTransport("127.0.0.1", 6514, certificate_file=path)


def test_nobody_there_is_tried_again_later() -> None:
    with pytest.raises(RetryableDeliveryError, match="ConnectionRefusedError"):
        TlsTransport("127.0.0.1", 1, timeout_s=2).write(b"x")
