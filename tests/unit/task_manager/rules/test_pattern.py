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


@given(pattern=st.text(max_size=12), text=st.text(max_size=8))
def test_any_pattern_is_refused_or_answers(pattern: str, text: str) -> None:
    try:
        matches = compiled(pattern)
    except PatternError:
        return
    assert matches(text) in (True, False)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(a", "missing )"),
        ("a)", "unexpected )"),
        ("*a", "no argument for repetition"),
        ("a{3,2}", "invalid repetition size"),
        ("a{1001}", "invalid repetition size"),
        ("[a", "missing ]"),
        ("[z-a]", "invalid character class range"),
        (r"(a)\1", "invalid escape sequence"),
        ("(?=a)", "invalid perl operator"),
        ("a" * 201, "longer than 200"),
        ("(((a{64}){64}){64}){64}", "invalid repetition size"),
        (r"(\pL{500})" * 4, "too large"),
        ("a\\", "trailing \\"),
        ("\ud800", "surrogates not allowed"),
    ],
)
def test_refused(pattern: str, said: str) -> None:
    with pytest.raises(PatternError) as caught:
        compiled(pattern)
    assert said in str(caught.value) or said in repr(caught.value.__cause__)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "(a?){60}a{60}c", ".*.*.*.*.*.*x"])
def test_time_is_bounded_where_backtracking_explodes(pattern: str) -> None:
    started = time.process_time()
    assert not compiled(pattern)("a" * 1024)
    assert time.process_time() - started < 10
