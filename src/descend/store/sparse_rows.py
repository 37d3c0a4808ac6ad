"""The sparse rows of a block store as a matrix that stays on disk: some at a time are read where they are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP, WINDOW
from descend.store.read_ahead import ROOMS, read_ahead
from descend.store.rows import runs_of
from descend.store.sparse_reading import SparseBlockReader

WINDOW_NUMBERS, MOST_NUMBERS = 2**20, 2**21
"""Stored numbers that are read at a time, 8 MB; up to 16 MB where less is no whole window of an epoch's order, or
where writing out the weights at its end would take long."""
PASS_NUMBERS = 2**18
"""The same where all rows are read from the first to the last, by several threads at a time."""
WRITTEN_SHARE = 4
"""Numbers that are read for each weight that is written out behind them."""
GROWTH = 1.25
"""How much larger than it has to be memory for a window is taken: the next one may have a few numbers more."""
BYTES = 8
"""Of a stored number, with its column's."""


class StoredSparseRows:
    """CSR rows (n, d) of a store, from ``start`` to ``stop``, of all or of some ``columns``.

    ``X[rows]`` reads these into a CSR array.
    It stands where a CSR array would, and tells by ``indptr`` that it does: where the stored numbers of each row
    begin and end, counted from the store's first. ``spare_bytes``: what may be taken of memory for rows that are
    visited again and again.
    """

    ndim = 2
    code = None

    def __init__(
        self,
        blocks: SparseBlockReader,
        start: int,
        stop: int,
        spare_bytes: int = 0,
        columns: NDArray[Any] | None = None,
    ) -> None:
        self.blocks, self.start, self.stop = blocks, start, stop
        self.spare_bytes, self.columns = spare_bytes, columns
        self.dtype: np.dtype[Any] = blocks.layout.dtype
        self.shape = (stop - start, blocks.layout.num_columns if columns is None else len(columns))

    @property
    def indptr(self) -> NDArray[np.int64]:
        return self.blocks.ends[self.start : self.stop + 1]

    @property
    def size(self) -> int:
        """Stored numbers."""
        return int(self.blocks.ends[self.stop] - self.blocks.ends[self.start])

    nnz = size

    @property
    def nbytes(self) -> int:
        return BYTES * self.size

    def __len__(self) -> int:
        return self.shape[0]

    def window_rows(self, num_outputs: int = 1) -> int:
        """Rows that are read at a time, by the shape of the data alone: results hang on it in their last digits."""
        return window_rows(len(self), self.size, self.shape[1], num_outputs)

    def part(self, rows: slice | NDArray[Any], columns: NDArray[Any] | None = None) -> Any:
        """Some of the rows, and of the columns: a slice of them still stored, others in memory."""
        if columns is None:
            columns = self.columns
        elif self.columns is not None:
            columns = self.columns[columns]
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                low, high = self.start + start, self.start + max(start, stop)
                return StoredSparseRows(self.blocks, low, high, self.spare_bytes, columns)
        whole = StoredSparseRows(self.blocks, self.start, self.stop, columns=columns)
        return whole[rows]

    def __getitem__(self, rows: slice | NDArray[Any]) -> Any:
        if not isinstance(rows, slice):
            return self._at(np.asarray(rows))
        start, stop, step = rows.indices(len(self))
        if step != 1:
            return self._at(np.arange(start, stop, step))
        return self._read(start, max(start, stop), Room(self))

    load = __getitem__

    def windows(
        self, start: int = 0, stop: int | None = None, step: int | None = None
    ) -> Iterator[tuple[slice, Any]]:
        """Rows start … stop − 1, some at a time, read ahead: which they are, and they themselves in CSR.

        A window lives until the next one is asked for, the last one to the end.
        """
        stop = len(self) if stop is None else stop
        rooms = Rooms(self)

        def bring(low: int, high: int, room: Room) -> tuple[slice, Any]:
            return slice(low, high), self._read(low, high, room)

        def calls() -> Iterator[Callable[[], tuple[slice, Any]]]:
            size = self._pass_rows() if step is None else step
            for low in range(start, stop, size):
                yield partial(bring, low, min(low + size, stop), rooms.next())

        return read_ahead(calls())

    def read_strips(self, strips: NDArray[Any], room: Room) -> int:
        """Brings strips (ascending numbers, by the rows of the store) into ``room``; how many numbers they hold."""
        total, ends = self.blocks.layout.num_rows, self.blocks.ends
        runs = [
            (int(strips[low]) * STRIP, min(total, (int(strips[high - 1]) + 1) * STRIP))
            for low, high in (runs_of(strips) if len(strips) else ())
        ]
        count = sum(int(ends[stop] - ends[start]) for start, stop in runs)
        room.fit(count)
        self.blocks.read_numbers(runs, room.indices, room.data)
        return count

    def _pass_rows(self) -> int:
        rows = int(PASS_NUMBERS * len(self) / max(1, self.size))
        return max(STRIP, rows // STRIP * STRIP)

    def _read(self, start: int, stop: int, room: Room) -> Any:
        low, high = self.start + start, self.start + stop
        strips = np.arange(low // STRIP, -(-high // STRIP)) if high > low else np.empty(0, dtype=np.int64)
        self.read_strips(strips, room)
        ends = self.blocks.ends
        skipped = 0 if high == low else int(ends[low] - ends[low // STRIP * STRIP])
        here = slice(skipped, skipped + int(ends[high] - ends[low]))
        return self._matrix(room.data[here], room.indices[here], ends[low : high + 1] - ends[low])

    def _at(self, rows: NDArray[Any]) -> Any:
        """Any rows, in the order given: strips are read in their own order, a few at a time."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        rows = np.where(rows < 0, rows + len(self), rows).astype(np.int64)
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            raise IndexError(f"row {int(rows.max())} is none of the {len(self):,} stored rows")
        places, ends = rows + self.start, self.blocks.ends
        lengths = ends[places + 1] - ends[places]
        out_ends = np.concatenate([[0], np.cumsum(lengths)])
        indices = np.empty(int(out_ends[-1]), dtype=np.int32)
        data = np.empty(len(indices), dtype=self.dtype)
        by_place = np.argsort(places, kind="stable")
        strips = places[by_place] // STRIP
        most, room = max(1, self.window_rows() // STRIP), Room(self)
        begin = 0
        while begin < len(rows):  # strips so few that they fit a window
            different = np.unique(strips[begin : begin + most * STRIP])[:most]
            stop = begin + int(np.searchsorted(strips[begin:], different[-1], side="right"))
            self.read_strips(different, room)
            some = by_place[begin:stop]
            took = spans(starts_in(different, places[some], ends), lengths[some])
            goes = spans(out_ends[:-1][some], lengths[some])
            indices[goes], data[goes] = room.indices[took], room.data[took]
            begin = stop
        return self._matrix(data, indices, out_ends)

    def _matrix(self, data: NDArray[Any], indices: NDArray[Any], ends: NDArray[np.int64]) -> Any:
        from scipy.sparse import csr_array

        kind = np.int32 if len(data) < 2**31 else np.int64
        shape = (len(ends) - 1, self.blocks.layout.num_columns)
        found = csr_array((data, indices.astype(kind, copy=False), ends.astype(kind)), shape=shape)
        return found if self.columns is None else found[:, self.columns]


def window_rows(num_rows: int, numbers: int, num_columns: int, num_outputs: int) -> int:
    """Rows that are read at a time: whole windows of an epoch's order where that is not too much.

    >>> window_rows(10**6, 10**8, 10**5, 1), window_rows(10**6, 10**9, 10**5, 1)
    (10240, 2048)
    """
    wanted = min(max(WINDOW_NUMBERS, WRITTEN_SHARE * num_outputs * num_columns), MOST_NUMBERS)
    for_each = max(1.0, numbers / max(1, num_rows))
    rows = int(wanted / for_each)
    if rows < WINDOW:
        rows = min(WINDOW, int(MOST_NUMBERS / for_each))
    whole = WINDOW if rows >= WINDOW else STRIP
    return max(STRIP, rows // whole * whole)


def starts_in(strips: NDArray[Any], rows: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the numbers of ``rows`` of the store begin among those of ``strips``, which lie one after the other."""
    total = len(ends) - 1
    firsts = strips.astype(np.int64) * STRIP
    sizes = ends[np.minimum(firsts + STRIP, total)] - ends[firsts]
    before = np.cumsum(sizes) - sizes
    of = np.searchsorted(firsts, rows, side="right") - 1
    found: NDArray[np.int64] = before[of] + ends[rows] - ends[firsts[of]]
    return found


def spans(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers start, start + 1, … of each span, one behind the other.

    >>> spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    found: NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths) + np.arange(total)
    return found


class Room:
    """Where stored numbers are read to; it grows as it has to, and what was in it before is lost then."""

    def __init__(self, rows: StoredSparseRows) -> None:
        self.indices: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self.dtype = rows.dtype
        self.data: NDArray[Any] = np.empty(0, dtype=rows.dtype)

    def fit(self, count: int) -> None:
        """Has room for so many numbers."""
        if len(self.data) < count:
            self.indices = self.data = self.data[:0]  # gone before there are others
            self.indices = np.empty(int(GROWTH * count), dtype=np.int32)
            self.data = np.empty(int(GROWTH * count), dtype=self.dtype)


class Rooms:
    """Rooms that are used in turn: what was read into one stays until ``ROOMS`` more have been."""

    def __init__(self, rows: StoredSparseRows) -> None:
        self._rooms = deque(Room(rows) for _ in range(ROOMS))

    def next(self) -> Room:
        self._rooms.rotate(-1)
        return self._rooms[-1]
