# SPDX-License-Identifier: Apache-2.0
"""Gradient-boosted decision trees for several classes, small and deterministic.

One tree per class and round, fitted to the gradient of the softmax loss with Newton steps; features are cut
into quantile bins once, and each split learns where missing values (NaN) go. For tables of headers (thousands
of rows, hundreds of features) this takes seconds; a larger job wants a library.

References
----------
Friedman 2001, doi:10.1214/aos/1013203451; Chen & Guestrin 2016, doi:10.1145/2939672.2939785.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bins = NDArray[np.int64]

_BINS = 32
_SMALLEST_GAIN = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Boosting:
    """How trees are grown.

    Attributes
    ----------
    rounds
        Trees per class.
    depth
        Splits from root to leaf at most.
    rate
        Share of each tree's step that is taken.
    penalty
        Added to the curvature of a leaf; larger makes smaller steps.
    smallest_leaf
        Least sum of curvatures in a leaf.
    """

    rounds: int = 60
    depth: int = 3
    rate: float = 0.2
    penalty: float = 1.0
    smallest_leaf: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of a tree: a leaf with `weight`, or a split.

    A row with feature <= `threshold` goes to node `left`, a missing value where `missing_left` says.
    """

    weight: float = 0.0
    feature: int = -1
    threshold: float = 0.0
    left: int = -1
    right: int = -1
    missing_left: bool = False

    @property
    def is_leaf(self) -> bool:
        """Whether this is a leaf."""
        return self.feature < 0


Tree = tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """The trees of each class, by round, and what each class has before any."""

    base: tuple[float, ...]
    trees: tuple[tuple[int, Tree], ...]


def grow_forest(rows: Floats, classes: NDArray[np.int64], number_of_classes: int, how: Boosting) -> Forest:
    """Trees that tell the class of a row.

    Parameters
    ----------
    rows
        Shape (rows, features), NaN for missing.
    classes
        Class of each row, from 0; each class has a row.
    """
    edges = _edges(rows)
    bins = _binned(rows, edges)
    shares = np.bincount(classes, minlength=number_of_classes) / len(classes)
    base = np.log(np.maximum(shares, 1e-6))
    scores = np.tile(base, (len(rows), 1))
    wanted = np.eye(number_of_classes)[classes]
    trees: list[tuple[int, Tree]] = []
    for _ in range(how.rounds):
        chances = softmax(scores)
        for number in range(number_of_classes):
            chance = chances[:, number]
            gradient = wanted[:, number] - chance
            curvature = np.maximum(chance * (1 - chance), 1e-9)
            tree, steps = _Grower(bins, edges, gradient, curvature, how).grow()
            scores[:, number] += steps
            if len(tree) > 1 or tree[0].weight:
                trees.append((number, tree))
    return Forest(base=tuple(float(one) for one in base), trees=tuple(trees))


def softmax(scores: Floats) -> Floats:
    """Probabilities of scores, row by row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def _edges(rows: Floats) -> list[Floats]:
    """Where each feature is cut: between its values, at quantiles if it has many."""
    found = []
    for column in rows.T:
        known = np.unique(column[~np.isnan(column)])
        if len(known) > _BINS:
            known = np.unique(np.quantile(known, np.linspace(0, 1, _BINS)))
        # as float32, in which the model compares
        found.append(((known[:-1] + known[1:]) / 2).astype(np.float32).astype(np.float64))
    return found


def _binned(rows: Floats, edges: list[Floats]) -> Bins:
    """Bin of each value from 0; missing values are in the last bin."""
    bins = np.empty(rows.shape, dtype=np.int64)
    for at, cuts in enumerate(edges):
        column = rows[:, at]
        bins[:, at] = np.where(np.isnan(column), _BINS, np.searchsorted(cuts, column, side="left"))
    return bins


class _Grower:
    """Grows one tree."""

    def __init__(
        self, bins: Bins, edges: list[Floats], gradient: Floats, curvature: Floats, how: Boosting
    ) -> None:
        self._bins = bins
        self._edges = edges
        self._gradient = gradient
        self._curvature = curvature
        self._how = how
        self._nodes: list[Node] = []
        self._steps = np.zeros(len(gradient))

    def grow(self) -> tuple[Tree, Floats]:
        """The tree, and its step for each row it was grown on."""
        self._node(np.arange(len(self._gradient)), self._how.depth)
        return tuple(self._nodes), self._steps

    def _node(self, members: NDArray[np.int64], depth: int) -> int:
        index = len(self._nodes)
        self._nodes.append(Node())
        split = self._best_split(members) if depth else None
        if split is None:
            total = self._gradient[members].sum()
            weight = self._how.rate * total / (self._curvature[members].sum() + self._how.penalty)
            self._steps[members] = weight
            self._nodes[index] = Node(weight=float(weight))
            return index
        feature, cut, missing_left = split
        column = self._bins[members, feature]
        goes_left = np.where(column == _BINS, missing_left, column <= cut)
        left = self._node(members[goes_left], depth - 1)
        right = self._node(members[~goes_left], depth - 1)
        self._nodes[index] = Node(
            feature=feature,
            threshold=float(self._edges[feature][cut]),
            left=left,
            right=right,
            missing_left=missing_left,
        )
        return index

    def _best_split(self, members: NDArray[np.int64]) -> tuple[int, int, bool] | None:
        """(feature, last bin of the left side, whether missing values go left); None if none is worth it."""
        features = self._bins.shape[1]
        flat = (self._bins[members] + np.arange(features) * (_BINS + 1)).ravel()
        size = features * (_BINS + 1)
        gradient = np.bincount(flat, np.repeat(self._gradient[members], features), size).reshape(features, -1)
        curvature = np.bincount(flat, np.repeat(self._curvature[members], features), size).reshape(
            features, -1
        )
        whole_g, whole_h = self._gradient[members].sum(), self._curvature[members].sum()
        before = whole_g**2 / (whole_h + self._how.penalty)
        best: tuple[float, tuple[int, int, bool] | None] = (_SMALLEST_GAIN, None)
        for missing_left in (False, True):
            left_g, left_h = np.cumsum(gradient[:, :_BINS], 1), np.cumsum(curvature[:, :_BINS], 1)
            if missing_left:
                left_g, left_h = left_g + gradient[:, _BINS:], left_h + curvature[:, _BINS:]
            right_g, right_h = whole_g - left_g, whole_h - left_h
            gain = (
                left_g**2 / (left_h + self._how.penalty) + right_g**2 / (right_h + self._how.penalty) - before
            )
            for feature, cuts in enumerate(self._edges):
                gain[feature, len(cuts) :] = -1.0
            gain[(left_h < self._how.smallest_leaf) | (right_h < self._how.smallest_leaf)] = -1.0
            at = int(gain.argmax())
            feature, cut = divmod(at, _BINS)
            if gain[feature, cut] > best[0]:
                best = (float(gain[feature, cut]), (feature, cut, missing_left))
        return best[1]
