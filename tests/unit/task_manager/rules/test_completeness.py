# SPDX-License-Identifier: Apache-2.0
"""The key `completeness` of a rule: what it means, and every fault with line and key."""

from __future__ import annotations

from datetime import timedelta

import pytest

from task_manager.errors import ConfigurationError
from task_manager.rules.parse import parse_rules
from task_manager.study.completeness import CompletenessChange, Fallback, Need
from task_manager.study.model import Evidence

RULE = """rules:
  - name: a
    app: x
    series: [{name: s}]
    completeness: """


def test_a_rule_says_what_completes_a_study_for_it() -> None:
    text = (
        RULE + "{evidence: [order, required-series], need: all, series: 3, fallback: none, "
        "quiet_s: 7.5, patience_s: 60, at_most_s: 900}"
    )

    rule = parse_rules(text, "r.yaml").rules[0]

    assert rule.completeness == CompletenessChange(
        evidence=(Evidence.ORDER, Evidence.REQUIRED_SERIES),
        need=Need.ALL,
        series=3,
        fallback=Fallback.NONE,
        quiet=timedelta(seconds=7.5),
        patience=timedelta(minutes=1),
        bound=timedelta(minutes=15),
    )


def test_a_rule_without_it_changes_nothing() -> None:
    assert parse_rules(RULE.rsplit("\n", 1)[0] + "\n", "r.yaml").rules[0].completeness is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("{evidence: [smell]}", "must be one of order, ian, mpps", id="no-such-evidence"),
        pytest.param("{evidence: [ian, ian]}", "ian is named twice", id="twice"),
        pytest.param("{evidence: [quiet-period]}", "must be one of order", id="no-evidence-by-itself"),
        pytest.param("{need: some}", "must be one of any, all", id="need"),
        pytest.param("{fallback: never}", "must be one of quiet, none", id="fallback"),
        pytest.param("{series: 0}", "whole number from 1", id="no-series"),
        pytest.param("{instances: many}", "whole number from 1", id="no-number"),
        pytest.param("{quiet_s: 0}", "more than 0", id="no-time"),
        pytest.param("{quiet_s: nan}", "more than 0", id="not-a-number"),
        pytest.param("{at_most_s: 1e9}", "at most 604800", id="too-long"),
        pytest.param("{archives: [PACS]}", "archives", id="unknown-key"),
        pytest.param("mpps", "mapping", id="no-mapping"),
    ],
)
def test_faults_name_line_and_key(value: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_rules(RULE + value, "r.yaml")

    assert len(refused.value.faults) == 1
    assert str(refused.value.faults[0]).startswith("r.yaml:5")
    assert message in str(refused.value.faults[0])
