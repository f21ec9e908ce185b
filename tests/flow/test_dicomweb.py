# SPDX-License-Identifier: Apache-2.0
"""DICOMweb against a running gateway, as a client and a web viewer use it; and after a restart."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from tests.flow.airway import RunningAirway
from tests.instances import STUDY, ct, part10
from tests.unit.informatics_gateway.dicomweb.images import image, pixels

VIEWER = "https://viewer.example"


@pytest.fixture
def airway(tmp_path: Path) -> Iterator[RunningAirway]:
    config = {
        "roles": ["gateway", "task_manager"],
        "study": {"quiet_period_s": 86_400},
        "gateway": {"http": {"cors_origins": [VIEWER]}},
    }
    running = RunningAirway(tmp_path, config)
    running.start()
    yield running
    running.stop()


def test_stored_searched_shown_and_still_there_after_a_kill(airway: RunningAirway) -> None:
    url = f"{airway.http}/dicom-web"
    client = DICOMwebClient(url)
    stack = image(pixels(), SOPInstanceUID=f"{STUDY}.1.9", InstanceNumber=9)
    sent = [*(ct(number) for number in range(1, 6)), part10(stack)]
    answer = client.store_instances([dcmread(io.BytesIO(content)) for content in sent], STUDY)
    assert len(answer.ReferencedSOPSequence) == len(sent)
    airway.kill()
    airway.start()
    (study,) = client.search_for_studies(search_filters={"PatientID": "P1"})
    assert study["00201208"]["Value"] == [len(sent)]
    assert study["00081190"]["Value"] == [f"{url}/studies/{STUDY}"]
    metadata = client.retrieve_series_metadata(STUDY, f"{STUDY}.1")
    assert [item["00200013"]["Value"] for item in metadata] == [[1], [2], [3], [4], [5], [9]]
    (frame,) = client.retrieve_instance_frames(STUDY, f"{STUDY}.1", f"{STUDY}.1.9", [2])
    assert np.array_equal(np.frombuffer(frame, dtype=np.uint16).reshape(4, 6), pixels()[1])
    assert client.retrieve_series(STUDY, f"{STUDY}.1") == [dcmread(io.BytesIO(file)) for file in sent]
    client._session.close()


def test_a_viewer_of_another_origin_may_ask(airway: RunningAirway) -> None:
    found = httpx.get(f"{airway.http}/dicom-web/studies", headers={"origin": VIEWER})
    assert found.status_code == 204
    assert found.headers["access-control-allow-origin"] == VIEWER
    other = httpx.get(f"{airway.http}/dicom-web/studies", headers={"origin": "https://elsewhere"})
    assert "access-control-allow-origin" not in other.headers
