# SPDX-License-Identifier: Apache-2.0
"""Push and verification between real processes (IHE AIW-I TF-1:50.4.2.3 and 50.4.2.6)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ai_apps.ups_rs.client import UpsRsClient
from profiles.dicom_json import DicomJson, element, items, text
from profiles.ups.context import performed_update
from tests.flow.airway import RunningAirway, is_delivered
from tests.flow.studies import SentStudy, make_study
from tests.service import START

pytestmark = pytest.mark.peers
_REVIEW = "ScheduledWorkitemCodeSequence.CodeValue"


@pytest.fixture
def started() -> Iterator[Callable[[Path, dict[str, Any]], RunningAirway]]:
    """Starts processes; all stop in the end."""
    running: list[RunningAirway] = []

    def start(folder: Path, config: dict[str, Any]) -> RunningAirway:
        folder.mkdir()
        airway = RunningAirway(folder, config)
        airway.start()
        running.append(airway)
        return airway

    yield start
    for airway in running:
        airway.stop()


Starting = Callable[[Path, dict[str, Any]], RunningAirway]


def send(airway: RunningAirway, study: SentStudy) -> None:
    assert "MSA|AA" in airway.send_order(study.order, f"M-{study.order.accession_number}")
    assert airway.send_images(study.folder).succeeded


def found(client: UpsRsClient, matching: dict[str, str], timeout_s: float = 60.0) -> DicomJson:
    """The workitem that matches, as soon as there is one."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for one in client.search(matching).results:
            return client.retrieve(text(one, "SOPInstanceUID"))
        time.sleep(0.1)
    raise AssertionError(f"no workitem with {matching}")


def test_work_is_pushed_to_a_performer_with_its_own_worklist(tmp_path: Path, started: Starting) -> None:
    far = started(
        tmp_path / "far",
        {"performer": {"poll_s": 0.2, "station": "FAR"}, "gateway": {"dicom": {"ae_title": "FARMGR"}}},
    )
    near = started(
        tmp_path / "near",
        {
            "roles": ["gateway", "task_manager"],
            "manager": {
                "performers": [
                    {"ae_title": "FAR", "style": "push", "url": f"{far.http}/dicom-web", "poll_s": 10}
                ]
            },
            "destinations": [{"name": "vna", "kind": "dicomweb", "url": f"{far.http}/dicom-web"}],
        },
    )
    study = make_study(tmp_path, "push")
    send(near, study)

    story = near.wait_story(study.study_instance_uid, is_delivered)

    [workitem] = story["workitems"]
    with UpsRsClient(f"{near.http}/dicom-web") as here, UpsRsClient(f"{far.http}/dicom-web") as there:
        x = here.retrieve(workitem["uid"])
        [y] = [there.retrieve(text(one, "SOPInstanceUID")) for one in there.search({}).results]
    kept = ("PatientName", "PatientID", "ReferencedRequestSequence", "InputInformationSequence")
    results = ("UnifiedProcedureStepPerformedProcedureSequence", "OutputDestinationSequence")
    for keyword in (*kept, *results):
        tag = next(iter(element(keyword)))
        assert x[tag] == y[tag], keyword
    assert (text(x, "ProcedureStepState"), text(y, "ProcedureStepState")) == ("COMPLETED", "COMPLETED")
    states = [change["state"] for change in workitem["states"]]
    assert states == ["SCHEDULED", "IN PROGRESS", "COMPLETED"]


def test_results_are_delivered_after_their_review(tmp_path: Path, started: Starting) -> None:
    vna = started(tmp_path / "vna", {"roles": ["gateway"]})
    airway = started(
        tmp_path / "airway",
        {
            "apps": {"lung-ct": {"verification": {"organization": "Chest readers"}}},
            "destinations": [{"name": "vna", "kind": "dicomweb", "url": f"{vna.http}/dicom-web"}],
        },
    )
    study = make_study(tmp_path, "verify")
    send(airway, study)

    with UpsRsClient(f"{airway.http}/dicom-web") as client:
        review = found(client, {_REVIEW: "110007"})
        x = found(client, {"ScheduledStationNameCodeSequence.CodeValue": "AIRWAY"})
        assert text(x, "ProcedureStepState") == "IN PROGRESS"
        assert not items(x, "UnifiedProcedureStepPerformedProcedureSequence")
        assert vna.story(study.study_instance_uid) == {}
        inputs = items(review, "InputInformationSequence")
        assert len(inputs) >= 2  # the segmentation and the report
        uid = text(review, "SOPInstanceUID")
        lock = client.claim(uid)
        done = performed_update(
            review,
            outputs=(),
            station_name="READER1",
            started_at=START,
            ended_at=START,
            retrieve_base_url=airway.http,
        )
        client.update(uid, done, transaction_uid=lock)
        client.change_state(uid, "COMPLETED", transaction_uid=lock)
        airway.wait_story(study.study_instance_uid, is_delivered)
        x = client.retrieve(text(x, "SOPInstanceUID"))

    outputs = items(
        items(x, "UnifiedProcedureStepPerformedProcedureSequence")[0], "OutputInformationSequence"
    )
    assert text(x, "ProcedureStepState") == "COMPLETED"
    assert len(outputs) == len(inputs)
    assert text(x, "PatientID") == study.patient_id
    assert vna.wait_story(study.study_instance_uid, lambda told: bool(told))
