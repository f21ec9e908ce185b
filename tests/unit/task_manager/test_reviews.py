# SPDX-License-Identifier: Apache-2.0
"""From rules to workitems: chosen images, named inputs, rules that wait for a person; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text as text_of

from informatics_gateway.story_words import story_text
from profiles.dicom_json import items, text
from profiles.ups.states import ProcedureStepState
from task_manager.actor import Actor
from task_manager.outcome import Accepted, Refused
from task_manager.rules.explain import RuleVerdict
from task_manager.store import workitems
from task_manager.story import StudyStory
from tests.instances import STUDY, ct, ct_data_set, part10
from tests.service import SCANNER, TestBed, make_service
from tests.unit.task_manager.destinations import PERSON
from tests.unit.task_manager.steps import ORDER, complete, order

RULES = """
version: 2026-03
rules:
  - name: one-radiograph
    app: lung-ct
    when: {source.calling_ae: [CT1, CT2], source.called_ae: AIRWAY}
    series:
      - name: image
        where: {Modality: CT}
        review_above: 1
        parameter: image_series
        images:
          where: {InstanceNumber: {ge: 2}}
          prefer: [{attribute: InstanceNumber, order: descending}]
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBed]:
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made = make_service(tmp_path, url, rules=RULES)
    yield made
    made.database.close()


def story(bed: TestBed) -> StudyStory:
    found = bed.service.story(STUDY)
    assert found is not None
    return found


def second_series(number: int) -> bytes:
    image = ct_data_set(number, SeriesInstanceUID=f"{STUDY}.2", SeriesNumber=2)
    image.SOPInstanceUID = f"{STUDY}.2.{number}"
    return part10(image)


def receive(bed: TestBed, *files: bytes, actor: Actor = SCANNER) -> None:
    for content in files:
        assert isinstance(bed.receive(content, actor), Accepted)


def inputs_of(bed: TestBed) -> list[tuple[str, dict[str, str]]]:
    """Of each workitem that may run: UIDs of its input images, and its parameters."""
    with bed.database.read() as connection:
        found = [one for one, _ in workitems.workitems_of_study(connection, STUDY)]
    told = []
    for workitem in found:
        if workitem.state is ProcedureStepState.CANCELED:
            continue
        images = [
            text(sop, "ReferencedSOPInstanceUID")
            for reference in items(workitem.attributes, "InputInformationSequence")
            for sop in items(reference, "ReferencedSOPSequence")
        ]
        parameters = {
            text(items(one, "ConceptNameCodeSequence")[0], "CodeMeaning"): text(one, "TextValue")
            for one in items(workitem.attributes, "ScheduledProcessingParametersSequence")
        }
        told.append((" ".join(images), parameters))
    return told


def test_only_the_chosen_image_becomes_input_and_its_series_is_named(bed: TestBed) -> None:
    receive(bed, *(ct(number) for number in (1, 2, 3)))
    complete(bed)

    [(images, parameters)] = inputs_of(bed)
    assert images == f"{STUDY}.1.3"
    assert parameters["image_series"] == f"{STUDY}.1"
    [(_, _, explanation)] = story(bed).explanations
    assert explanation.verdict is RuleVerdict.MATCHED
    assert explanation.rules_version.startswith("2026-03 (")


@pytest.mark.parametrize(
    "actor", [replace(SCANNER, called="OTHER"), replace(SCANNER, name="CT9")], ids=["called", "calling"]
)
def test_who_sent_it_to_whom_is_a_condition(bed: TestBed, actor: Actor) -> None:
    receive(bed, ct(2), actor=actor)
    complete(bed)

    assert inputs_of(bed) == []
    assert story(bed).explanations[0][2].verdict is RuleVerdict.NOT_MATCHED


def test_many_candidates_wait_for_a_person_who_lets_the_rule_run(bed: TestBed) -> None:
    receive(bed, ct(2), second_series(5))
    complete(bed)

    assert inputs_of(bed) == []
    assert story(bed).explanations[0][2].verdict is RuleVerdict.REVIEW
    waiting = bed.service.attention.everything()
    [held] = waiting.jobs
    assert "2 series are candidates for input image, more than 1" in held.why
    said = story_text(story(bed))
    assert "! rule one-radiograph waits for a person: 2 series are candidates" in said
    assert f"POST /api/jobs/{quote(held.key, safe='')}/retry" in said
    assert waiting.lanes == ()

    assert isinstance(bed.service.dead_letters.retry(held.key, actor=PERSON), Accepted)
    bed.service.scheduler.complete_due_studies()

    [(images, _)] = inputs_of(bed)
    assert images == f"{STUDY}.2.5"
    [(_, _, explanation)] = story(bed).explanations
    assert (explanation.verdict, explanation.note) == (RuleVerdict.MATCHED, "a person let it run")
    assert bed.service.attention.everything().jobs == ()
    bed.service.scheduler.complete_due_studies()
    assert len(inputs_of(bed)) == 1


def test_newer_images_end_a_review_and_ask_again(bed: TestBed) -> None:
    receive(bed, ct(2), second_series(5))
    complete(bed)
    [first] = bed.service.attention.everything().jobs
    receive(bed, ct(3))
    complete(bed)

    [second] = bed.service.attention.everything().jobs
    assert second.key != first.key
    assert isinstance(bed.service.dead_letters.retry(first.key, actor=PERSON), Refused)


def test_a_decision_on_an_older_revision_schedules_nothing(bed: TestBed) -> None:
    receive(bed, ct(2), second_series(5))
    complete(bed)
    [held] = bed.service.attention.everything().jobs
    assert isinstance(bed.service.dead_letters.retry(held.key, actor=PERSON), Accepted)
    receive(bed, ct(3))
    bed.service.scheduler.complete_due_studies()
    with bed.database.read() as connection:
        found = connection.execute(text_of("SELECT summary FROM job WHERE key = :key"), {"key": held.key})
        assert found.scalar_one() == "the study was looked at anew"
    bed.clock.pass_(31)
    bed.service.scheduler.complete_due_studies()

    assert inputs_of(bed) == []
    assert len(bed.service.attention.everything().jobs) == 1


def test_a_revoked_order_keeps_a_decision_from_scheduling(bed: TestBed) -> None:
    order(bed)
    receive(bed, ct(2), second_series(5))
    complete(bed)
    [held] = bed.service.attention.everything().jobs
    canceled = replace(ORDER, control=type(ORDER.control)("CA"))
    order(bed, canceled, "M2")
    bed.service.dead_letters.retry(held.key, actor=PERSON)
    bed.service.scheduler.complete_due_studies()

    assert inputs_of(bed) == []
