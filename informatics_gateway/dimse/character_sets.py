# SPDX-License-Identifier: Apache-2.0
"""Text of a data set from the network, decoded by its Specific Character Set (PS3.5 6.1.2, PS3.3 C.12.1.1.2).

Strict: what cannot be decoded is an error and never guessed. The tables of encodings are pydicom's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.charset import CODES_TO_ENCODINGS, handled_encodings, python_encoding

_ESCAPE = b"\x1b"
_SPELLING = re.compile(r"[ _-]+")


def _plain(term: str) -> str:
    return _SPELLING.sub(" ", term.strip()).upper()


_ENCODINGS = {_plain(term): encoding for term, encoding in python_encoding.items()}


class UndecodableTextError(ValueError):
    """The bytes are no text of their character set; the message never repeats them."""


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """The encodings of a data set; the first one holds where no escape sequence says otherwise."""

    encodings: tuple[str, ...]

    def decode(self, value: bytes) -> str:
        """The text of `value`.

        Raises
        ------
        UndecodableTextError
            If it is no text of this character set.
        """
        try:
            if _ESCAPE not in value:
                return value.decode(self.encodings[0])
            first, *escaped = value.split(_ESCAPE)
            return first.decode(self.encodings[0]) + "".join(self._fragment(_ESCAPE + one) for one in escaped)
        except (UnicodeError, LookupError):
            raise UndecodableTextError("is not text of the Specific Character Set") from None

    def _fragment(self, value: bytes) -> str:
        """The text after one escape sequence; a delimiter ends the reach of a single-byte set."""
        length = 4 if value[1:3] in (b"$(", b"$)") else 3
        encoding = CODES_TO_ENCODINGS[value[:length]]
        if encoding in handled_encodings:
            return value.decode(encoding)
        text = value[length:]
        if encoding == "euc_kr":
            return text.decode(encoding)
        for index, byte in enumerate(text):
            if byte in b"\\^=\r\n\f\t":
                return text[:index].decode(encoding) + text[index:].decode(self.encodings[0])
        return text.decode(encoding)


DEFAULT = CharacterSet((python_encoding[""],))
"""The default repertoire; bytes beyond ASCII are read as Latin-1, which undeclared text mostly is."""


def character_set(terms: Sequence[str]) -> CharacterSet | None:
    """The character set of the values of Specific Character Set (0008,0005); None if one is unknown."""
    encodings = [_ENCODINGS.get(_plain(term)) for term in terms]
    known = tuple(encoding for encoding in encodings if encoding is not None)
    if len(known) != len(encodings):
        return None
    return CharacterSet(known) if known else DEFAULT
