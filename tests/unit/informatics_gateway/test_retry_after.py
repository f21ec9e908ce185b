# SPDX-License-Identifier: Apache-2.0
"""The pause a server asks for (RFC 9110 10.2.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from informatics_gateway.retry_after import LONGEST_PAUSE, pause_of

NOW = datetime(2026, 5, 4, 9, 15, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("17", timedelta(seconds=17)),
        (" 0 ", timedelta(0)),
        ("3601", LONGEST_PAUSE),
        ("999999999", LONGEST_PAUSE),
        ("Mon, 04 May 2026 09:16:27 GMT", timedelta(minutes=1)),
        ("Mon, 04 May 2026 09:16:27 -0000", timedelta(minutes=1)),
        ("Mon, 04 May 2026 08:00:00 GMT", timedelta(0)),
        ("Tue, 05 May 2099 08:00:00 GMT", LONGEST_PAUSE),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, None),
        ("Mon, 04 May 99999999999999999999 08:00:00 GMT", None),
        ("Mon, 04 May 2026 08:00:00 +99999999999999999999", None),
    ],
)
def test_pauses(value: str, pause: timedelta | None) -> None:
    assert pause_of(value, NOW) == pause
