# SPDX-License-Identifier: Apache-2.0
"""Work that is verified and whose inference is pushed, between processes that die (IHE AIW-I TF-1:50.4.2).

X asks, Y1 infers, Y2 reviews; Y1 is pushed to a performer that has a worklist of its own, as Y there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ai_apps.ups_rs.client import cancel_details
from profiles.codes import Code
from profiles.dicom_json import element, items
from tests.contract.workitems import code, instances, progress
from tests.flow.airway import RunningAirway
from tests.flow.site import REJECTION, Site, eventually

pytestmark = pytest.mark.peers

SILENCE_S = 2
MISTAKE = Code("110514", "DCM", "Incorrect worklist entry selected")
OUTPUTS = instances(series="1.2.3.9", count=2)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    """The manager, and the performer it pushes to."""
    folder = tmp_path_factory.mktemp("far")
    far = RunningAirway(
        folder, {"roles": ["gateway", "task_manager"], "gateway": {"dicom": {"ae_title": "FARMGR"}}}
    )
    far.start()
    near = RunningAirway(
        tmp_path_factory.mktemp("near"),
        {
            "roles": ["gateway", "task_manager"],
            "manager": {
                "performers": [
                    {"ae_title": "FAR", "style": "push", "url": f"{far.http}/dicom-web", "poll_s": 0.2}
                ]
            },
            "apps": {
                "lung-ct": {
                    "verification": {"station_class": "READER"},
                    "leases": {"silence_s": SILENCE_S, "tries": 2},
                }
            },
        },
    )
    near.start()
    with Site(near, "READER1") as manager, Site(far, "GPU1") as performer:
        yield manager, performer
        assert manager.patients_in_log() == []
        assert performer.patients_in_log() == []
    near.stop()
    far.stop()


def ask(manager: Site) -> tuple[str, str, str]:
    """UIDs of a new X, its Y1, and Y."""
    x = manager.create(ScheduledWorkitemCodeSequence=code())
    y1 = manager.child(x, "inference")
    return x, y1, eventually("Y is created", lambda: manager.child(y1, "pushed"))


def reviewed(manager: Site, x: str) -> None:
    """Y2 done, and with it X."""
    review = eventually("a review is asked for", lambda: manager.child(x, "verification"))
    assert len(items(manager.client.retrieve(review), "InputInformationSequence")) == 1
    manager.do(review)


def test_kills_of_the_manager_between_steps_lose_and_repeat_nothing(sites: tuple[Site, Site]) -> None:
    manager, performer = sites
    x, y1, y = ask(manager)

    lock = performer.client.claim(y)
    eventually("X is in progress", lambda: manager.state(x) == "IN PROGRESS")
    manager.airway.kill()
    performer.client.update(y, progress(ProcedureStepProgress=50), transaction_uid=lock)
    performer.do(y, lock=lock, OutputInformationSequence=OUTPUTS)
    manager.airway.start()
    eventually("a review is asked for", lambda: manager.child(x, "verification"))
    assert manager.state(x) == "IN PROGRESS"
    reviewed(manager, x)
    manager.airway.kill()
    manager.airway.start()

    assert [manager.state(uid) for uid in (x, y1)] == ["COMPLETED", "COMPLETED"]
    assert manager.status(x)["tries"] == 1
    assert len(manager.status(y1)["subtasks"]) == 1
    [done] = items(manager.client.retrieve(x), "UnifiedProcedureStepPerformedProcedureSequence")
    assert len(items(done, "OutputInformationSequence")) == 1
    assert manager.client.retrieve(x)["00100010"] == performer.client.retrieve(y)["00100010"]


def test_a_cancel_request_goes_all_the_way_down_and_its_answer_all_the_way_up(
    sites: tuple[Site, Site],
) -> None:
    manager, performer = sites
    x, y1, y = ask(manager)
    lock = performer.client.claim(y)
    manager.wait_state(x, "IN PROGRESS")

    manager.client.request_cancel(x, cancel_details(reason="wrong patient", code=MISTAKE))
    eventually("Y's performer is asked", lambda: performer.status(y)["cancel_requested_at"])
    assert manager.state(x) == "IN PROGRESS"
    why = progress(
        ReasonForCancellation="as asked",
        ProcedureStepDiscontinuationReasonCodeSequence=code(MISTAKE.value, MISTAKE.scheme, MISTAKE.meaning),
    )
    performer.client.update(y, why, transaction_uid=lock)
    performer.client.change_state(y, "CANCELED", transaction_uid=lock)

    manager.wait_state(x, "CANCELED")
    assert manager.reason(x) == manager.reason(y1) == ("110514", "as asked")
    assert manager.status(x)["replaced_by"] == ""


def test_what_a_performer_that_dies_held_is_replaced_seen_and_goes_on_when_it_is_back(
    sites: tuple[Site, Site],
) -> None:
    manager, performer = sites
    x, y1, y = ask(manager)
    performer.client.claim(y)
    manager.wait_state(x, "IN PROGRESS")
    performer.airway.kill()

    manager.wait_state(y1, "CANCELED")
    assert manager.reason(y1) == ("110501", "performer FAR does not answer")
    again = manager.status(y1)["replaced_by"]
    assert (manager.state(x), manager.status(again)["parent"]) == ("IN PROGRESS", x)
    eventually(
        "it waits for a person", lambda: manager.attention() == {again: "performer FAR does not answer"}
    )
    performer.airway.start()
    second = eventually("Y is pushed again", lambda: manager.child(again, "pushed"))
    eventually("the old Y is asked to stop", lambda: performer.status(y)["cancel_requested_at"])
    performer.do(second, OutputInformationSequence=OUTPUTS)
    reviewed(manager, x)

    assert manager.state(x) == "COMPLETED"
    assert manager.attention() == {}


def test_a_review_that_is_rejected_is_seen_and_may_be_tried_again(sites: tuple[Site, Site]) -> None:
    manager, performer = sites
    x, _, y = ask(manager)
    performer.do(y, OutputInformationSequence=OUTPUTS)
    review = eventually("a review is asked for", lambda: manager.child(x, "verification"))

    manager.client.request_cancel(review, REJECTION)

    assert manager.state(x) == "CANCELED"
    assert "rejected" in manager.attention()[review]
    again = manager.retry(review)
    assert manager.attention() == {}
    assert manager.status(x)["replaced_by"] == again
    assert manager.state(again) == "SCHEDULED"
    assert element("PatientID", "PAT-4711").items() <= manager.client.retrieve(again).items()
