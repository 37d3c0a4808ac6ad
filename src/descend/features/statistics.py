"""What one pass over the rows finds out about every column, in one mergeable record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.covariance import Covariance
from descend.features.kinds import PARTS, Kind, as_numbers, as_texts, kind_of
from descend.features.levels import Levels
from descend.features.moments import Moments, of_sparse_rows
from descend.features.row_numbers import RowNumbers
from descend.types import is_sparse

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_VALUES = 2**16
"""Values converted to float64 at a time: they stay in the processor's cache."""


FEWEST_COMPILED = 2**17
"""Floats of which a compiled pass takes a fifth of the time. Of fewer NumPy takes less than a millisecond, and a
process need not load kernels."""


def are_many(X: NDArray[Any]) -> bool:
    """Whether these are floats, and so many that compiled passes pay."""
    return X.dtype in (np.float32, np.float64) and X.size >= FEWEST_COMPILED


def chunk_rows(num_columns: int) -> int:
    """Rows of a chunk; never so few that the work a chunk costs whatever its height counts."""
    return max(16, CHUNK_VALUES // max(1, num_columns))


class Statistics:
    """Counts, moments and levels of the columns seen so far. Weights are fractional counts.

    ``moments`` has a slot for each number that a column gives: one for a column of numbers, four for dates.
    ``slots[name]`` is where a column's slots begin.

    >>> record = Statistics(("a",))
    >>> record.update(np.array([[1.0], [3.0]]))
    >>> record.total, record.moments.mean
    (2.0, array([2.]))
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.is_matrix: bool | None = None
        self.total = 0.0
        self.num_rows = 0
        self.kinds: dict[str, Kind] = {}
        self.slots: dict[str, int] = {}
        self.moments = Moments()
        self.levels: dict[str, Levels] = {}
        self.row_lengths: list[NDArray[np.integer[Any]]] = []
        """Of sparse rows: how many numbers each row of each block holds."""
        self.stored: np.dtype[Any] | None = None
        """The type of matrices without gaps; None for tables, sparse rows, and more than one type."""
        self.covariance: Covariance | None = None
        """Of columns and target, where somebody has asked for it and all rows could be taken in."""
        self._num_slots = 0
        self._rows = RowNumbers()

    def place_rows(self, chosen: NDArray[np.intp] | slice, first_row: int) -> None:
        """Say, for messages, which rows the next update holds: ``chosen`` ones of a block."""
        self._rows = RowNumbers(chosen, first_row)

    def update(
        self,
        columns: pa.RecordBatch | NDArray[Any],
        weights: NDArray[np.float64] | None = None,
        target: Any = None,
    ) -> Moments | None:
        """Add the rows of a block; ``weights`` (r,). Rows of weight 0 count as absent.

        ``target`` (r,) or (r, k) is for the ``covariance`` alone: then its moments, of all rows so far, are returned.
        """
        is_matrix = isinstance(columns, np.ndarray) or is_sparse(columns)
        rows = columns.shape[0] if is_matrix else columns.num_rows  # type: ignore[union-attr]
        if self._rows.first_row is None:
            self._rows = RowNumbers(first_row=self.num_rows)
        if weights is not None and not (weights > 0).all():
            places = np.flatnonzero(weights > 0)
            weights = weights[places]
            columns = columns[places] if is_matrix else columns.take(places)
            self._rows = self._rows.among(places)
        self.total += float(rows if weights is None else weights.sum())
        if self.covariance is not None and not _has_covariance(columns, weights, target):
            self.covariance = None
        of_target = None
        if is_sparse(columns):
            self._sparse_rows(columns, weights)
        elif self.covariance is not None:
            of_target = self._matrix_with_target(columns, target)
        elif isinstance(columns, np.ndarray):
            self._matrix(columns, weights)
        else:
            self._table(columns, weights)
        self.num_rows += rows
        self._rows = RowNumbers()
        return of_target

    def merge(self, other: Statistics) -> None:
        """Add the record of other rows of the same columns; they come later in the file."""
        if other.is_matrix is None:
            return
        self.is_matrix = other.is_matrix
        for name, kind in other.kinds.items():
            self._learn(name, kind)
        self.moments.grow(self._num_slots)
        aligned = Moments(self._num_slots)
        for name in other.slots:
            width = len(PARTS[other.kinds[name]])
            here, there = self.slots[name], other.slots[name]
            for field in Moments.__slots__:
                getattr(aligned, field)[here : here + width] = getattr(other.moments, field)[
                    there : there + width
                ]
        self.moments.merge(aligned)
        for name, levels in other.levels.items():
            self.levels[name].merge(levels)
        self.row_lengths += other.row_lengths
        self.stored = self.stored if self.stored == other.stored else None
        self.total += other.total
        self.num_rows += other.num_rows

    def forget_rows(self) -> None:
        """Keep of ``row_lengths`` only that rows were sparse."""
        self.row_lengths = [lengths[:0] for lengths in self.row_lengths[:1]]

    def merge_mistakes(self, other: Statistics) -> None:
        """Learn of words among numbers in rows that are not trained on, and of nothing else in them."""
        for name, levels in other.levels.items():
            if name in self.levels:
                self.levels[name].merge_words(levels)
            elif self.kinds.get(name) is not None and levels.first_word is not None:
                self._learn(name, "category")

    @property
    def mean_weight(self) -> float:
        """The weight of a row on the average; 1 where there are none."""
        return self.total / self.num_rows if self.num_rows and self.total else 1.0

    def missing(self, name: str) -> float:
        """The weight of the rows whose value is missing."""
        if name in self.levels:
            return self.total - self.levels[name].count
        if name in self.slots:
            return self.total - float(self.moments.count[self.slots[name]])
        return self.total

    def begin_table(self, kinds: dict[str, Kind], slots: dict[str, int], num_slots: int) -> None:
        """Take the columns of a table as they were found before."""
        self.is_matrix = False
        self.kinds, self.slots, self._num_slots = dict(kinds), dict(slots), num_slots

    def begin_matrix(self) -> None:
        """Take the columns for those of a matrix, unless rows came before."""
        if self.is_matrix is None:
            self.is_matrix = True
            self.kinds = dict.fromkeys(self.names, "number")
            self.slots = {name: i for i, name in enumerate(self.names)}
            self._num_slots = len(self.names)
            self.moments.grow(self._num_slots)

    def _sparse_rows(self, X: Any, weights: NDArray[np.float64] | None) -> None:
        self.begin_matrix()
        self.row_lengths.append(np.diff(X.indptr))
        wrong = np.flatnonzero(~np.isfinite(X.data))
        if len(wrong):
            row = int(np.searchsorted(X.indptr, wrong[0], side="right")) - 1
            raise InfiniteValueError(
                self.names[X.indices[wrong[0]]], float(X.data[wrong[0]]), self._rows.of(row), sparse=True
            )
        self.moments.merge(of_sparse_rows(X, weights))

    def _matrix(self, X: NDArray[Any], weights: NDArray[np.float64] | None) -> None:
        self._begin_rows_of_matrix(X)
        if weights is None and are_many(X):
            self._add_many(X)
        else:
            self._add(X, weights)
        if not self._is_finite():
            self._refuse_infinity(X, list(self.names))

    def _begin_rows_of_matrix(self, X: NDArray[Any]) -> None:
        if self.is_matrix is None:
            self.stored = X.dtype
        self.begin_matrix()
        if X.dtype != self.stored:
            self.stored = None

    def _matrix_with_target(self, X: NDArray[Any], target: NDArray[Any] | None) -> Moments | None:
        """``_matrix`` of rows without weights, their covariance with it; rows with gaps have none."""
        assert self.covariance is not None
        self._begin_rows_of_matrix(X)
        moments, of_target = self.covariance.add(X, target)
        if not np.isfinite(moments.mean).all():
            self.covariance = None
            self._matrix(X, None)
            return None
        self.moments = moments
        return of_target

    def _add_many(self, X: NDArray[Any]) -> None:
        """Adds rows in compiled passes."""
        from descend.engines import columns  # compiled: costs a second, which a small table need not pay

        found, centres = Moments(X.shape[1]), np.empty(X.shape[1])
        for rows, some in columns.by_column(X):
            columns.add_moments(
                some,
                rows.stop - rows.start,
                rows.start,
                found.mean,
                found.M2,
                found.minimum,
                found.maximum,
                centres,
            )
        found.count[:] = len(X)
        self._merge(found, X)

    def _merge(self, found: Moments, X: NDArray[Any]) -> None:
        """Takes what compiled passes found out about rows ``X``; those with gaps are left to NumPy."""
        if np.isfinite(found.mean).all():
            self.moments.merge(found)
        else:
            self._add(X, None)

    def _add(self, X: NDArray[Any], weights: NDArray[np.float64] | None) -> None:
        step = chunk_rows(X.shape[1])
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            values = X[rows].astype(np.float64)
            if self.stored == np.float16 and np.isnan(values).any():
                self.stored = None
            self.moments.update(values, None if weights is None else weights[rows])

    def _table(self, batch: pa.RecordBatch, weights: NDArray[np.float64] | None) -> None:
        self.is_matrix = False
        values = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            kind = self.kinds.get(name) or kind_of(column.type)
            if kind is None:
                continue
            found = kind_of(column.type)
            if found is not None and found != kind:
                raise ColumnError(
                    f"column {shorten(name)!r} holds {_PLURAL[kind]} in some rows or files and "
                    f"{_PLURAL[found]} in others; give it one type or leave it out of training"
                )
            self._learn(name, kind)
            if kind == "category":
                self.levels[name].update(as_texts(column, name), weights, self._rows)
            else:
                values[name] = as_numbers(column, name, kind)
        if values:
            self._update_moments(values, weights, batch.num_rows)

    def _update_moments(
        self, values: dict[str, NDArray[np.float64]], weights: NDArray[np.float64] | None, num_rows: int
    ) -> None:
        self.moments.grow(self._num_slots)
        matrix = np.full((num_rows, self._num_slots), np.nan, order="F")
        for name, parts in values.items():
            slot = self.slots[name]
            matrix[:, slot : slot + parts.shape[1]] = parts
        step = chunk_rows(matrix.shape[1])
        for start in range(0, num_rows, step):
            rows = slice(start, start + step)
            self.moments.update(matrix[rows], None if weights is None else weights[rows])
        if not self._is_finite():
            self._refuse_infinity(matrix, self._slot_names())

    def _learn(self, name: str, kind: Kind) -> None:
        if self.kinds.setdefault(name, kind) != kind:
            raise ColumnError(
                f"column {shorten(name)!r} is {self.kinds[name]} in some rows and {kind} in others"
            )
        if kind == "category":
            self.levels.setdefault(name, Levels())
        elif name not in self.slots:
            self.slots[name] = self._num_slots
            self._num_slots += len(PARTS[kind])

    def _slot_names(self) -> list[str]:
        return [name for name in self.slots for _ in PARTS[self.kinds[name]]]

    def _is_finite(self) -> bool:
        seen = self.moments.count > 0
        top = np.max(self.moments.maximum[seen], initial=0.0)
        return bool(np.isfinite(top) and np.isfinite(np.min(self.moments.minimum[seen], initial=0.0)))

    def _refuse_infinity(self, values: NDArray[Any], names: list[str]) -> None:
        rows, columns = np.nonzero(np.isinf(values))
        first = int(rows[0]), int(columns[0])
        raise InfiniteValueError(names[first[1]], float(values[first]), self._rows.of(first[0]))


def _has_covariance(columns: Any, weights: Any, target: Any) -> bool:
    """Whether these rows can be taken into a ``Covariance``."""
    if weights is not None or not isinstance(columns, np.ndarray):
        return False
    if target is not None and not (isinstance(target, np.ndarray) and target.dtype.kind in "fiu"):
        return False
    return columns.dtype in (np.float32, np.float64)


_PLURAL = {"number": "numbers", "category": "text or booleans", "date": "dates", "time": "times of day"}


class InfiniteValueError(ColumnError):
    """An infinite value; ``row`` counts from 0 over the rows seen."""

    def __init__(self, name: str, value: float, row: int, sparse: bool = False) -> None:
        empty = "leave it out, which means 0" if sparse else "leave it empty to treat it as missing"
        super().__init__(
            f"column {shorten(name)!r} holds {value} in row {row + 1}; finite numbers are needed: "
            f"correct that row, or {empty}"
        )
        self.sparse = sparse
        self.name, self.value, self.row = name, value, row
