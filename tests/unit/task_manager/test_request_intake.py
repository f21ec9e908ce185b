# SPDX-License-Identifier: Apache-2.0
"""Requests from any door: recorded once, joined to studies, seen by rules, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from profiles.order import Order, OrderControl, Priority
from profiles.request import Request, RequestKind, Trigger, blank_order
from task_manager.actor import Actor
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.request_intake import Terms
from task_manager.store import orders
from tests.instances import STUDY, ct
from tests.service import PERFORMER, TestBed, make_service
from tests.unit.task_manager.fetching.memory_archive import MemoryArchive
from tests.unit.task_manager.steps import LOCK, ORDER, complete, order, workitem

PERSON = Actor(door="person", name="alice")
ON_DEMAND = """
rules:
  - name: on-demand
    app: lung-ct
    when:
      all:
        - {Modality: CT}
        - {trigger.kind: [person, task, availability]}
    series:
      - {name: ct, where: {Modality: CT}, min_instances: 2}
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def on_demand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url, rules=ON_DEMAND)
    yield made
    made.database.close()


def asking(
    name: str = "R1", kind: RequestKind = RequestKind.PERSON, app: str = "", **asked: object
) -> Request:
    wanted: Order = replace(blank_order(), **({"accession_number": "A1"} | asked))  # type: ignore[arg-type]
    priority = wanted.priority if "priority" in asked else None
    return Request(
        name=name,
        trigger=Trigger(kind=kind, source="ward", requester="Dr^Who", app=app, priority=priority),
        asked=wanted,
    )


def ask(bed: TestBed, request: Request, terms: Terms | None = None) -> Accepted | Refused:
    return bed.service.requests.receive_request(request, actor=PERSON, terms=terms or Terms())


def two_images(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    complete(bed)


def states(bed: TestBed) -> list[str]:
    story = bed.service.story(STUDY)
    assert story is not None
    return [one.state for one in story.workitems]


def try_rules(bed: TestBed) -> int:
    return bed.service.scheduler.complete_due_studies()


@pytest.mark.parametrize(
    "asked",
    [
        {"accession_number": "A1"},
        {"accession_number": "", "study_instance_uid": STUDY},
        {"accession_number": "A1", "patient_id": "P1"},
    ],
    ids=["by accession number", "by study", "by accession number and patient"],
)
@pytest.mark.parametrize("early", [True, False], ids=["before the images", "after the images"])
def test_a_request_makes_its_rule_run(on_demand: TestBed, asked: dict[str, str], early: bool) -> None:
    if early:
        assert ask(on_demand, asking(**asked)) == Accepted(uid="R1")
        two_images(on_demand)
    else:
        two_images(on_demand)
        assert states(on_demand) == []
        assert ask(on_demand, asking(**asked)) == Accepted(uid="R1")
        assert try_rules(on_demand) == 1
    assert states(on_demand) == ["SCHEDULED"]


def test_the_same_request_again_changes_nothing_and_another_under_its_key_is_refused(bed: TestBed) -> None:
    assert ask(bed, asking()) == Accepted(uid="R1")
    assert ask(bed, asking()) == Accepted(uid="R1", warnings=(WarningCode.DUPLICATE,))
    refused = ask(bed, asking(accession_number="A2"))
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.DUPLICATE_INSTANCE


def test_a_person_may_ask_again_from_elsewhere(bed: TestBed) -> None:
    ask(bed, asking())
    elsewhere = replace(asking(), trigger=replace(asking().trigger, source="home"))
    assert ask(bed, elsewhere) == Accepted(uid="R1", warnings=(WarningCode.DUPLICATE,))


def test_a_request_that_may_change_does(bed: TestBed) -> None:
    ask(bed, asking(kind=RequestKind.TASK))
    ask(bed, asking(kind=RequestKind.TASK, priority=Priority.HIGH))
    kept = bed.service.requests.request(RequestKind.TASK, "R1")
    assert kept is not None
    assert (kept.version, kept.priority) == (2, Priority.HIGH)


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        (Terms(version=1), None),
        (Terms(version=2), RefusalCode.PRECONDITION_FAILED),
        (Terms(known=True), None),
    ],
    ids=["current version", "older than now", "there is one"],
)
def test_terms_of_a_change(bed: TestBed, terms: Terms, code: RefusalCode | None) -> None:
    ask(bed, asking(kind=RequestKind.TASK))
    outcome = ask(bed, asking(kind=RequestKind.TASK, reason="cough"), terms)
    assert (outcome.code if isinstance(outcome, Refused) else None) is code


def test_a_change_of_what_is_not_there_is_refused(bed: TestBed) -> None:
    outcome = ask(bed, asking(kind=RequestKind.TASK), Terms(known=True))
    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.NO_SUCH_INSTANCE


def test_one_that_bears_the_identifier_is_taken_for_it(bed: TestBed) -> None:
    named = replace(asking(kind=RequestKind.TASK), tokens=("s|1",))
    ask(bed, named, Terms(unless="s|1"))
    again = ask(bed, replace(named, name="R2", asked=blank_order()), Terms(unless="s|1"))
    assert again == Accepted(uid="R1", warnings=(WarningCode.DUPLICATE,))
    ask(bed, replace(named, name="R3"))
    several = ask(bed, replace(named, name="R4"), Terms(unless="s|1"))
    assert isinstance(several, Refused)
    assert several.code is RefusalCode.PRECONDITION_FAILED


def test_an_app_that_no_rule_gives_work_to_is_refused(bed: TestBed) -> None:
    outcome = ask(bed, asking(app="brain"))
    assert isinstance(outcome, Refused)
    assert [fault.path for fault in outcome.faults] == ["app"]
    assert "lung-ct" in outcome.faults[0].message


def test_an_accession_number_of_several_patients_tells_nobody(bed: TestBed) -> None:
    bed.receive(ct(1))
    bed.receive(ct(1, StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1", PatientID="P2"))
    outcome = ask(bed, asking())
    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.INVALID_ATTRIBUTES


def test_another_patients_study_is_not_joined(on_demand: TestBed) -> None:
    ask(on_demand, asking(patient_id="P2"))
    two_images(on_demand)
    assert states(on_demand) == []


def test_an_order_counts_before_a_request_and_is_as_urgent_as_the_request(bed: TestBed) -> None:
    order(bed, replace(ORDER, priority=Priority.LOW))
    ask(bed, asking(study_instance_uid=STUDY, priority=Priority.HIGH, reason="cough"))
    two_images(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.order is not None
    assert story.order.order_number == "PL1"
    attributes = bed.service.worklist.retrieve_workitem(workitem(bed).uid)
    assert not isinstance(attributes, Refused)
    assert attributes["00741200"]["Value"] == ["HIGH"]


def test_an_order_by_its_accession_number_is_no_request(bed: TestBed) -> None:
    ask(bed, asking())
    only_number = replace(ORDER, placer_order_number="", filler_order_number="", study_instance_uid="")
    order(bed, only_number)
    with bed.database.read() as connection:
        assert orders.order_by_key(connection, "A1") is not None


def cancel(bed: TestBed, name: str = "R1") -> Accepted | Refused:
    return bed.service.requests.cancel_request(RequestKind.PERSON, name, actor=PERSON)


def test_a_cancel_stops_what_waits_and_nothing_more_is_made(on_demand: TestBed) -> None:
    ask(on_demand, asking())
    two_images(on_demand)
    assert cancel(on_demand) == Accepted(uid="R1")
    assert states(on_demand) == ["CANCELED"]
    try_rules(on_demand)
    assert states(on_demand) == ["CANCELED"]
    assert cancel(on_demand) == Accepted(uid="R1", warnings=(WarningCode.DUPLICATE,))


def test_a_cancel_asks_what_runs_to_stop(on_demand: TestBed) -> None:
    ask(on_demand, asking())
    two_images(on_demand)
    uid = workitem(on_demand).uid
    on_demand.service.worklist.change_state(uid, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    cancel(on_demand)
    assert workitem(on_demand).status.cancel_requested_at is not None


def test_a_cancel_leaves_what_an_order_asked_for(bed: TestBed) -> None:
    order(bed)
    ask(bed, asking())
    two_images(bed)
    cancel(bed)
    try_rules(bed)
    assert states(bed) == ["SCHEDULED"]


def test_a_cancel_takes_back_what_only_the_request_made_a_rule_match(on_demand: TestBed) -> None:
    order(on_demand)
    ask(on_demand, asking())
    two_images(on_demand)
    assert states(on_demand) == ["SCHEDULED"]
    cancel(on_demand)
    try_rules(on_demand)
    assert states(on_demand) == ["CANCELED"]


def test_a_cancel_of_nothing_is_refused(bed: TestBed) -> None:
    assert isinstance(cancel(bed), Refused)
    unknown = asking(kind=RequestKind.TASK, control=OrderControl.CANCEL)
    refused = ask(bed, unknown)
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.UNKNOWN_ORDER


def test_what_names_a_study_only_is_seen_by_rules(on_demand: TestBed) -> None:
    two_images(on_demand)
    told = asking(kind=RequestKind.AVAILABILITY, accession_number="", study_instance_uid=STUDY)
    assert ask(on_demand, told) == Accepted(uid="R1")
    assert try_rules(on_demand) == 1
    assert states(on_demand) == ["SCHEDULED"]


def test_a_study_is_not_looked_at_again_where_no_rule_asks_who_asked(bed: TestBed) -> None:
    two_images(bed)
    ask(bed, asking(kind=RequestKind.AVAILABILITY, accession_number="", study_instance_uid=STUDY))
    assert try_rules(bed) == 0


def test_every_trigger_of_a_study_is_a_fact(tmp_path: Path) -> None:
    rules = ON_DEMAND.replace("{trigger.kind: [person, task, availability]}", "{trigger.source: RIS}")
    bed = make_service(tmp_path, rules=rules)
    order(bed)
    ask(bed, asking())
    two_images(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    ((_, _, explanation),) = story.explanations
    assert "'RIS'" in str(explanation.when)
    assert "'ward'" in str(explanation.when)
    assert states(bed) == ["SCHEDULED"]
    bed.database.close()


def test_a_request_survives_a_restart(on_demand: TestBed) -> None:
    ask(on_demand, asking())
    again = make_service(
        on_demand.folder,
        str(on_demand.database.engine.url.render_as_string(hide_password=False)),
        rules=ON_DEMAND,
    )
    try:
        two_images(again)
        assert states(again) == ["SCHEDULED"]
    finally:
        again.database.close()


def test_of_many_at_once_one_is_the_first(bed: TestBed) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: ask(bed, asking()), range(8)))
    assert sorted(len(one.warnings) for one in outcomes if isinstance(one, Accepted)) == [0, *[1] * 7]


@pytest.mark.parametrize(
    ("kind", "asked", "fetched"),
    [
        (RequestKind.PERSON, {"accession_number": "A9"}, ["accession:A9"]),
        (RequestKind.TASK, {"accession_number": "", "study_instance_uid": "1.2.9"}, ["study:1.2.9"]),
        (RequestKind.PERSON, {"accession_number": "", "study_instance_uid": STUDY}, []),
        (RequestKind.PERFORMED, {"accession_number": "", "study_instance_uid": "1.2.9"}, []),
    ],
    ids=["by accession number", "by study", "here already", "its images are to come"],
)
def test_a_study_that_is_not_here_is_fetched(
    tmp_path: Path, kind: RequestKind, asked: dict[str, object], fetched: list[str]
) -> None:
    bed = make_service(tmp_path, study_archives=[MemoryArchive("pacs")])
    bed.receive(ct(1))
    assert isinstance(ask(bed, asking(kind=kind, **asked)), Accepted)
    assert [one.fetch.key for one in bed.service.fetches.newest()] == fetched
    bed.database.close()
