# SPDX-License-Identifier: Apache-2.0
"""What a job does next about storage commitment: a table of what was asked and answered before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from task_manager.delivery.commitment import Asked, CommitmentAsk, NextStep, Step, next_step

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIMEOUT = timedelta(minutes=10)
A, B = ("1.2", "1.2.3.1"), ("1.2", "1.2.3.2")
AGO = {name: NOW - timedelta(minutes=minutes) for name, minutes in (("now", 0), ("just", 1), ("long", 10))}


def asked(
    *instances: tuple[str, str],
    at: str = "just",
    taken: bool = True,
    answered: bool = False,
    failed: str = "",
) -> Asked:
    return Asked(
        ask=CommitmentAsk(transaction_uid="2.25.1", instances=instances),
        asked_at=AGO[at],
        accepted_at=AGO[at] if taken else None,
        answered_at=NOW if answered or failed else None,
        failed=((failed, 0x0112),) if failed else (),
    )


SEND_B = NextStep(step=Step.SEND, instances=(B,))


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param([], NextStep(step=Step.SEND, instances=(A, B)), id="nothing sent yet"),
        pytest.param(
            [asked(A, B)],
            NextStep(step=Step.WAIT, instances=(A, B), until=AGO["just"] + TIMEOUT),
            id="asked, not answered",
        ),
        pytest.param(
            [asked(A, B, at="long")], NextStep(step=Step.ASK, instances=(A, B)), id="never answered"
        ),
        pytest.param(
            [asked(A, B, taken=False)], NextStep(step=Step.ASK, instances=(A, B)), id="not known to be taken"
        ),
        pytest.param([asked(A, B, answered=True)], NextStep(step=Step.DONE), id="all committed"),
        pytest.param([asked(A, B, failed=B[1])], SEND_B, id="one refused: only that again"),
        pytest.param(
            [asked(A, B, failed=B[1]), asked(B)],
            NextStep(step=Step.WAIT, instances=(B,), until=AGO["just"] + TIMEOUT),
            id="sent again, asked for it alone",
        ),
        pytest.param(
            [asked(A, B, failed=B[1]), asked(B, answered=True)], NextStep(step=Step.DONE), id="now committed"
        ),
        pytest.param(
            [asked(A, B, at="long", answered=True), asked(A, B)],
            NextStep(step=Step.DONE),
            id="a late answer to the first request",
        ),
        pytest.param([asked(A, B, failed=B[1])] * 2, SEND_B, id="refused as often as is allowed"),
        pytest.param(
            [asked(A, B, failed=B[1])] * 3,
            NextStep(step=Step.GIVE_UP, instances=(B,)),
            id="refused once more than is allowed",
        ),
    ],
)
def test_next_step(before: list[Asked], expected: NextStep) -> None:
    assert next_step((A, B), before, now=NOW, timeout=TIMEOUT, rounds=2) == expected
