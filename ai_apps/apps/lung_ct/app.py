# SPDX-License-Identifier: Apache-2.0
"""Lung CT quantification: volume, mean density and emphysema index of each lung. A demonstration.

The network decides what is lung. Its mask, made on a coarse grid, is then brought to the images' own grid,
where the border may move by about one working voxel to where Hounsfield units cross the middle between lung
and soft tissue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ai_apps.contract import AppError, AppInput, Progress
from ai_apps.imaging.resample import Grid, interpolated
from ai_apps.imaging.series import SeriesRules, read_series
from ai_apps.imaging.volume import Volume, read_volume
from ai_apps.inference.measure import emphysema_index, mean_hu, volume_ml
from ai_apps.inference.onnx_session import ModelError, OnnxSession
from ai_apps.inference.postprocess import ball, box_of, filled, largest_components, split_left_right
from ai_apps.inference.segmentation import slice_probabilities
from ai_apps.manifest import Manifest, ManifestError, NetworkModel
from profiles.air.model import AlgorithmIdentity, Analysis, Measurement, Region
from profiles.codes import (
    ANATOMICAL_STRUCTURE,
    EMPHYSEMA_INDEX,
    HOUNSFIELD_UNIT,
    LEFT,
    LOW_ATTENUATION_AREA,
    LUNG,
    MEAN,
    MEAN_ATTENUATION,
    MILLILITRE,
    PERCENT,
    RIGHT,
    RIGHT_AND_LEFT,
    VOLUME,
    Code,
)

_ISLAND_SHARE = 0.05
"""Components smaller than this share of the largest are no lung: couch, tubing, bowel gas."""

_SOFT_TISSUE_HU = -300.0


class LungCt:
    """The app of ``app.yaml`` in this folder, or of any manifest with the same parameters.

    Parameters
    ----------
    manifest
        Names the network, its preparation and the parameters.
    threads, use_gpu
        See :func:`ai_apps.catalog.load_app`.

    Raises
    ------
    ModelError
        If the manifest has no model or the model cannot be loaded.
    """

    def __init__(self, manifest: Manifest, *, threads: int = 0, use_gpu: bool = True) -> None:
        if manifest.model is None:
            raise ModelError(f"the manifest of {manifest.name} names no model")
        self._manifest = manifest
        self._model: NetworkModel = manifest.model
        self._session = OnnxSession(manifest.model, threads=threads, use_gpu=use_gpu)

    def run(self, app_input: AppInput, report: Progress) -> Analysis:
        """Segment and measure the lungs in one CT series.

        Raises
        ------
        AppError
            If the images are not one even CT stack, or a parameter is unknown or out of bounds.
        """
        try:
            values = self._manifest.parameter_values(app_input.parameters)
        except ManifestError as error:
            raise AppError(str(error)) from error
        requires = self._manifest.requires
        rules = SeriesRules(
            modalities=requires.modalities,
            sop_class_uids=requires.sop_class_uids,
            minimum_slices=requires.minimum_slices,
            maximum_step_mm=float(values["maximum_step_mm"]),
            allow_mixed_frame_of_reference=values["allow_mixed_frame_of_reference"] == "true",
        )
        report(0, "reading headers")
        series = read_series(app_input.paths, rules)
        volume = read_volume(series, lambda done, of: report(5 + 25 * done // of, "reading images"))
        report(30, f"finding lungs on {self._session.device}")
        boundary_hu = float(values["boundary_hu"]) if values["refine"] == "true" else None
        lungs = self._segment(volume, float(values["threshold"]), boundary_hu, report)
        report(85, "measuring")
        left, right = split_left_right(lungs, volume.affine, _midline_x_mm(volume))
        regions = (
            _region(volume, left, "Left lung", LEFT, (0, 160, 220)),
            _region(volume, right, "Right lung", RIGHT, (230, 140, 0)),
            _region(volume, left | right, "Lungs", RIGHT_AND_LEFT, (120, 190, 120)),
        )
        report(100, "measured")
        identity = AlgorithmIdentity(
            manufacturer=self._manifest.manufacturer,
            name=self._manifest.name,
            version=self._manifest.version,
            weights_sha256=self._model.sha256,
            parameters={"label": self._manifest.label, **values},
        )
        return Analysis(algorithm=identity, sop_instance_uids=volume.sop_instance_uids, regions=regions)

    def _segment(
        self, volume: Volume, threshold: float, boundary_hu: float | None, report: Progress
    ) -> NDArray[np.bool_]:
        """Both lungs on the images' own grid."""
        probability, grid = slice_probabilities(
            volume, self._model, self._session, lambda percent, text: report(30 + percent // 2, text)
        )
        found = largest_components(probability >= threshold, 2, minimum_share=_ISLAND_SHARE)
        mask = np.zeros(volume.voxels.shape, dtype=np.bool_)
        if not found.any():
            return mask
        # The border can move outwards by as much as it was blurred: by a working voxel or half a slice step.
        steps = np.linalg.norm(volume.affine[:3, :3], axis=0)
        reach = max(1.0, float(steps.max()) / 2 / float(np.linalg.norm(grid.affine[:3, 0])))
        near = ndimage.binary_dilation(found, ball(reach))
        box, part = _source_part(volume, grid, near)
        if boundary_hu is None:
            # Other components must not come back through interpolation.
            kept = np.where(near, probability, 0).astype(np.float32)
            mask[box] = interpolated(kept, grid.affine, part) >= threshold
        else:
            core = ndimage.binary_erosion(found, ball(reach))
            allowed = interpolated(near.astype(np.float32), grid.affine, part) >= 0.5
            certain = interpolated(core.astype(np.float32), grid.affine, part) >= 0.5
            mask[box] = certain | (allowed & (volume.voxels[box] < boundary_hu))
        mask = largest_components(mask, 2, minimum_share=_ISLAND_SHARE)
        return filled(mask) if boundary_hu is not None else mask


def _source_part(
    volume: Volume, grid: Grid, mask: NDArray[np.bool_]
) -> tuple[tuple[slice, slice, slice], Grid]:
    """The box of `volume` that holds all voxels of `mask` on `grid`, and that box as a grid."""
    box = box_of(mask, margin=1)
    corners = np.array(
        [[i, j, k, 1] for i in _ends(box[0]) for j in _ends(box[1]) for k in _ends(box[2])], dtype=np.float64
    )
    index = (np.linalg.inv(volume.affine) @ grid.affine @ corners.T)[:3]
    low = np.clip(np.floor(index.min(axis=1)).astype(int), 0, np.array(volume.voxels.shape) - 1)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 1, low + 1, volume.voxels.shape)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    part = (
        slice(int(low[0]), int(high[0])),
        slice(int(low[1]), int(high[1])),
        slice(int(low[2]), int(high[2])),
    )
    shape = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
    return part, Grid(affine=affine, shape=shape)


def _ends(axis: slice) -> tuple[int, int]:
    return axis.start, axis.stop - 1


def _midline_x_mm(volume: Volume) -> float:
    """The x coordinate of the middle of the body, from every fourth voxel of soft tissue."""
    coarse = volume.voxels[:, ::4, ::4] > _SOFT_TISSUE_HU
    if not coarse.any():
        return float((volume.affine @ [*(np.array(volume.voxels.shape) / 2), 1])[0])
    centre = np.array(ndimage.center_of_mass(coarse)) * (1, 4, 4)
    return float((volume.affine @ [*centre, 1])[0])


def _region(
    volume: Volume, mask: NDArray[np.bool_], label: str, laterality: Code, colour_rgb: tuple[int, int, int]
) -> Region:
    """A lung, or both, with its numbers; an empty one has none."""
    measurements: tuple[Measurement, ...] = ()
    if mask.any():
        measurements = (
            Measurement(name=VOLUME, value=volume_ml(volume, mask), unit=MILLILITRE),
            Measurement(
                name=MEAN_ATTENUATION, value=mean_hu(volume, mask), unit=HOUNSFIELD_UNIT, derivation=MEAN
            ),
            Measurement(
                name=EMPHYSEMA_INDEX,
                value=emphysema_index(volume, mask),
                unit=PERCENT,
                method=LOW_ATTENUATION_AREA,
            ),
        )
    return Region(
        mask=mask,
        label=label,
        category=ANATOMICAL_STRUCTURE,
        type=LUNG,
        laterality=laterality,
        tracking_identifier=label,
        colour_rgb=colour_rgb,
        measurements=measurements,
    )
