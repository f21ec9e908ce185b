# SPDX-License-Identifier: Apache-2.0
"""Explanations: kept as JSON without loss, and readable."""

from __future__ import annotations

import pytest

from task_manager.rules.explain import from_json, render, to_json
from tests.unit.task_manager.rules.studies import ORDER, explained
from tests.unit.task_manager.rules.test_evaluate import CONDITIONS


@pytest.mark.parametrize("when", [text for text, _ in CONDITIONS])
def test_json_round_trip(when: str) -> None:
    one = explained(when, f"{{name: s, where: {when}}}", order=ORDER)
    assert from_json(to_json(one)) == one


def test_text_tree() -> None:
    one = explained(
        "{any: [{StudyDescription: {like: '*chest*'}}, {Laterality: L}]}",
        "{name: stack, where: {Modality: CT, not: {ImageType: LOCALIZER}}, min_instances: 20}",
    )
    assert render([one]).splitlines() == [
        "✓ rule r (t.yaml:2): matched, runs a",
        "  ✓ any of",
        "    ✓ StudyDescription is like '*chest*': 'CT CHEST W/O'",
        "    ? Laterality equals 'L' (no value)",
        "  ✓ input stack",
        "    ✓ series 4, CT, 'Thorax  1.0 B70f', 30 instances",
        "        selected: the only candidate",
        "        ✓ all of",
        "          ✓ Modality equals 'CT': 'CT'",
        "          ✓ not ImageType equals 'LOCALIZER': 'ORIGINAL', 'PRIMARY', 'AXIAL'",
        "          ✓ at least 20 instances: 30",
        f"rule set version {one.rules_version}",
    ]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{Modality: CT}", "✓ rule r (t.yaml:2): matched, runs a"),
        ("{Modality: MR}", "✗ rule r (t.yaml:2): not matched, a does not run"),
        ("{Laterality: L}", "? rule r (t.yaml:2): unknown because values are missing, a does not run"),
    ],
)
def test_first_line_says_what_became_of_the_rule(when: str, said: str) -> None:
    assert render([explained(when)]).splitlines()[0] == said


def test_no_rules() -> None:
    assert render([]) == "No rules are configured."
