# SPDX-License-Identifier: Apache-2.0
"""Which objects a policy is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from task_manager.disk import (
    WANTED_TEXT,
    HeldObject,
    ObjectKind,
    ObjectPolicy,
    StudyFacts,
    Wanted,
    applies,
    first_due,
    removable,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
MONTH = timedelta(days=30)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def facts(received: float = 40, delivered: float | None = 35, rules: tuple[str, ...] = ()) -> StudyFacts:
    return StudyFacts(
        study_instance_uid="1.2",
        last_received_at=ago(received),
        delivered_at=None if delivered is None else ago(delivered),
        rules=frozenset(rules),
    )


def policy(
    name: str = "p",
    objects: ObjectKind = ObjectKind.ALL,
    days: float = 30,
    delivered: bool = True,
    rules: tuple[str, ...] = (),
) -> ObjectPolicy:
    return ObjectPolicy(
        name=name, objects=objects, after=timedelta(days=days), delivered=delivered, rules=frozenset(rules)
    )


@pytest.mark.parametrize(
    ("wanted", "of", "expected"),
    [
        pytest.param(policy(), facts(), True, id="delivered-and-old"),
        pytest.param(policy(), facts(delivered=29), False, id="the-delivery-is-young"),
        pytest.param(policy(), facts(received=29), False, id="an-image-came-late"),
        pytest.param(policy(), facts(received=30, delivered=30), True, id="to-the-second"),
        pytest.param(policy(), facts(delivered=None), False, id="never-delivered"),
        pytest.param(policy(delivered=False), facts(delivered=None), True, id="need-not-be-delivered"),
        pytest.param(policy(delivered=False), facts(delivered=1), False, id="but-if-so-its-age-counts"),
        pytest.param(policy(rules=("a",)), facts(rules=("a", "b")), True, id="of-its-rule"),
        pytest.param(policy(rules=("a",)), facts(rules=("b",)), False, id="of-another-rule"),
        pytest.param(policy(rules=("a",)), facts(), False, id="of-no-rule"),
    ],
)
def test_whether_a_policy_is_about_a_study(wanted: ObjectPolicy, of: StudyFacts, expected: bool) -> None:
    assert applies(wanted, of, NOW) is expected


HELD = [
    HeldObject(sop_instance_uid=uid, copy_number=0, sop_class_uid=sop_class, path=uid, size=1)
    for uid, sop_class in (("1", CT), ("2", SEG))
]
IMAGES = policy("images", ObjectKind.IMAGES)
RESULTS = policy("results", ObjectKind.RESULTS, days=365)


@pytest.mark.parametrize(
    ("policies", "of", "expected"),
    [
        pytest.param([IMAGES, RESULTS], facts(), {"images": ["1"]}, id="each-kind-has-its-age"),
        pytest.param(
            [IMAGES, RESULTS], facts(400, 400), {"images": ["1"], "results": ["2"]}, id="both-in-the-end"
        ),
        pytest.param([policy("all"), IMAGES], facts(), {"all": ["1", "2"]}, id="the-first-counts"),
        pytest.param([], facts(), {}, id="no-policy"),
        pytest.param([RESULTS], facts(), {}, id="none-is-due"),
    ],
)
def test_what_goes(policies: list[ObjectPolicy], of: StudyFacts, expected: dict[str, list[str]]) -> None:
    found = removable(policies, of, HELD, NOW)
    assert {name: [one.sop_instance_uid for one in held] for name, held in found.items()} == expected


def test_only_studies_older_than_the_youngest_policy_are_looked_at() -> None:
    assert first_due([IMAGES, RESULTS], NOW) == NOW - MONTH
    assert first_due([], NOW) is None


def test_every_reason_has_words() -> None:
    assert set(WANTED_TEXT) == set(Wanted)
