# SPDX-License-Identifier: Apache-2.0
"""A chest as a continuous object: Hounsfield units at any point of patient space, with volumes known exactly.

Each lung is an ellipsoid pushed out of shape by shears. A shear keeps volume, so however irregular the lung,
its volume stays 4/3 pi abc; the same holds for the emphysema balls inside it. Frame: LPS, millimetres,
origin between the lungs. No grid, no DICOM here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

AIR_HU = -1000.0
LUNG_HU = -860.0
EMPHYSEMA_HU = -985.0
SOFT_TISSUE_HU = 40.0
EDGE_MM = 1.2
"""Width of the transition at a lung's surface; half of it belongs to the lung."""

LUNG_EXTENT_MM = (160.0, 112.0, 142.0)
"""No lung of any seed leaves +- this box."""

_BALLS = 40
_NOISE_LIMIT_HU = 28.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lung:
    side: float  # +1 left, -1 right
    centre: tuple[float, float, float]
    semi_axes: tuple[float, float, float]
    lean: float
    ripple: tuple[float, float, float]
    phase: tuple[float, float, float]
    balls: NDArray[np.float32]  # (n, 4): centre and radius in the unit ball

    @property
    def volume_ml(self) -> float:
        a, b, c = self.semi_axes
        return 4 / 3 * math.pi * a * b * c / 1000

    @property
    def emphysema_ml(self) -> float:
        return float((self.balls[:, 3].astype(np.float64) ** 3).sum()) * self.volume_ml

    def unit_coordinates(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Coordinates in which the lung is the unit ball; composed of three shears and a scaling."""
        dx, dy, dz = x - self.centre[0], y - self.centre[1], z - self.centre[2]
        a, b, c = self.semi_axes
        x1 = dx + self.side * self.lean * (dz / c) ** 2 + self.ripple[0] * np.sin(dy / 21 + self.phase[0])
        y1 = dy + self.ripple[1] * np.sin(x1 / 19 + dz / 47 + self.phase[1])
        z1 = dz + self.ripple[2] * np.sin(x1 / 23 + y1 / 29 + self.phase[2])
        single = np.float32
        return (x1 / a).astype(single), (y1 / b).astype(single), (z1 / c).astype(single)

    def distance_mm(self, u: tuple[Array, Array, Array]) -> Array:
        """About the signed distance to the surface, negative inside; exact in sign."""
        s = np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
        slope = np.sqrt(sum((ui / ai) ** 2 for ui, ai in zip(u, self.semi_axes, strict=True)) + 1e-12)
        return np.asarray((s - 1) * s / slope, dtype=np.float32)

    def emphysema(self, u: tuple[Array, Array, Array]) -> NDArray[np.bool_]:
        """Which of the points (flat arrays) lie in an emphysema ball."""
        found = np.zeros(u[0].shape, dtype=np.bool_)
        if not found.size:
            return found
        low = np.array([ui.min() for ui in u])
        high = np.array([ui.max() for ui in u])
        near = np.all(self.balls[:, :3] + self.balls[:, 3:] >= low, axis=1)
        near &= np.all(self.balls[:, :3] - self.balls[:, 3:] <= high, axis=1)
        for bx, by, bz, r in self.balls[near]:
            found |= (u[0] - bx) ** 2 + (u[1] - by) ** 2 + (u[2] - bz) ** 2 < r * r
        return found


def _placed_balls(rng: np.random.Generator, share: float) -> NDArray[np.float32]:
    """Disjoint balls inside the unit ball whose volumes sum to `share` of it."""
    if share == 0:
        return np.zeros((0, 4), dtype=np.float32)
    radii = rng.uniform(0.8, 1.2, _BALLS)
    radii *= (share / (radii**3).sum()) ** (1 / 3)
    placed: list[NDArray[np.float64]] = []
    for radius in sorted(radii, reverse=True):
        while True:
            centre = rng.uniform(-1, 1, 3)
            if np.linalg.norm(centre) + radius > 0.95:
                continue
            if all(np.linalg.norm(centre - other[:3]) > radius + other[3] for other in placed):
                break
        placed.append(np.append(centre, radius))
    return np.array(placed, dtype=np.float32)


class ChestAnatomy:
    """The chest of one seed.

    Parameters
    ----------
    seed
        Decides shape, position and texture; equal seeds give equal chests.
    emphysema_percent
        Share of each lung's volume that lies below -950 HU, 0 to 20.
    noise_hu
        Standard deviation of the noise; inside the lungs it is cut off so that no noise crosses -950 HU.

    Raises
    ------
    ValueError
        If `emphysema_percent` is not within 0 to 20.
    """

    def __init__(self, seed: int, *, emphysema_percent: float = 6.0, noise_hu: float = 12.0) -> None:
        if not 0 <= emphysema_percent <= 20:
            raise ValueError("emphysema_percent must be within 0 to 20")
        rng = np.random.default_rng(seed)
        self.noise_hu = noise_hu
        # A stream of its own: more or less emphysema leaves the shape of the chest as it is.
        balls = np.random.default_rng((seed, 2))
        self.left = self._lung(rng, +1.0, _placed_balls(balls, emphysema_percent / 100))
        self.right = self._lung(rng, -1.0, _placed_balls(balls, emphysema_percent / 100))
        self._body = (float(rng.uniform(172, 190)), float(rng.uniform(116, 126)))
        self._rib_phase = float(rng.uniform(0, 1))
        self._trachea = (float(rng.uniform(-4, 4)), float(rng.uniform(14, 24)))
        self._carina_z = float(rng.uniform(10, 30))
        self._trachea_radius = float(rng.uniform(7, 9.5))

    @staticmethod
    def _lung(rng: np.random.Generator, side: float, balls: NDArray[np.float32]) -> _Lung:
        heart_side = side > 0
        a = float(rng.uniform(44, 50) if heart_side else rng.uniform(48, 54))
        centre = (side * float(rng.uniform(82, 86)), float(rng.uniform(-6, 6)), float(rng.uniform(-6, 6)))
        return _Lung(
            side=side,
            centre=centre,
            semi_axes=(a, float(rng.uniform(66, 78)), float(rng.uniform(100, 118))),
            lean=float(rng.uniform(4, 14)),
            ripple=(float(rng.uniform(1, 4)), float(rng.uniform(1, 4)), float(rng.uniform(1, 5))),
            phase=tuple(rng.uniform(0, 2 * math.pi, 3).tolist()),
            balls=balls,
        )

    def section(
        self, x: Array, y: Array, z: Array, rng: np.random.Generator
    ) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
        """Hounsfield units and left and right lung at the points of one section.

        Parameters
        ----------
        x, y, z
            float32 coordinates (LPS, mm) that broadcast to two dimensions.
        rng
            Source of the noise, which belongs to the acquisition and not to the chest.
        """
        shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
        hu = np.full(shape, AIR_HU, dtype=np.float32)
        noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(self.noise_hu)
        self._draw_solid(hu, x, y, z)
        masks = []
        lung_weight = np.zeros(shape, dtype=np.float32)
        for lung in (self.left, self.right):
            u = lung.unit_coordinates(x, y, z)
            distance = np.broadcast_to(lung.distance_mm(u), shape)
            near = distance < EDGE_MM / 2
            inside = distance < 0
            masks.append(inside)
            if not near.any():
                continue
            flat = [np.broadcast_to(ui, shape)[near] for ui in u]
            texture = LUNG_HU + 8 * flat[1] + 9 * np.sin(6 * flat[0] + 5 * flat[2])
            texture[lung.emphysema((flat[0], flat[1], flat[2]))] = EMPHYSEMA_HU
            weight = np.clip(0.5 - distance[near] / EDGE_MM, 0, 1)
            hu[near] = weight * texture + (1 - weight) * hu[near]
            lung_weight[near] = weight
        quiet = lung_weight > 0
        noise[quiet] = np.clip(noise[quiet], -_NOISE_LIMIT_HU, _NOISE_LIMIT_HU)
        return hu + noise, masks[0], masks[1]

    def _draw_solid(self, hu: Array, x: Array, y: Array, z: Array) -> None:
        """Everything but the lungs, the later over the earlier."""

        def paint(where: NDArray[np.bool_], value: float) -> None:
            np.copyto(hu, np.float32(value), where=where)

        half_width, half_depth = self._body
        radius = (np.abs(x) / half_width) ** 2.4 + (np.abs(y) / half_depth) ** 2.4
        # Couch: a foam core as dark as lung, in thin skins; a segmentation by threshold alone falls for it.
        paint((np.abs(y - half_depth - 18) < 14) & (np.abs(x) < 210), -250)
        paint((np.abs(y - half_depth - 18) < 11) & (np.abs(x) < 207), -870)
        paint(radius < 1, -100)  # skin fat
        paint(radius < 0.86, SOFT_TISSUE_HU)
        rib_wave = (z / 30 + np.abs(y - 60) / 160 + self._rib_phase) % 1
        paint((radius > 0.72) & (radius < 0.82) & (rib_wave < 0.45), 380)
        paint(((np.abs(x) / 16) ** 2 + ((y + 0.93 * half_depth - 6) / 6) ** 2 < 1) & (z > -60), 300)
        # Heart, liver and a gas bubble in the stomach
        paint(((x - 16) / 52) ** 2 + ((y + 26) / 44) ** 2 + ((z + 34) / 54) ** 2 < 1, 48)
        paint(((x + 62) / 88) ** 2 + (y / 84) ** 2 + ((z + 196) / 92) ** 2 < 1, 62)
        paint(((x - 74) / 32) ** 2 + ((y + 30) / 26) ** 2 + ((z + 166) / 24) ** 2 < 1, -995)
        # Spine: vertebral bodies, discs and canal
        spine = (x / 19) ** 2 + ((y - 74) / 16) ** 2
        paint(spine < 1, 90)
        bone = (z % 25) < 19
        paint((spine < 1) & bone, 420)
        paint((spine < 0.72) & bone, 180)
        paint(((np.abs(x) < 26) & (np.abs(y - 96) < 7)) & ((z % 25) < 12), 350)
        paint((x / 8) ** 2 + ((y - 97) / 8) ** 2 < 1, 20)
        self._draw_airway(hu, x, y, z)

    def _draw_airway(self, hu: Array, x: Array, y: Array, z: Array) -> None:
        tx, ty = self._trachea
        across = np.sqrt((x - tx) ** 2 + (y - ty) ** 2)
        squared = [np.where(z > self._carina_z, across, np.float32(1e3))]
        for lung in (self.left, self.right):
            start = np.array([tx, ty, self._carina_z])
            end = np.array([lung.side * 27.0, ty + 2.0, self._carina_z - 26.0])
            along = end - start
            t = ((x - start[0]) * along[0] + (y - start[1]) * along[1] + (z - start[2]) * along[2]) / (
                along @ along
            )
            t = np.clip(t, 0, 1)
            gap = [p - (s + t * a) for p, s, a in zip((x, y, z), start, along, strict=True)]
            squared.append(np.sqrt(gap[0] ** 2 + gap[1] ** 2 + gap[2] ** 2) + self._trachea_radius * 0.35)
        radius = np.minimum(np.minimum(squared[0], squared[1]), squared[2])
        np.copyto(hu, np.float32(55), where=radius < self._trachea_radius + 1.8)
        np.copyto(hu, np.float32(AIR_HU), where=radius < self._trachea_radius)
