"""The rows of a block store as a matrix that stays on disk: some at a time are read where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.coded_rows import CodedRows
from descend.store.ahead import read_ahead
from descend.store.reading import BlockReader
from descend.types import IntArray

WINDOW_BYTES = 3 * 2**20
"""Read at a time, as it is trained on: two of them are near the processors of most machines."""


class StoredRows:
    """Rows (n, d) of a store, from ``start`` to ``stop``, of all or of some ``columns``.

    It stands where an array would: ``X[rows]`` reads these rows into a new one, for a slice or whole numbers. No
    operation reads all of them at a time unasked. ``code`` decodes small numbers as ``CodedRows`` does.
    """

    ndim = 2

    def __init__(
        self,
        blocks: BlockReader,
        start: int,
        stop: int,
        code: CodedRows | None = None,
        columns: NDArray[Any] | None = None,
    ) -> None:
        self.blocks, self.code, self.columns = blocks, code, columns
        self.start, self.stop = start, stop
        self.dtype: np.dtype[Any] = blocks.layout.dtype if code is None else code.dtype
        width = blocks.layout.num_columns if columns is None else len(columns)
        self.shape = (stop - start, width)

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored numbers."""
        return self.shape[0] * self.blocks.layout.row_bytes

    @property
    def window_rows(self) -> int:
        """Rows read at a time; whole strips."""
        row = self.blocks.layout.num_columns * self.dtype.itemsize
        return max(STRIP, WINDOW_BYTES // max(1, row) // STRIP * STRIP)

    def __len__(self) -> int:
        return self.shape[0]

    def part(
        self, rows: slice | NDArray[Any], columns: NDArray[Any] | None = None
    ) -> StoredRows | CodedRows | NDArray[Any]:
        """Some of the rows, and of the columns: of a slice still stored, of numbers of rows in memory, still coded."""
        chosen = self.columns
        if columns is not None:
            chosen = columns if chosen is None else chosen[columns]
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                stop = max(start, stop)
                return StoredRows(self.blocks, self.start + start, self.start + stop, self.code, chosen)
            rows = np.arange(start, stop, step)
        values = self._at(np.asarray(rows))
        if self.code is not None:
            return self.code.like(values).part(slice(None), chosen)
        return values if chosen is None else np.ascontiguousarray(values[:, chosen])

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[Any]:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                stop = max(start, stop)
                return self._numbers(self._read(start, stop, Room(self, stop - start + 2 * STRIP)))
            rows = np.arange(start, stop, step)
        return self._numbers(self._at(np.asarray(rows)))

    def windows(
        self, start: int = 0, stop: int | None = None, step: int | None = None
    ) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Rows start … stop − 1, some at a time, read ahead: which they are, and they themselves.

        A window lives until the next one is asked for. Each begins a multiple of 64 rows after ``start``.
        """
        stop = len(self) if stop is None else stop
        size = self.window_rows if step is None else step
        return read_ahead(self._windows(start, stop, size))

    def _windows(self, start: int, stop: int, size: int) -> Iterator[tuple[slice, NDArray[Any]]]:
        rooms: list[Room] = []
        for turn, low in enumerate(range(start, stop, size)):
            high = min(low + size, stop)
            if turn < 2:
                rooms.append(Room(self, high - low + 2 * STRIP))
            room = rooms[turn % 2]
            yield slice(low, high), room.ready(self._read(low, high, room))

    def read_strips(self, strips: IntArray, room: Room) -> NDArray[Any]:
        """The strips (ascending numbers, by the rows of the store) one after the other, as stored; (64 · s, d).

        What the last strip of a store lacks is left as it is.
        """
        breaks = np.flatnonzero(np.diff(strips) != 1) + 1
        edges = [0, *breaks.tolist(), len(strips)]
        total = self.blocks.layout.num_rows
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            first = int(strips[low]) * STRIP
            count = min((high - low) * STRIP, total - first)
            self.blocks.read(first, room.raw[low * STRIP : low * STRIP + count])
        return room.raw[: len(strips) * STRIP]

    def _numbers(self, values: NDArray[Any]) -> NDArray[Any]:
        """Stored rows as numbers to compute with, rounded as those of ``CodedRows`` are."""
        if self.code is not None:
            values = self.code.like(values)[:]
        return values if self.columns is None else np.ascontiguousarray(values[:, self.columns])

    def _read(self, start: int, stop: int, room: Room) -> NDArray[Any]:
        """Rows start … stop − 1 in ``room``, as they are stored."""
        low, high = self.start + start, self.start + stop
        if low == high:
            return room.raw[:0]
        first = low - low % STRIP
        last = min(-(-high // STRIP) * STRIP, self.blocks.layout.num_rows)
        self.blocks.read(first, room.raw[: last - first])
        return room.raw[low - first : high - first]

    def _at(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Any rows as they are stored, in the order given: strips are read in their own order, a few at a time."""
        if rows.dtype == np.bool_:
            rows = np.flatnonzero(rows)
        rows = np.where(rows < 0, rows + len(self), rows)
        layout = self.blocks.layout
        out = np.empty((len(rows), layout.num_columns), dtype=layout.dtype)
        if not len(rows):
            return out
        if int(rows.min()) < 0 or int(rows.max()) >= len(self):
            raise IndexError(f"row {int(rows.max())} is none of the {len(self):,} stored rows")
        places = rows + self.start
        strips, inverse = np.unique(places // STRIP, return_inverse=True)
        within = inverse * STRIP + places % STRIP
        most = self.window_rows // STRIP
        room = Room(self, min(most, len(strips)) * STRIP)
        by_strip = np.argsort(inverse, kind="stable")
        ends = np.searchsorted(inverse[by_strip], np.arange(0, len(strips) + most, most))
        for turn, low in enumerate(range(0, len(strips), most)):
            some = by_strip[ends[turn] : ends[turn + 1]]
            out[some] = self.read_strips(strips[low : low + most], room)[within[some] - low * STRIP]
        return out


class Room:
    """Where rows are read to, and decoded."""

    def __init__(self, rows: StoredRows, count: int) -> None:
        layout = rows.blocks.layout
        self.rows = rows
        self.raw = np.empty((count, layout.num_columns), dtype=layout.dtype)
        self.decoded = None if rows.code is None else np.empty(self.raw.shape, dtype=rows.dtype)

    def ready(self, found: NDArray[Any]) -> NDArray[Any]:
        """What has been read into it, as numbers to compute with."""
        if self.rows.code is not None and self.decoded is not None:
            from descend.engines.decoding import NO_ORDER, decode  # compiled

            decode(self.rows.code.like(found), NO_ORDER, 0, len(found), self.decoded)
            found = self.decoded[: len(found)]
        return found if self.rows.columns is None else np.ascontiguousarray(found[:, self.rows.columns])
