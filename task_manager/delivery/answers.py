# SPDX-License-Identifier: Apache-2.0
"""What answers of destinations mean for a delivery: done, done with a note, later, or never. Pure.

One table for all who send, so that the same answer is never tried again by one and given up by another.
"""

from __future__ import annotations

from enum import StrEnum

_SUCCESS = 0x0000
_NOTED = frozenset((0x0001, 0x0107, 0x0116))
_DUPLICATE = 0x0111
_LATER = frozenset((0x0110, 0x0213))  # processing failure, resource limitation (PS3.7 C)
_HTTP_LATER = frozenset((408, 425, 429))
_HTTP_UNREACHABLE = frozenset((502, 503, 504))


class Meaning(StrEnum):
    """What an answer means."""

    DONE = "done"
    NOTED = "noted"
    LATER = "later"
    NEVER = "never"


def of_store_status(status: int) -> Meaning:
    """Of a C-STORE status, or a Failure Reason of STOW-RS (PS3.4 B.2.3, PS3.18 table I.2-2).

    A duplicate is there, which is what was wanted; warnings (B000H and others) are done with a note.
    """
    if status == _SUCCESS:
        return Meaning.DONE
    if status in _NOTED or status == _DUPLICATE or 0xB000 <= status <= 0xBFFF:
        return Meaning.NOTED
    if status in _LATER or 0xA700 <= status <= 0xA7FF:
        return Meaning.LATER
    return Meaning.NEVER


def of_http_status(status: int) -> Meaning:
    """Of an HTTP status (RFC 9110 15)."""
    if 200 <= status < 300:
        return Meaning.DONE
    return Meaning.LATER if status >= 500 or status in _HTTP_LATER else Meaning.NEVER


def tells_absence(status: int) -> bool:
    """Whether an HTTP status says that what stands before the destination could not reach it."""
    return status in _HTTP_UNREACHABLE
