# SPDX-License-Identifier: Apache-2.0
"""Encoded values to the values of DICOM JSON (PS3.18 F.2): text with its character sets, numbers, tags.

Nothing here raises on a bad value: what is readable is kept. NUL characters are dropped, since no database
text holds them; numbers outside what JSON can say become text or null.
"""

from __future__ import annotations

import codecs as python_codecs
import math
import struct
from functools import lru_cache
from typing import Any

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

_NUMBER_FORMATS = {
    "US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d",
}  # fmt: skip
_WHOLE_TEXT = frozenset(("LT", "ST", "UT", "UR"))
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_MAX_INTEGER = 2**63
# Python's decoders of these want the escape sequences left in
_KEEP_ESCAPES = frozenset(("iso2022_jp", "iso2022_jp_2"))
_ESC = b"\x1b"


@lru_cache(maxsize=512)
def codecs_of(specific_character_set: bytes) -> tuple[str, ...]:
    """Python's names of the character sets in an encoded (0008,0005); the default repertoire is ``""``.

    References
    ----------
    PS3.3 C.12.1.1.2.
    """
    names = []
    for term in specific_character_set.decode("ascii", "replace").split("\\"):
        codec = python_encoding.get(term.strip(" \0"), "")
        if not term.strip(" \0") or term.strip(" \0") in ("ISO_IR 6", "ISO 2022 IR 6"):
            codec = ""
        try:
            names.append(python_codecs.lookup(codec).name if codec else "")
        except LookupError:
            names.append("")
    return tuple(names)


def plain_text(raw: bytes, codecs: tuple[str, ...]) -> str:
    """The text of `raw` without padding; undecodable bytes are replaced."""
    return _decoded(raw, codecs).strip(" ")


def json_value(vr: str, raw: bytes, order: str, codecs: tuple[str, ...]) -> list[Any]:
    """The ``Value`` of an element that is no sequence and no binary value; empty if there is none.

    Parameters
    ----------
    order
        ``<`` or ``>``, the byte order of numbers.
    """
    if vr in _NUMBER_FORMATS:
        return _numbers(_NUMBER_FORMATS[vr], raw, order)
    if vr == "AT":
        words = struct.unpack_from(f"{order}{len(raw) // 4 * 2}H", raw)
        return [f"{words[i]:04X}{words[i + 1]:04X}" for i in range(0, len(words), 2)]
    if vr in _WHOLE_TEXT:
        text = _decoded(raw, codecs).rstrip(" ")
        return [text] if text else []
    if vr in ("UI", "DS", "IS", "CS", "DA", "TM", "DT", "AE", "AS"):
        parts = _decoded(raw, ()).split("\\")
    else:
        parts = _decoded(raw, codecs).split("\\")
    content: list[Any]
    if vr == "DS":
        content = [_decimal(part.strip(" ")) for part in parts]
    elif vr == "IS":
        content = [_integer(part.strip(" ")) for part in parts]
    elif vr == "PN":
        content = [_person_name(part) for part in parts]
    else:
        content = [part.strip(" ") or None for part in parts]
    return content if len(content) > 1 or content[0] is not None else []


def _numbers(code: str, raw: bytes, order: str) -> list[Any]:
    size = struct.calcsize(f"{order}{code}")
    found = struct.unpack_from(f"{order}{len(raw) // size}{code}", raw)
    if code in "fd":
        return [value if math.isfinite(value) else None for value in found]
    return list(found)


def _decimal(text: str) -> float | str | None:
    try:
        value = float(text)
    except ValueError:
        return text or None
    return value if math.isfinite(value) and "_" not in text else text


def _integer(text: str) -> int | str | None:
    if len(text) > 20 or "_" in text:
        return text
    try:
        value = int(text)
    except ValueError:
        return text or None
    return value if -_MAX_INTEGER <= value < _MAX_INTEGER else text


def _person_name(text: str) -> dict[str, str] | None:
    groups = {
        name: group.strip(" ")
        for name, group in zip(_PN_GROUPS, text.split("="), strict=False)
        if group.strip()
    }
    return groups or None


def _decoded(raw: bytes, codecs: tuple[str, ...]) -> str:
    if raw.isascii() and _ESC not in raw:
        text = raw.decode("ascii")
    elif _ESC in raw and codecs:
        text = _with_code_extensions(raw, codecs)
    elif codecs and codecs[0]:
        text = raw.decode(codecs[0], "replace")
    else:
        # outside the default repertoire without a declared character set: the two that occur
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    return text.replace("\0", "") if "\0" in text else text


def _with_code_extensions(raw: bytes, codecs: tuple[str, ...]) -> str:
    """PS3.5 6.1.2.5: each escape sequence names the character set of what follows it."""
    first, *others = raw.split(_ESC)
    text = [first.decode(codecs[0] or "latin-1", "replace")]
    for part in others:
        size = 3 if part.startswith((b"$(", b"$)")) else 2
        codec = str(CODES_TO_ENCODINGS.get(_ESC + part[:size], codecs[0] or "latin-1"))
        if codec in _KEEP_ESCAPES:
            text.append((_ESC + part).decode(codec, "replace"))
        else:
            text.append(part[size:].decode(codec, "replace"))
    return "".join(text)
