# SPDX-License-Identifier: Apache-2.0
"""Priors in the text of rules: what may be said, and every fault with its line."""

from __future__ import annotations

import pytest

from task_manager.errors import ConfigurationError
from task_manager.rules.model import Equals, PriorRequirement, Take
from task_manager.rules.parse import parse_rules

HEAD = """rules:
  - name: compare
    app: lung-ct
    series:
      - {name: now}
    priors:
"""


def parsed(text: str) -> PriorRequirement:
    (rule,) = parse_rules(HEAD + text, "rules.yaml", apps=["lung-ct"], archives=["pacs", "vna"]).rules
    return rule.priors[0]


def test_all_that_may_be_said() -> None:
    found = parsed(
        """      - name: before
        parameter: prior_series
        required: true
        count: 3
        modality: [CT, same]
        body_part: CHEST
        description: ["*thorax*"]
        min_age_days: 30
        max_age_days: 730
        archives: [vna]
        wait_min: 5
        where: {Modality: CT}
        min_instances: 20
        take: one
"""
    )
    assert (found.name, found.parameter, found.required, found.count) == ("before", "prior_series", True, 3)
    assert (found.modality, found.body_part, found.description) == (
        ("CT", "same"),
        ("CHEST",),
        ("*thorax*",),
    )
    assert (found.min_age_days, found.max_age_days, found.archives, found.wait_min) == (30, 730, ("vna",), 5)
    assert isinstance(found.series.where, Equals)
    assert (found.series.min_instances, found.series.take) == (20, Take.ONE)


def test_what_is_not_said() -> None:
    found = parsed("      - {name: before}\n")
    assert (found.required, found.count, found.wait_min, found.max_age_days) == (False, 1, 30, None)
    assert (found.archives, found.series.take) == ((), Take.ALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("      - {count: 2}\n", "name"),
        ("      - {name: now}\n", "another input has the name 'now'"),
        ("      - {name: before, archives: [pac]}\n", "there is no archive 'pac'"),
        ("      - {name: before, required: perhaps}\n", "must be true or false"),
        ("      - {name: before, count: 0}\n", "must be a whole number"),
        ("      - {name: before, min_age_days: 9, max_age_days: 3}\n", "less than min_age_days (9)"),
        ("      - {name: before, min_instances: 9, max_instances: 3}\n", "less than min_instances (9)"),
        ('      - {name: before, modality: ["", CT]}\n', "must not be empty"),
        ("      - {name: before, tka: all}\n", "tka"),
    ],
    ids=lambda value: value if not value.startswith(" ") else "",
)
def test_faults_have_a_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parsed(text)
    assert any(message in str(fault) and "rules.yaml:7" in str(fault) for fault in caught.value.faults)
