# SPDX-License-Identifier: Apache-2.0
"""Stored values to Hounsfield units to network input."""

from __future__ import annotations

import numpy as np
import pytest

from ai_apps.imaging.intensity import NetworkScale


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (NetworkScale(offset_hu=1024), [0.0, 24.0, 1024.0, 4095.0]),
        (NetworkScale(offset_hu=1024, factor=1 / 1280, maximum=1.0), [0.0, 0.01875, 0.8, 1.0]),
        (NetworkScale(offset_hu=0, factor=-1, minimum=-100), [1024.0, 1000.0, 0.0, -100.0]),
    ],
    ids=["unscaled", "unit-range", "inverted"],
)
def test_network_input(scale: NetworkScale, expected: list[float]) -> None:
    found = scale.apply(np.array([-1024, -1000, 0, 3071], dtype=np.float32))
    assert found.dtype == np.float32
    assert found == pytest.approx(expected)
