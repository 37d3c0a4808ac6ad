"""Products of columns with one another and with the target, about their means: all that squared error asks of rows.

They are found in the pass that finds the means, while the rows are near: scaled to deviation 1 they are the matrix of
the normal equations, which else takes a pass of its own over scaled rows. Each chunk of rows is taken about its own
means, so that columns far from 0 lose no digits.
"""

from __future__ import annotations

from collections.abc import Iterator
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
MOST_IN_TILES = 160
"""Columns up to which a loop of our own takes no longer than BLAS."""


class Covariance:
    """Of ``m`` columns and ``k`` targets, rows added a block at a time; none of them has a weight."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._moments: Float64 = np.zeros((4, 0))
        """Of columns and targets: mean, squared deviations, least and most, summed in float64."""
        self._products: Float64 = np.zeros((0, 0))
        """Σ of the products about the mean, in ``_units``."""
        self._units: Float64 = np.zeros(0)
        """Powers of two, which lose no digit: squares of large numbers overflow in float32."""
        self._last_place = 0.0

    def add(self, X: NDArray[Any], y: NDArray[Any] | None) -> tuple[Moments, Moments]:
        """Add rows ``X`` (r, m) of floats with targets ``y`` (r,), (r, k) or none; returns all rows' moments so far.

        They are those of the columns and of the targets. A mean that is no finite number says that some numbers are
        missing or infinite: what is here then means nothing any more.
        """
        from descend.engines import columns  # compiled: costs a second, which a small table need not pay

        m = X.shape[1]
        goals = np.empty((len(X), 0)) if y is None else y.reshape(len(y), -1)
        targets = np.ascontiguousarray(goals.T, dtype=np.float64)
        size = m + len(targets)
        wide = columns.filled_up(size)
        if not self.num_rows:
            self._products, self._units = np.zeros((wide, wide)), np.ones(size)
            self._moments = np.zeros((4, size))
            self._moments[2:] = [[np.inf], [-np.inf]]
            self._last_place = LEAST_ROUNDING * float(np.finfo(X.dtype).eps)
        self._moments = self._moments.copy()  # those that were given away stay as they are
        room = columns.room_for(X, wide)
        room[size:] = 0
        by_tiles = wide <= MOST_IN_TILES
        with np.errstate(over="ignore", invalid="ignore"):
            for some, begin, first, count in _pieces(X, room.shape[1], by_tiles):
                columns.add_rows(
                    some,
                    begin,
                    targets,
                    first,
                    count,
                    self.num_rows,
                    by_tiles,
                    room,
                    self._moments,
                    self._units,
                    self._products,
                )
                self.num_rows += count
                if not by_tiles:
                    self._products += room[:, :count] @ room[:, :count].T
        return self._found(slice(m)), self._found(slice(m, None))

    def _found(self, places: slice) -> Moments:
        found = Moments()
        found.mean, found.M2, found.minimum, found.maximum = self._moments[:, places]
        found.count = np.full(len(found.mean), float(self.num_rows))
        return found

    def encoded(self, features: Features, target: Target) -> Products | None:
        """The sums over rows as they are encoded; None where numbers were too large or too small for their type."""
        n, d, size = float(self.num_rows), len(features.origin), len(self._units)
        products, moments, units = self._products[:size, :size], self._moments, self._units
        k = len(target.mean)
        if d + k < size:  # columns were left out
            used = np.concatenate([features.origin, np.arange(size - k, size)])
            products, moments, units = products[np.ix_(used, used)], moments[:, used], units[used]
        mean, squares = moments[:2]
        scale = np.concatenate([features.scale, target.scale])
        rounding = np.full(d + 1 + k, self._last_place)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            # Squares have been summed in float64 as well: how far off they are tells how far rounding goes.
            off = np.abs(products.diagonal() / (units * units) - squares) / squares
            rounding[:d] = np.fmax(off[:d], rounding[:d])  # a column of one value is exact
            rounding[d + 1 :] = np.fmax(off[d:], rounding[d + 1 :])
            if not np.isfinite(products.sum() + squares.sum()) or rounding[:d].max() > MOST_ROUNDING:
                return None
            origin = (mean - np.concatenate([features.mean, target.mean])) / scale
            factor = 1.0 / (scale * units)
            whole = products * (factor[:, None] * factor)
            whole += n * (origin[:, None] * origin)
        columns, targets = np.empty((d + 1, d + 1)), np.empty((k, d + 1))
        columns[:d, :d], targets[:, :d] = whole[:d, :d], whole[d:, :d]
        columns[d, :d] = columns[:d, d] = n * origin[:d]
        columns[d, d], targets[:, d] = n, n * origin[d:]
        return Products(columns, targets, whole.diagonal()[d:].copy(), rounding)


def _pieces(X: NDArray[Any], step: int, at_once: bool) -> Iterator[tuple[NDArray[Any], int, int, int]]:
    """An array (m, r) that has rows of ``X``, from where on it has them, the number of the first, and how many.

    Columns that lie one after the other are read where they are, ``at_once`` or so many rows at a time.
    """
    from descend.engines import columns

    if not (X.flags.f_contiguous and X.flags.behaved):
        for rows, some in columns.by_column(X):
            yield some, 0, rows.start, rows.stop - rows.start
        return
    step = len(X) if at_once else step
    for start in range(0, len(X), step):
        yield X.T, start, start, min(step, len(X) - start)
