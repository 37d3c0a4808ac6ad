"""A sample of rows, which knows nearly all that few columns tell of two classes: where to begin, how it bends there.

A run begins at the sample's own lowest place, found by Newton's method at the cost of a pass or two over many rows.
From there on gradients are those of all rows, and L-BFGS starts from the inverse of the sample's Hessian: a step
leaves about (columns / rows of the sample) of the gap. Neither a rate nor the matrix of the largest bend is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from descend.engines.certificate import SAMPLE_ROWS, Sample
from descend.engines.cholesky import cholesky_solver
from descend.engines.column_tiles import TILE
from descend.engines.full_batch import ALL_ONE
from descend.engines.logistic_columns import add_logistic
from descend.objectives.losses import LOG_LOSS, Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset, FloatArray

ROWS_A_COLUMN = 100
"""Of the sample. Columns of rare levels bend only where few of its rows are: with 105 columns, most of them levels,
steps by its curvature led astray, and three times as many passes were needed as with the matrix of all rows."""
MOST_COLUMNS = SAMPLE_ROWS // ROWS_A_COLUMN - 1
RARER_A_COLUMN = 10
"""Of the rarer class in the sample: with fewer, its lowest place says more of these rows than of all."""
FEWEST_FIRST = 750
"""Rows of the sample that the search for its lowest place begins on."""
MOST_STEPS = 12
MOST_HALVINGS = 8
SURE = 0.1
"""The sample's lowest place is off by columns / (2 · rows) anyway: what is left there may be this share of it."""
JITTER = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-13}
"""The share of the mean bend that keeps the Hessian solvable in directions along which no row differs."""


def goes_by_sample(data: Dataset, loss: Loss, penalty: Penalty, rarer: float) -> bool:
    """Whether a sample knows enough of two classes, of which the rarer has this share of the weight."""
    X: Any = data.X
    is_small = (data.is_coded and X.is_small) or (data.is_stored and X.code is not None)
    if loss.code != LOG_LOSS or penalty.l1 or data.is_sparse or is_small:
        return False
    return knows_enough(data.num_rows, data.num_columns, rarer)


def knows_enough(num_rows: int, num_columns: int, rarer: float) -> bool:
    """Whether that is so of dense rows, by their numbers alone.

    >>> knows_enough(50_000, 20, 0.1), knows_enough(50_000, 105, 0.5), knows_enough(50_000, 20, 0.01)
    (True, False, False)
    """
    rows, columns = min(num_rows, SAMPLE_ROWS), num_columns + 1
    return rows >= ROWS_A_COLUMN * columns and rarer * rows >= RARER_A_COLUMN * columns


class Seen(NamedTuple):
    """The objective of a sample at a place: ``value``, ``gradient`` (1, d + 1) and ``hessian`` (d + 1, d + 1)."""

    value: float
    gradient: FloatArray
    hessian: FloatArray


class SampledCurvature:
    """The rows of ``chosen``, and what they know; of one output."""

    def __init__(self, data: Dataset, alpha: float, fit_intercept: bool, chosen: Sample) -> None:
        rows, shares = chosen
        self.X, self.y = data.X[rows], data.y[rows]
        self.columns = np.ascontiguousarray(self.X.T)
        self.code = np.repeat(np.array([[0], [1], [0]], dtype=self.X.dtype), self.X.shape[1], axis=1)
        self.shares = shares
        self.alpha, self.fit_intercept = alpha, fit_intercept
        self.at: FloatArray | None = None
        """Where the inverse Hessian was made."""
        self._inverse: Callable[[FloatArray], FloatArray] | None = None

    @property
    def most_bend(self) -> float:
        """No less than the objective bends: the trace of its largest Hessian on the sample, and the penalty."""
        squares = np.einsum("ij,ij->i", self.X, self.X) + 1.0
        return 0.25 * float(self.shares @ squares) + self.alpha

    def lowest(self, parameters: FloatArray) -> tuple[FloatArray, float, int]:
        """The sample's lowest place (1, d + 1), sought from ``parameters`` on, its value there, and the rows read."""
        n = len(self.y)
        first = max(FEWEST_FIRST, n // 4)
        point: FloatArray = parameters.astype(np.float64)
        read = 0
        before = self._read(point, slice(0, n), self.shares, with_hessian=False).value
        if 2 * first <= n:
            point, read = self._descend(point, slice(n - first, n))  # the heavy ones are in front
        point, more = self._descend(point, slice(0, n))
        return point, before, read + more

    def look(self, parameters: FloatArray) -> None:
        """Makes the inverse Hessian of ``parameters`` the one that is kept."""
        if self.at is None or not np.array_equal(self.at, parameters):
            self._keep(parameters, self._read(parameters, slice(0, len(self.y)), self.shares))

    def product(self, v: FloatArray) -> FloatArray:
        """H⁻¹ · v (1, d + 1) with the sample's Hessian at the place that was looked at last."""
        assert self._inverse is not None
        return self._inverse(v)

    def _descend(self, point: FloatArray, rows: slice) -> tuple[FloatArray, int]:
        """Newton's steps on some of the rows until little is left; the Hessian of the last place is kept."""
        count = rows.stop - rows.start
        shares = self.shares  # a run that is gone on with makes its Hessian of these, to the last digit
        if count < len(shares):
            shares = shares[rows] / shares[rows].sum()
        enough = SURE * point.size / (2.0 * count)
        here, read = self._read(point, rows, shares), count
        for _ in range(MOST_STEPS):
            step = self._keep(point, here)(here.gradient)
            if not 0.5 * float(np.vdot(here.gradient, step)) > enough:
                break
            for _ in range(MOST_HALVINGS):
                trial = point - step
                there = self._read(trial, rows, shares)
                read += count
                if there.value < here.value:
                    break
                step = 0.5 * step
            else:
                break
            point, here = trial, there
        return point, read

    def _read(
        self, parameters: FloatArray, rows: slice, shares: FloatArray, with_hessian: bool = True
    ) -> Seen:
        """What some of the rows know of a place, by a share of each: all of their sum is 1."""
        d, alpha = self.X.shape[1], self.alpha
        even = shares[0] if (shares == shares[0]).all() else None
        weights = ALL_ONE if even is not None else shares
        first = rows.start if even is not None else 0
        columns, y = self.columns, self.y
        if even is None and rows.start:
            columns, y = np.ascontiguousarray(columns[:, rows]), y[rows]
        gradient, H = np.zeros((1, d + 1)), np.zeros((d + 1 + -(d + 1) % TILE,) * 2)
        value = add_logistic(
            columns,
            self.code,
            y,
            weights,
            first,
            first + rows.stop - rows.start,
            parameters[0].astype(self.X.dtype),
            with_hessian,
            gradient[0],
            H,
        )
        if even is not None:
            value, gradient, H = value * even, gradient * even, H * even
        weighted = parameters[0, :-1]
        value += 0.5 * alpha * float(weighted @ weighted)
        gradient[0, :d] += alpha * weighted
        H = np.triu(H) + np.triu(H, 1).T
        H.flat[: (len(H) + 1) * d : len(H) + 1] += alpha
        H = H[: d + 1, : d + 1]
        if not self.fit_intercept:
            H[d, :], H[:, d], H[d, d], gradient[0, d] = 0.0, 0.0, 1.0, 0.0
        return Seen(value, gradient, H)

    def _keep(self, parameters: FloatArray, seen: Seen) -> Callable[[FloatArray], FloatArray]:
        """Makes the inverse Hessian of a place the one that is kept."""
        H, d = seen.hessian, self.X.shape[1]
        H[np.diag_indices(d + 1)] += JITTER[self.X.dtype] * np.trace(H) / (d + 1)
        self.at, self._inverse = parameters.copy(), _inverse_of(H)
        return self._inverse


def _inverse_of(H: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """The product with H⁻¹; directions that rounding has left bending the wrong way are taken to bend as much."""
    try:
        solve = cholesky_solver(H)
    except np.linalg.LinAlgError:
        bends, directions = np.linalg.eigh(H)
        inverse = (directions / np.maximum(np.abs(bends), 1e-6 * np.abs(bends).max())) @ directions.T
        return lambda v: np.asarray(v @ inverse)
    return lambda v: solve(v[0])[None, :]
