# SPDX-License-Identifier: Apache-2.0
"""Who asks: the same value whatever door they came through."""

from __future__ import annotations

from dataclasses import dataclass

_CALLED = "\\"  # no AE title and no user name of ours has one (PS3.5 6.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A peer, as its door knows it.

    Attributes
    ----------
    door
        ``dicom``, ``dicomweb``, ``hl7``, ``fhir``, ``worker`` or ``person``.
    name
        Calling AE title, user or application name; empty if the door knows none.
    address
        Network address, host only.
    called
        The name it called us by (called AE title).
    """

    door: str
    name: str = ""
    address: str = ""
    called: str = ""

    @property
    def source(self) -> str:
        """How what it sends is marked in the store; :meth:`Source.of` reads it."""
        return f"{self.door}:{self.name}{_CALLED}{self.called}" if self.called else f"{self.door}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where images came from: the door, who sent them, and the AE title they were sent to."""

    door: str
    calling: str = ""
    called: str = ""

    @classmethod
    def of(cls, text: str) -> Source:
        """The source that :attr:`Actor.source` told."""
        door, _, names = text.partition(":")
        calling, _, called = names.partition(_CALLED)
        return cls(door=door, calling=calling.strip(), called=called.strip())


WORKER = Actor(door="worker", name="AIRWAY")


def performer_name(actor: Actor) -> str:
    """What a claim is remembered by; a peer that calls itself as the worker does is named with its door."""
    if actor.name == WORKER.name and actor.door != WORKER.door:
        return f"{actor.door}:{actor.name}"
    return actor.name or actor.door
