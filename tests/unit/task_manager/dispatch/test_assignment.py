# SPDX-License-Identifier: Apache-2.0
"""Who gets a workitem, and what happens when they will not have it (IHE AIW-I TF-1:50.4.2.1 and 50.4.2.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from profiles.codes import Code
from profiles.dicom_json import DicomJson, element, items, text
from task_manager.actor import Actor
from task_manager.dispatch.assignment import app_of, assignment_changes, choose, is_open
from task_manager.dispatch.model import PerformerOffer, Style
from task_manager.dispatching import DispatchSettings
from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.store.database import Database
from task_manager.store.records import Dispatch
from task_manager.workitem.validate import checked_update
from tests.contract.workitems import code, minimal, performed
from tests.unit.task_manager.dispatch.working import (
    BRAIN,
    CODES,
    LUNG,
    WorkingBed,
    X,
    canceled,
    reason_of,
    rejection,
)

ONE = PerformerOffer(ae_title="ONE")
TWO = PerformerOffer(ae_title="TWO")
LUNG_ONLY = PerformerOffer(ae_title="LUNGS", apps=("lung",))
PUSH = PerformerOffer(ae_title="PUSHED", style=Style.PUSH, url="http://p.test")
OPEN: DicomJson = minimal()
TAKEN: DicomJson = minimal(ScheduledStationNameCodeSequence=code("OTHER", "L", "Other"))


@pytest.mark.parametrize(
    ("offers", "workitem", "app", "rejected_by", "load", "chosen"),
    [
        pytest.param((), OPEN, "lung", (), {}, None, id="nobody-configured"),
        pytest.param((ONE, TWO), OPEN, "lung", (), {}, "ONE", id="first-among-equals"),
        pytest.param((ONE, TWO), OPEN, "lung", (), {"ONE": 2, "TWO": 1}, "TWO", id="least-loaded"),
        pytest.param((ONE, TWO), OPEN, "lung", ("ONE",), {"TWO": 9}, "TWO", id="rejected"),
        pytest.param((ONE,), OPEN, "lung", ("ONE",), {}, None, id="rejected-by-all"),
        pytest.param((LUNG_ONLY,), OPEN, "brain", (), {}, None, id="other-app"),
        pytest.param((LUNG_ONLY, ONE), OPEN, "brain", (), {"ONE": 5}, "ONE", id="for-all-apps"),
        pytest.param((ONE,), OPEN, "", (), {}, None, id="unknown-task"),
        pytest.param((ONE,), TAKEN, "lung", (), {}, None, id="already-assigned"),
        pytest.param(
            (replace(ONE, capacity=2), TWO), OPEN, "lung", (), {"ONE": 1, "TWO": 5}, "ONE", id="room"
        ),
        pytest.param((replace(ONE, capacity=2),), OPEN, "lung", (), {"ONE": 2}, None, id="full"),
        pytest.param((replace(PUSH, url=""),), OPEN, "lung", (), {}, None, id="push-without-address"),
        pytest.param((PUSH,), OPEN, "lung", (), {}, "PUSHED", id="push"),
    ],
)
def test_the_choice(
    offers: tuple[PerformerOffer, ...],
    workitem: DicomJson,
    app: str,
    rejected_by: tuple[str, ...],
    load: dict[str, int],
    chosen: str | None,
) -> None:
    found = choose(offers, workitem, app, rejected_by, load)

    assert (found.ae_title if found else None) == chosen


@pytest.mark.parametrize(
    ("offer", "station", "station_class", "organization"),
    [
        pytest.param(ONE, "ONE", "", "", id="4.80.4.1.2.1-station"),
        pytest.param(replace(ONE, station_class="GPU"), "ONE", "GPU", "", id="station-and-class"),
        pytest.param(replace(ONE, by_name=False, station_class="GPU"), "", "GPU", "", id="class-only"),
        pytest.param(
            replace(ONE, by_name=False, organization="Chest^Unit of a Hospital"),
            "",
            "",
            "Chest^Unit of a Hospital",
            id="organization-only",
        ),
        pytest.param(replace(ONE, by_name=False), "ONE", "", "", id="a-name-if-nothing-else"),
    ],
)
def test_what_an_assignment_says(
    offer: PerformerOffer, station: str, station_class: str, organization: str
) -> None:
    changes = checked_update(assignment_changes(offer))

    assert not isinstance(changes, Refused)
    people = items(changes, "ScheduledHumanPerformersSequence")
    named = items(changes, "ScheduledStationNameCodeSequence")
    classes = items(changes, "ScheduledStationClassCodeSequence")
    assert [text(one, "CodeValue") for one in named] == ([station] if station else [])
    assert [text(one, "CodingSchemeDesignator") for one in named] == (["L"] if station else [])
    assert [text(one, "CodeValue") for one in classes] == ([station_class] if station_class else [])
    assert [text(one, "HumanPerformerOrganization") for one in people] == (
        [organization] if organization else []
    )


def test_an_app_is_known_by_its_code_whatever_its_meaning() -> None:
    lung = minimal(ScheduledWorkitemCodeSequence=code("AW1001", "99AIRWAY", "Other words"))
    foreign = minimal(ScheduledWorkitemCodeSequence=code("AW1001", "99OTHER", "Lung CT quantification"))

    assert app_of(CODES, lung) == "lung"
    assert app_of(CODES, foreign) == ""
    assert app_of(CODES, minimal()) == ""


def test_work_is_assigned_in_the_transaction_that_creates_it_and_spread(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE, TWO)))

    with bed.worklist.transact() as work:  # as the doors gather creates: none is written before the last
        for number in range(4):
            content = minimal(ScheduledWorkitemCodeSequence=code())
            assert isinstance(work.create(f"{X}.{number}", content, actor=Actor(door="dicom")), Accepted)

    assert [bed.station(f"{X}.{number}") for number in range(4)] == ["ONE", "TWO", "ONE", "TWO"]
    assert bed.events(f"{X}.0") == [(1, "SCHEDULED"), (5, "SCHEDULED")]
    assert bed.record(f"{X}.0").dispatch.app == "lung"
    assert bed.worklist.change_state(
        f"{X}.0", "IN PROGRESS", transaction_uid="1.2.9", actor=Actor(door="dicom")
    ) == Accepted(uid=f"{X}.0")


@pytest.mark.parametrize(
    ("given", "station"),
    [
        pytest.param({"ScheduledWorkitemCodeSequence": code("X9", "99X", "Foreign")}, "", id="foreign-code"),
        pytest.param(
            {"ScheduledStationNameCodeSequence": code("THEIRS", "L", "Theirs")}, "THEIRS", id="assigned"
        ),
        pytest.param({"InputReadinessState": "UNAVAILABLE"}, "", id="inputs-not-there"),
        pytest.param({"InputReadinessState": "INCOMPLETE"}, "", id="inputs-not-known"),
    ],
)
def test_what_is_left_as_its_creator_wants_it(
    database: Database, given: dict[str, Any], station: str
) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE,)))

    bed.create(**given)

    assert bed.station() == station


def test_without_performers_work_stays_open_to_all(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings())

    bed.create()

    assert is_open(bed.attributes())
    assert bed.record().dispatch.app == "lung"


def test_work_is_assigned_when_its_inputs_are_ready(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE,)))
    bed.create(InputReadinessState="UNAVAILABLE")

    bed.tell(X, element("InputReadinessState", "READY"), lock="")

    assert bed.station() == "ONE"
    assert bed.events() == [(1, "SCHEDULED"), (1, "SCHEDULED"), (5, "SCHEDULED")]


def test_a_full_performer_gets_the_next_when_it_is_done(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(replace(ONE, capacity=1),)))
    bed.create("1.2.1")
    bed.create("1.2.2")
    bed.create("1.2.3", ScheduledProcedureStepPriority="HIGH")
    assert [bed.station(uid) for uid in ("1.2.1", "1.2.2", "1.2.3")] == ["ONE", "", ""]

    bed.claim("1.2.1")
    bed.tell("1.2.1", performed())
    bed.end("1.2.1", "COMPLETED")

    assert [bed.station(uid) for uid in ("1.2.2", "1.2.3")] == ["", "ONE"]


@pytest.mark.parametrize(
    "actor",
    [
        pytest.param(Actor(door="dicom", name="ONE"), id="requesting-ae-is-the-station"),
        pytest.param(Actor(door="dicomweb", name="python-httpx"), id="http-names-no-ae"),
        pytest.param(Actor(door="dicomweb"), id="nobody-named"),
    ],
)
def test_a_rejected_assignment_goes_to_another(database: Database, actor: Actor) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE, TWO)))
    bed.create()

    outcome = bed.worklist.request_cancel(X, rejection(), actor=actor)

    assert outcome == Accepted(uid=X)
    assert (bed.state(), bed.station()) == ("SCHEDULED", "TWO")
    assert bed.events() == [(1, "SCHEDULED"), (5, "SCHEDULED"), (5, "SCHEDULED")]
    assert bed.record().dispatch == Dispatch(app="lung", rejected_by=("ONE",))


def test_what_everybody_rejects_is_canceled_as_resource_inadequate_and_seen(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE, TWO)))
    bed.create()

    bed.worklist.request_cancel(X, rejection(), actor=Actor(door="dicom", name="ONE"))
    bed.worklist.request_cancel(X, rejection(), actor=Actor(door="dicom", name="TWO"))

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110527")
    assert bed.record().dispatch.attention
    assert bed.events()[-2:] == [(1, "IN PROGRESS"), (1, "CANCELED")]


GPU_A = PerformerOffer(ae_title="GA", by_name=False, station_class="GPU")
GPU_B = PerformerOffer(ae_title="GB", by_name=False, station_class="GPU")
UNIT = PerformerOffer(ae_title="U", by_name=False, organization="Unit^1")


@pytest.mark.parametrize(
    ("offers", "actor", "rejected_by", "shared"),
    [
        pytest.param(
            (UNIT, GPU_A), Actor(door="dicom", name="U"), ("U",), "ScheduledStationClass", id="organization"
        ),
        pytest.param(
            (GPU_A, UNIT), Actor(door="dicom", name="GA"), ("GA",), "ScheduledHumanPerformers", id="class"
        ),
        pytest.param(
            (GPU_A, GPU_B), Actor(door="dicom", name="GA"), ("GA",), "ScheduledStationClass", id="one-of-two"
        ),
        pytest.param(
            (GPU_A, GPU_B, UNIT),
            Actor(door="dicomweb", name="curl"),
            ("GA", "GB"),
            "ScheduledHumanPerformers",
            id="unnamed-for-all-of-class",
        ),
    ],
)
def test_what_a_class_or_organization_rejects_goes_to_another(
    database: Database,
    offers: tuple[PerformerOffer, ...],
    actor: Actor,
    rejected_by: tuple[str, ...],
    shared: str,
) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=offers))
    bed.create()

    bed.worklist.request_cancel(X, rejection(), actor=actor)

    assert bed.state() == "SCHEDULED"
    assert bed.record().dispatch.rejected_by == rejected_by
    told = {
        keyword: bool(items(bed.attributes(), keyword))
        for keyword in ("ScheduledStationClassCodeSequence", "ScheduledHumanPerformersSequence")
    }
    assert next(keyword for keyword, said in told.items() if said).startswith(shared)
    assert sum(told.values()) == 1


def test_a_class_that_rejects_to_the_last_is_canceled_and_seen(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(GPU_A, GPU_B)))
    bed.create()

    for name in ("GA", "GB"):
        bed.worklist.request_cancel(X, rejection(), actor=Actor(door="dicom", name=name))

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", "110527")
    assert bed.record().dispatch.attention


def test_a_rejection_is_better_taken_by_a_full_performer_than_by_nobody(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE, replace(TWO, capacity=1))))
    bed.create("1.2.1", ScheduledStationNameCodeSequence=code("TWO", "L", "Two"))
    bed.create()

    bed.worklist.request_cancel(X, rejection(), actor=Actor(door="dicom", name="ONE"))

    assert bed.station() == "TWO"


@pytest.mark.parametrize(
    ("actor", "details", "reason"),
    [
        pytest.param(Actor(door="dicom", name="ELSE"), rejection(), "110530", id="another-ae"),
        pytest.param(Actor(door="dicomweb", name="TWO"), rejection(), "110530", id="another-performer"),
        pytest.param(
            Actor(door="dicom", name="ONE"),
            items(canceled("110513"), "ProcedureStepProgressInformationSequence")[0],
            "110513",
            id="another-reason",
        ),
        pytest.param(Actor(door="dicom", name="ONE"), {}, "110513", id="no-reason"),
    ],
)
def test_any_other_cancel_request_cancels(
    database: Database, actor: Actor, details: DicomJson, reason: str
) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE, TWO)))
    bed.create()

    bed.worklist.request_cancel(X, details, actor=actor)

    assert (bed.state(), reason_of(bed.attributes())) == ("CANCELED", reason)


def test_a_rejection_with_faults_is_refused_with_them(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE, TWO)))
    bed.create()
    details = {**rejection(), **element("ContactURI", "not a\turi")}

    outcome = bed.worklist.request_cancel(X, details, actor=Actor(door="dicom", name="ONE"))

    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.INVALID_ATTRIBUTES
    assert (bed.state(), bed.station()) == ("SCHEDULED", "ONE")


def test_a_rejection_after_the_claim_is_a_cancel_request_like_any_other(database: Database) -> None:
    bed = WorkingBed(database, DispatchSettings(performers=(ONE, TWO)))
    bed.create()
    bed.claim(X)

    bed.worklist.request_cancel(X, rejection(), actor=Actor(door="dicom", name="ONE"))

    assert (bed.state(), bed.station()) == ("IN PROGRESS", "ONE")
    assert bed.events()[-1] == (2, "IN PROGRESS")


def test_a_class_is_shared_by_load(database: Database) -> None:
    gpu = PerformerOffer(ae_title="G", by_name=False, station_class="GPU", apps=("lung",))
    unit = PerformerOffer(ae_title="U", by_name=False, organization="Unit")
    bed = WorkingBed(database, DispatchSettings(performers=(gpu, unit)))

    for number in range(3):
        bed.create(f"{X}.{number}")
    bed.create(f"{X}.9", app=BRAIN)

    classes = [
        bool(items(bed.attributes(f"{X}.{n}"), "ScheduledStationClassCodeSequence")) for n in (0, 1, 2, 9)
    ]
    assert classes == [True, False, True, False]
    assert Code("AW1001", "99AIRWAY", "Lung CT quantification") == LUNG
