# SPDX-License-Identifier: Apache-2.0
"""Who asks: the same value whatever door they came through."""

from __future__ import annotations

from dataclasses import dataclass


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


WORKER = Actor(door="worker", name="AIRWAY")
