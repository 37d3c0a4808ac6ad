"""Matrices of numbers: all columns scaled at once, a few rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.encoders import Encoder, Number, refuse_infinite
from descend.features.statistics import chunk_rows
from descend.sources.arrays import as_slice


class MatrixEncoder:
    """The same numbers as ``Number.write`` for every column, in a few passes over cached rows."""

    def __init__(self, input_names: Sequence[str], encoders: Sequence[tuple[int, Encoder]]) -> None:
        self._names = input_names
        values: list[tuple[int, int, Number]] = []
        told: list[tuple[int, int]] = []
        at = 0
        for place, encoder in encoders:
            if not isinstance(encoder, Number):
                raise ColumnError(
                    f"the model was made from a table whose column {shorten(encoder.name)!r} is no number; "
                    "give a table with named columns, not a matrix"
                )
            if encoder.has_value:
                values.append((place, at, encoder))
            at += len(encoder.names)
            if encoder.tells_missing:
                told.append((place, at - 1))
        self._inputs = as_slice([p for p, _, _ in values])
        self._outputs = as_slice([o for _, o, _ in values])
        self._mean = np.array([e.mean for _, _, e in values], dtype=np.float64)
        self._scale = np.array([e.scale for _, _, e in values], dtype=np.float64)
        self._fill = np.array([(e.fill - e.mean) / e.scale for _, _, e in values], dtype=np.float64)
        self._is_plain = bool((self._mean == 0).all() and (self._scale == 1).all())
        self._told_inputs = np.array([p for p, _ in told], dtype=np.intp)
        self._told_outputs = np.array([o for _, o in told], dtype=np.intp)

    def write(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        step = chunk_rows(X.shape[1])
        for start in range(0, len(X), step):
            self._write(X[start : start + step], out[start : start + step], start)

    def write_at(self, X: NDArray[Any], out: NDArray[Any], places: NDArray[np.integer[Any]]) -> bool:
        """``write`` into the rows ``places`` (r,) of ``out``, compiled; False where it is left to ``write`` itself.

        That is where columns were left out, have gaps, or are infinite.
        """
        from descend.engines import columns  # compiled: costs a second, which a small table need not pay

        whole = isinstance(self._outputs, slice) and self._outputs == slice(0, out.shape[1])
        if not (whole and out.flags.c_contiguous and X.shape[1]):
            return False
        inputs = np.arange(X.shape[1])[self._inputs]
        for rows, some in columns.by_column(X):
            count = rows.stop - rows.start
            if not columns.scale_into(some, count, inputs, self._mean, self._scale, places[rows], out):
                return False
        return True

    def _write(self, X: NDArray[Any], out: NDArray[Any], start: int) -> None:
        values = X[:, self._inputs].astype(np.float64)
        if not self._is_plain:
            values -= self._mean
            values /= self._scale
        if not np.isfinite(values.sum()):
            self._refuse_infinite(X, start)
            missing = np.isnan(values)
            np.copyto(values, np.broadcast_to(self._fill, values.shape), where=missing)
        out[:, self._outputs] = values
        if len(self._told_inputs):
            out[:, self._told_outputs] = np.isnan(X[:, self._told_inputs])

    def _refuse_infinite(self, X: NDArray[Any], start: int) -> None:
        if X.dtype.kind != "f":
            return
        used = X[:, self._inputs]
        columns = np.flatnonzero(np.isinf(used).any(axis=0))
        if len(columns):
            place = np.arange(X.shape[1])[self._inputs][columns[0]]
            column = np.concatenate([np.zeros(start), X[:, place].astype(np.float64)])
            refuse_infinite(column, self._names[place])
