"""Products of columns with one another and with the target, about their means: all that squared error asks of rows.

They are found in the pass that finds the means, while the rows are near: scaled to deviation 1 they are the matrix of
the normal equations, which else takes a pass of its own over scaled rows. Each chunk of rows is taken about its own
means, so that columns far from 0 lose no digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descend.features.moments import Float64, Moments
from descend.products import Products

if TYPE_CHECKING:
    from descend.features.features import Features
    from descend.features.target import Target

MOST_ROUNDING = 1e-4
"""Squares summed in float32 may be off by this share; more has overflowed, or vanished."""
LEAST_ROUNDING = 4.0
"""In units of the last place. Products of two columns are summed as squares are, but partly cancel."""
FEWEST_OF_SQUARE = 4
"""Numbers of a chunk for each product of its columns: of fewer rows adding up the products takes longest."""
FEW_COLUMNS = 32
"""Up to here a loop of our own takes less time than BLAS and than a pass of its own: of 60,000 rows of 26 columns a
fit takes 10 ms instead of 12, of 96 it would take 108 or, by BLAS, 73 instead of 36."""


class Covariance:
    """Of ``m`` columns and ``k`` targets, rows added a block at a time; none of them has a weight."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._products: Float64 = np.zeros((0, 0))
        """Σ over chunks of the products about the chunk's means, in ``_units``: the upper triangle."""
        self._units: Float64 = np.zeros(0)
        """Powers of two, which lose no digit: squares of large numbers overflow in float32."""
        self._centres: list[Float64] = []
        self._counts: list[int] = []
        self._squares: Float64 = np.zeros(0)
        """Of the targets about each chunk's mean, summed in float64."""
        self._last_place = 0.0

    def add(self, X: NDArray[Any], y: NDArray[Any]) -> Moments:
        """Add rows ``X`` (r, m) of floats with targets ``y`` (r,) or (r, k); returns the moments of the columns.

        A mean of them that is no finite number says that a column has gaps or is infinite.
        """
        from descend.engines import columns  # compiled: costs a second, which a small table need not pay

        m, targets = X.shape[1], y.reshape(len(y), -1)
        size = m + targets.shape[1]
        room = -(-size // columns.TILE) * columns.TILE
        if not self.num_rows:
            self._products, self._squares = np.zeros((room, room)), np.zeros(size - m)
            self._last_place = LEAST_ROUNDING * float(np.finfo(X.dtype).eps)
        found = Moments(m)
        for rows, some in columns.by_column(X, room - m, FEWEST_OF_SQUARE * size * size):
            count = rows.stop - rows.start
            centres = np.empty(size)
            columns.add_moments(
                some[:m], count, rows.start, found.mean, found.M2, found.minimum, found.maximum, centres
            )
            goals = targets[rows].T.astype(np.float64)
            centres[m:] = goals.mean(axis=1)
            goals -= centres[m:, None]
            squares = np.einsum("ij,ij->i", goals, goals)
            self._squares += squares
            with np.errstate(over="ignore", invalid="ignore"):
                if not self.num_rows:
                    deviations = np.sqrt(np.append(found.M2, squares) / count)
                    self._units = _nearest_power(deviations)
                columns.shift(some[:m], count, centres, self._units)
                some[m:size, :count] = goals * self._units[m:, None]
                if size <= FEW_COLUMNS:
                    columns.add_products(some, count, self._products)
                else:
                    self._products += some[:, :count] @ some[:, :count].T
            self._centres.append(centres)
            self._counts.append(count)
            self.num_rows += count
        found.count[:] = len(X)
        return found

    def encoded(self, features: Features, target: Target, squares: Float64) -> Products | None:
        """The sums over rows as they are encoded; None where numbers were too large or too small for their type.

        ``squares`` (m,) are the columns' squared deviations, float64 throughout.
        """
        m, chosen, n = len(squares), features.origin, float(self.num_rows)
        counts, centres = np.array(self._counts, dtype=np.float64), np.array(self._centres)
        used = np.append(chosen, np.arange(m, centres.shape[1]))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mean = counts @ centres / n
            apart = (centres - mean) * np.sqrt(counts)[:, None]
            squares = np.append(squares, self._squares + np.square(apart[:, m:]).sum(axis=0))[used]
            apart *= self._units
            upper = self._products[: len(mean), : len(mean)]
            products = (np.triu(upper) + np.triu(upper, 1).T + apart.T @ apart)[np.ix_(used, used)]
            # Squares have been summed in float64 as well: how far off they are tells how far rounding goes.
            own = np.diagonal(products) / np.square(self._units[used])
            rounding = np.maximum(np.abs(own - squares) / squares, self._last_place)
            if not np.isfinite(products).all() or not (rounding[: len(chosen)] <= MOST_ROUNDING).all():
                return None
            scale = np.append(features.scale, target.scale)
            origin = (mean[used] - np.append(features.mean, target.mean)) / scale
            factor = 1.0 / (scale * self._units[used])
            whole = products * np.outer(factor, factor) + n * np.outer(origin, origin)
        d = len(chosen)
        columns = np.empty((d + 1, d + 1))
        columns[:d, :d] = whole[:d, :d]
        columns[d, :d] = columns[:d, d] = n * origin[:d]
        columns[d, d] = n
        targets = np.append(whole[d:, :d], n * origin[d:, None], axis=1)
        rounding = np.insert(np.nan_to_num(rounding, nan=self._last_place), d, self._last_place)
        return Products(columns, targets, np.diagonal(whole)[d:].copy(), rounding)


def _nearest_power(deviations: Float64) -> Float64:
    """1 over each number, rounded to a power of two; 1 for 0."""
    usual = np.where((deviations > 0.0) & np.isfinite(deviations), deviations, 1.0)
    units: Float64 = np.exp2(-np.rint(np.log2(usual)))
    return units
