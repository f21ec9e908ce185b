# SPDX-License-Identifier: Apache-2.0
"""What is found plain at a glance is exactly what a close look would keep."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.ups.dataset import entry, read_dataset
from profiles.ups.plain import PLAIN, are_plain_items, is_plain_element
from profiles.ups.values import checked, fits

_EXAMPLES = settings(max_examples=400, deadline=None, derandomize=True)
_KEYS = {
    "00080030": "TM",
    "00080050": "SH",
    "00080054": "AE",
    "00080081": "ST",
    "00080119": "UC",
    "00081190": "UR",
    "00100030": "DA",
    "0020000D": "UI",
    "00400400": "LT",
    "00404005": "DT",
    "0040A160": "UT",
    "00741000": "CS",
    "00741204": "LO",
}
_TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(alphabet='A1.09 \\"\x00\t\n_aÄ/:-', max_size=70),
    st.text(alphabet="012.", min_size=3, max_size=66).map(lambda text: f"1.{text}"),
    st.text(alphabet="0123456789", min_size=4, max_size=16),
    st.sampled_from(sorted(PLAIN)).flatmap(lambda vr: st.from_regex(PLAIN[vr], fullmatch=True)),
)


def _plain(key: str, text: str) -> dict[str, Any]:
    return {"vr": _KEYS[key], "Value": [text]}


def test_each_kind_of_plain_text_has_a_key_here() -> None:
    assert set(_KEYS.values()) == set(PLAIN)
    assert {key: entry(key).vrs for key in _KEYS} == {key: (vr,) for key, vr in _KEYS.items()}


@given(key=st.sampled_from(sorted(_KEYS)), text=_TEXTS)
@_EXAMPLES
def test_plain_text_is_what_its_check_keeps(key: str, text: str) -> None:
    if is_plain_element(key, _plain(key, text)):
        assert checked(_KEYS[key], text) == text


@given(st.lists(st.dictionaries(st.sampled_from(sorted(_KEYS)), st.none() | _TEXTS), max_size=4))
@_EXAMPLES
def test_plain_items_are_what_a_close_look_keeps(texts: list[dict[str, str | None]]) -> None:
    items = [
        {key: {"vr": _KEYS[key]} if text is None else _plain(key, text) for key, text in item.items()}
        for item in texts
    ]
    if are_plain_items(items):
        looked_up = [
            {key: {name: element[name] for name in element if name != "vr"} for key, element in item.items()}
            for item in items
        ]
        read = read_dataset({"00081199": {"vr": "SQ", "Value": looked_up}})
        assert read.faults == ()
        assert read.attributes == {"00081199": {"vr": "SQ", "Value": items}}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        pytest.param("0020000D", "1.2.840.10008.5.1.4.1.1.2", id="uid"),
        pytest.param("0020000D", "2.25.0.1", id="uid-with-a-zero"),
        pytest.param("00404005", "20260301030300.5+0100", id="time-with-offset"),
        pytest.param("00100030", "19700128", id="date"),
        pytest.param("00741204", "Lunge: Größe", id="not-ascii"),
    ],
)
def test_usual_text_is_found_plain(key: str, text: str) -> None:
    assert is_plain_element(key, _plain(key, text))
    assert are_plain_items([{key: _plain(key, text)}] * 3)


@pytest.mark.parametrize(
    ("key", "text", "good"),
    [
        pytest.param("0020000D", "1.2..3", False, id="uid-with-an-empty-component"),
        pytest.param("0020000D", "1.2.", False, id="uid-with-a-dot-at-the-end"),
        pytest.param("0020000D", "1.2.03", False, id="uid-with-a-leading-zero"),
        pytest.param("0020000D", "1.2." + "3" * 61, False, id="uid-of-65"),
        pytest.param("00100030", "20260231", False, id="day-that-is-not"),
        pytest.param("00100030", "20260131", True, id="last-day"),
        pytest.param("00741204", "   ", True, id="spaces"),
        pytest.param("00741204", 'says "x"', True, id="quotes"),
        pytest.param("00741204", "a\\b", False, id="backslash"),
        pytest.param("00741204", "x" * 65, False, id="too-long"),
        pytest.param("00741000", " READY", True, id="padding"),
    ],
)
def test_what_is_not_plain_is_left_to_a_close_look(key: str, text: str, good: bool) -> None:
    assert not is_plain_element(key, _plain(key, text))
    assert not are_plain_items([{key: _plain(key, text)}])
    assert fits(_KEYS[key], text) is good


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([], id="none"),
        pytest.param(["x"], id="no-object"),
        pytest.param([{"00741204": {"vr": "LO"}}, "x"], id="one-is-no-object"),
        pytest.param([{"00741204": {"vr": "LO"}}, {}], id="other-keys"),
        pytest.param([{"00741204": {"vr": "LO"}, "00080050": {"vr": "SH"}}], id="keys-that-descend"),
        pytest.param([{"0040a370": {"vr": "SQ"}}], id="sequence"),
        pytest.param([{"00741204": {"vr": "SH"}}], id="other-vr"),
        pytest.param([{"00741204": {"vr": "LO", "Value": ["a", "b"]}}], id="two-values"),
        pytest.param([{"00741204": {"vr": "LO", "Value": []}}], id="empty-array"),
        pytest.param([{"00741204": {"vr": "LO", "Value": [1]}}], id="number"),
        pytest.param([{"00741204": {"vr": "LO", "Value": [b"x"]}}], id="bytes"),
        pytest.param([{"00741204": {"vr": "LO", "InlineBinary": "QQ=="}}], id="binary"),
        pytest.param([{"00100000": {"vr": "UL"}}], id="group-length"),
        pytest.param([{"00091001": {"vr": "LO"}}], id="private"),
        pytest.param([{741204: {"vr": "LO"}}], id="key-that-is-no-text"),
        pytest.param([{f"0008{n:04X}": {"vr": "UI"} for n in range(0x14, 0x30)}], id="many"),
    ],
)
def test_items_that_are_not_plain(items: list[Any]) -> None:
    assert not are_plain_items(items)


def test_what_was_read_is_no_part_of_what_was_sent() -> None:
    item = {"00080100": {"vr": "SH", "Value": ["X"]}}
    payload = {"00404018": {"vr": "SQ", "Value": [item]}}
    before = orjson.dumps(payload)
    read = read_dataset(payload).attributes
    read["00404018"]["Value"][0].clear()
    assert orjson.dumps(payload) == before
