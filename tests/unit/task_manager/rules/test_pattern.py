# SPDX-License-Identifier: Apache-2.0
"""Patterns: the answers of the standard library's engine, without its running times."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_manager.rules.pattern import PatternError, compiled

TEXTS = ("", "a", "ab", "aab", "abab", "CT CHEST", "thorax 1.0", "x\ny", "_9-", "Ärzte ß", "a]b", "1.5mm")
PATTERNS = (
    "a*b",
    "^a+b$",
    "(a|b)*",
    "(?:ab){2}",
    "a{1,2}b",
    "a{2,}",
    "a??b",
    r"\bCHEST\b",
    r"\B1",
    r"[^a-z\s]",
    r"[\w-]+",
    "[]ab]",
    "[^]]",
    r"\d+\.\d",
    "(?i)ct|THORAX",
    ".",
    "^$",
    "a|",
    r"\$",
    "x.y",
    "[A-Zß]",
    r"\W\S",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_answers_are_those_of_the_standard_library(pattern: str) -> None:
    for text in TEXTS:
        assert compiled(pattern)(text) == bool(re.search(pattern, text)), text


@given(
    pattern=st.text(alphabet="ab|*+?(){}[]^$.\\1,2", max_size=12), text=st.text(alphabet="ab1", max_size=8)
)
def test_any_pattern_is_refused_or_right(pattern: str, text: str) -> None:
    try:
        matches = compiled(pattern)
    except PatternError:
        return
    assert matches(text) == bool(re.search(pattern, text))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(a", "without ')'"),
        ("a)", "without '('"),
        ("*a", "nothing to repeat"),
        ("a**", "repeat of a repeat"),
        ("a{3,2}", "below"),
        ("a{65}", "more than 64"),
        ("a{", "number is missing"),
        ("a{1", "without '}'"),
        ("[a", "ends too early"),
        ("[z-a]", "bad range"),
        (r"(a)\1", "not supported"),
        ("(?=a)", "only"),
        ("^*", "nothing to repeat"),
        ("a" * 201, "longer than 200"),
        ("(((a{64}){64}){64}){64}", "too large"),
        ("(" * 21 + "a" + ")" * 21, "too deeply"),
        ("a\\", "ends too early"),
    ],
)
def test_refused(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=re.escape(said)):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "(a?){60}a{60}c", ".*.*.*.*.*.*x"])
def test_time_is_bounded_where_backtracking_explodes(pattern: str) -> None:
    started = time.monotonic()
    assert not compiled(pattern)("a" * 1024)
    assert time.monotonic() - started < 10
