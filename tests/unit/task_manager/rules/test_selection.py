# SPDX-License-Identifier: Apache-2.0
"""First match, known before unknown, reviews, inputs that exclude each other, senders, costly conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from profiles.dicom_json import element, merged
from task_manager.actor import Actor, Source
from task_manager.rules.acquisition import ImageHeader, KeptAcquisition
from task_manager.rules.evaluate import Evaluator, evaluate
from task_manager.rules.explain import RuleVerdict, from_json, render, to_json
from task_manager.rules.model import Verdict
from task_manager.rules.parse import parse_rule_texts, parse_rules
from tests.unit.task_manager.rules.headers import explained_headers, header, stack
from tests.unit.task_manager.rules.studies import explained, rule_text, series, study, verdict_of

T, F, U = Verdict.TRUE, Verdict.FALSE, Verdict.UNKNOWN
TWO = """
match: first
rules:
  - {name: one, app: a, when: {Modality: %s}, series: [{name: s}]}
  - {name: two, app: b, series: [{name: s}]}
"""


@pytest.mark.parametrize(
    ("modality", "verdicts"),
    [
        ("CT", [RuleVerdict.MATCHED, RuleVerdict.PASSED_OVER]),
        ("MR", [RuleVerdict.NOT_MATCHED, RuleVerdict.MATCHED]),
        ("{code: X}", None),
    ],
)
def test_of_a_file_only_the_first_match_runs(modality: str, verdicts: list[RuleVerdict] | None) -> None:
    if verdicts is None:
        text = TWO.replace("Modality: %s", "Laterality: L")
        verdicts = [RuleVerdict.UNKNOWN, RuleVerdict.MATCHED]
    else:
        text = TWO % modality
    found = evaluate(parse_rules(text, "t.yaml"), study(), None)
    assert [one.verdict for one in found] == verdicts
    if verdicts[1] is RuleVerdict.PASSED_OVER:
        assert "rule one comes first" in render(found)
    assert [from_json(to_json(one)) for one in found] == list(found)


def test_another_file_is_not_passed_over() -> None:
    other = "rules:\n  - {name: three, app: c, series: [{name: s}]}"
    found = evaluate(parse_rule_texts({"a.yaml": TWO % "CT", "b.yaml": other}), study(), None)
    assert [one.verdict for one in found] == [
        RuleVerdict.MATCHED,
        RuleVerdict.PASSED_OVER,
        RuleVerdict.MATCHED,
    ]


@pytest.mark.parametrize(
    ("conditions", "verdict"),
    [
        ("[{Laterality: L}, {Modality: CT}]", T),
        ("[{Laterality: L}, {Modality: MR}]", F),
        ("[{Modality: MR}, {BodyPartExamined: CHEST}]", F),
        ("[{Modality: CT}, {BodyPartExamined: HEAD}]", T),
        ("[{Laterality: L}, {ProtocolName: X}]", U),
    ],
)
def test_the_first_known_decides(conditions: str, verdict: Verdict) -> None:
    assert verdict_of(f"{{first_known: {conditions}}}") is verdict


def test_the_version_an_author_gives_is_shown() -> None:
    (one,) = evaluate(parse_rules("version: spring\n" + rule_text(), "t.yaml"), study(), None)
    assert one.rules_version.startswith("spring (")


def _many(number: int, more: str = "review_above: 2") -> RuleVerdict:
    of = study(*(series(f"1.2.3.{at}") for at in range(number)))
    return explained(series_text=f"{{name: s, {more}}}", of=of).verdict


def test_more_candidates_than_allowed_wait_for_a_person() -> None:
    assert [_many(number) for number in (1, 2, 3)] == [
        RuleVerdict.MATCHED,
        RuleVerdict.MATCHED,
        RuleVerdict.REVIEW,
    ]


def test_a_person_lets_one_rule_run() -> None:
    rules = parse_rules(rule_text(series_text="{name: s, review_above: 1}"), "t.yaml")
    of = study(series("1.2.3.2"), series("1.2.3.1"))
    (held,) = Evaluator(rules).explain(of, None)
    (let,) = Evaluator(rules).explain(of, None, approved=("r",))
    assert (held.verdict, held.review) == (
        RuleVerdict.REVIEW,
        "2 series are candidates for input s, more than 1",
    )
    assert (let.verdict, let.selected_series, let.note) == (
        RuleVerdict.MATCHED,
        ("1.2.3.1",),
        "a person let it run",
    )


def test_a_series_of_an_earlier_input_is_not_taken_again() -> None:
    text = rule_text(series_text="{name: first}") + "\n      - {name: second, other_than: [first]}"
    of = study(series("1.2.3.1"), series("1.2.3.2"))
    (one,) = evaluate(parse_rules(text, "t.yaml"), of, None)
    assert [r.selected for r in one.requirements] == [("1.2.3.1",), ("1.2.3.2",)]
    assert one.requirements[1].series[0].reason == "not selected: it is input first"


def test_images_of_all_series_compete() -> None:
    headers = [header(n, n, Modality="CR", SeriesNumber=9 - n) for n in (1, 2, 3)]
    rules = parse_rules(
        rule_text(
            series_text="{name: s, images: {where: {InstanceNumber: {lt: 3}},"
            " prefer: [{attribute: InstanceNumber, order: descending}]}}"
        ),
        "t.yaml",
    )
    (one,) = explained_headers(rules, headers)
    assert one.requirements[0].selected_images == ("1.2.3.2.2",)
    assert [s.reason.partition(" by ")[0] for s in one.requirements[0].series] == [
        "not selected: place 2 of 2 candidates",
        "selected: place 1 of 2 candidates",
        "not selected: none of its images is as asked",
    ]
    assert from_json(to_json(one)) == one


@pytest.mark.parametrize(
    ("take", "chosen"), [("one", 2), ("all", 4)], ids=["the best of each series", "all that fit"]
)
def test_images_of_every_series_taken(take: str, chosen: int) -> None:
    headers = [header(n, at, Modality="CR") for n in (1, 2) for at in (1, 2)]
    rules = parse_rules(
        rule_text(series_text=f"{{name: s, take: all, images: {{where: {{Modality: CR}}, take: {take}}}}}"),
        "t",
    )
    (one,) = explained_headers(rules, headers)
    assert len(one.requirements[0].selected_images) == chosen


def test_an_explanation_shows_some_images_and_counts_the_rest() -> None:
    headers = [header(1, number, Modality="CR") for number in range(1, 60)]
    rules = parse_rules(rule_text(series_text="{name: s, images: {where: {Modality: CR}}}"), "t")
    (one,) = explained_headers(rules, headers)
    shown = one.requirements[0].series[0]
    assert (len(shown.images), shown.more_images) == (20, 39)
    assert "and 39 more images" in render([one])


SENDERS = {
    "1.2.3.1": [
        Source.of(Actor(door="dicom", name="CT1", called="AIRWAY").source),
        Source.of(Actor(door="dicomweb", name="router").source),
    ]
}


@pytest.mark.parametrize(
    ("when", "verdict"),
    [
        ("{source.calling_ae: CT1}", T),
        ("{source.calling_ae: {like: 'rou*'}}", T),
        ("{source.calling_ae: CT2}", F),
        ("{source.called_ae: AIRWAY}", T),
        ("{source.called_ae: {in: [AIRWAY_NIGHT]}}", F),
        ("{source.door: DICOMWEB}", T),
    ],
)
def test_senders(when: str, verdict: Verdict) -> None:
    acquisition = KeptAcquisition(sent_by=SENDERS)
    (one,) = evaluate(parse_rules(rule_text(when), "t"), study(), None, acquisition)
    assert one.when.verdict is verdict
    (unknown,) = evaluate(parse_rules(rule_text(when), "t"), study(), None)
    assert unknown.when.verdict is U


class CountingAcquisition:
    """Tells which series' images were read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def sources(self, series_instance_uid: str) -> Sequence[Source]:
        return ()

    def images(self, series_instance_uid: str) -> Iterator[ImageHeader]:
        self.read.append(series_instance_uid)
        for one in stack(1, 4, 2.0):
            yield ImageHeader(
                sop_instance_uid=one.sop_instance_uid, instance_number=1, attributes=one.attributes
            )


def test_images_are_read_once_and_only_of_series_that_may_fit() -> None:
    ct, mr = series("1.2.3.1"), series("1.2.3.2", merged([element("Modality", "MR")]))
    rule = "{name: s, where: {Modality: CT, geometry.spacing_mm: 2, geometry.gaps: 0}}"
    text = rule_text(series_text=rule) + "\n" + rule_text(series_text=rule)[7:].replace("name: r", "name: q")
    acquisition = CountingAcquisition()
    first, second = evaluate(parse_rules(text, "t"), study(ct, mr), None, acquisition)
    assert first.matched
    assert second.matched
    assert acquisition.read == ["1.2.3.1"]
    skipped = first.requirements[0].series[1].where.parts[1]
    assert (skipped.verdict, skipped.note) == (U, "not looked at: another condition is not met")


def test_no_image_is_read_for_a_rule_that_does_not_run_anyway() -> None:
    acquisition = CountingAcquisition()
    text = rule_text("{Modality: MR}", "{name: s, images: {where: {Modality: CT}}}")
    (one,) = evaluate(parse_rules(text, "t"), study(), None, acquisition)
    assert (one.verdict, acquisition.read) == (RuleVerdict.NOT_MATCHED, [])


@pytest.mark.parametrize(
    ("series_text", "costly"),
    [
        ("{name: s, where: {Modality: CT}}", False),
        ("{name: s, where: {not: {geometry.gaps: 0}}}", True),
        ("{name: s, prefer: [{attribute: geometry.spacing_mm, order: ascending}]}", True),
        ("{name: s, images: {where: {Modality: CT}}}", True),
    ],
)
def test_what_reads_all_headers_is_known_before(series_text: str, costly: bool) -> None:
    assert Evaluator(parse_rules(rule_text(series_text=series_text), "t")).is_costly is costly
