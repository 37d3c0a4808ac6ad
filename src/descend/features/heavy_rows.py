"""Rows far heavier than the mean, found without keeping a number for each row.

``engines/curvature.split_heavy_rows`` has the reason for visiting them several times. Here |x|² + 1 is counted in
bins of a quarter of an octave, and a row is visited as often as the heaviest of its bin would be: how often needs
nothing but the row and the mean of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.types import Dataset

STEPS = 4
LOWEST, HIGHEST = -64, 64
"""Octaves that are told apart; what lies beyond counts as the last."""
MOST_COPIES = 2**40
HEAVY = 2.0
"""A visit weighs as much as this many rows of the mean at the most, but for what bins round."""


class Heaviness:
    """How many rows are how heavy."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((HIGHEST - LOWEST) * STEPS, dtype=np.int64)
        self.total = 0.0

    def add(self, norms: NDArray[np.float64]) -> None:
        """Take in rows of which |x|² + 1, times their weight, are ``norms``."""
        self.counts += np.bincount(_bins(norms), minlength=len(self.counts))
        self.total += float(norms.sum())

    @property
    def num_rows(self) -> int:
        return int(self.counts.sum())

    @property
    def num_visits(self) -> int:
        """Visits of all rows in an epoch."""
        return int(self.counts @ self._copies())

    @property
    def heaviest(self) -> float:
        """The norm of the heaviest visit, at the weight it has."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return 0.0
        one = _top(filled) / self._copies()[filled] * (self.num_visits / self.num_rows)
        return float(one.max())

    def copies(self, norms: NDArray[np.float64]) -> NDArray[np.int64]:
        """How often each row is visited."""
        found: NDArray[np.int64] = self._copies()[_bins(norms)]
        return found

    def _copies(self) -> NDArray[np.int64]:
        usual = HEAVY * self.total / max(1, self.num_rows)
        top = _top(np.arange(len(self.counts)))
        found = np.clip(np.ceil(top / usual), 1, MOST_COPIES).astype(np.int64)
        # A bin may reach above ``usual`` where the rows of it do not: they are as usual.
        return np.where(_top(np.arange(len(self.counts)) - 1) <= usual, 1, found)


def weighted_norms(data: Dataset) -> NDArray[np.float64]:
    """|x|² + 1 of every row times its weight, (n,)."""
    X: Any = data.X
    if data.is_sparse:
        squares = X.copy()
        squares.data = np.square(X.data, dtype=np.float64)
        norms = np.asarray(squares.sum(axis=1)).reshape(-1) + 1.0
    else:
        norms = np.einsum("ij,ij->i", X, X, dtype=np.float64) + 1.0
    weighted: NDArray[np.float64] = norms if data.weights is None else norms * data.weights
    return weighted


def _bins(norms: NDArray[np.float64]) -> NDArray[np.intp]:
    with np.errstate(divide="ignore"):
        steps = np.floor(np.log2(norms) * STEPS)
    bins: NDArray[np.intp] = np.clip(steps, LOWEST * STEPS, HIGHEST * STEPS - 1).astype(np.intp)
    return bins - LOWEST * STEPS


def _top(bins: NDArray[Any]) -> NDArray[np.float64]:
    """The upper edge of each bin."""
    return np.exp2((bins + 1.0) / STEPS + LOWEST)
