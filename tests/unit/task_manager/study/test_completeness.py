# SPDX-License-Identifier: Apache-2.0
"""Completeness: what completes a study, what it waits for, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from task_manager.study.completeness import (
    Complete,
    CompletenessChange,
    CompletenessPolicy,
    Fallback,
    Here,
    Need,
    OrderWord,
    Times,
    Waiting,
    decide,
)
from task_manager.study.evidence import StudyEvidence, after_telling
from task_manager.study.model import Evidence

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = CompletenessPolicy()
BOTH = Here(instances=frozenset({"1.1", "1.2"}), series=frozenset({"1"}), images=2, image_series=1)
ONE = Here(instances=frozenset({"1.1"}), series=frozenset({"1"}), images=1, image_series=1)


def at(now: float, last: float = 0.0) -> Times:
    return Times(now=T0 + timedelta(seconds=now), since=T0, last=T0 + timedelta(seconds=last))


def told(
    kind: Evidence, *instances: str, source: str = "PACS", seconds: float = 0.0, **more: Any
) -> StudyEvidence:
    series = {"1": frozenset(instances)} if instances else {}
    return StudyEvidence(
        kind=kind,
        study_instance_uid="1.2.3",
        source=source,
        told_at=T0 + timedelta(seconds=seconds),
        series=series,
        **more,
    )


def policy(*evidence: Evidence, **more: Any) -> CompletenessPolicy:
    return CompletenessPolicy(evidence=evidence, **more)


MPPS, IAN, ORDER = Evidence.MPPS, Evidence.IAN, Evidence.ORDER
ARCHIVE, SERIES = Evidence.ARCHIVE, Evidence.REQUIRED_SERIES
TWO = ("1.1", "1.2")
REPEATED = told(ARCHIVE, *TWO, seconds=40, first_told_at=T0 + timedelta(seconds=5))


@pytest.mark.parametrize(
    ("asked", "evidence", "here", "times", "order", "kind", "words"),
    [
        pytest.param(
            POLICY, (), BOTH, at(30), None, Evidence.QUIET_PERIOD, "no image came for 30 s", id="quiet"
        ),
        pytest.param(
            policy(MPPS),
            (),
            BOTH,
            at(30),
            None,
            Evidence.QUIET_PERIOD,
            "without a performed",
            id="no-mpps-then-quiet",
        ),
        pytest.param(policy(MPPS), (told(MPPS, *TWO),), BOTH, at(2), None, MPPS, "all 2 images", id="mpps"),
        pytest.param(
            policy(MPPS),
            (told(MPPS, "1.1", source="A"), told(MPPS, "1.2", source="B")),
            BOTH,
            at(2),
            None,
            MPPS,
            "all 2 images",
            id="two-steps-are-both-here",
        ),
        pytest.param(
            policy(MPPS, IAN), (told(IAN, *TWO),), BOTH, at(2), None, IAN, "notification", id="any-of-two"
        ),
        pytest.param(
            policy(MPPS, IAN, need=Need.ALL),
            (told(IAN, *TWO), told(MPPS, *TWO)),
            BOTH,
            at(2),
            None,
            MPPS,
            "modality (MPPS) are here; all 2 images named by the notification",
            id="all-of-two",
        ),
        pytest.param(
            policy(ORDER, series=1, instances=2),
            (),
            BOTH,
            at(2),
            OrderWord(),
            ORDER,
            "stands for",
            id="order-counts",
        ),
        pytest.param(
            policy(ORDER),
            (),
            BOTH,
            at(2),
            OrderWord(instances=2),
            ORDER,
            "stands for",
            id="order-tells-counts",
        ),
        pytest.param(
            policy(ORDER),
            (),
            BOTH,
            at(2),
            OrderWord(completed=True),
            ORDER,
            "completed",
            id="order-says-completed",
        ),
        pytest.param(
            policy(ORDER),
            (told(ORDER, expected_series=1),),
            BOTH,
            at(2),
            None,
            ORDER,
            "stands for",
            id="told-of-order",
        ),
        pytest.param(
            policy(ARCHIVE), (REPEATED,), BOTH, at(40), None, ARCHIVE, "same again", id="archive-twice"
        ),
        pytest.param(
            policy(SERIES),
            (),
            Here(inputs_missing=()),
            at(2),
            None,
            SERIES,
            "all required series",
            id="required-series",
        ),
        pytest.param(
            policy(MPPS),
            (told(MPPS, *TWO),),
            ONE,
            at(600),
            None,
            Evidence.QUIET_PERIOD,
            "no image came for 10 min, without 1 of 2 images",
            id="patience-is-over",
        ),
        pytest.param(
            policy(MPPS, fallback=Fallback.NONE),
            (),
            BOTH,
            at(7200),
            None,
            Evidence.UPPER_BOUND,
            "2 h have passed since its first image; still missing: a performed",
            id="evidence-never-comes",
        ),
        pytest.param(
            POLICY,
            (),
            BOTH,
            at(7200, 7199),
            None,
            Evidence.UPPER_BOUND,
            "2 h have passed",
            id="never-goes-quiet",
        ),
        pytest.param(
            policy(MPPS),
            (told(MPPS, expected_instances=2),),
            BOTH,
            at(2),
            None,
            MPPS,
            "images named",
            id="only-counts",
        ),
    ],
)
def test_what_completes_a_study(
    asked: CompletenessPolicy,
    evidence: tuple[StudyEvidence, ...],
    here: Here,
    times: Times,
    order: OrderWord | None,
    kind: Evidence,
    words: str,
) -> None:
    decision = decide(asked, evidence, here, times, order)

    assert isinstance(decision, Complete)
    assert decision.evidence is kind
    assert words in decision.reason


@pytest.mark.parametrize(
    ("asked", "evidence", "here", "times", "order", "until", "words"),
    [
        pytest.param(POLICY, (), BOTH, at(29), None, 30, "30 s without images", id="quiet"),
        pytest.param(
            policy(MPPS), (told(MPPS, *TWO),), BOTH, at(1), None, 2, "a pause of 2 s", id="settles-first"
        ),
        pytest.param(policy(MPPS), (), BOTH, at(2), None, 30, "(MPPS), or 30 s", id="mpps-or-quiet"),
        pytest.param(
            policy(MPPS),
            (told(MPPS, *TWO),),
            ONE,
            at(30),
            None,
            600,
            "1 of 2 images named by the modality",
            id="missing",
        ),
        pytest.param(
            policy(MPPS),
            (told(MPPS, ended=False),),
            BOTH,
            at(30),
            None,
            600,
            "the end of 1 performed",
            id="in-progress",
        ),
        pytest.param(
            policy(MPPS),
            (told(MPPS, *TWO, source="A"), told(MPPS, ended=False, source="B")),
            BOTH,
            at(30),
            None,
            600,
            "the end of 1 performed",
            id="one-step-goes-on",
        ),
        pytest.param(
            policy(MPPS), (told(MPPS),), BOTH, at(2), None, 30, "names none", id="an-empty-list-says-nothing"
        ),
        pytest.param(policy(ORDER), (), BOTH, at(2), None, 30, "an order", id="no-order"),
        pytest.param(
            policy(ORDER),
            (),
            BOTH,
            at(2),
            OrderWord(),
            30,
            "end of the examination",
            id="order-tells-nothing",
        ),
        pytest.param(
            policy(ORDER, instances=5),
            (),
            BOTH,
            at(2),
            OrderWord(),
            600,
            "3 of 5 images of the order",
            id="order-counts",
        ),
        pytest.param(
            policy(ORDER, series=2),
            (),
            BOTH,
            at(2),
            OrderWord(),
            600,
            "1 of 2 series of the order",
            id="order-series",
        ),
        pytest.param(
            policy(ARCHIVE),
            (told(ARCHIVE, *TWO, seconds=3),),
            BOTH,
            at(3),
            None,
            30,
            "say the same again",
            id="asked-once",
        ),
        pytest.param(
            policy(ARCHIVE),
            (REPEATED,),
            BOTH,
            at(52, 50),
            None,
            80,
            "say the same again",
            id="an-image-came-since",
        ),
        pytest.param(
            policy(ARCHIVE, archives=("OTHER",)),
            (REPEATED,),
            BOTH,
            at(3),
            None,
            30,
            "answer of an archive",
            id="another",
        ),
        pytest.param(
            policy(ARCHIVE),
            (REPEATED,),
            ONE,
            at(40),
            None,
            600,
            "listed by an archive",
            id="archive-has-more",
        ),
        pytest.param(
            policy(SERIES),
            (),
            Here(inputs_missing=("lung",)),
            at(2),
            None,
            30,
            "required series: lung",
            id="series",
        ),
        pytest.param(policy(SERIES), (), Here(), at(2), None, 30, "a rule that wants it", id="no-rule"),
        pytest.param(
            policy(MPPS, IAN, need=Need.ALL),
            (told(IAN, *TWO),),
            BOTH,
            at(2),
            None,
            30,
            "(MPPS), or 30 s",
            id="all",
        ),
        pytest.param(
            policy(MPPS, fallback=Fallback.NONE),
            (),
            BOTH,
            at(5000),
            None,
            7200,
            "completed (MPPS)",
            id="no-fallback",
        ),
        pytest.param(POLICY, (), BOTH, at(7190, 7189), None, 7200, "30 s", id="not-after-the-bound"),
    ],
)
def test_what_a_study_waits_for(
    asked: CompletenessPolicy,
    evidence: tuple[StudyEvidence, ...],
    here: Here,
    times: Times,
    order: OrderWord | None,
    until: float,
    words: str,
) -> None:
    decision = decide(asked, evidence, here, times, order)

    assert isinstance(decision, Waiting)
    assert decision.until == T0 + timedelta(seconds=until)
    assert words in decision.what


def test_a_rule_changes_only_what_it_names() -> None:
    usual = policy(MPPS, settle=timedelta(seconds=5))

    changed = CompletenessChange(quiet=timedelta(seconds=90), evidence=()).over(usual)

    assert (changed.evidence, changed.quiet) == ((), timedelta(seconds=90))
    assert (changed.settle, changed.bound) == (usual.settle, usual.bound)


@pytest.mark.parametrize(
    ("before", "now", "instances", "repeated"),
    [
        pytest.param(
            told(IAN, "1.1"), told(IAN, "1.2", seconds=9), {"1.1", "1.2"}, False, id="notifications-add-up"
        ),
        pytest.param(
            told(IAN, "1.1"), told(IAN, "1.1", seconds=9), {"1.1"}, True, id="the-same-notification"
        ),
        pytest.param(
            told(MPPS, "1.1"), told(MPPS, "1.2", seconds=9), {"1.2"}, False, id="of-a-step-the-last-counts"
        ),
        pytest.param(
            told(ARCHIVE, "1.1"), told(ARCHIVE, "1.1", seconds=9), {"1.1"}, True, id="the-same-answer"
        ),
        pytest.param(
            told(MPPS, "1.1", ended=False), told(MPPS, "1.1", seconds=9), {"1.1"}, False, id="the-end-is-news"
        ),
    ],
)
def test_what_a_source_says_after_another_word(
    before: StudyEvidence, now: StudyEvidence, instances: set[str], repeated: bool
) -> None:
    after = after_telling(after_telling(None, before), now)

    assert after.instances == instances
    assert after.was_repeated is repeated
