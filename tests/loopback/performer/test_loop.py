# SPDX-License-Identifier: Apache-2.0
"""The performer against our UPS-RS door and a stand-in archive: every way a workitem can end."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ai_apps.performer.execution import Limits
from ai_apps.performer.patience import StoppedError
from profiles import dicom_json
from profiles.codes import EQUIPMENT_FAILURE
from profiles.order import Priority
from profiles.ups.context import cancellation_update
from tests.loopback.performer.child import SEG, SR
from tests.loopback.performer.performing import QUICK, Performing
from tests.loopback.performer.worklist_peer import NOW, REQUESTER, Manager, wait_for


def reason_of(manager: Manager, uid: str) -> tuple[str, str]:
    item = manager.progress(uid)
    codes = dicom_json.items(item, "ProcedureStepDiscontinuationReasonCodeSequence")
    return dicom_json.text(codes[0], "CodeValue"), dicom_json.text(item, "ReasonForCancellation")


def test_a_workitem_is_performed(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    assert performing.performer.perform_next()
    assert manager.state(uid) == "COMPLETED"
    assert manager.stored() == [SEG, SR]
    (performed,) = dicom_json.items(manager.workitem(uid), "UnifiedProcedureStepPerformedProcedureSequence")
    stations = dicom_json.items(performed, "PerformedStationNameCodeSequence")
    assert dicom_json.text(stations[0], "CodeValue") == "AIRWAY_GPU1"
    outputs = dicom_json.items(performed, "OutputInformationSequence")
    assert [
        dicom_json.text(reference, "ReferencedSOPClassUID")
        for output in outputs
        for reference in dicom_json.items(output, "ReferencedSOPSequence")
    ] == [SEG, SR]
    assert performing.claims.all() == []
    assert not performing.performer.perform_next()


def test_segmentation_is_stored_first_and_report_last(manager: Manager, performing: Performing) -> None:
    manager.add_workitem()
    order: list[str] = []

    def watch(method: str, path: str) -> int:
        if method == "POST" and path.endswith("/studies"):
            order.append("+".join(manager.stored()))
        return 0

    manager.refuse = watch
    performing.performer.perform_next()
    assert order == ["", SEG]


def test_high_priority_goes_first_and_others_stations_are_left_alone(
    manager: Manager, performing: Performing
) -> None:
    images = manager.add_images()
    low = manager.add_workitem("a", priority=Priority.LOW, instances=images)
    high = manager.add_workitem("b", priority=Priority.HIGH, instances=images)
    elsewhere = manager.add_workitem("c", priority=Priority.HIGH, station="OTHER", instances=images)
    mine = manager.add_workitem("d", station="AIRWAY_GPU1", instances=images)
    order = []
    while performing.performer.perform_next():
        order += [uid for uid in (low, high, mine) if manager.state(uid) == "COMPLETED" and uid not in order]
    assert order == [high, mine, low]
    assert manager.state(elsewhere) == "SCHEDULED"


def test_no_result_from_the_app_cancels_with_its_reason(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem(behaviour="fail")
    assert performing.performer.perform_next()
    assert manager.state(uid) == "CANCELED"
    assert reason_of(manager, uid) == ("110521", "slices are missing")
    assert performing.claims.all() == []


def test_a_crash_of_the_app_cancels(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem(behaviour="crash")
    performing.performer.perform_next()
    assert (manager.state(uid), reason_of(manager, uid)[0]) == ("CANCELED", "110501")


def test_a_run_that_takes_too_long_is_ended(manager: Manager, tmp_path: Path) -> None:
    uid = manager.add_workitem(behaviour="hang")
    limits = Limits(run_s=1.0, progress_s=0.02, watch_s=0.05)
    one = Performing(manager.base_url, tmp_path / "work", limits=limits)
    one.performer.perform_next()
    one.connection.close()
    assert (manager.state(uid), reason_of(manager, uid)) == ("CANCELED", ("110501", "no result within 1 s"))


def test_progress_is_told_while_the_app_runs(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem(behaviour="hang")
    worker = threading.Thread(target=performing.performer.run)
    worker.start()
    wait_for(lambda: manager.state(uid) == "IN PROGRESS")
    wait_for(
        lambda: (
            dicom_json.items(manager.workitem(uid), "ProcedureStepProgressInformationSequence")
            and dicom_json.text(manager.progress(uid), "ProcedureStepProgressDescription") == "started"
        )
    )
    assert float(dicom_json.text(manager.progress(uid), "ProcedureStepProgress")) == 10
    performing.stop.set()
    worker.join(20)
    assert not worker.is_alive()


def test_a_workitem_canceled_by_somebody_else_ends_its_run(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem(behaviour="hang")
    worker = threading.Thread(target=performing.performer.perform_next)
    worker.start()
    wait_for(lambda: manager.state(uid) == "IN PROGRESS")
    (claim,) = performing.claims.all()
    wait_for((performing.claims.folder(claim) / "job.json").exists)
    manager.worklist.update_workitem(
        uid,
        cancellation_update(reason=EQUIPMENT_FAILURE, text="by a person"),
        transaction_uid=claim.transaction_uid,
        actor=REQUESTER,
    )
    manager.worklist.change_state(uid, "CANCELED", transaction_uid=claim.transaction_uid, actor=REQUESTER)
    worker.join(20)
    assert not worker.is_alive()
    assert performing.claims.all() == []
    assert manager.stored() == []


def test_a_stopped_run_is_left_and_resumed(manager: Manager, tmp_path: Path) -> None:
    uid = manager.add_workitem(behaviour="kill-parent")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "parent-was-killed").touch()  # only to make the child behave
    first = Performing(manager.base_url, tmp_path / "work", limits=QUICK)
    first.stop.set()
    manager.refuse = lambda method, path: 503 if path.endswith("/series/1.2.3.4") else 0
    with pytest.raises(StoppedError):
        first.performer.perform_next()
    first.connection.close()
    assert manager.state(uid) == "IN PROGRESS"
    manager.refuse = lambda method, path: 0
    second = Performing(manager.base_url, tmp_path / "work")
    second.performer.resume()
    second.connection.close()
    assert manager.state(uid) == "COMPLETED"


def test_inputs_that_are_gone_cancel(manager: Manager, performing: Performing) -> None:
    images = manager.add_images()
    ghost = replace(images[0], sop_instance_uid="1.2.3.4.99")
    uid = manager.add_workitem(instances=[*images, ghost])
    performing.performer.perform_next()
    assert manager.state(uid) == "CANCELED"
    assert reason_of(manager, uid) == ("110523", "1 of 4 input instances are not available")


@pytest.mark.parametrize(
    ("refused", "status", "state", "reason"),
    [
        ("/studies", 409, "CANCELED", "110501"),
        ("/studies", 503, "CANCELED", "110501"),
        ("/series/1.2.3.4", 404, "CANCELED", "110523"),
        ("/series/1.2.3.4", 500, "CANCELED", "110523"),
    ],
)
def test_an_archive_that_refuses_or_stays_away_cancels(
    manager: Manager, performing: Performing, refused: str, status: int, state: str, reason: str
) -> None:
    uid = manager.add_workitem()
    manager.refuse = lambda method, path: status if path.endswith(refused) else 0
    performing.performer.perform_next()
    assert (manager.state(uid), reason_of(manager, uid)[0]) == (state, reason)


def test_a_manager_that_is_away_for_a_while_gets_everything(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    away = 0

    def sometimes(method: str, path: str) -> int:
        nonlocal away
        away += 1
        return 503 if away % 3 else 0

    manager.refuse = sometimes
    while not performing.performer.perform_next():
        continue
    assert manager.state(uid) == "COMPLETED"
    assert manager.stored() == [SEG, SR]


def test_two_performers_perform_a_workitem_once(manager: Manager, tmp_path: Path) -> None:
    images = manager.add_images()
    uids = [manager.add_workitem(str(number), instances=images) for number in range(4)]
    pair = [Performing(manager.base_url, tmp_path / name) for name in ("one", "two")]
    threads = [threading.Thread(target=one.performer.run) for one in pair]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(manager.state(uid) == "COMPLETED" for uid in uids))
    for one, thread in zip(pair, threads, strict=True):
        one.stop.set()
        thread.join(20)
        one.connection.close()
    posts = [path for method, path in manager.seen if method == "POST" and path.endswith("/studies")]
    assert len(posts) == 2 * len(uids)


def test_a_claim_whose_answer_was_lost_is_ours(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    claim = performing.claims.new(uid, "lung-ct", NOW)
    performing.client.change_state(uid, "IN PROGRESS", transaction_uid=claim.transaction_uid)
    performing.performer.resume()
    assert manager.state(uid) == "COMPLETED"


def test_a_claim_that_was_never_asked_for_is_asked_for(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    performing.claims.new(uid, "lung-ct", NOW)
    performing.performer.resume()
    assert manager.state(uid) == "COMPLETED"


def test_claims_of_others_final_and_unknown_workitems_are_dropped(
    manager: Manager, performing: Performing
) -> None:
    taken = manager.add_workitem("taken")
    performing.client.change_state(taken, "IN PROGRESS", transaction_uid="2.25.77")
    canceled = manager.add_workitem("canceled", instances=manager.add_images())
    performing.client.request_cancel(canceled)
    for uid in (taken, canceled, "2.25.404"):
        performing.claims.new(uid, "lung-ct", NOW)
    performing.performer.resume()
    assert performing.claims.all() == []
    assert (manager.state(taken), manager.state(canceled)) == ("IN PROGRESS", "CANCELED")
    assert manager.stored() == []


def test_attempts_are_bounded(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem()
    claim = performing.claims.new(uid, "lung-ct", NOW)
    for _ in range(QUICK.attempts):
        claim = performing.claims.started(claim)
    performing.performer.resume()
    assert (manager.state(uid), reason_of(manager, uid)) == (
        "CANCELED",
        ("110501", "no result in 3 attempts"),
    )


def test_a_run_stopped_on_purpose_is_no_failed_attempt(manager: Manager, performing: Performing) -> None:
    uid = manager.add_workitem(behaviour="hang")
    worker = threading.Thread(target=performing.performer.run)
    worker.start()
    wait_for(lambda: any(claim.attempts for claim in performing.claims.all()))
    performing.stop.set()
    worker.join(20)
    assert [claim.attempts for claim in performing.claims.all()] == [0]
    assert manager.state(uid) == "IN PROGRESS"


@pytest.mark.parametrize("command", [(), ("/nonexistent/program",)], ids=["our own fault", "no program"])
def test_a_performer_that_cannot_run_anything_cancels(
    manager: Manager, tmp_path: Path, command: tuple[str, ...]
) -> None:
    uid = manager.add_workitem()
    one = Performing(manager.base_url, tmp_path / "work", command=command)
    one.performer.perform_next()
    one.connection.close()
    assert (manager.state(uid), reason_of(manager, uid)[0]) == ("CANCELED", "110501")
    assert one.claims.all() == []
