# SPDX-License-Identifier: Apache-2.0
"""The settings of the HL7 v2 door: limits, TLS, and how each sender's messages are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from informatics_gateway.setting_types import Port, ZoneName
from profiles.hl7.characters import CODECS
from profiles.hl7.message import FieldPath
from profiles.hl7.options import DETAIL, ORDER_FIELDS
from profiles.order import Priority

_PROCESSING_IDS = frozenset({"P", "T", "D"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Hl7Tls(_Part):
    """MLLP over TLS (1.2 or later)."""

    certificate_file: Path
    """Our certificate with its chain, PEM."""
    key_file: Path
    """Its key, PEM."""
    client_ca_file: Path | None = None
    """Certificates that senders' are checked against (mutual TLS); none asks for none."""


class Hl7Sender(_Part):
    """How one sender's messages are read, where it differs from all others."""

    application: str = ""
    """MSH-3, first component; empty stands for any."""
    facility: str = ""
    """MSH-4, first component; empty stands for any."""
    character_set: str = ""
    """Set (HL7 table 0211) of messages that declare none; empty tries UTF-8, then ISO 8859-1."""
    time_zone: ZoneName = ""
    """Zone of times that name none; empty takes the site's."""
    patient_id_authority: str | None = None
    """As `gateway.hl7.patient_id_authority`; none takes that."""
    routine_priority: Priority | None = None
    """As `gateway.hl7.routine_priority`; none takes that."""
    processing_ids: tuple[str, ...] = ("P", "T", "D")
    """Accepted values of MSH-11."""
    unknown_orders: Literal["refuse", "accept"] = "refuse"
    """Whether a change of an unknown order is refused (204) or makes it, and a cancel of one is refused or
    answered as done."""
    acknowledgements: Literal["first", "both"] = "first"
    """What a sender gets that asks for both acknowledgements (MSH-15 and MSH-16): the accept acknowledgement,
    or the application acknowledgement after it on the same connection."""
    fields: dict[str, tuple[str, ...]] = {}
    """Order field, or `details.` and a name, to the places it is read from (`ZAC-2`, `PID-3.4.2`); the first
    that holds anything counts."""

    @field_validator("character_set")
    @classmethod
    def _known_set(cls, value: str) -> str:
        if value.upper() not in CODECS:
            known = ", ".join(name for name in CODECS if name)
            raise ValueError(f"is no character set taken here; these are: {known}")
        return value

    @field_validator("processing_ids")
    @classmethod
    def _known_ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not _PROCESSING_IDS.issuperset(value):
            raise ValueError("has to name some of P, T, D")
        return value

    @field_validator("fields", mode="before")
    @classmethod
    def _lists(cls, value: object) -> object:
        """One place may be written without a list."""
        if not isinstance(value, dict):
            return value
        return {name: [places] if isinstance(places, str) else places for name, places in value.items()}

    @field_validator("fields")
    @classmethod
    def _known_fields(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, places in value.items():
            detail = name.removeprefix(DETAIL)
            if name not in ORDER_FIELDS and not (name.startswith(DETAIL) and detail.isidentifier()):
                known = ", ".join(sorted(ORDER_FIELDS))
                raise ValueError(f"{name!r} is neither {DETAIL}NAME nor one of {known}")
            for place in places:
                try:
                    FieldPath.parsed(place)
                except ValueError as error:
                    raise ValueError(f"{name}: {place!r} {error}") from None
        return value


class Hl7Door(_Part):
    """Where MLLP listens, and for whom."""

    host: str = "127.0.0.1"
    """Address to listen on; another than loopback needs mutual TLS."""
    port: Port = 2575
    """0 takes any free one."""
    tls: Hl7Tls | None = None
    """MLLP over TLS; none takes plain TCP."""
    routine_priority: Priority = Priority.MEDIUM
    """What HL7 priority R becomes (PS3.3 C.30.2 by the letter: LOW)."""
    patient_id_authority: str = ""
    """Assigning authority whose patient id is taken where PID-3 repeats; empty takes the first."""
    max_message_mib: Annotated[int, Field(ge=1, le=256)] = 16
    """Longest message, MiB; a longer one is rejected (AR) and its connection closed."""
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Connections at a time."""
    idle_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Longest silence between two messages, seconds."""
    message_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Longest time from the beginning of a message to its end, seconds."""
    senders: tuple[Hl7Sender, ...] = ()
    """Senders that differ; the first that fits counts."""
