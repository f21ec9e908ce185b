# SPDX-License-Identifier: Apache-2.0
"""What answers mean: tables of statuses."""

from __future__ import annotations

import pytest

from task_manager.delivery.answers import Meaning, of_http_status, of_store_status, tells_absence


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0x0000, Meaning.DONE),
        (0x0001, Meaning.NOTED),
        (0x0107, Meaning.NOTED),
        (0x0111, Meaning.NOTED),
        (0x0116, Meaning.NOTED),
        (0xB000, Meaning.NOTED),
        (0xB006, Meaning.NOTED),
        (0xB007, Meaning.NOTED),
        (0x0110, Meaning.LATER),
        (0x0213, Meaning.LATER),
        (0xA700, Meaning.LATER),
        (0xA7FF, Meaning.LATER),
        (0xA900, Meaning.NEVER),
        (0xC000, Meaning.NEVER),
        (0xCFFF, Meaning.NEVER),
        (0x0122, Meaning.NEVER),
        (0x0124, Meaning.NEVER),
        (0xFE00, Meaning.NEVER),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) else str(value),
)
def test_of_store_status(status: int, meaning: Meaning) -> None:
    assert of_store_status(status) is meaning


@pytest.mark.parametrize(
    ("status", "meaning", "absent"),
    [
        (200, Meaning.DONE, False),
        (202, Meaning.DONE, False),
        (301, Meaning.NEVER, False),
        (400, Meaning.NEVER, False),
        (408, Meaning.LATER, False),
        (409, Meaning.NEVER, False),
        (422, Meaning.NEVER, False),
        (425, Meaning.LATER, False),
        (429, Meaning.LATER, False),
        (500, Meaning.LATER, False),
        (502, Meaning.LATER, True),
        (503, Meaning.LATER, True),
        (504, Meaning.LATER, True),
        (507, Meaning.LATER, False),
    ],
)
def test_of_http_status(status: int, meaning: Meaning, *, absent: bool) -> None:
    assert (of_http_status(status), tells_absence(status)) == (meaning, absent)
