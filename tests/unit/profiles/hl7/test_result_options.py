# SPDX-License-Identifier: Apache-2.0
"""What may stand in the settings of a receiver."""

from __future__ import annotations

import pytest

from profiles.codes import Code
from profiles.hl7.characters import CODECS
from profiles.hl7.result_options import (
    RESULT_CHARACTER_SETS,
    ResultOptions,
    concept_key,
    concept_of,
    is_header_field,
    is_z_segment,
)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("RIS", True),
        ("RIS^1.2.3^ISO", True),
        ("", True),
        ("Ä", True),
        ("A|B", False),
        ("A~B", False),
        ("A&B", False),
        ("A\\B", False),
        ("A\rB", False),
        ("x" * 228, False),
    ],
)
def test_header_fields(text: str, good: bool) -> None:
    assert is_header_field(text) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("ZAI|1|lung^x~y", True),
        ("ZA1|", True),
        ("ZAI", False),
        ("PID|1", False),
        ("ZAI|1\rPID|1", False),
        ("ZAI|\x0b", False),
        ("zai|1", False),
        ("", False),
    ],
)
def test_z_segments(text: str, good: bool) -> None:
    assert is_z_segment(text) is good


def test_codes_are_spelled_with_carets() -> None:
    assert concept_of("48635-9^Lung volume^LN") == Code("48635-9", "LN", "Lung volume")
    assert concept_key("118565006^SCT") == ("118565006", "SCT")


@pytest.mark.parametrize("text", ["", "a", "a^b", "a^b^c^d", "^b^c", "a^ ^c"])
def test_what_spells_no_code(text: str) -> None:
    with pytest.raises(ValueError, match="VALUE\\^MEANING\\^SCHEME"):
        concept_of(text)


@pytest.mark.parametrize("text", ["", "a", "a^b^c", "^b"])
def test_what_names_no_code(text: str) -> None:
    with pytest.raises(ValueError, match="VALUE\\^SCHEME"):
        concept_key(text)


@pytest.mark.parametrize("name", RESULT_CHARACTER_SETS)
def test_every_set_can_be_written(name: str) -> None:
    options = ResultOptions(character_set=name)
    assert "MSH|^~\\&".encode(options.encoding.codec) == b"MSH|^~\\&"
    assert CODECS[name] == options.encoding.codec


def test_a_code_the_receiver_has_no_name_for_stays() -> None:
    code = Code("1", "SCT", "One")
    assert ResultOptions().concept(code) == code
    assert ResultOptions(code_systems={"SCT": "SNM3"}).concept(code) == Code("1", "SNM3", "One")
