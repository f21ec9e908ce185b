# SPDX-License-Identifier: Apache-2.0
"""A delivery to Orthanc that is done when Orthanc has committed it, also after a restart of ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from conformance.peers.orthanc import Modality, Orthanc
from conformance.peers.process import free_port, wait_until
from informatics_gateway.dimse.commitment_scu import CommittingDeliverer
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.server import DimseServer
from task_manager.delivery.policy import Commitment, CommitmentPolicy, DeliveryPolicy
from task_manager.outbox import Job, JobState, RetryPolicy
from task_manager.worker import Worker
from tests.instances import STUDY
from tests.service import Clock, TestBed, make_service
from tests.unit.task_manager.steps import run_to_completed, workitem

HOST = "127.0.0.1"
TIMEOUT_S = 3.0


class RunningClock(Clock):
    """A clock that goes on by itself, too."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self.began)


def service(folder: Path, clock: Clock) -> TestBed:
    policy = DeliveryPolicy(
        name="pacs",
        retry=RetryPolicy(first=timedelta(milliseconds=100), most=timedelta(seconds=1)),
        commitment=CommitmentPolicy(mode=Commitment.REQUIRED, timeout=timedelta(seconds=TIMEOUT_S), rounds=2),
    )
    return make_service(folder, deliveries=[policy], clock=clock)


@contextmanager
def running(bed: TestBed, orthanc: Orthanc, port: int = 0) -> Iterator[None]:
    """The worker of a service, and its DICOM port, to which reports come; none if `port` is 0."""
    server = None
    if port:
        server = DimseServer(bed.service.intake, port=port, reported=bed.service.deliveries.report_commitment)
        server.start()
    address = DicomAddress(host=HOST, port=orthanc.dicom_port, called_ae_title="ORTHANC")
    archive = CommittingDeliverer(address, timeout_s=10, wait_s=0)
    worker = Worker(bed.service, {"pacs": archive}, {}, name="here", clock=bed.clock)
    worker.start()
    try:
        yield
    finally:
        worker.stop()
        if server is not None:
            server.stop(grace_s=0.2)


def delivery(bed: TestBed) -> Job:
    return next(job for job in workitem(bed).deliveries if job.lane == "deliver/pacs")


@pytest.mark.peers
def test_done_when_committed_and_not_before_also_over_a_restart(orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.clear()
    port = free_port()
    orthanc.add_modality(Modality(name="airway-commit", ae_title="AIRWAY", host=HOST, port=port))
    clock = RunningClock()
    bed = service(tmp_path, clock)
    run_to_completed(bed)
    with running(bed, orthanc):  # nobody hears Orthanc
        wait_until(
            lambda: bool(workitem(bed).fates[delivery(bed).key].commitments),
            what="the request for commitment",
            timeout_s=15,
        )
        wait_until(lambda: delivery(bed).state is JobState.WAITING, what="the job to wait", timeout_s=60)
        assert len(orthanc.find("Instance", StudyInstanceUID=STUDY)) == 2
    first = delivery(bed)
    assert "storage commitment" in first.last_error
    bed.database.close()

    again = service(tmp_path, clock)
    with running(again, orthanc, port):
        wait_until(lambda: delivery(again).state is JobState.DONE, what="the delivery", timeout_s=90)
    asked = workitem(again).fates[first.key].commitments
    told = delivery(again).summary
    again.database.close()
    assert told == "2 instances stored, and committed by the destination"
    assert asked[-1].answered_at is not None
    assert asked[-1].failed == ()
