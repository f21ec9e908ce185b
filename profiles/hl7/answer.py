# SPDX-License-Identifier: Apache-2.0
"""Reading the acknowledgement of a message we sent: MSA and ERR of any version, in both modes.

The answer is untrusted. Of it only codes and places are kept; free text (MSA-3, ERR-7, ERR-8) may repeat
what it is about and is never kept. The words of an error are those of HL7 table 0357.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from profiles.hl7.acknowledgement import MEANINGS
from profiles.hl7.message import ErrorCode, Location, Message, Segment, location_of, read_message

_MOST_ERRORS = 8
_HARMLESS = frozenset({"W", "I"})
_NUMBER = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


class AnswerCode(StrEnum):
    """HL7 table 0008: at the application level (A), and at the accept level of enhanced mode (C)."""

    APPLICATION_ACCEPT = "AA"
    APPLICATION_ERROR = "AE"
    APPLICATION_REJECT = "AR"
    COMMIT_ACCEPT = "CA"
    COMMIT_ERROR = "CE"
    COMMIT_REJECT = "CR"


@dataclass(frozen=True, slots=True)
class AnswerError:
    """One error that was told; `code` is None where it is none of table 0357."""

    code: ErrorCode | None
    location: Location

    def __str__(self) -> str:
        told = f"{self.code.value} {MEANINGS[self.code]}" if self.code is not None else "error without a code"
        place = str(self.location)
        return f"{told} at {place}" if place else told


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An acknowledgement; `control_id` (MSA-2) names the message it answers."""

    code: AnswerCode
    control_id: str
    errors: tuple[AnswerError, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether the message was taken."""
        return self.code in (AnswerCode.APPLICATION_ACCEPT, AnswerCode.COMMIT_ACCEPT)

    def __str__(self) -> str:
        return f"{self.code.value} ({'; '.join(map(str, self.errors))})" if self.errors else self.code.value


def read_answer(raw: bytes) -> Answer | None:
    """The acknowledgement that `raw` is; None if it is none.

    References
    ----------
    HL7 v2.5.1 chapter 2.15.8 (MSA), 2.15.5 (ERR); v2.3.1 chapter 2.24.5 for ERR-1.
    """
    message = read_message(raw)
    if not isinstance(message, Message):
        return None
    msa = next((segment for segment in message.segments if segment.name == "MSA"), None)
    if msa is None or msa.text(1).upper() not in set(AnswerCode):
        return None
    told = [error for segment in message.segments if segment.name == "ERR" for error in _errors(segment)]
    return Answer(
        code=AnswerCode(msa.text(1).upper()),
        control_id=msa.encoding.decoded(msa.raw(2)).strip(),
        errors=tuple(dict.fromkeys(told))[:_MOST_ERRORS],
    )


def _errors(segment: Segment) -> Iterator[AnswerError]:
    """ERR-2 and ERR-3 since version 2.5; before that, each repetition of ERR-1."""
    if segment.raw(3):
        if segment.text(4).upper() not in _HARMLESS:
            location = _location(*(segment.text(2, component) for component in (1, 2, 3, 5)))
            yield AnswerError(_code(segment.text(3)), location)
        return
    for value in segment.repetitions(1):
        yield AnswerError(_code(value.text(4)), _location(value.text(1), value.text(2), value.text(3), ""))


def _code(text: str) -> ErrorCode | None:
    return ErrorCode(text) if text in set(ErrorCode) else None


def _location(segment: str, sequence: str, field: str, component: str) -> Location:
    """The place, as far as it is one: numbers that are none are left out."""
    spelled = segment
    if _NUMBER.fullmatch(sequence):
        spelled += f"[{sequence}]"
    if _NUMBER.fullmatch(field):
        spelled += f"-{field}"
        if _NUMBER.fullmatch(component):
            spelled += f".{component}"
    return location_of(spelled)
