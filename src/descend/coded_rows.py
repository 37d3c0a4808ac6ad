"""Rows kept in the small numbers they came in, and decoded where they are used.

Pixels are whole numbers below 256: a byte each, where float32 takes four and float64 eight. A scaled row, as it is
trained on, is (stored − mean) / scale, which takes about as long to compute as its float32 numbers to fetch.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SMALL = tuple(np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16, np.float16))
"""The types kept as they are. Float32 holds every number of theirs exactly."""
MOST_REPEATS = 8
LONGEST = 1024
"""Short rows that lie side by side are decoded as a longer one: loops over 20 columns are half begin and end."""


class CodedRows:
    """Rows (n, d) stored as ``values``, one of ``SMALL``; column j of a row is (value − mean[j]) / scale[j].

    It stands where an array of float32 would: ``X[rows]`` decodes these rows into a new one, for a slice or whole
    numbers. No operation decodes all of them unasked.

    >>> rows = CodedRows(np.array([[0, 10], [4, 30]], dtype=np.uint8), np.array([2.0, 20.0]), np.array([2.0, 10.0]))
    >>> rows.shape, rows.dtype, rows.nbytes, rows[:]
    ((2, 2), dtype('float32'), 4, array([[-1., -1.],
           [ 1.,  1.]], dtype=float32))
    """

    dtype = np.dtype(np.float32)
    """What rows are decoded into."""
    ndim = 2

    def __init__(self, values: NDArray[Any], mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        assert values.dtype in SMALL
        assert values.flags.c_contiguous
        self.values, self.mean, self.scale = values, mean, scale
        # A stored number less the one nearest to the mean is exact: what is scaled has no digits to lose.
        whole = np.rint(mean) if values.dtype.kind in "iu" else mean
        centre = whole.astype(values.dtype).astype(np.float32)
        repeats = max(1, min(MOST_REPEATS, LONGEST // max(1, values.shape[1])))
        self.code: NDArray[np.float32] = np.tile(
            [centre, 1.0 / scale, (centre - mean) / scale], (1, repeats)
        ).astype(np.float32)
        """What is taken off a stored number, what the rest is multiplied by, and what is added: (3, repeats · d)."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def size(self) -> int:
        return self.values.size

    @property
    def nbytes(self) -> int:
        """Bytes of the stored numbers."""
        return self.values.nbytes

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[np.float32]:
        decoded = self.values[rows].astype(np.float32)
        centre, factor, shift = self.code[:, : decoded.shape[1]]
        decoded -= centre
        decoded *= factor
        decoded += shift
        return decoded

    def like(self, values: NDArray[Any]) -> Self:
        """Other rows of the same columns, ``values`` as they are stored."""
        other = copy(self)
        other.values = values
        return other

    def part(self, rows: slice | NDArray[Any], columns: NDArray[Any] | None = None) -> Self:
        """Some of the rows, and of the columns, still coded; a slice of rows is no copy."""
        values, mean, scale = self.values[rows], self.mean, self.scale
        if columns is not None:
            values, mean, scale = values[:, columns], mean[columns], scale[columns]
        return type(self)(np.ascontiguousarray(values), mean, scale)
