"""Sparse rows: scaled and never shifted, for a shift would fill every place that holds nothing.

The intercept is free, so centring the columns would change it and nothing else: the weights at the optimum are
those of standardised dense rows.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from descend.errors import ColumnError
from descend.features.features import Features
from descend.features.statistics import Statistics
from descend.sources.arrays import column_names, numbered
from descend.types import is_sparse

VERSION = 1


class SparseFeatures(Features):
    """Every input column is an encoded column, divided by ``scale`` (d,); a column without numbers stays."""

    takes_sparse = True

    def __init__(
        self,
        input_names: Sequence[str],
        scale: NDArray[np.float64],
        *,
        standardize: bool = True,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(input_names, (), is_matrix=True, standardize=standardize, notes=notes)
        self.names = self.input_names
        self.scale = scale
        self.mean = np.zeros(len(scale))
        self.origin = np.arange(len(scale))

    @classmethod
    def learn(cls, stats: Statistics, standardize: bool) -> SparseFeatures:
        """The scale is the deviation over all rows, those that hold nothing included.

        A column that is the same number in every row is divided by that number, an empty one by 1.
        """
        scale = np.ones(len(stats.names))
        if standardize:
            moments = stats.moments
            deviation = np.sqrt(moments.variance)
            if not np.isfinite(deviation).all():
                name = stats.names[int(np.argmin(np.isfinite(deviation)))]
                raise ColumnError(
                    f"column {name!r} holds numbers too large to be scaled (their squares pass 1e308); "
                    "divide it by a large constant"
                )
            # What is left by rounding in a column of one value is no deviation.
            flat = deviation <= 1e-8 * np.abs(moments.mean)
            scale = np.where(flat, np.abs(moments.mean), deviation)
            scale[scale == 0.0] = 1.0
        empty = int(np.sum((stats.moments.minimum == 0.0) & (stats.moments.maximum == 0.0)))
        notes = (
            [f"{empty:,} columns hold nothing in the training rows: their weights stay 0"] if empty else []
        )
        return cls(stats.names, scale, standardize=standardize, notes=notes)

    @property
    def is_identity(self) -> bool:
        return not self.standardize

    @property
    def tells_missing(self) -> bool:
        return False

    def encode(self, columns: Any, out: NDArray[Any] | None = None, dtype: DTypeLike = np.float32) -> Any:
        """Rows as numbers, (r, d): CSR stays CSR, a dense matrix stays dense."""
        if not is_sparse(columns) and not isinstance(columns, np.ndarray):
            raise ColumnError(
                "the model was trained on sparse rows, whose columns go by position; give a matrix or "
                "svmlight rows, not a table"
            )
        if columns.shape[1] != len(self.input_names):
            raise ColumnError(
                f"the data has {columns.shape[1]:,} columns, but the model was made with "
                f"{len(self.input_names):,}; give the same columns in the same order"
            )
        if not is_sparse(columns):
            dense = np.asarray(columns / self.scale, dtype=dtype)
            if out is not None:
                out[:] = dense
            return dense
        from scipy.sparse import csr_array

        values = (columns.data / self.scale[columns.indices]).astype(dtype)
        return csr_array((values, columns.indices, columns.indptr), shape=columns.shape)

    def to_json(self) -> dict[str, Any]:
        first, count = self.input_names[0], len(self.input_names)
        begins = int(first) if first.isdecimal() else -1
        counted = self.input_names == (column_names(count) if begins < 0 else numbered(begins, count))
        return {
            "kind": "sparse",
            "version": VERSION,
            "standardize": self.standardize,
            "first": begins,
            "inputs": count if counted else list(self.input_names),
            "scale": base64.b64encode(self.scale.astype("<f8").tobytes()).decode(),
            "notes": list(self.notes),
        }

    @classmethod
    def read(cls, stored: dict[str, Any]) -> SparseFeatures:
        """What ``to_json`` wrote."""
        from descend.errors import ModelFileError

        try:
            inputs = stored["inputs"]
            if isinstance(inputs, int):
                first = stored["first"]
                names = column_names(inputs) if first < 0 else numbered(first, inputs)
            else:
                names = tuple(inputs)
            scale = np.frombuffer(base64.b64decode(stored["scale"]), dtype="<f8").astype(np.float64)
            if stored["version"] != VERSION or len(scale) != len(names):
                raise ValueError(f"version {stored['version']}, {len(names)} columns, {len(scale)} scales")
            return cls(names, scale, standardize=bool(stored["standardize"]), notes=tuple(stored["notes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"the stored features are damaged ({type(error).__name__}: {error})"
            ) from None


def stacked(parts: Sequence[Any]) -> Any:
    """Rows (n, d) of all parts, dense or CSR."""
    if not is_sparse(parts[0]):
        return np.concatenate(parts)
    from scipy.sparse import vstack

    return vstack(parts, format="csr")


class SparseFiller:
    """CSR arrays of a size known beforehand, filled row by row at places of any order."""

    def __init__(
        self, lengths: NDArray[Any], num_columns: int, dtype: DTypeLike, order: NDArray[np.int64] | None
    ) -> None:
        """``lengths`` (n,): stored numbers of each row as they come; row i goes to ``order[i]``."""
        placed = np.zeros(len(lengths), dtype=np.int64)
        placed[slice(None) if order is None else order] = lengths
        ends = np.concatenate([[0], np.cumsum(placed)])
        index = np.int32 if max(int(ends[-1]), num_columns) < 2**31 else np.int64
        self._shape = (len(lengths), num_columns)
        self._indptr = ends.astype(index)
        self._indices = np.empty(int(ends[-1]), dtype=index)
        self._values = np.empty(int(ends[-1]), dtype=dtype)

    def put(self, rows: Any, places: Any) -> None:
        """Rows (r, d) in CSR, to the places (r,) or a slice of them."""
        if isinstance(places, slice):
            at: Any = slice(int(self._indptr[places.start]), int(self._indptr[places.stop]))
        else:
            shifts = self._indptr[places].astype(np.int64) - rows.indptr[:-1]
            at = np.repeat(shifts, np.diff(rows.indptr)) + np.arange(rows.nnz)
        self._values[at] = rows.data
        self._indices[at] = rows.indices

    def matrix(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array((self._values, self._indices, self._indptr), shape=self._shape)
