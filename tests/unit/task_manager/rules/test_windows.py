# SPDX-License-Identifier: Apache-2.0
"""Time windows: days, hours over midnight, spans of days, zones with summer time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from task_manager.rules.evaluate import evaluate
from task_manager.rules.explain import RuleVerdict, from_json, render, to_json
from task_manager.rules.parse import parse_rules
from tests.unit.task_manager.rules.studies import rule_text, study

BERLIN = "Europe/Berlin"
CASES = [
    ("{days: MON-FRI}", "UTC", "2026-11-20T12:00", True),
    ("{days: MON-FRI}", "UTC", "2026-11-21T12:00", False),
    ("{days: [SAT, SUN]}", "UTC", "2026-11-21T12:00", True),
    ("{days: SAT-MON}", "UTC", "2026-11-23T12:00", True),
    ("{days: SAT-MON}", "UTC", "2026-11-24T12:00", False),
    ("{from: '08:00', to: '17:00'}", "UTC", "2026-11-20T08:00", True),
    ("{from: '08:00', to: '17:00'}", "UTC", "2026-11-20T17:00", False),
    ("{from: '17:00'}", "UTC", "2026-11-20T23:59", True),
    ("{to: '24:00'}", "UTC", "2026-11-20T23:59", True),
    ("{from: '17:00', to: '07:00'}", "UTC", "2026-11-20T06:59", True),
    ("{from: '17:00', to: '07:00'}", "UTC", "2026-11-20T12:00", False),
    ("{days: FRI, from: '17:00', to: '07:00'}", "UTC", "2026-11-21T06:00", True),
    ("{days: FRI, from: '17:00', to: '07:00'}", "UTC", "2026-11-20T06:00", False),
    ("{since: 2026-11-20, until: 2026-11-21}", "UTC", "2026-11-21T23:59", True),
    ("{since: 2026-11-20, until: 2026-11-21}", "UTC", "2026-11-22T00:00", False),
    ("{from: '08:00', to: '17:00'}", BERLIN, "2026-01-15T07:30", True),
    ("{from: '08:00', to: '17:00'}", BERLIN, "2026-07-15T06:30", True),
    ("{from: '08:00', to: '17:00'}", BERLIN, "2026-01-15T06:30", False),
    ("{days: SAT}", BERLIN, "2026-11-20T23:30", True),
]


@pytest.mark.parametrize(("window", "zone", "arrived", "active"), CASES)
def test_window(window: str, zone: str, arrived: str, active: bool) -> None:
    rules = parse_rules(f"time_zone: {zone}\n{rule_text()}\n    active: [{window}]", "t.yaml")
    of = replace(study(), first_received_at=datetime.fromisoformat(arrived).replace(tzinfo=UTC))
    (one,) = evaluate(rules, of, None)
    assert one.verdict is (RuleVerdict.MATCHED if active else RuleVerdict.NOT_MATCHED)
    assert from_json(to_json(one)) == one


def test_one_of_several_is_enough_and_is_told() -> None:
    text = rule_text() + "\n    active: [{days: SAT-SUN}, {from: '17:00', to: '07:00'}]"
    of = replace(study(), first_received_at=datetime(2026, 11, 20, 18, 5, tzinfo=UTC))
    (one,) = evaluate(parse_rules(text, "t.yaml"), of, None)
    assert one.matched
    assert render([one]).splitlines()[1:4] == [
        "  ✓ any of",
        "    ✗ arrived days SAT-SUN (UTC): FRI 2026-11-20 18:05",
        "    ✓ arrived from 17:00 to 07:00 (UTC): FRI 2026-11-20 18:05",
    ]
