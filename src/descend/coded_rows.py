"""Rows kept in the numbers they came in, and decoded where they are used.

Pixels are whole numbers below 256: a byte each, where float32 takes four and float64 eight. A scaled row, as it is
trained on, is (stored − mean) / scale, which takes about as long to compute as its float32 numbers to fetch. Floats
that are read two or three times altogether are kept so as well: scaling them for good would take as long as reading.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

SMALL = tuple(np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16, np.float16))
"""The small types. Float32 holds every number of theirs exactly."""
FLOATS = tuple(np.dtype(t) for t in (np.float32, np.float64))
"""The types that rows are decoded into; an array of them may lie a column after the other."""
MOST_REPEATS = 8
LONGEST = 1024
"""Short rows that lie side by side are decoded as a longer one: loops over 20 columns are half begin and end."""


class CodedRows:
    """Rows (n, d) stored as ``values``, ``SMALL`` or ``FLOATS``; column j of a row is (value − mean[j]) / scale[j].

    It stands where an array of float32 would, or of float64 where ``values`` are: ``X[rows]`` decodes these rows into
    a new one, for a slice or whole numbers. No operation decodes all of them unasked.

    >>> rows = CodedRows(np.array([[0, 10], [4, 30]], dtype=np.uint8), np.array([2.0, 20.0]), np.array([2.0, 10.0]))
    >>> rows.shape, rows.dtype, rows.nbytes, rows[:]
    ((2, 2), dtype('float32'), 4, array([[-1., -1.],
           [ 1.,  1.]], dtype=float32))
    """

    ndim = 2

    def __init__(self, values: NDArray[Any], mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        assert values.dtype in SMALL + FLOATS
        assert values.flags.c_contiguous or (values.dtype in FLOATS and values.flags.f_contiguous)
        self.values, self.mean, self.scale = values, mean, scale
        self.dtype = np.dtype(np.float64 if values.dtype == np.float64 else np.float32)
        """What rows are decoded into."""

    @cached_property
    def code(self) -> NDArray[np.floating[Any]]:
        """What is taken off a stored number, what the rest is multiplied by, and what is added: (3, repeats · d)."""
        values, mean, scale = self.values, self.mean, self.scale
        # A stored number less the one nearest to the mean is exact: what is scaled has no digits to lose.
        whole = np.rint(mean) if values.dtype.kind in "iu" else mean
        centre = whole.astype(values.dtype).astype(self.dtype)
        repeats = max(1, min(MOST_REPEATS, LONGEST // max(1, values.shape[1])))
        return np.tile([centre, 1.0 / scale, (centre - mean) / scale], (1, repeats)).astype(self.dtype)

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

    @property
    def is_small(self) -> bool:
        """Whether the stored numbers take less room than what they are decoded into."""
        return self.values.dtype in SMALL

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[np.floating[Any]]:
        values = self.values
        if not isinstance(rows, slice) and not values.flags.c_contiguous:
            picked = values.T.take(rows, axis=1).T  # a column after the other: ten times as fast
        else:
            picked = values[rows]
        decoded = picked.astype(self.dtype, order="C")
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
        order: Literal["C", "F"] = "C" if self.values.flags.c_contiguous else "F"
        return type(self)(np.asarray(values, order=order), mean, scale)
