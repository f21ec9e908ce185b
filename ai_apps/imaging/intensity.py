# SPDX-License-Identifier: Apache-2.0
"""Stored values to Hounsfield units, and Hounsfield units to what a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ai_apps.contract import AppError

HU_RANGE = (-1024.0, 3071.0)
"""Range kept; what lies outside (padding, metal) becomes its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkScale:
    """Network input = clip((HU + offset_hu) * factor, minimum, maximum)."""

    offset_hu: float
    factor: float = 1.0
    minimum: float = 0.0
    maximum: float = float("inf")

    def apply(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's input, float32, shape as given."""
        scaled = (hu + np.float32(self.offset_hu)) * np.float32(self.factor)
        return np.asarray(np.clip(scaled, self.minimum, self.maximum), dtype=np.float32)


def hounsfield(stored: NDArray[np.generic], header: Dataset) -> NDArray[np.float32]:
    """Hounsfield units of one slice, float32, within :data:`HU_RANGE`.

    Parameters
    ----------
    stored
        Stored values as decoded, any integer type.
    header
        The slice's own attributes; rescale may differ from slice to slice (PET-like CT reconstructions).

    Raises
    ------
    AppError
        If the rescale is missing or malformed, or its type is not HU.

    References
    ----------
    PS3.3 C.8.2.1 CT Image Module, C.11.1.1.2.
    """
    try:
        slope, intercept = float(header.RescaleSlope), float(header.RescaleIntercept)
    except (AttributeError, TypeError, ValueError) as error:
        raise AppError("the rescale slope or intercept is missing or malformed") from error
    if not np.isfinite(slope) or not np.isfinite(intercept) or slope == 0:
        raise AppError("the rescale slope or intercept is missing or malformed")
    if str(header.get("RescaleType") or "HU") not in ("HU", "US"):
        raise AppError("the rescaled values are not Hounsfield units")
    values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return np.clip(values, *HU_RANGE, out=values)
