# SPDX-License-Identifier: Apache-2.0
"""Wild cards: as a translation to a regular expression has it, and never slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_manager.rules.comparison import like, number


@pytest.mark.parametrize(
    ("value", "pattern", "holds"),
    [
        ("BRAIN NAV", "BRAIN*NAV", True),
        ("brain w/o nav", "BRAIN*NAV", True),
        ("BRAINNAV", "BRAIN*NAV", True),
        ("BRAIN NAV 2", "BRAIN*NAV", False),
        ("BRANAV", "BRA*ANAV", False),
        ("aXbYc", "a?b?c", True),
        ("aXbY", "a?b?c", False),
        ("abcabd", "*ab?*d", True),
        ("x", "", False),
        ("", "", True),
        ("", "*", True),
        ("anything", "***", True),
        ("Straße", "STRASSE", True),
    ],
)
def test_like(value: str, pattern: str, holds: bool) -> None:
    assert like(value, pattern) is holds


@given(st.text(alphabet="ab", max_size=12), st.text(alphabet="ab*?", max_size=8))
def test_like_is_what_a_regular_expression_finds(value: str, pattern: str) -> None:
    translated = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    assert like(value, pattern) is (re.fullmatch(translated, value) is not None)


@pytest.mark.parametrize("pattern", ["*a" * 100 + "*b", "*aaaa?" * 40 + "b"], ids=["stars", "question marks"])
def test_no_value_makes_it_slow(pattern: str) -> None:
    started = time.process_time()
    assert not like("a" * 60_000, pattern)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "found"),
    [("1.50", 1.5), (" -2e3 ", -2000.0), ("1e999", None), ("-1e999", None), ("nan", None), ("inf", None)],
)
def test_number(text: str, found: float | None) -> None:
    assert number(text) == found
