# SPDX-License-Identifier: Apache-2.0
"""The generated reference of DICOMweb is current."""

from __future__ import annotations

from scripts.reference_dicomweb import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m scripts.reference_dicomweb"


def test_every_table_has_equal_rows() -> None:
    tables = [block.splitlines() for block in page().split("\n\n") if block.startswith("| ")]
    assert len(tables) == 5
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
