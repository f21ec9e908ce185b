# SPDX-License-Identifier: Apache-2.0
"""Timezone Offset From UTC (0008,0201) of a request: the zone of its times without one (PS3.4 C.2.2.2.5)."""

from __future__ import annotations

import re

_MOMENT = r"\d{4,14}(?:\.\d{1,6})?"
_RANGE_WITHOUT_OFFSET = re.compile(rf"({_MOMENT})?-({_MOMENT})?", re.ASCII)
_MOMENT_WITHOUT_OFFSET = re.compile(_MOMENT, re.ASCII)
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d", re.ASCII)


def is_offset(text: str) -> bool:
    """Whether `text` is an offset such as ``+0100``."""
    return _OFFSET.fullmatch(text) is not None


def with_offset(moment: str, offset: str) -> str:
    """A date and time key (DT) with `offset` on each end that has none."""
    span = _RANGE_WITHOUT_OFFSET.fullmatch(moment)
    if span is not None:
        return "-".join(one + offset if one else "" for one in (span[1], span[2]))
    return moment + offset if _MOMENT_WITHOUT_OFFSET.fullmatch(moment) else moment
