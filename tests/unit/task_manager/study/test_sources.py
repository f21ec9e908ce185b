# SPDX-License-Identifier: Apache-2.0
"""Policies: whose is whose, and how soon an image makes somebody look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from task_manager.actor import Source
from task_manager.study.completeness import CompletenessChange, CompletenessPolicy
from task_manager.study.model import Evidence
from task_manager.study.sources import Pause, Policies, SourcePolicy

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLOW = CompletenessPolicy(quiet=timedelta(minutes=5))
CT1 = Source(door="dicom", calling="CT1", called="AIRWAY")


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        pytest.param({}, True, id="any"),
        pytest.param({"calling": ("ct*",)}, True, id="calling-letter-case-aside"),
        pytest.param({"calling": ("MR*", "CT?")}, True, id="one-of-several"),
        pytest.param({"calling": ("MR*",)}, False, id="another-caller"),
        pytest.param({"calling": ("CT1",), "called": ("STAT",)}, False, id="another-called"),
        pytest.param({"doors": ("dicom",)}, True, id="door"),
        pytest.param({"doors": ("dicomweb",)}, False, id="another-door"),
    ],
)
def test_which_source_is_meant(wanted: dict[str, Any], fits: bool) -> None:
    assert SourcePolicy(policy=SLOW, **wanted).fits(CT1) is fits


def test_the_first_entry_that_fits_any_sender_counts() -> None:
    first = SourcePolicy(policy=SLOW, calling=("MR1",))
    second = SourcePolicy(policy=CompletenessPolicy(), calling=("CT1",))
    policies = Policies(sources=(first, second))

    assert policies.of([CT1, Source(door="dicom", calling="MR1")]) is first.policy
    assert policies.of([]) is policies.usual


def test_somebody_looks_as_soon_as_any_policy_wants_and_at_its_bound() -> None:
    rule = CompletenessChange(evidence=(Evidence.REQUIRED_SERIES,), bound=timedelta(minutes=1))
    policies = Policies(usual=SLOW, rules={"stroke": rule})

    pause = policies.pause("dicom:CT1")

    assert pause == Pause(timedelta(seconds=2), SLOW.bound, (timedelta(minutes=1),))
    assert pause.after(T0, T0) == T0 + timedelta(seconds=2)
    assert pause.after(T0 + timedelta(seconds=59), T0) == T0 + timedelta(minutes=1)
    assert Policies(usual=SLOW).pause("dicom:CT1").quiet == timedelta(minutes=5)


def test_past_the_bound_of_a_rule_not_every_image_makes_somebody_look() -> None:
    pause = Pause(timedelta(seconds=2), timedelta(hours=2), (timedelta(minutes=1),))
    just, long, past = (T0 + timedelta(seconds=seconds) for seconds in (61, 70, 7300))

    assert pause.after(just, T0) == T0 + timedelta(minutes=1)
    assert pause.after(long, T0) == long + timedelta(seconds=2)
    assert pause.after(past, T0) == T0 + timedelta(hours=2)


@pytest.mark.parametrize(
    ("policies", "archives", "orders"),
    [
        pytest.param(Policies(), False, False, id="none"),
        pytest.param(
            Policies(usual=CompletenessPolicy(evidence=(Evidence.ARCHIVE,))), True, False, id="usual"
        ),
        pytest.param(
            Policies(rules={"a": CompletenessChange(evidence=(Evidence.ORDER,))}), False, True, id="rule"
        ),
    ],
)
def test_what_has_to_be_asked(policies: Policies, archives: bool, orders: bool) -> None:
    assert (policies.ask_archives, policies.look_at_orders) == (archives, orders)
