# SPDX-License-Identifier: Apache-2.0
"""Storage commitment from the side that asks: values, and what a job has to do next. Pure.

A job sends, asks the destination to take over responsibility, and is done when it has said so of each
instance (PS3.4 J.3). ``store/commitments.py`` keeps what was asked, so that a restart knows it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

SopReference = tuple[str, str]
"""SOP Class UID and SOP Instance UID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentAsk:
    """One request (table J.3-1)."""

    transaction_uid: str
    instances: tuple[SopReference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What a destination reports (table J.3-2): what it keeps, and (SOP Instance UID, Failure Reason)."""

    transaction_uid: str
    committed: tuple[str, ...]
    failed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request with what came of it.

    Attributes
    ----------
    accepted_at
        When the destination took the request; None while that is not known.
    answered_at, failed
        When it reported, and what it does not keep.
    """

    ask: CommitmentAsk
    asked_at: datetime
    accepted_at: datetime | None = None
    answered_at: datetime | None = None
    failed: tuple[tuple[str, int], ...] = ()

    @property
    def committed(self) -> frozenset[str]:
        """SOP Instance UIDs that the destination keeps."""
        if self.answered_at is None:
            return frozenset()
        return frozenset(uid for _, uid in self.ask.instances) - {uid for uid, _ in self.failed}


class Answer(StrEnum):
    """What became of a request: taken, or the destination does not offer the service."""

    TAKEN = "taken"
    NOT_OFFERED = "not offered"


Reported = Callable[[CommitmentReport], bool]
"""Keeps a report; whether its transaction is known."""


@runtime_checkable
class CommitmentAsker(Protocol):
    """A deliverer whose destination may offer storage commitment."""

    def ask_commitment(self, ask: CommitmentAsk, reported: Reported) -> Answer:
        """Send the request and wait a little for the report, which may as well come by another way later.

        Raises
        ------
        RetryableDeliveryError
            If later may work.
        FinalDeliveryError
            If the destination refuses the request.
        """


class Step(StrEnum):
    """What a job does next."""

    SEND = "send"
    ASK = "ask"
    WAIT = "wait"
    DONE = "done"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What a job does next, with which instances, and until when it waits."""

    step: Step
    instances: tuple[SopReference, ...] = ()
    until: datetime | None = None


def next_step(
    wanted: Sequence[SopReference],
    asked: Sequence[Asked],
    *,
    now: datetime,
    timeout: timedelta,
    rounds: int,
) -> NextStep:
    """What a job that wants `wanted` committed does, after what was `asked` for it, oldest first.

    What was refused is sent again, up to `rounds` times; what was never answered is only asked again, under a
    new Transaction UID. A late report to an earlier request counts as well.
    """
    if not asked:
        return NextStep(step=Step.SEND, instances=tuple(wanted))
    committed = frozenset(uid for one in asked for uid in one.committed)
    missing = tuple(one for one in wanted if one[1] not in committed)
    if not missing:
        return NextStep(step=Step.DONE)
    last = asked[-1]
    if last.answered_at is not None:
        refusals = sum(bool(one.failed) for one in asked)
        step = Step.SEND if refusals <= rounds else Step.GIVE_UP
        return NextStep(step=step, instances=missing)
    until = last.asked_at + timeout
    if last.accepted_at is None or until <= now:
        return NextStep(step=Step.ASK, instances=missing)
    return NextStep(step=Step.WAIT, instances=missing, until=until)
