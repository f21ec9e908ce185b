# SPDX-License-Identifier: Apache-2.0
"""Studies complete by evidence, for themselves and for each rule; nothing of it is lost by a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from informatics_gateway.story_words import story_text
from profiles.dicom_json import DicomJson, element, merged
from task_manager.actor import Actor
from task_manager.outcome import Accepted
from task_manager.rules.explain import RuleVerdict
from task_manager.store import studies
from task_manager.story import StudyStory
from task_manager.study.completeness import CompletenessPolicy, Fallback
from task_manager.study.evidence import StudyEvidence
from task_manager.study.model import Evidence, StudyState
from task_manager.study.sources import Policies, SourcePolicy
from tests.instances import SERIES, STUDY, ct, ct_data_set, part10
from tests.service import PERFORMER, QUIET, RULES, SCANNER, TestBed, make_service
from tests.unit.task_manager.steps import LOCK, ORDER, order, run_to_completed

POLICY = CompletenessPolicy(evidence=(Evidence.MPPS,), quiet=QUIET)
TWO_RULES = """
rules:
  - name: early
    app: lung-ct
    when: {Modality: CT}
    completeness: {evidence: [required-series]}
    series:
      - {name: ct, where: {Modality: CT}, min_instances: 2}
  - name: late
    app: lung-ct
    when: {Modality: CT}
    completeness: {quiet_s: 300}
    series:
      - {name: ct, where: {Modality: CT}}
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""


@pytest.fixture
def evident(tmp_path: Path, url: str) -> Iterator[TestBed]:
    """A site where a performed procedure step completes a study."""
    made = make_service(tmp_path, url, completeness=Policies(usual=POLICY))
    yield made
    made.database.close()


def look(bed: TestBed, seconds: float = 0) -> StudyStory:
    """The study after so many seconds and a tick."""
    bed.clock.pass_(seconds)
    bed.service.scheduler.complete_due_studies()
    story = bed.service.story(STUDY)
    assert story is not None
    return story


def mpps(bed: TestBed, *numbers: int, ended: bool = True) -> StudyEvidence:
    return StudyEvidence(
        kind=Evidence.MPPS,
        study_instance_uid=STUDY,
        source="1.2.3.4",
        told_at=bed.clock.now,
        series={SERIES: frozenset(f"{STUDY}.1.{number}" for number in numbers)},
        ended=ended,
    )


def note(bed: TestBed, *numbers: int, ended: bool = True) -> None:
    bed.service.note_evidence(mpps(bed, *numbers, ended=ended), bed.clock.now)


def other_series(number: int) -> bytes:
    image = ct_data_set(number, SeriesInstanceUID=f"{STUDY}.5", Modality="OT")
    image.SOPInstanceUID = f"{STUDY}.5.{number}"
    return part10(image)


def test_a_step_that_names_all_images_completes_a_study_at_the_first_pause(evident: TestBed) -> None:
    note(evident, 1, 2)
    evident.receive(ct(1))
    assert look(evident, 2).study.state is StudyState.RECEIVING
    evident.receive(ct(2))
    assert look(evident, 1).study.state is StudyState.RECEIVING

    story = look(evident, 1)

    assert (story.study.state, story.study.evidence) == (StudyState.COMPLETE, Evidence.MPPS)
    assert "all 2 images" in story.completeness.reason
    assert len(story.workitems) == 1


def test_evidence_that_comes_after_the_images_is_looked_at_once(evident: TestBed) -> None:
    evident.receive(ct(1))
    evident.receive(ct(2))
    look(evident, 5)
    note(evident, 1, 2)

    assert look(evident).study.evidence is Evidence.MPPS


def test_missing_images_are_waited_for_longer_than_the_quiet_period(evident: TestBed) -> None:
    note(evident, 1, 2, 3)
    evident.receive(ct(1))
    evident.receive(ct(2))
    waiting = look(evident, 60)
    assert waiting.study.state is StudyState.RECEIVING
    assert "1 of 3 images named by the modality" in waiting.completeness.waiting[0].what

    story = look(evident, 600)

    assert (story.study.state, story.study.evidence) == (StudyState.COMPLETE, Evidence.QUIET_PERIOD)
    assert "without 1 of 3 images" in story.completeness.reason


def test_a_restart_loses_no_evidence_and_no_deadline(tmp_path: Path, url: str) -> None:
    policies = Policies(usual=POLICY)
    bed = make_service(tmp_path, url, completeness=policies)
    note(bed, 1, 2)
    bed.receive(ct(1))
    look(bed, 60)
    bed.database.close()

    again = make_service(tmp_path, url, completeness=policies)
    again.clock.now = bed.clock.now
    again.receive(ct(2))

    assert look(again, 2).study.evidence is Evidence.MPPS
    again.database.close()


def test_a_study_that_never_goes_quiet_is_complete_at_its_bound(tmp_path: Path, url: str) -> None:
    policy = replace(POLICY, bound=timedelta(seconds=100), settle=timedelta(seconds=20))
    bed = make_service(tmp_path, url, completeness=Policies(usual=policy))
    for number in range(1, 12):
        bed.receive(ct(number))
        bed.service.scheduler.complete_due_studies()
        bed.clock.pass_(10)

    story = look(bed)

    assert (story.study.state, story.study.evidence) == (StudyState.COMPLETE, Evidence.UPPER_BOUND)
    assert "100 s have passed since its first image" in story.completeness.reason
    bed.database.close()


def test_sources_have_policies_of_their_own(tmp_path: Path, url: str) -> None:
    slow = SourcePolicy(
        policy=replace(POLICY, evidence=(), quiet=timedelta(seconds=500)),
        calling=("CT*",),
        called=("AIRWAY",),
    )
    bed = make_service(tmp_path, url, completeness=Policies(usual=POLICY, sources=(slow,)))
    elsewhere = f"{STUDY}.77"
    for number in (1, 2):
        bed.receive(ct(number))
        bed.receive(ct(number, study=elsewhere), actor=replace(SCANNER, name="MR1"))

    story = look(bed, 31)
    other = bed.service.story(elsewhere)

    assert story.study.state is StudyState.RECEIVING
    assert other is not None
    assert other.study.state is StudyState.COMPLETE
    assert look(bed, 500).study.state is StudyState.COMPLETE
    bed.database.close()


def test_a_rule_runs_when_its_series_are_here_and_another_waits_for_all(tmp_path: Path, url: str) -> None:
    bed = make_service(tmp_path, url, rules=TWO_RULES)
    bed.receive(ct(1))
    assert look(bed, 2).workitems == ()
    bed.receive(ct(2))

    early = look(bed, 2)
    verdicts = {one.rule: one.verdict for revision, _, one in early.explanations if revision == 1}
    assert (early.study.state, early.study.revision) == (StudyState.RECEIVING, 1)
    assert [one.rule for one in early.workitems] == ["early"]
    assert verdicts == {"early": RuleVerdict.MATCHED, "late": RuleVerdict.WAITING}
    assert [(one.rule, one.what) for one in early.completeness.waiting if one.rule] == [
        ("late", "5 min without images")
    ]
    assert look(bed, 31).study.state is StudyState.RECEIVING

    whole = look(bed, 300)
    assert (whole.study.state, whole.study.revision) == (StudyState.COMPLETE, 2)
    assert [one.rule for one in whole.workitems] == ["early", "late"]
    bed.database.close()


def test_a_rule_at_its_bound_runs_once_and_again_at_a_pause_whatever_comes(tmp_path: Path) -> None:
    rules = TWO_RULES.replace("[required-series]}", "[required-series], at_most_s: 20}")
    bed = make_service(tmp_path, rules=rules)
    for number in range(1, 41):
        bed.receive(ct(number))
        bed.service.scheduler.complete_due_studies()
        bed.clock.pass_(1)

    assert [one.rule for one in look(bed).workitems] == ["early"]
    assert look(bed).study.revision == 1
    paused = look(bed, 2)
    assert (paused.study.state, paused.study.revision) == (StudyState.RECEIVING, 2)
    assert [one.state for one in paused.workitems] == ["CANCELED", "SCHEDULED"]
    assert look(bed, 5).study.revision == 2
    bed.database.close()


def test_an_order_that_comes_while_a_study_is_looked_at_is_not_lost(tmp_path: Path) -> None:
    policy = CompletenessPolicy(evidence=(Evidence.ORDER,), fallback=Fallback.NONE, instances=2)
    bed = make_service(tmp_path, completeness=Policies(usual=policy))
    for number in (1, 2):
        bed.receive(ct(number))
    bed.clock.pass_(5)
    with bed.database.read() as connection:
        (due,) = [one.deadline_at for one in studies.studies_in(connection, [StudyState.RECEIVING], limit=9)]
    assert due is not None
    order(bed)

    with bed.database.write() as connection:  # what somebody does who looked before the order came
        moved = studies.postpone_studies(connection, {STUDY: (due, due + timedelta(hours=2))})

    assert moved == []
    assert look(bed).study.evidence is Evidence.ORDER
    bed.database.close()


def test_a_rule_that_is_about_other_studies_keeps_none_open(tmp_path: Path, url: str) -> None:
    rules = TWO_RULES.replace(
        "when: {Modality: CT}\n    completeness: {quiet_s", "when: {Modality: MR}\n    completeness: {quiet_s"
    )
    bed = make_service(tmp_path, url, rules=rules)
    bed.receive(ct(1))
    bed.receive(ct(2))

    assert look(bed, 31).study.state is StudyState.COMPLETE
    bed.database.close()


def test_an_unselected_series_that_grows_runs_nothing_again(bed: TestBed) -> None:
    for number in (1, 2):
        bed.receive(ct(number))
    look(bed, 31)
    bed.receive(other_series(1))

    story = look(bed, 31)

    assert (story.study.revision, len(story.workitems)) == (2, 1)
    assert story.completeness.superseded == {}


def test_results_of_a_former_selection_are_superseded(bed: TestBed) -> None:
    first = run_to_completed(bed)
    bed.receive(ct(3))

    story = look(bed, 31)

    second = next(one for one in story.workitems if one.uid != first)
    assert second.state == "SCHEDULED"
    assert {uid: one.by for uid, one in story.completeness.superseded.items()} == {first: second.uid}
    assert f"superseded by {second.uid}" in story_text(story)


def test_of_a_selection_that_is_again_what_it_was_the_first_results_count(tmp_path: Path) -> None:
    two = "{Modality: [CT, OT]}, min_instances: 2, max_instances: 2"
    chosen = f"{two}, prefer: [{{attribute: Modality, values: [OT, CT]}}]"
    bed = make_service(tmp_path, rules=RULES.replace("{Modality: CT}, min_instances: 2", chosen))
    first = run_to_completed(bed)
    for number in (1, 2):
        bed.receive(other_series(number))
    other = next(one.uid for one in look(bed, 31).workitems if one.uid != first)
    worklist = bed.service.worklist
    taken = worklist.change_state(other, "IN PROGRESS", transaction_uid=LOCK, actor=PERFORMER)
    assert isinstance(taken, Accepted)

    bed.receive(other_series(3))

    superseded = look(bed, 31).completeness.superseded
    assert {uid: one.by for uid, one in superseded.items()} == {other: first}
    bed.database.close()


def test_results_of_a_rule_that_matches_no_longer_are_superseded_by_nothing(tmp_path: Path, url: str) -> None:
    rules = RULES.replace("when: {Modality: CT}", "when: {not: {ModalitiesInStudy: OT}}")
    bed = make_service(tmp_path, url, rules=rules)
    first = run_to_completed(bed)
    bed.receive(other_series(1))

    story = look(bed, 31)

    assert {uid: one.by for uid, one in story.completeness.superseded.items()} == {first: ""}
    bed.database.close()


def test_an_order_that_comes_late_completes_a_study_again_at_once(evident: TestBed) -> None:
    note(evident, 1, 2)
    for number in (1, 2):
        evident.receive(ct(number))
    assert look(evident, 2).study.revision == 1
    evident.clock.pass_(3600)
    order(evident)

    story = look(evident)

    assert (story.study.state, story.study.revision) == (StudyState.COMPLETE, 2)
    assert story.study.evidence is Evidence.MPPS


def test_an_order_that_is_waited_for_is_looked_at_when_it_comes(tmp_path: Path, url: str) -> None:
    policy = CompletenessPolicy(evidence=(Evidence.ORDER,), fallback=Fallback.NONE, instances=2)
    bed = make_service(tmp_path, url, completeness=Policies(usual=policy))
    for number in (1, 2):
        bed.receive(ct(number))
    assert look(bed, 600).completeness.waiting[0].what == "an order"
    order(bed, ORDER)

    assert look(bed).study.evidence is Evidence.ORDER
    bed.database.close()


def test_rules_without_a_word_on_completeness_are_as_before(bed: TestBed) -> None:
    assert "completeness" not in RULES
    for number in (1, 2):
        bed.receive(ct(number))

    assert look(bed, 29.9).study.state is StudyState.RECEIVING
    assert look(bed, 0.1).study.evidence is Evidence.QUIET_PERIOD


def test_a_notification_of_all_images_completes_a_study(tmp_path: Path, url: str) -> None:
    usual = replace(POLICY, evidence=(Evidence.IAN,))
    bed = make_service(tmp_path, url, completeness=Policies(usual=usual))
    for number in (1, 2):
        bed.receive(ct(number))
    bed.clock.pass_(2)
    told = bed.service.availability.receive_availability(
        notification(1, 2), actor=Actor(door="dicom", name="PACS1")
    )
    assert isinstance(told, Accepted)

    story = look(bed)

    assert story.study.evidence is Evidence.IAN
    assert [(one.source, one.here, one.named) for one in story.completeness.evidence] == [("PACS1", 2, 2)]
    bed.database.close()


def notification(*numbers: int) -> DicomJson:
    references = [
        merged(
            [
                element("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
                element("ReferencedSOPInstanceUID", f"{STUDY}.1.{number}"),
                element("InstanceAvailability", "ONLINE"),
                element("RetrieveAETitle", "PACS1"),
            ]
        )
        for number in numbers
    ]
    series = merged([element("SeriesInstanceUID", SERIES), element("ReferencedSOPSequence", *references)])
    return merged(
        [
            element("ReferencedPerformedProcedureStepSequence"),
            element("StudyInstanceUID", STUDY),
            element("ReferencedSeriesSequence", series),
        ]
    )
