# SPDX-License-Identifier: Apache-2.0
"""The Orthanc peer takes, lists, forwards and keeps DICOM instances."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from conformance.peers.dcmtk import ToolResult, dcmsend, echoscu, run_storescp, storescu
from conformance.peers.orthanc import Modality, Orthanc, run_orthanc
from conformance.peers.process import free_port
from tests.loopback.peers.conftest import STUDY_INSTANCE_UID

pytestmark = pytest.mark.peers


def test_echo_is_answered_for_its_own_title_only(orthanc: Orthanc) -> None:
    right = echoscu(orthanc.host, orthanc.dicom_port, called_ae_title=orthanc.ae_title)
    wrong = echoscu(orthanc.host, orthanc.dicom_port, called_ae_title="SOMEBODY")

    assert right.succeeded
    assert right.responses == ("Success",)
    assert not wrong.succeeded
    assert "Called AE Title Not Recognized" in wrong.output


@pytest.mark.parametrize("tool", [storescu, dcmsend], ids=["storescu", "dcmsend"])
def test_sent_files_are_stored_and_cleared(
    orthanc: Orthanc, scanned: list[Path], tool: Callable[..., ToolResult]
) -> None:
    orthanc.clear()

    result = tool(orthanc.host, orthanc.dicom_port, scanned, called_ae_title=orthanc.ae_title)

    assert result.succeeded, result.output
    assert result.responses == ("Success",) * 3
    assert len(orthanc.instances()) == 3
    assert len(orthanc.studies()) == 1
    assert orthanc.tags(orthanc.instances()[0])["PatientID"] == "PEER-1"
    assert sorted(orthanc.files_of_study(STUDY_INSTANCE_UID))[0][128:132] == b"DICM"
    orthanc.clear()
    assert orthanc.instances() == []


def test_dicom_web_plug_in_searches_what_dimse_stored(orthanc: Orthanc, scanned: list[Path]) -> None:
    orthanc.clear()
    storescu(orthanc.host, orthanc.dicom_port, scanned, called_ae_title=orthanc.ae_title)

    answer = httpx.get(
        f"{orthanc.dicom_web_url}/studies", headers={"Accept": "application/dicom+json"}, trust_env=False
    )

    assert [study["0020000D"]["Value"] for study in answer.json()] == [[STUDY_INSTANCE_UID]]


def test_modality_added_later_receives_what_orthanc_sends(orthanc: Orthanc, scanned: list[Path]) -> None:
    orthanc.clear()
    storescu(orthanc.host, orthanc.dicom_port, scanned, called_ae_title=orthanc.ae_title)

    with run_storescp() as receiver:
        node = Modality(name="late", ae_title=receiver.ae_title, host=receiver.host, port=receiver.port)
        orthanc.add_modality(node)
        orthanc.send("late", orthanc.studies())
        assert len(receiver.files()) == 3


def test_refusing_receiver_fails_the_sender(scanned: list[Path]) -> None:
    with run_storescp(options=["--refuse"]) as receiver:
        result = storescu(receiver.host, receiver.port, scanned, called_ae_title=receiver.ae_title)

    assert not result.succeeded
    assert result.responses == ()


def test_second_start_in_the_same_folder_and_ports_keeps_what_was_stored(
    tmp_path: Path, scanned: list[Path]
) -> None:
    ports = {"http_port": free_port(), "dicom_port": free_port()}
    node = Modality(name="known", ae_title="KNOWN", host="127.0.0.1", port=104)
    with run_orthanc(folder=tmp_path / "home", ae_title="FIRST", modalities=[node], **ports) as first:
        storescu(first.host, first.dicom_port, scanned, called_ae_title="FIRST")
        stored = first.instances()
        assert first.rest("/modalities") == ["known"]
    assert not first.process.running

    with run_orthanc(folder=tmp_path / "home", ae_title="FIRST", **ports) as second:
        assert second.instances() == stored
        assert len(stored) == 3
