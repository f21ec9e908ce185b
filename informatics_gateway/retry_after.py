# SPDX-License-Identifier: Apache-2.0
"""The pause an HTTP server asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST_PAUSE = timedelta(hours=1)
"""A server that wants more is asked again after this."""


def pause_of(value: str, now: datetime) -> timedelta | None:
    """The pause of a Retry-After field in either of its forms, at most an hour; None if it is none.

    References
    ----------
    RFC 9110 10.2.3.
    """
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return min(timedelta(seconds=int(text)), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(aware - now, timedelta(0)), LONGEST_PAUSE)
