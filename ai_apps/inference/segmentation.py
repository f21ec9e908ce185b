# SPDX-License-Identifier: Apache-2.0
"""A network that sees axial slices, run over a volume of any plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ai_apps.contract import Progress
from ai_apps.imaging.resample import Grid, axial_grid, on_grid
from ai_apps.imaging.volume import Volume
from ai_apps.inference.onnx_session import OnnxSession
from ai_apps.manifest import NetworkModel

_BATCH_PIXELS = 512 * 512


def slice_probabilities(
    volume: Volume, model: NetworkModel, session: OnnxSession, report: Progress
) -> tuple[NDArray[np.float32], Grid]:
    """Probabilities on the working grid of `model`, float32 [slice, row, column], and that grid.

    Parameters
    ----------
    volume
        The images, any plane.
    model, session
        The network and its preparation.
    report
        Called with 0 to 100 percent of this step.

    Raises
    ------
    AppError
        If the grid is too large or the model fails.
    """
    grid = axial_grid(volume, model.spacing_mm)
    image = on_grid(volume, grid, outside=model.outside_hu)
    rows, columns = ((n + -n % model.size_multiple) for n in grid.shape[1:])
    n = model.neighbours
    padding = ((0, 0), (0, rows - grid.shape[1]), (0, columns - grid.shape[2]))
    scaled = model.scale.apply(np.pad(image, padding, constant_values=model.outside_hu))
    scaled = np.pad(scaled, ((n, n), (0, 0), (0, 0)), mode="edge")
    found = np.empty(grid.shape, dtype=np.float32)
    count = grid.shape[0]
    batch = max(1, _BATCH_PIXELS // (rows * columns))
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        channels = [scaled[start + c : stop + c] for c in range(2 * n + 1)]
        output = session.run(np.stack(channels, axis=1))
        found[start:stop] = output[:, 0, : grid.shape[1], : grid.shape[2]]
        report(round(100 * stop / count), f"slice {stop} of {count}")
    return found, grid
