"""Sums of products of columns over rows: squared error is told from them, and how sharply any loss can bend.

They add up, so those of some rows may be kept and the others added (``store/``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK_NUMBERS = 2**17
"""Multiplied at a time: half a megabyte, so that a block is still near when its product is made."""
FEWEST_ROWS, MOST_ROWS = 512, 32768

Piece = tuple[Any, NDArray[np.float64], Any]
"""Rows X (r, d), their targets (r, k), and their weights (r,) in the type of X; None: all 1."""


class Products(NamedTuple):
    """Sums over rows: weight · x̃ x̃ᵀ (d + 1, d + 1), weight · y x̃ᵀ (k, d + 1), weight · y² (k,); x̃ = (x, 1)."""

    columns: NDArray[np.float64]
    targets: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def zero(cls, num_columns: int, num_outputs: int) -> Products:
        size = num_columns + 1
        return cls(np.zeros((size, size)), np.zeros((num_outputs, size)), np.zeros(num_outputs))

    def add(self, other: Products) -> None:
        """Adds those of other rows in place.

        >>> total = Products.zero(1, 1)
        >>> total.add(products_of([(np.array([[2.0], [3.0]]), np.array([[1.0], [0.0]]), None)]))
        >>> total.columns
        array([[13.,  5.],
               [ 5.,  2.]])
        """
        for own, more in zip(self, other, strict=True):
            own += more

    def with_targets(self, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Products:
        """Those of the same rows with the targets scale · y + shift, (k,) each."""
        ones = self.columns[-1]
        targets = scale[:, None] * self.targets + shift[:, None] * ones
        squares = scale**2 * self.squares + 2.0 * scale * shift * self.targets[:, -1] + shift**2 * ones[-1]
        return Products(self.columns, targets, squares)

    def squared_error(
        self, intercept: NDArray[np.float64], num_rows: int
    ) -> tuple[float, NDArray[np.float64]]:
        """Squared error's mean, and its gradient (k, d + 1), at weights of 0 and ``intercept`` (k,)."""
        ones = self.columns[:, -1]
        values = intercept**2 * ones[-1] - 2.0 * intercept * self.targets[:, -1] + self.squares
        gradient = (intercept[:, None] * ones - self.targets) / num_rows
        return 0.5 * float(values.sum()) / num_rows, gradient


def products_of(pieces: Iterable[Piece]) -> Products:
    """The products of all pieces, of which there is at least one; each is multiplied in the precision of its X."""
    total: Products | None = None
    for X, y, weights in pieces:
        d = X.shape[1]
        if total is None:
            total = Products.zero(d, y.shape[1])
        weighted = X if weights is None else X * weights[:, None]
        each = np.ones(len(X), dtype=X.dtype) if weights is None else weights
        total.columns[:d, :d] += weighted.T @ X
        total.columns[:d, d] += each @ X
        total.columns[d, d] += each.sum()
        columns = y.T
        total.targets[:, :d] += columns.astype(X.dtype) @ weighted
        total.targets[:, d] += columns @ each
        total.squares[:] += np.square(columns) @ each
    assert total is not None
    total.columns[d, :d] = total.columns[:d, d]
    return total


def step(num_columns: int) -> int:
    """Rows that are multiplied at a time."""
    return min(MOST_ROWS, max(FEWEST_ROWS, BLOCK_NUMBERS // (num_columns + 1)))


def parts(start: int, stop: int, num_columns: int) -> Iterator[slice]:
    """The rows start … stop − 1, so many at a time.

    >>> [(part.start, part.stop) for part in parts(10, 40_000, 2)]
    [(10, 32778), (32778, 40000)]
    """
    size = step(num_columns)
    yield from (slice(low, min(low + size, stop)) for low in range(start, stop, size))
