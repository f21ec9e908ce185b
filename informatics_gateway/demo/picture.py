# SPDX-License-Identifier: Apache-2.0
"""A picture of the result to look at: slices of the source with the segments' outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset, dcmread

from profiles.air.segments import place_segments

_WINDOW_HU = (-1000.0, 400.0)
_COLOURS = ((0, 190, 255), (255, 170, 0), (120, 255, 120))
_TILES = 4
_BACKGROUND = (16, 18, 22)


def write_overlay(segmentation: Dataset, paths: Sequence[Path], labels: Mapping[int, str], out: Path) -> None:
    """Write a PNG with `_TILES` evenly spaced slices; the outline of each segment in its own colour.

    Parameters
    ----------
    segmentation
        The SEG.
    paths
        Source images, as DICOM files.
    labels
        Segment number to label, for the legend.
    """
    sources = sorted(
        (dcmread(path) for path in paths), key=lambda source: float(source.ImagePositionPatient[2])
    )
    masks = place_segments(segmentation, sources)
    shown = {number: mask for number, mask in masks.items() if number in labels}
    filled = np.flatnonzero(np.logical_or.reduce(list(shown.values())).any(axis=(1, 2)))
    picks = filled[(np.linspace(0.15, 0.85, _TILES) * (len(filled) - 1)).astype(int)] if len(filled) else []
    tiles = [_tile(sources[index], {n: m[index] for n, m in shown.items()}) for index in picks]
    width = sum(tile.width for tile in tiles) or 320
    height = max((tile.height for tile in tiles), default=80)
    sheet = Image.new("RGB", (width, height + 24), _BACKGROUND)
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width
    draw = ImageDraw.Draw(sheet)
    legend = 8
    for place, (_, label) in enumerate(sorted(labels.items())):
        draw.rectangle((legend, height + 7, legend + 10, height + 17), fill=_COLOURS[place % len(_COLOURS)])
        draw.text((legend + 16, height + 5), label, fill=(230, 230, 230))
        legend += 30 + int(draw.textlength(label))
    sheet.save(out)


def _tile(source: Dataset, masks: Mapping[int, NDArray[np.bool_]]) -> Image.Image:
    stored = np.asarray(source.pixel_array, dtype=np.float32)
    slope = float(getattr(source, "RescaleSlope", 1))
    intercept = float(getattr(source, "RescaleIntercept", 0))
    low, high = _WINDOW_HU
    grey = np.clip((stored * slope + intercept - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    for place, (_, mask) in enumerate(sorted(masks.items())):
        colour[_outline(mask)] = _COLOURS[place % len(_COLOURS)]
    image = Image.fromarray(colour)
    scale = 320 / image.width
    return image.resize((320, max(1, int(image.height * scale))), Image.Resampling.BILINEAR)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return np.asarray(mask & ~inner, dtype=bool)
