# SPDX-License-Identifier: Apache-2.0
"""Numbers of a mask, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ai_apps.imaging.volume import Volume
from ai_apps.inference.measure import emphysema_index, mean_hu, volume_ml

VOXELS = np.array([[[-960, -950], [-850, 40]]], dtype=np.float32)
VOLUME = Volume(voxels=VOXELS, affine=np.diag([5.0, 2, 2, 1]), sop_instance_uids=("1.2",))
LUNG = VOXELS < 0


def test_numbers_of_three_voxels() -> None:
    assert volume_ml(VOLUME, LUNG) == pytest.approx(3 * 0.020)
    assert mean_hu(VOLUME, LUNG) == pytest.approx(-920)
    # -950 itself is not below -950.
    assert emphysema_index(VOLUME, LUNG) == pytest.approx(100 / 3)


def test_an_empty_mask_has_a_volume_and_nothing_else() -> None:
    nothing = np.zeros_like(LUNG)
    assert volume_ml(VOLUME, nothing) == 0
    with pytest.raises(ValueError, match="empty"):
        mean_hu(VOLUME, nothing)
    with pytest.raises(ValueError, match="empty"):
        emphysema_index(VOLUME, nothing)
