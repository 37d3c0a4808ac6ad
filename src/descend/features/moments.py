"""Count, mean, spread and range of many columns at once, in one mergeable record."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]
NOTHING: Float64 = np.zeros(0)


class Moments:
    """Weighted count, mean, sum of squared deviations (M2), minimum and maximum of ``m`` columns, float64.

    A weight of 2 is the row twice. NaN is a missing value. Records of disjoint rows are merged by the formula
    of Chan, Golub and LeVeque (1979), so blocks may come in any number and order.

    >>> record = Moments(1)
    >>> record.update(np.array([[1.0], [3.0], [np.nan]]))
    >>> record.count, record.mean, record.variance
    (array([2.]), array([2.]), array([1.]))
    """

    __slots__ = ("M2", "count", "maximum", "mean", "minimum")

    def __init__(self, num_columns: int = 0) -> None:
        self.count = self.mean = self.M2 = self.minimum = self.maximum = NOTHING
        if num_columns:
            self.count, self.mean, self.M2 = np.zeros((3, num_columns))
            self.minimum, self.maximum = np.full(num_columns, np.inf), np.full(num_columns, -np.inf)

    @property
    def variance(self) -> Float64:
        """Population variance, (m,); 0 where nothing was counted."""
        return self.M2 / np.where(self.count > 0, self.count, 1.0)

    def grow(self, num_columns: int) -> None:
        """Make room for columns seen later; what was missing so far follows from the total weight."""
        if num_columns == len(self.count):
            return
        extra = Moments(num_columns - len(self.count))
        for name in self.__slots__:
            setattr(self, name, np.concatenate([getattr(self, name), getattr(extra, name)]))

    def update(self, values: Float64, weights: Float64 | None = None) -> None:
        """Add rows: ``values`` (r, m) float64, ``weights`` (r,) above 0."""
        if len(values):
            self.merge(_of_rows(values, weights))

    def merge(self, other: Moments) -> None:
        """Add the record of other rows."""
        with np.errstate(over="ignore", invalid="ignore"):
            count = self.count + other.count
            share = other.count / np.where(count > 0, count, 1.0)
            delta = np.where(other.count > 0, other.mean - self.mean, 0.0)
            delta = np.where(self.count > 0, delta, 0.0)
            mean = np.where(self.count > 0, self.mean + delta * share, other.mean)
            self.M2 = self.M2 + other.M2 + delta * delta * self.count * share
        self.mean = np.where(count > 0, mean, 0.0)
        self.count = count
        self.minimum = np.minimum(self.minimum, other.minimum)
        self.maximum = np.maximum(self.maximum, other.maximum)


def _of_rows(values: Float64, weights: Float64 | None) -> Moments:
    record = Moments(values.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(axis=0) if weights is None else weights @ values
        if np.isfinite(total).all():
            _complete(record, values, weights, total)
        else:
            _with_gaps(record, values, weights)
    return record


def of_sparse_rows(X: Any, weights: Float64 | None = None) -> Moments:
    """The record of CSR rows (r, d); a place that holds nothing is a 0. ``weights`` (r,) above 0."""
    rows, d = X.shape
    record, zeros = Moments(d), Moments(d)
    values, columns = X.data.astype(np.float64), X.indices
    w = None if weights is None else np.repeat(weights, np.diff(X.indptr))
    with np.errstate(over="ignore", invalid="ignore"):
        record.count = np.bincount(columns, w, minlength=d).astype(np.float64)
        total = np.bincount(columns, values if w is None else values * w, minlength=d)
        record.mean = total.astype(np.float64) / np.where(record.count > 0, record.count, 1.0)
        squares = np.square(values - record.mean[columns])
        record.M2 = np.bincount(columns, squares if w is None else squares * w, minlength=d).astype(
            np.float64
        )
        if len(values):
            np.minimum.at(record.minimum, columns, values)
            np.maximum.at(record.maximum, columns, values)
    count = float(rows if weights is None else weights.sum())
    zeros.count = np.maximum(count - record.count, 0.0)
    # Sums of fractional weights differ in their last digits: a column that every row holds has no zeros.
    full = np.bincount(columns, minlength=d) >= rows
    zeros.count[full] = 0.0
    zeros.minimum[~full], zeros.maximum[~full] = 0.0, 0.0
    record.merge(zeros)
    return record


def _complete(record: Moments, values: Float64, weights: Float64 | None, total: Float64) -> None:
    count = float(len(values)) if weights is None else float(weights.sum())
    record.count[:] = count
    record.mean[:] = total / count
    deviations = values - record.mean
    np.square(deviations, out=deviations)
    record.M2[:] = deviations.sum(axis=0) if weights is None else weights @ deviations
    record.minimum[:] = values.min(axis=0)
    record.maximum[:] = values.max(axis=0)


def _with_gaps(record: Moments, values: Float64, weights: Float64 | None) -> None:
    present = ~np.isnan(values)
    w = np.ones(len(values)) if weights is None else weights
    record.count[:] = w @ present
    filled = np.where(present, values, 0.0)
    record.mean[:] = (w @ filled) / np.where(record.count > 0, record.count, 1.0)
    deviations = np.where(present, values - record.mean, 0.0)
    record.M2[:] = w @ np.square(deviations)
    record.minimum[:] = np.where(present, values, np.inf).min(axis=0)
    record.maximum[:] = np.where(present, values, -np.inf).max(axis=0)
