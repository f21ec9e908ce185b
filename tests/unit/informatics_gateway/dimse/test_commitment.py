# SPDX-License-Identifier: Apache-2.0
"""Storage commitment as values, and what is owed on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from informatics_gateway.dimse.commitment import (
    CommitmentRequest,
    FailureReason,
    event_information,
    judge,
)
from informatics_gateway.dimse.commitment_spool import CommitmentSpool
from task_manager.errors import StoreError

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def request(*references: tuple[str, str], transaction: str = "2.25.1") -> CommitmentRequest:
    return CommitmentRequest(asker="CT1", transaction_uid=transaction, references=references)


@pytest.mark.parametrize(
    ("kept", "event_type", "committed", "failed"),
    [
        ({"1.1": CT, "1.2": CT}, 1, ["1.1", "1.2"], {}),
        ({"1.1": CT}, 2, ["1.1"], {"1.2": FailureReason.NO_SUCH_INSTANCE}),
        ({"1.1": MR, "1.2": CT}, 2, ["1.2"], {"1.1": FailureReason.CLASS_CONFLICT}),
        ({}, 2, [], dict.fromkeys(("1.1", "1.2"), FailureReason.NO_SUCH_INSTANCE)),
    ],
    ids=["all", "one-missing", "other-class", "none"],
)
def test_what_is_kept_is_committed(
    kept: dict[str, str], event_type: int, committed: list[str], failed: dict[str, FailureReason]
) -> None:
    report = judge(request((CT, "1.1"), (CT, "1.2")), kept)
    assert report.event_type == event_type
    told = event_information(report)
    assert told.TransactionUID == "2.25.1"
    assert [one.ReferencedSOPInstanceUID for one in told.get("ReferencedSOPSequence", [])] == committed
    assert {
        one.ReferencedSOPInstanceUID: one.FailureReason for one in told.get("FailedSOPSequence", [])
    } == failed
    assert ("FailedSOPSequence" in told) is bool(failed)


def test_what_is_owed_is_found_again_oldest_first(tmp_path: Path) -> None:
    later = CommitmentSpool(tmp_path / "owed").add(request((CT, "1.1"), transaction="2.25.2"), NOW)
    earlier = CommitmentSpool(tmp_path / "owed").add(request((CT, "1.1")), NOW - timedelta(hours=1))
    spool = CommitmentSpool(tmp_path / "owed")
    assert list(spool.owed()) == [earlier, later]
    spool.remove(earlier)
    spool.remove(earlier)
    assert list(spool.owed()) == [later]


def test_who_asks_again_is_owed_once(tmp_path: Path) -> None:
    spool = CommitmentSpool(tmp_path)
    spool.add(request((CT, "1.1")), NOW)
    again = spool.add(request((CT, "1.1"), (CT, "1.2")), NOW)
    assert list(spool.owed()) == [again]


def test_what_was_asked_again_meanwhile_is_still_owed(tmp_path: Path) -> None:
    spool = CommitmentSpool(tmp_path)
    reported = spool.add(request((CT, "1.1")), NOW)
    again = spool.add(request((CT, "1.1")), NOW + timedelta(seconds=1))
    spool.remove(reported)
    assert list(spool.owed()) == [again]


def test_the_same_asked_at_once_on_many_associations_is_owed_once(tmp_path: Path) -> None:
    spool = CommitmentSpool(tmp_path)
    asked = request(*((CT, f"1.{number}") for number in range(200)))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: spool.add(asked, NOW), range(64)))
    assert list(spool.owed()) == [answers[0]]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize("limits", [{"most_owed": 2}, {"most_bytes": 300}], ids=["requests", "bytes"])
def test_no_more_is_owed_than_there_is_room_for(tmp_path: Path, limits: dict[str, int]) -> None:
    spool = CommitmentSpool(tmp_path, **limits)
    first = spool.add(request((CT, "1.1"), transaction="2.25.1"), NOW)
    second = spool.add(request((CT, "1.1"), transaction="2.25.2"), NOW)
    with pytest.raises(StoreError):
        spool.add(request((CT, "1.1"), transaction="2.25.3"), NOW)
    spool.remove(first)
    third = spool.add(request((CT, "1.1"), transaction="2.25.3"), NOW + timedelta(seconds=1))
    assert list(spool.owed()) == [second, third]


def test_only_what_is_due_is_looked_at(tmp_path: Path) -> None:
    spool = CommitmentSpool(tmp_path)
    first = spool.add(request((CT, "1.1"), transaction="2.25.1"), NOW)
    second = spool.add(request((CT, "1.1"), transaction="2.25.2"), NOW)
    assert list(spool.owed(lambda key: key != first.key)) == [second]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"asker": 1}', b"\xff\xfe"])
def test_what_is_no_request_is_passed_over(tmp_path: Path, content: bytes) -> None:
    spool = CommitmentSpool(tmp_path)
    owed = spool.add(request((CT, "1.1")), NOW)
    (tmp_path / "other.json").write_bytes(content)
    (tmp_path / "other.part").write_bytes(content)
    assert list(spool.owed()) == [owed]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        CommitmentSpool(tmp_path / "file")
    spool = CommitmentSpool(tmp_path / "owed")
    (tmp_path / "owed").rmdir()
    with pytest.raises(StoreError):
        spool.add(request((CT, "1.1")), NOW)


def test_what_a_process_that_died_had_begun_to_write_is_swept(tmp_path: Path) -> None:
    spool = CommitmentSpool(tmp_path)
    owed = spool.add(request((CT, "1.1")), NOW)
    (tmp_path / "0123.part").write_bytes(b'{"asker"')
    spool.sweep()
    assert [path.name for path in tmp_path.iterdir()] == [f"{owed.key}.json"]
