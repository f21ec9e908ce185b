# SPDX-License-Identifier: Apache-2.0
"""Peers that are down for a while: everything arrives once when they are back, and nobody else waits.

Each test takes one peer of a common site down, sends a study, and brings the peer back at its old address.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.peers.fhir_server import FhirServer, run_fhir_server
from conformance.peers.orthanc import Orthanc, run_orthanc
from conformance.peers.process import PeerProcess, accepts_connections, wait_until
from conformance.peers.rsyslog import Rsyslog, run_rsyslog
from tests.flow.airway import RunningAirway, is_delivered
from tests.flow.ends import archive_config, check_archive, check_emr, emr_config, results_in_store
from tests.flow.remains import Remains
from tests.flow.studies import SentStudy, make_study

pytestmark = pytest.mark.peers

FINISH_S = 120.0
CODES = ["RID45835", "RID45834", "RID45833", "RID45871", "RID45864", "RID45864", "RID45864"]


class Site:
    """An Airway with an archive, an EMR and an event repository that belong to these tests."""

    def __init__(self, airway: RunningAirway, orthanc: Orthanc, emr: FhirServer, repository: Rsyslog) -> None:
        self.airway = airway
        self.orthanc = orthanc
        self.emr = emr
        self.repository = repository
        self.remains = Remains(airway.data)

    @contextmanager
    def down(self, process: PeerProcess, answers: Callable[[], object]) -> Iterator[None]:
        """Keep a peer down inside the block; it answers again afterwards."""
        process.stop()
        yield
        process.start()
        process.wait_ready(answers)

    def send(self, study: SentStudy) -> None:
        """Send the order, then the images."""
        assert "MSA|AA" in self.airway.send_order(study.order, study.order.placer_order_number)
        assert self.airway.send_images(study.folder).succeeded

    def wait_lanes(self, study: SentStudy, *, done: set[str], waiting: set[str]) -> dict[str, dict[str, Any]]:
        """The deliveries by lane, once some are done while others have failed and wait to be tried again."""

        def as_wanted(story: dict[str, Any]) -> bool:
            lanes = lanes_of(story)
            return all(lanes.get(lane, {}).get("state") == "DONE" for lane in done) and all(
                lanes.get(lane, {}).get("state") == "WAITING" and lanes[lane]["attempts"] >= 1
                for lane in waiting
            )

        return lanes_of(self.airway.wait_story(study.study_instance_uid, as_wanted, FINISH_S))

    def check_once(self, study: SentStudy) -> None:
        """Wait for all deliveries; everything is at every end once."""
        story = self.airway.wait_story(study.study_instance_uid, is_delivered, FINISH_S)
        wait_until(lambda: not self.remains.unfinished_jobs(), "all events told", FINISH_S)
        check_archive(self.orthanc, study, results_in_store(self.remains, story))
        check_emr(self.emr, study)
        told = [one for one in self.repository.messages() if study.study_instance_uid in one.message]
        assert [one.message_id for one in told if one.message_id != "RID45895"] == CODES

    def explained(self, study: SentStudy) -> str:
        """What `airway explain` prints."""
        command = [sys.executable, "-m", "informatics_gateway", "explain", study.study_instance_uid]
        command += ["--data", str(self.airway.data)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def lanes_of(story: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The deliveries of a story by lane."""
    return {job["lane"]: job for workitem in story["workitems"] for job in workitem["deliveries"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("outage")
    with run_orthanc() as orthanc, run_fhir_server() as emr, run_rsyslog() as repository:
        sink = {"name": "repository", "kind": "tls", "host": "127.0.0.1", "port": repository.tls_port}
        airway = RunningAirway(
            folder,
            {
                "destinations": [*archive_config(orthanc), emr_config(emr.base_url)],
                "events": [sink | {"ca_file": str(repository.ca_path)}],
            },
        )
        airway.start()
        try:
            yield Site(airway, orthanc, emr, repository)
        finally:
            airway.stop()


def test_an_archive_that_was_down_gets_everything_once_and_delays_nobody(site: Site, tmp_path: Path) -> None:
    study = make_study(tmp_path, "O1")
    with site.down(site.orthanc.process, site.orthanc.answers):
        site.send(study)
        lanes = site.wait_lanes(study, done={"deliver/emr"}, waiting={"deliver/pacs", "deliver/pacs-web"})
        explained = site.explained(study)
        assert "deliver/emr DONE" in explained
        for lane in ("deliver/pacs", "deliver/pacs-web"):
            assert lanes[lane]["last_error"]
            assert re.search(rf"{lane} WAITING \(attempt \d+: .+\)", explained)
    site.check_once(study)


def test_an_emr_that_was_down_gets_everything_once_and_delays_nobody(site: Site, tmp_path: Path) -> None:
    study = make_study(tmp_path, "O2")
    with site.down(site.emr.process, site.emr.answers):
        site.send(study)
        lanes = site.wait_lanes(study, done={"deliver/pacs", "deliver/pacs-web"}, waiting={"deliver/emr"})
        assert lanes["deliver/emr"]["last_error"]
        assert re.search(r"deliver/emr WAITING \(attempt \d+: .+\)", site.explained(study))
    site.check_once(study)


def test_an_event_repository_that_was_down_is_told_everything_in_order(site: Site, tmp_path: Path) -> None:
    study = make_study(tmp_path, "O3")
    with site.down(site.repository.process, lambda: accepts_connections(site.repository.tls_port)):
        site.send(study)
        site.airway.wait_story(study.study_instance_uid, is_delivered, FINISH_S)
        waiting = site.remains.unfinished_jobs()
        assert len(waiting) == len(CODES) + 1
        assert all(key.startswith("tell:repository:") for key in waiting)
    site.check_once(study)
