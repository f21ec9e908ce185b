# SPDX-License-Identifier: Apache-2.0
"""Numbers from a mask and the voxels below it. Each takes a mask that is not empty."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ai_apps.imaging.volume import Volume

EMPHYSEMA_LIMIT_HU = -950.0
"""Voxels of lung below it count as emphysema.

References
----------
Gevenois PA, De Vuyst P, de Maertelaer V, et al. Comparison of computed density and microscopic morphometry in
pulmonary emphysema. Am J Respir Crit Care Med 1996;154:187-192.
"""


def volume_ml(volume: Volume, mask: NDArray[np.bool_]) -> float:
    """Voxels of `mask` times the volume of a voxel, mL."""
    return int(np.count_nonzero(mask)) * volume.voxel_ml


def mean_hu(volume: Volume, mask: NDArray[np.bool_]) -> float:
    """Mean of the voxels of `mask`, HU.

    Raises
    ------
    ValueError
        If `mask` is empty.
    """
    return float(_inside(volume, mask).mean(dtype=np.float64))


def emphysema_index(volume: Volume, mask: NDArray[np.bool_]) -> float:
    """Share of the voxels of `mask` below :data:`EMPHYSEMA_LIMIT_HU`, percent (LAA-950).

    Raises
    ------
    ValueError
        If `mask` is empty.
    """
    return float((_inside(volume, mask) < EMPHYSEMA_LIMIT_HU).mean() * 100)


def _inside(volume: Volume, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    found = volume.voxels[mask]
    if not found.size:
        raise ValueError("the mask is empty")
    return found
