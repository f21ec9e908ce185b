# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of everything at once, at many points of the path: after a restart the study ends, once.

One Airway, one study per point. The kill follows the log, so it comes within milliseconds after the step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.peers.dcmtk import ToolResult
from conformance.peers.fhir_server import FhirServer
from conformance.peers.orthanc import Orthanc
from conformance.peers.process import wait_until
from tests.flow.airway import RunningAirway, is_delivered
from tests.flow.ends import (
    archive_config,
    check_archive,
    check_emr,
    check_events,
    emr_config,
    results_in_store,
)
from tests.flow.remains import Remains
from tests.flow.studies import SLICES, SentStudy, acknowledged_files, encoded_data_set, make_study

pytestmark = pytest.mark.peers

DESTINATIONS = ["emr", "pacs", "pacs-web"]
QUIET_S = 0.7
TRIGGER_S = 90.0
FINISH_S = 120.0
POLL_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where to kill: after the `count`-th log line of `action`, or once a file matches `file`."""

    action: str = ""
    count: int = 1
    file: str = ""


POINTS = {
    "tenth-instance": Point(action="instance.received", count=10),
    "last-instance": Point(action="instance.received", count=SLICES),
    "workitem-not-yet-committed": Point(action="workitem.created"),
    "study-complete": Point(action="study.complete"),
    "claim-granted": Point(action="workitem.in_progress"),
    "inputs-fetched": Point(action="performer.inputs_fetched"),
    "inference-started": Point(action="performer.inference_started"),
    "app-writes-results": Point(file="performer/claims/*/outputs"),
    "inference-finished": Point(action="performer.inference_finished"),
    "between-seg-and-sr": Point(action="performer.result_stored", count=1),
    "all-results-stored": Point(action="performer.result_stored", count=2),
    "workitem-completed": Point(action="workitem.completed"),
    "delivery-started": Point(action="delivery.started"),
    "first-delivery-done": Point(action="delivery.done"),
}


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc, fhir_server: FhirServer
) -> Iterator[RunningAirway]:
    """One Airway with all its destinations, for every point; each test starts it again."""
    orthanc.clear()
    fhir_server.clear()
    airway = RunningAirway(
        tmp_path_factory.mktemp("kill"),
        {
            "log": {"level": "DEBUG"},  # instances one by one
            "study": {"quiet_period_s": QUIET_S},
            "destinations": [*archive_config(orthanc), emr_config(fhir_server.base_url)],
            "events": [{"name": "log", "kind": "file"}],
        },
    )
    yield airway
    airway.stop()


@pytest.fixture
def airway(machine: RunningAirway) -> RunningAirway:
    """The Airway, running, also when the test before left it dead."""
    if not machine.running:
        machine.start()
    return machine


class Watch:
    """Tells as soon as a point is reached, counting from now on."""

    def __init__(self, airway: RunningAirway, point: Point) -> None:
        self._airway = airway
        self._point = point
        self._pattern = f'"action": "{point.action}"'.encode()
        self._log = airway.log_path.open("rb")
        self._log.seek(0, 2)
        self._rest = b""
        self._seen = 0

    def kill_when_reached(self) -> None:
        """Kill the whole process group at the point; fail if it never comes."""
        deadline = time.monotonic() + TRIGGER_S
        while not self._reached():
            assert time.monotonic() < deadline, f"{self._point} never came"
            time.sleep(POLL_S)
        self._airway.kill()
        self._log.close()

    def _reached(self) -> bool:
        if self._point.file:
            return any(self._airway.data.glob(self._point.file))
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        self._seen += sum(self._pattern in line for line in lines)
        return self._seen >= self._point.count


def send_and_kill(airway: RunningAirway, study: SentStudy, point: Point) -> ToolResult:
    """Send order and images, kill at `point`; what the scanner was told."""
    watch = Watch(airway, point)
    assert "MSA|AA" in airway.send_order(study.order, study.order.placer_order_number)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(airway.send_images, study.folder)
        watch.kill_when_reached()
        return sending.result()


def check_stored(remains: Remains, files: list[Path], study: SentStudy) -> None:
    """Each file is in the store once, byte for byte."""
    uids = {path: uid for uid, path in study.files.items()}
    for path in files:
        assert encoded_data_set(remains.object_of(uids[path])) == encoded_data_set(path)


@pytest.mark.timeout(420)
@pytest.mark.parametrize("name", POINTS)
def test_killed_and_restarted_a_study_ends_once(
    name: str, airway: RunningAirway, orthanc: Orthanc, fhir_server: FhirServer, tmp_path: Path
) -> None:
    study = make_study(tmp_path, f"K{list(POINTS).index(name):02d}")
    remains = Remains(airway.data)

    sent = send_and_kill(airway, study, POINTS[name])
    acknowledged = acknowledged_files(sent)
    assert not remains.is_finished(study.study_instance_uid)
    assert (len(acknowledged) == SLICES) == sent.succeeded or name == "last-instance"
    wait_until(lambda: not remains.processes(), "all processes of the killed group gone")

    airway.start()
    check_stored(remains, acknowledged, study)
    if not sent.succeeded:
        # A scanner that was not answered sends the study again.
        assert airway.send_images(study.folder).succeeded
    story = airway.wait_story(study.study_instance_uid, is_delivered, FINISH_S)
    wait_until(lambda: not remains.unfinished_jobs(), "all events told", FINISH_S)
    wait_until(lambda: not remains.claims(), "the performer's folder empty")

    story = airway.story(study.study_instance_uid)
    assert remains.workitem_states(study.study_instance_uid) == ["COMPLETED"]
    check_stored(remains, list(study.files.values()), study)
    results = results_in_store(remains, story)
    assert len(remains.instances(study.study_instance_uid)) == SLICES + len(results)
    check_archive(orthanc, study, results)
    check_emr(fhir_server, study)
    check_events(remains, story, DESTINATIONS)
    assert remains.incoming() == []
    assert remains.objects_without_record() == []
