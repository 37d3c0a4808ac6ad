"""Where each row goes: a random number for every row, by which the rows are sorted.

Keys are independent 64-bit numbers, so that every order of the rows is equally likely. The key of row i is the i-th
number of a stream, a pure function of (seed, part, i): neither threads, nor how the source cuts its rows, nor memory
have any say. (Two equal keys, one chance in 10⁷ for two million rows, leave those two rows as they came.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL_BITS = 16
"""Rows are counted by the first bits of their keys: what is read together is a range of these cells."""
NUM_CELLS = 1 << CELL_BITS


class RowKeys:
    """The keys of the rows in order; ``part`` is 0 for the rows of a store and counts what is appended later.

    >>> whole = RowKeys(seed=0).next(5)
    >>> keys = RowKeys(seed=0)
    >>> (whole == np.concatenate([keys.next(2), keys.next(3)])).all()
    np.True_
    """

    def __init__(self, seed: int, part: int = 0) -> None:
        self._stream = np.random.PCG64([seed, 2, part])  # 0 splits off validation rows, 1 shuffles in memory

    def next(self, count: int) -> NDArray[np.uint64]:
        """The keys of the next ``count`` rows."""
        return self._stream.random_raw(count)


def cells_of(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The cell each key lies in, 0 … NUM_CELLS − 1."""
    return (keys >> np.uint64(64 - CELL_BITS)).astype(np.intp)


def first_key(cell: int) -> int:
    """The lowest key of a cell; of the cell after the last one it is 2⁶⁴."""
    return cell << (64 - CELL_BITS)
