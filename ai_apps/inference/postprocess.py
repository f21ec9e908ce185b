# SPDX-License-Identifier: Apache-2.0
"""From the voxels a network marked to organs: components, holes, borders, left and right.

Masks are bool [slice, row, column]; nothing here knows about networks or DICOM.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]

_BOTH_SIDES = 0.2
"""The smaller of two lungs has at least this share of the larger one's voxels."""


def box_of(mask: Mask, margin: int = 0) -> tuple[slice, slice, slice]:
    """The smallest box around the voxels of `mask`, widened by `margin`; empty slices when there are none."""
    found = []
    for axis in range(3):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not hit.size:
            return (slice(0, 0), slice(0, 0), slice(0, 0))
        found.append(slice(max(0, int(hit[0]) - margin), min(mask.shape[axis], int(hit[-1]) + 1 + margin)))
    return found[0], found[1], found[2]


def largest_components(mask: Mask, count: int, *, minimum_share: float = 0.0) -> Mask:
    """The `count` largest components of voxels that share a face.

    Parameters
    ----------
    minimum_share
        Components smaller than this share of the largest are dropped.
    """
    kept = np.zeros_like(mask)
    box = box_of(mask)
    labels, number = ndimage.label(mask[box])
    if number:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        order = np.argsort(-sizes, kind="stable")[:count]
        chosen = [label for label in order if sizes[label] and sizes[label] >= minimum_share * sizes.max()]
        kept[box] = np.isin(labels, chosen)
    return kept


def filled(mask: Mask) -> Mask:
    """`mask` with its closed cavities filled: vessels and walls wholly inside an organ belong to it."""
    whole = mask.copy()
    box = box_of(mask)
    whole[box] = ndimage.binary_fill_holes(mask[box])
    return whole


def ball(radius: float) -> Mask:
    """A ball of voxels."""
    reach = int(radius)
    axis = np.arange(-reach, reach + 1)
    squared = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    return np.asarray(squared <= radius * radius)


def split_left_right(mask: Mask, affine: NDArray[np.float64], midline_x_mm: float) -> tuple[Mask, Mask]:
    """Left and right part of a paired organ.

    Two components are the two sides. One component that reaches over the midline is parted where it is
    thinnest: cores grow apart under erosion and every voxel goes to the nearer core. One component beside
    the midline is one side; the other is empty.

    Parameters
    ----------
    mask
        Both organs.
    affine
        4x4, (slice, row, column, 1) to LPS millimetres; left is greater x.
    midline_x_mm
        Where left and right meet, for what one component alone cannot tell.
    """
    left, right = np.zeros_like(mask), np.zeros_like(mask)
    box = box_of(mask)
    part = mask[box]
    offset = affine[:3, :3] @ [axis.start for axis in box] + affine[:3, 3]
    labels, number = ndimage.label(part)
    if not number:
        return left, right
    sizes = np.bincount(labels.ravel())[1:]
    first = int(np.argmax(sizes)) + 1
    large = [i + 1 for i, size in enumerate(sizes) if size >= _BOTH_SIDES * sizes.max()]
    if len(large) < 2:
        cores = _cores(labels == first)
        if cores is not None:
            labels = _nearest(labels, labels == first, cores, number + 1)
            number += 1
            large = [first, number]
    centres = [_centre(labels == label) for label in range(1, number + 1)]
    x = np.array([float(affine[0, :3] @ centre + offset[0]) for centre in centres])
    if len(large) == 2:
        # The lungs themselves say where the middle is, however far off centre the patient lies.
        midline_x_mm = float(x[[label - 1 for label in large]].mean())
    is_left = np.concatenate([[False], x > midline_x_mm])
    left[box] = is_left[labels] & part
    right[box] = ~is_left[labels] & part
    return left, right


def _centre(mask: Mask) -> NDArray[np.float64]:
    """Mean index of the voxels of `mask`, which has some, on each axis."""
    counts = [np.count_nonzero(mask, axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return np.array([np.average(np.arange(len(count)), weights=count) for count in counts])


def _cores(whole: Mask) -> tuple[Mask, Mask] | None:
    """Two cores of similar size that `whole` falls apart into when eroded, or None when it does not."""
    depth = ndimage.distance_transform_edt(np.pad(whole, 1))[1:-1, 1:-1, 1:-1]
    for level in np.arange(1.0, float(depth.max()), 1.0):
        labels, number = ndimage.label(depth > level)
        if number < 2:
            continue
        sizes = np.bincount(labels.ravel())[1:]
        one, two = np.argsort(-sizes, kind="stable")[:2]
        if sizes[two] >= _BOTH_SIDES * sizes[one]:
            return labels == one + 1, labels == two + 1
    return None


def _nearest(
    labels: NDArray[np.int32], whole: Mask, cores: tuple[Mask, Mask], new_label: int
) -> NDArray[np.int32]:
    """`labels` with the voxels of `whole` that lie nearer to the second core under `new_label`."""
    to_first = ndimage.distance_transform_edt(~cores[0])
    to_second = ndimage.distance_transform_edt(~cores[1])
    parted = labels.copy()
    parted[whole & (to_second < to_first)] = new_label
    return parted
