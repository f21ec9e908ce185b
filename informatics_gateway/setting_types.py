# SPDX-License-Identifier: Apache-2.0
"""The kinds of values that keys of the settings have."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

AeTitle = Annotated[
    str, Field(pattern=r"^[\x21-\x5B\x5D-\x7E]([\x20-\x5B\x5D-\x7E]{0,14}[\x21-\x5B\x5D-\x7E])?$")
]
Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


def _known_zone(name: str) -> str:
    if name and name not in available_timezones():
        raise ValueError("is not a time zone of the IANA database, such as Europe/Berlin")
    return name


ZoneName = Annotated[str, AfterValidator(_known_zone)]
