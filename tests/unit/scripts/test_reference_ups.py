# SPDX-License-Identifier: Apache-2.0
"""The generated reference pages are current."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.reference_ups import pages


@pytest.mark.parametrize("path", list(pages()), ids=lambda path: path.name)
def test_the_page_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == pages()[path], "run python -m scripts.reference_ups"


@pytest.mark.parametrize("content", list(pages().values()), ids=[path.name for path in pages()])
def test_every_table_has_equal_rows(content: str) -> None:
    tables = [block.splitlines() for block in content.split("\n\n") if block.startswith("| ")]
    assert tables
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
