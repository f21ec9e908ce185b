# SPDX-License-Identifier: Apache-2.0
"""The generated page of the rule language is current and whole."""

from __future__ import annotations

from scripts.reference_rules import PAGE, page
from task_manager.rules.attributes import ORDER_FIELDS
from task_manager.rules.facts import FACTS
from task_manager.rules.parse import KEYS


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.reference_rules"


def test_every_name_is_on_it() -> None:
    told = page()
    names = [
        *FACTS,
        *(f"order.{name}" for name in ORDER_FIELDS),
        *(key for keys in KEYS.values() for key in keys),
    ]
    assert [name for name in names if f"`{name}`" not in told] == []


def test_every_table_has_equal_rows() -> None:
    tables = [block.splitlines() for block in page().split("\n\n") if block.startswith("| ")]
    assert len(tables) > 10
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
