# SPDX-License-Identifier: Apache-2.0
"""Claims on disk: there on return, back after a restart, gone when removed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ai_apps.performer.claims import ClaimFolder
from profiles.uids import is_uid

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def test_a_claim_comes_back_as_it_was(tmp_path: Path) -> None:
    claims = ClaimFolder(tmp_path / "deep" / "claims")
    later = claims.new("1.2.2", "b", NOW + timedelta(seconds=1))
    first = claims.started(claims.new("1.2.9", "a", NOW))
    assert ClaimFolder(tmp_path / "deep" / "claims").all() == [first, later]
    assert (first.attempts, is_uid(first.transaction_uid)) == (1, True)
    assert first.transaction_uid != later.transaction_uid
    assert (claims.folder(first) / "claim.json").is_file()


def test_removed_with_all_its_files(tmp_path: Path) -> None:
    claims = ClaimFolder(tmp_path)
    claim = claims.new("1.2.3", "a", NOW)
    (claims.folder(claim) / "inputs").mkdir()
    (claims.folder(claim) / "inputs" / "x.dcm").write_bytes(b"x")
    claims.remove(claim)
    claims.remove(claim)
    assert list(tmp_path.iterdir()) == []


GOOD = {
    "workitem_uid": "1.2.3",
    "transaction_uid": "1.2",
    "app": "a",
    "performed_at": "2024-01-01T00:00:00+00:00",
}


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b"\xff",
        json.dumps({**GOOD, "workitem_uid": "9.9"}).encode(),
        json.dumps({**GOOD, "performed_at": "2024-01-01T00:00:00"}).encode(),
        json.dumps({**GOOD, "performed_at": "soon"}).encode(),
        json.dumps({**GOOD, "transaction_uid": "../x"}).encode(),
        json.dumps({**GOOD, "more": 1}).encode(),
    ],
)
def test_a_folder_without_a_readable_claim_is_swept(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "1.2.3").mkdir()
    if content is not None:
        (tmp_path / "1.2.3" / "claim.json").write_bytes(content)
    assert ClaimFolder(tmp_path).all() == []
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_uid_never_becomes_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a UID"):
        ClaimFolder(tmp_path).new("../x", "a", NOW)
