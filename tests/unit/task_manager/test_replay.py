# SPDX-License-Identifier: Apache-2.0
"""What counts as treated differently, and the reasons told, over literal evaluations."""

from __future__ import annotations

import pytest

from task_manager.replay import differences, reasons
from task_manager.rules.evaluate import Evaluator, evaluate
from task_manager.rules.explain import RuleExplanation
from task_manager.rules.parse import parse_rules
from tests.unit.task_manager.rules.studies import explained, rule_text, series, study

OF = study(series("1.2.3.1"), series("1.2.3.2"))
MATCHED = rule_text("{Modality: CT}")
NEVER = rule_text("{Modality: MR}")


def of(text: str) -> tuple[RuleExplanation, ...]:
    return evaluate(parse_rules(text, "t.yaml"), OF, None)


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        (MATCHED, MATCHED, False),
        (MATCHED, NEVER, True),
        (MATCHED, "rules: []", True),
        ("rules: []", MATCHED, True),
        ("rules: []", NEVER, False),
        (NEVER, rule_text("{Laterality: L}"), False),
        (MATCHED, rule_text("{SeriesDescription: {exists: true}}"), False),
        (MATCHED, MATCHED.replace("app: a", "app: b"), True),
        (MATCHED, rule_text(series_text="{name: any, take: all}"), True),
        (MATCHED, rule_text(series_text="{name: any, review_above: 1}"), True),
        (MATCHED, MATCHED + "\n    priority: HIGH", False),
    ],
    ids=[
        "the same",
        "no longer",
        "gone",
        "new",
        "new and never",
        "never for another reason",
        "for another reason",
        "another app",
        "other series",
        "now a person looks",
        "another priority",
    ],
)
def test_what_is_treated_differently(before: str, after: str, differs: bool) -> None:
    assert bool(differences(of(before), of(after))) is differs


def test_a_rule_that_a_person_let_run_is_compared_with_one_that_waits() -> None:
    rules = parse_rules(rule_text(series_text="{name: any, review_above: 1}"), "t.yaml")
    evaluator = Evaluator(rules)
    let = evaluator.explain(OF, None, approved=("r",))
    assert differences(let, evaluator.explain(OF, None)) == ()
    assert differences(let, of(MATCHED)) != ()


@pytest.mark.parametrize(
    ("when", "series_text", "said"),
    [
        ("{Modality: CT}", "{name: s}", ()),
        ("{Modality: MR}", "{name: s}", ("Modality equals 'MR': 'CT' (of all series)",)),
        ("{not: {Modality: CT}}", "{name: s}", ("not Modality equals 'CT': 'CT' (of all series)",)),
        ("{Laterality: L}", "{name: s}", ("Laterality equals 'L' (no value)",)),
        (
            "[{Modality: MR}, {any: [{BodyPartExamined: HEAD}, {KVP: 80}]}, {PatientSex: F}]",
            "{name: s}",
            (
                "Modality equals 'MR': 'CT' (of all series)",
                "BodyPartExamined equals 'HEAD': 'CHEST' (of all series)",
                "KVP equals '80': '120.00' (of all series)",
            ),
        ),
        ("{Modality: CT}", "{name: s, where: {KVP: 80}}", ("no series is input s",)),
    ],
)
def test_reasons(when: str, series_text: str, said: tuple[str, ...]) -> None:
    assert reasons(explained(when, series_text)) == said


def test_the_reason_of_a_rule_passed_over_is_the_rule_before() -> None:
    text = "match: first\n" + MATCHED + "\n" + MATCHED[7:].replace("name: r", "name: q")
    _, second = of(text)
    assert reasons(second) == ("rule r comes first, and only the first of its file runs",)
