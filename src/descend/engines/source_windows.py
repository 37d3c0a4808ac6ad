"""An epoch over rows that stay in their source: chunks in random order fill a window, whose rows are then mixed.

It is a pure function of seed and epoch, for a given size of the windows. Batches do not end with a window: rows that
are too few for one are the first of the next. CorgiPile (https://arxiv.org/abs/2206.05830) mixes so, reading each
chunk once; ``SourceRows.readings`` says when that is not enough.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.batches import row_number, rows_between_cuts
from descend.features.source_rows import SourceRows
from descend.types import Dataset, FloatArray, IntArray, is_sparse

_Left: TypeAlias = tuple[
    Any, NDArray[Any], NDArray[np.float64] | None, NDArray[np.float64], NDArray[np.int64]
]
"""Rows of single visits: X, targets, weights, weights of the visits, and a 1 each."""


class Window(NamedTuple):
    """Rows in memory, and the order in which they are visited; both live until the next window is asked for."""

    data: Dataset
    visit_weights: FloatArray | None
    """What multiplies a row's gradient at each visit."""
    order: IntArray


def windows(
    rows: SourceRows,
    epoch: int,
    batch_size: int,
    threads: int = 1,
    in_order: bool = False,
    seed: int = 0,
) -> Generator[Window]:
    """The windows of an epoch, each of whole batches but for the last; ``in_order``: as the rows lie."""
    random = np.random.Generator(np.random.PCG64([seed, 7, epoch]))
    unit = rows_between_cuts(batch_size)
    rooms = [_Room(rows, rows.window_rows + unit) for _ in range(2)]
    turn, room = 0, rooms[0]
    for data, copies in rows.visits(epoch, threads, in_order, seed):
        start = 0
        while start < data.num_rows:
            start += room.add(data, copies, start)
            if room.is_full:
                window, left = room.window(random, unit, in_order)
                yield window
                # Not before: until now the other room held the window that was in use.
                turn += 1
                room = rooms[turn % 2]
                room.begin(left)
    yield room.window(random, 1, in_order)[0]


class _Room:
    """Where a window is filled; dense rows go straight to their places."""

    def __init__(self, rows: SourceRows, capacity: int) -> None:
        self._capacity, self._rows = capacity, rows
        self._per_visit = rows.heaviness.num_visits / max(1, len(rows))
        """Visits for each row on the average: a visit's weight is this over the visits of its row."""
        shape = (capacity, rows.shape[1])
        self._X: NDArray[Any] = np.empty(shape if not rows.features.takes_sparse else (0, 0), rows.dtype)
        self._parts: list[Any] = []
        self._y = rows.target.room(capacity)
        self._weights = np.ones(capacity)
        self._visit_weights = np.ones(capacity)
        self._times = np.ones(capacity, dtype=np.int64)
        """Visits of each row that are still to come."""
        self._weighted = False
        self._filled = 0

    @property
    def is_full(self) -> bool:
        return self._filled == self._capacity

    def begin(self, left: _Left) -> None:
        """Empties the room, but for visits that a window before had left."""
        self._filled, self._weighted, self._parts = 0, False, []
        self._put(*left)

    def add(self, data: Dataset, copies: NDArray[np.int64], start: int) -> int:
        """Takes rows from ``start`` on while there is room; how many."""
        count = min(data.num_rows - start, self._capacity - self._filled)
        some = slice(start, start + count)
        weights = None if data.weights is None else data.weights[some]
        self._put(data.X[some], data.y[some], weights, self._per_visit / copies[some], copies[some])
        return count

    def _put(
        self,
        X: Any,
        y: NDArray[Any],
        weights: NDArray[np.float64] | None,
        visit_weights: NDArray[np.float64],
        times: NDArray[np.int64],
    ) -> None:
        at = slice(self._filled, self._filled + len(y))
        self._filled = at.stop
        if is_sparse(X):
            self._parts.append(X)
        else:
            self._X[at] = X
        self._y[at], self._visit_weights[at], self._times[at] = y, visit_weights, times
        self._weights[at] = 1.0 if weights is None else weights
        self._weighted = self._weighted or weights is not None

    def window(self, random: np.random.Generator, unit: int, in_order: bool) -> tuple[Window, _Left]:
        """What is there, in whole batches of ``unit`` visits; and the visits that are left over."""
        n = self._filled
        places = np.repeat(np.arange(n, dtype=row_number(n)), self._times[:n])
        if not in_order:
            random.shuffle(places)
        whole = len(places) // unit * unit
        X: Any = self._X[:n]
        if self._parts:
            from scipy.sparse import vstack

            X = vstack(self._parts, format="csr")
        data = Dataset(X, self._y[:n], self._weights[:n] if self._weighted else None)
        heavy = self._visit_weights[:n] if self._per_visit > 1.0 else None
        rest = places[whole:]
        left = (
            X[rest],
            self._y[rest],
            self._weights[rest] if self._weighted else None,
            self._visit_weights[rest],
            np.ones(len(rest), dtype=np.int64),
        )
        return Window(data, heavy, places[:whole]), left
