# SPDX-License-Identifier: Apache-2.0
"""StorageProvider: every outcome has a status, nothing raises, nothing stays staged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from informatics_gateway.dimse.storage_scp import StorageProvider, StoreAnswer, StoreRequest
from task_manager.actor import Actor
from task_manager.errors import StoreError
from tests.instances import STUDY, FolderIntake, ct, data_set_bytes

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def request(sop_class_uid: str = CT, transfer_syntax_uid: str = EXPLICIT) -> StoreRequest:
    return StoreRequest(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=f"{STUDY}.1.1",
        transfer_syntax_uid=transfer_syntax_uid,
        actor=Actor(door="dicom", name="SCANNER"),
    )


def take(intake: FolderIntake, request: StoreRequest, data_set: bytes) -> StoreAnswer:
    reception = StorageProvider(intake).begin(request)
    whole = memoryview(data_set)
    for at in range(0, len(whole), 100):
        reception.write([whole[at : at + 40], whole[at + 40 : at + 100]])
    return reception.finish()


def test_stored_untouched(tmp_path: Path) -> None:
    intake = FolderIntake(tmp_path)
    sent = data_set_bytes(ct())
    answer = take(intake, request(), sent)
    assert (answer.status, answer.comment) == (0x0000, "")
    assert data_set_bytes(intake.stored()[f"{STUDY}.1.1"]) == sent
    assert intake.actors == [Actor(door="dicom", name="SCANNER")]


@pytest.mark.parametrize(
    ("changed", "data_set", "status"),
    [
        pytest.param(request(), b"", 0xC000, id="no-data-set"),
        pytest.param(request(), data_set_bytes(ct())[:-9], 0xC000, id="truncated"),
        pytest.param(request("1.2.840.10008.5.1.4.1.1.4"), data_set_bytes(ct()), 0xA900, id="other-class"),
        pytest.param(request(), data_set_bytes(ct(StudyInstanceUID=None)), 0xC000, id="no-study"),
        pytest.param(request(transfer_syntax_uid="1.2.3"), data_set_bytes(ct()), 0xC000, id="other-syntax"),
    ],
)
def test_refused(tmp_path: Path, changed: StoreRequest, data_set: bytes, status: int) -> None:
    intake = FolderIntake(tmp_path)
    answer = take(intake, changed, data_set)
    assert answer.status == status
    assert 0 < len(answer.comment) <= 64
    assert intake.leftovers() == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreError("disk full"), 0xA700), (RuntimeError("Müller^Jörg"), 0xC211), (KeyError("x"), 0xC211)],
    ids=repr,
)
def test_failures_are_answers_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, status: int
) -> None:
    intake = FolderIntake(tmp_path)
    intake.broken = error
    with caplog.at_level(logging.INFO):
        answer = take(intake, request(), data_set_bytes(ct()))
    assert answer.status == status
    assert "Müller" not in answer.comment
    (record,) = caplog.records
    assert (record.exc_info is None) == isinstance(error, StoreError), (
        "one line: a full disk fails each object"
    )
    assert intake.leftovers() == []


def test_log_and_comment_hold_no_patient_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    intake = FolderIntake(tmp_path)
    data_set = data_set_bytes(ct(SeriesInstanceUID="1.2.34")).replace(b"1.2.34", b"Geheim")
    with caplog.at_level(logging.DEBUG):
        answer = take(intake, request(), data_set)
    assert answer.status == 0xC000
    assert "Geheim" not in answer.comment + caplog.text
    assert "SeriesInstanceUID" in answer.comment
