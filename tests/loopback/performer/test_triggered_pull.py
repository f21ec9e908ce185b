# SPDX-License-Identifier: Apache-2.0
"""The performer that listens: work at once, cancel requests heard, heartbeats, others' work left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ai_apps.catalog import catalog
from ai_apps.manifest import InputRequirements, RunLimits
from ai_apps.performer.execution import Limits
from ai_apps.performer.patience import Patience
from ai_apps.ups_rs.client import UpsRsClient, cancel_details
from profiles import dicom_json
from profiles.codes import ASSIGNMENT_REJECTED, Code
from profiles.dicom_json import DicomJson, element
from profiles.order import Priority
from profiles.ups.context import station_code
from tests.loopback.performer.child import SEG, SR
from tests.loopback.performer.performing import QUICK, Performing
from tests.loopback.performer.worklist_peer import Manager, run_manager, wait_for
from tests.loopback.ups_rs.doors import Doors, open_doors

US = "AIRWAY_GPU1"
WHY = Code("110514", "DCM", "Incorrect worklist entry selected")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Manager]:
    with run_manager(tmp_path / "archive") as running:
        yield running


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with open_doors(tmp_path) as running:
        yield running


class Desk:
    """A requester at the doors: workitems over images of the archive."""

    def __init__(self, doors: Doors, archive: Manager) -> None:
        self.doors = doors
        self.archive = archive
        self.images = archive.add_images()
        self.client = UpsRsClient(doors.base_url, name="REQUESTER")

    def offer(
        self,
        name: str = "one",
        *,
        behaviour: str = "finish",
        station: str = "",
        priority: Priority = Priority.MEDIUM,
        **given: object,
    ) -> str:
        uid = self.archive.add_workitem(
            name, behaviour=behaviour, station=station, priority=priority, instances=self.images
        )
        known = self.archive.workitem(uid)
        attributes = {tag: value for tag, value in known.items() if tag not in ("00080016", "00080018")}
        for keyword, value in given.items():
            attributes.update(element(keyword, value))
        return self.client.create(attributes, uid=uid).uid

    def workitem(self, uid: str) -> DicomJson:
        return self.client.retrieve(uid)

    def state(self, uid: str) -> str:
        return dicom_json.text(self.workitem(uid), "ProcedureStepState")

    def reason(self, uid: str) -> tuple[str, str]:
        item = dicom_json.items(self.workitem(uid), "ProcedureStepProgressInformationSequence")[0]
        codes = dicom_json.items(item, "ProcedureStepDiscontinuationReasonCodeSequence")
        return dicom_json.text(codes[0], "CodeValue"), dicom_json.text(item, "ReasonForCancellation")


@pytest.fixture
def desk(doors: Doors, archive: Manager) -> Iterator[Desk]:
    one = Desk(doors, archive)
    yield one
    one.client.close()


@pytest.fixture
def performing(doors: Doors, tmp_path: Path) -> Iterator[Performing]:
    one = Performing(doors.base_url, tmp_path / "work", listen=True)
    yield one
    one.connection.close()


def runs(performing: Performing) -> bool:
    """Whether a job has been given to a child."""
    return any(performing.work.glob("*/job.json"))


def is_listening(performing: Performing) -> bool:
    return performing.attention is not None and performing.attention.listening


def test_work_that_comes_while_it_listens_is_done_at_once(desk: Desk, performing: Performing) -> None:
    before = desk.offer("before")
    with performing.at_work():
        wait_for(lambda: desk.state(before) == "COMPLETED" and is_listening(performing))
        later = desk.offer("later")  # a search alone would come too late: see idle_s
        wait_for(lambda: desk.state(later) == "COMPLETED")
    assert desk.archive.stored() == sorted([SEG, SR] * 2)


def test_work_that_becomes_ready_or_ours_is_done(desk: Desk, performing: Performing) -> None:
    with performing.at_work():
        wait_for(lambda: is_listening(performing))
        unready = desk.offer("unready", InputReadinessState="INCOMPLETE")
        elsewhere = desk.offer("elsewhere", station="OTHER")
        done = desk.offer("done")
        wait_for(lambda: desk.state(done) == "COMPLETED")
        assert (desk.state(unready), desk.state(elsewhere)) == ("SCHEDULED", "SCHEDULED")
        desk.client.update(unready, element("InputReadinessState", "READY"))
        wait_for(lambda: desk.state(unready) == "COMPLETED")
        desk.client.update(elsewhere, element("ScheduledStationNameCodeSequence", station_code(US).to_json()))
        wait_for(lambda: desk.state(elsewhere) == "COMPLETED")


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (cancel_details(reason="wrong patient", code=WHY), ("110514", "wrong patient")),
        ({}, ("110513", "canceled on request by REQUESTER")),
    ],
    ids=["with a reason", "without"],
)
def test_a_cancel_request_ends_the_run(
    desk: Desk, performing: Performing, details: DicomJson, reason: tuple[str, str]
) -> None:
    with performing.at_work():
        wait_for(lambda: is_listening(performing))
        uid = desk.offer(behaviour="hang")
        wait_for(lambda: runs(performing))
        desk.client.request_cancel(uid, details)
        wait_for(lambda: desk.state(uid) == "CANCELED")
        assert desk.reason(uid) == reason
        after = desk.offer("after")
        wait_for(lambda: desk.state(after) == "COMPLETED")
    assert performing.claims.all() == []


def test_a_cancel_request_is_heard_while_inputs_are_fetched(desk: Desk, tmp_path: Path) -> None:
    patient = Patience(first_s=0.02, longest_s=0.05, total_s=60)
    one = Performing(desk.doors.base_url, tmp_path / "work", listen=True, patience=patient)
    desk.archive.refuse = lambda method, path: 503 if path.endswith("/series/1.2.3.4") else 0
    with one.at_work():
        wait_for(lambda: is_listening(one))
        uid = desk.offer()
        wait_for(lambda: any(path.endswith("/series/1.2.3.4") for _, path in desk.archive.seen))
        desk.client.request_cancel(uid)
        wait_for(lambda: desk.state(uid) == "CANCELED")
    one.connection.close()
    assert desk.reason(uid)[0] == "110513"


def test_a_lost_channel_is_opened_again_and_work_is_found(desk: Desk, performing: Performing) -> None:
    with performing.at_work():
        wait_for(lambda: is_listening(performing))
        desk.doors.close()
        wait_for(lambda: not is_listening(performing))
        desk.doors.open()
        uid = desk.offer()
        wait_for(lambda: desk.state(uid) == "COMPLETED" and is_listening(performing))


def test_without_a_channel_it_polls(archive: Manager, tmp_path: Path) -> None:
    one = Performing(archive.base_url, tmp_path / "work", listen=True)
    with one.at_work():
        uid = archive.add_workitem()
        wait_for(lambda: archive.state(uid) == "COMPLETED")
    one.connection.close()
    assert not is_listening(one)


def test_a_workitem_is_heard_of_while_the_app_says_nothing(desk: Desk, tmp_path: Path) -> None:
    limits = Limits(run_s=20, grace_s=0.1, progress_s=0.02, watch_s=20, heartbeat_s=0.1)
    one = Performing(desk.doors.base_url, tmp_path / "work", limits=limits)

    def heard() -> int:
        with desk.doors.worklist.transact() as work:
            workitem = work.get(uid)
        assert workitem is not None
        return workitem.version

    with one.at_work():
        uid = desk.offer(behaviour="hang")
        wait_for(lambda: runs(one))
        known = heard()
        wait_for(lambda: heard() >= known + 3)
    one.connection.close()


def test_the_limits_of_the_app_count_where_they_are_less(desk: Desk, tmp_path: Path) -> None:
    manifest = replace(catalog()["lung-ct"], limits=RunLimits(run_s=0.3))
    one = Performing(desk.doors.base_url, tmp_path / "work", offered={"lung-ct": manifest})
    uid = desk.offer(behaviour="hang")
    assert one.performer.perform_next()
    one.connection.close()
    assert desk.reason(uid) == ("110501", "no result within 0.3 s")


def asked_to_cancel(desk: Desk, uid: str) -> list[str]:
    """Reason codes of the cancel requests that came for a workitem; without a manager that reassigns it is
    canceled, as PS3.4 CC.2.2 has it."""
    assert desk.state(uid) == "CANCELED"
    return [desk.reason(uid)[0]]


def test_what_is_assigned_to_us_and_cannot_be_done_is_rejected(desk: Desk, tmp_path: Path) -> None:
    requires = InputRequirements(modalities=("MR",), sop_class_uids=("1.2.9",), minimum_slices=1)
    offered = {"lung-ct": replace(catalog()["lung-ct"], requires=requires)}
    one = Performing(desk.doors.base_url, tmp_path / "work", offered=offered)
    ours, anybodys = desk.offer("ours", station=US), desk.offer("anybodys")
    while one.performer.perform_next():
        continue
    one.connection.close()
    assert asked_to_cancel(desk, ours) == [ASSIGNMENT_REJECTED.value]
    assert desk.state(anybodys) == "SCHEDULED"
    assert one.claims.all() == []


def test_a_task_nobody_here_knows_is_rejected_if_it_is_assigned_to_us(desk: Desk, tmp_path: Path) -> None:
    other = Code("X1", "99X", "Something else").to_json()
    one = Performing(desk.doors.base_url, tmp_path / "work")
    ours = desk.offer("ours", station=US, ScheduledWorkitemCodeSequence=other)
    anybodys = desk.offer("anybodys", ScheduledWorkitemCodeSequence=other)
    assert not one.performer.perform_next()
    one.connection.close()
    assert asked_to_cancel(desk, ours) == [ASSIGNMENT_REJECTED.value]
    assert desk.state(anybodys) == "SCHEDULED"


def test_a_request_that_waited_reaches_a_run_that_is_resumed(desk: Desk, tmp_path: Path) -> None:
    first = Performing(desk.doors.base_url, tmp_path / "work", listen=True, limits=QUICK)
    with first.at_work():
        wait_for(lambda: is_listening(first))
        uid = desk.offer(behaviour="hang")
        wait_for(lambda: runs(first))
    first.connection.close()
    assert desk.state(uid) == "IN PROGRESS"
    desk.client.request_cancel(uid)
    second = Performing(desk.doors.base_url, tmp_path / "work", listen=True, limits=QUICK)
    with second.at_work():
        wait_for(lambda: desk.state(uid) == "CANCELED")
    second.connection.close()
