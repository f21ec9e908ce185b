# SPDX-License-Identifier: Apache-2.0
"""Destinations that do what a test says, and the person who decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from task_manager.actor import Actor
from task_manager.delivery.commitment import Answer, CommitmentAsk, Reported
from task_manager.ports import Receipt, Shipment, Turn, at_once

PERSON = Actor(door="person", name="ann", address="127.0.0.1")


@dataclass
class Destination:
    """Takes everything, or raises what it is told to raise, the next first."""

    failures: list[Exception] = field(default_factory=list)
    got: list[tuple[str, ...]] = field(default_factory=list)
    """SOP Instance UIDs of each shipment that came."""

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        self.got.append(tuple(instance.sop_instance_uid for instance in shipment.instances))
        if self.failures:
            raise self.failures.pop(0)
        for _ in shipment.instances:
            turn()
        return Receipt(summary=f"{len(shipment.instances)} stored", sent_at=datetime(2026, 3, 1, tzinfo=UTC))


@dataclass
class Committing(Destination):
    """Takes everything, and answers a request for storage commitment as `answers` says, the next first."""

    answers: list[Callable[[CommitmentAsk, Reported], Answer]] = field(default_factory=list)
    asked: list[CommitmentAsk] = field(default_factory=list)

    def ask_commitment(self, ask: CommitmentAsk, reported: Reported) -> Answer:
        self.asked.append(ask)
        return self.answers.pop(0)(ask, reported)
