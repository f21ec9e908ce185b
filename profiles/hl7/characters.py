# SPDX-License-Identifier: Apache-2.0
"""Character sets of HL7 v2 (MSH-18, table 0211): which codec reads them, and sets switched within a message.

Whole messages are decoded before they are split, because a byte of a two-byte character may look like a
separator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Table 0211 to Python codecs; UTF-16, UTF-32 and CNS 11643 have no place here: the first two hold the framing
# bytes of MLLP, the last has no codec.
CODECS: Mapping[str, str] = {
    "": "ascii",
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "ISO IR6": "ascii",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
}

# What an ISO 2022 escape sequence switches to: a codec of Python, and how its bytes have to be prepared for
# it. Two-byte sets stand in the left half of the code table and are read as EUC, which has them in the right.
_SWITCHES: Mapping[bytes, tuple[str, str]] = {
    b"\x1b(B": ("", ""),
    b"\x1b(J": ("shift_jis", ""),
    b"\x1b)I": ("shift_jis", ""),
    b"\x1b(I": ("shift_jis", "right"),
    b"\x1b$B": ("euc_jp", "right"),
    b"\x1b$@": ("euc_jp", "right"),
    b"\x1b$(D": ("euc_jp", "supplement"),
    b"\x1b$)C": ("euc_kr", ""),
    b"\x1b$(C": ("euc_kr", "right"),
    b"\x1b$)A": ("gb2312", ""),
    b"\x1b$A": ("gb2312", "right"),
    b"\x1b-A": ("iso8859-1", ""),
    b"\x1b-B": ("iso8859-2", ""),
    b"\x1b-C": ("iso8859-3", ""),
    b"\x1b-D": ("iso8859-4", ""),
    b"\x1b-L": ("iso8859-5", ""),
    b"\x1b-G": ("iso8859-6", ""),
    b"\x1b-F": ("iso8859-7", ""),
    b"\x1b-H": ("iso8859-8", ""),
    b"\x1b-M": ("iso8859-9", ""),
    b"\x1b-b": ("iso8859-15", ""),
}
_SWITCH = re.compile(b"(" + b"|".join(re.escape(one) for one in _SWITCHES) + b")")


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterSet:
    """What MSH-18 declares.

    Attributes
    ----------
    codec
        Of an answer in the same set.
    base
        Codec of every segment's beginning.
    switches
        Whether other sets may be switched to.
    """

    codec: str
    base: str
    switches: bool = False


def declared_set(names: Sequence[str]) -> CharacterSet | None:
    """The set that the repetitions of MSH-18 declare, the first of them the default; None if unsupported.

    Further sets that are not known here do no harm until they are switched to.
    """
    known = [CODECS.get(name.strip().upper(), "") for name in names] or ["ascii"]
    first = known[0]
    if not first:
        return None
    japanese = next((codec for codec in known if codec.startswith("iso2022")), "")
    base = "ascii" if first.startswith("iso2022") else first
    codec = japanese if japanese and base == "ascii" else base
    return CharacterSet(codec=codec, base=base, switches=bool(japanese) or len(known) > 1)


def decoded_text(raw: bytes, declared: CharacterSet, escape: bytes) -> str:
    """`raw` as text.

    Parameters
    ----------
    escape
        The escape character of the message, for ``\\Cxxyy\\`` and ``\\Mxxyyzz\\``.

    Raises
    ------
    UnicodeDecodeError
        If the bytes are not of the set.

    References
    ----------
    HL7 v2.5.1 chapter 2.7.2; ISO 2022; PS3.5 6.1.2.5 for the sequences.
    """
    if not declared.switches:
        return raw.decode(declared.base)
    mark = re.escape(escape)
    named = re.compile(mark + b"(?:C([0-9A-Fa-f]{4})|M([0-9A-Fa-f]{4}(?:[0-9A-Fa-f]{2})?))" + mark)
    plain = named.sub(lambda found: b"\x1b" + bytes.fromhex((found[1] or found[2]).decode()), raw)
    if b"\x1b" not in plain:
        return plain.decode(declared.base)
    return "\r".join(_line(line, declared.base) for line in plain.split(b"\r"))


def _line(line: bytes, base: str) -> str:
    """One segment; each begins in the default set."""
    text, codec, form = "", base, ""
    for part in _SWITCH.split(line):
        if part in _SWITCHES:
            codec, form = _SWITCHES[part]
            codec = codec or base
            continue
        text += _prepared(part, form).decode(codec)
    return text


def _prepared(part: bytes, form: str) -> bytes:
    if not form:
        return part
    right = bytes(byte | 0x80 if 0x21 <= byte <= 0x7E else byte for byte in part)
    if form == "right":
        return right
    return re.sub(rb"[\xa1-\xfe]{2}", lambda pair: b"\x8f" + pair[0], right)
