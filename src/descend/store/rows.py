"""The rows of a block store as a matrix that stays on disk: some at a time are read where they are used."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from descend.batches import NO_ORDER, STRIP, WINDOW, neighbours
from descend.coded_rows import CodedRows
from descend.store.in_place import RowsInPlace
from descend.store.layout import bytes_of
from descend.store.read_ahead import ROOMS, read_ahead, renewed_in_forks
from descend.store.reading import BlockReader
from descend.types import IntArray

WINDOW_BYTES = 3 * 2**20
"""Read at a time, as it is trained on: two of them are near the processors of most machines."""
IN_PLACE_BYTES = 20 * 2**20
"""Mapped at a time. Nothing is copied, so that more of them cost no cache, and there are fewer windows to prepare."""
LARGER, MOST_SPARE = 2, 2 * ROOMS
"""How many times too large a spare piece of memory may be, and how many pieces are kept."""


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
        """Rows read at a time; whole windows of an epoch's order where that is not too much, whole strips else."""
        rows = WINDOW_BYTES // max(1, self.blocks.layout.num_columns * self.dtype.itemsize)
        whole = WINDOW if rows >= WINDOW else STRIP
        return max(STRIP, rows // whole * whole)

    @cached_property
    def in_place(self) -> RowsInPlace | None:
        """The rows of the whole store where the system keeps them; None where they have to be read, or decoded."""
        if self.code is not None or self.columns is not None:
            return None
        return self.blocks.in_place()

    @property
    def in_place_rows(self) -> int:
        """Rows mapped at a time: whole pieces of an epoch's order where that is not too much, whole strips else."""
        rows, piece = IN_PLACE_BYTES // self.blocks.layout.row_bytes, neighbours(len(self))
        whole = piece if rows >= piece else STRIP
        return max(STRIP, rows // whole * whole)

    def __len__(self) -> int:
        return self.shape[0]

    def part(
        self, rows: slice | NDArray[Any], columns: NDArray[Any] | None = None
    ) -> StoredRows | CodedRows | NDArray[Any]:
        """Some of the rows, and of the columns: a slice of them still stored, others in memory, still coded."""
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

    def load(self, rows: slice) -> CodedRows | NDArray[Any]:
        """Rows that lie together, in memory, still coded."""
        start, stop, _ = rows.indices(len(self))
        values = self._read(start, stop, Room(self, stop - start + 2 * STRIP))
        return values if self.code is None else self.code.like(values)

    def stored(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Some rows in memory, as they are stored."""
        return self._at(rows)

    def windows(
        self, start: int = 0, stop: int | None = None, step: int | None = None
    ) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Rows start … stop − 1, some at a time, read ahead: which they are, and they themselves.

        A window lives until the next one is asked for, the last one to the end. Each begins a multiple of 64 rows
        after ``start``.
        """
        stop = len(self) if stop is None else stop
        if start >= stop:
            return
        if self.in_place is not None:
            yield from self.in_place.walk(self._windows_in_place(start, stop, step))
            return
        size = self.window_rows if step is None else step
        with Rooms(self) as rooms:
            yield from read_ahead(self._windows(start, stop, size, rooms))

    def pieces(self, start: int, stop: int, size: int) -> Iterator[NDArray[Any]]:
        """Rows start … stop − 1, ``size`` at a time, as ``self[…]`` has them; each lives until the next one."""
        if self.code is not None:  # a kernel rounds what it decodes in its own way
            yield from (self[low : min(low + size, stop)] for low in range(start, stop, size))
            return
        most = self.window_rows if self.in_place is None else self.in_place_rows
        for _, rows in self.windows(start, stop, max(1, most // size) * size):
            yield from (rows[low : low + size] for low in range(0, len(rows), size))

    def _windows_in_place(
        self, start: int, stop: int, step: int | None
    ) -> Iterator[tuple[IntArray, tuple[slice, NDArray[Any]]]]:
        assert self.in_place is not None
        X = self.in_place.X[self.start : self.stop]
        if step is None and self.in_place.holds(self.start + start, self.start + stop):
            step = stop - start
        size = self.in_place_rows if step is None else step
        for low in range(start, stop, size):
            high = min(low + size, stop)
            strips = np.arange((self.start + low) // STRIP, -(-(self.start + high) // STRIP))
            yield strips, (slice(low, high), X[low:high])

    def _windows(
        self, start: int, stop: int, size: int, rooms: Rooms
    ) -> Iterator[Callable[[], tuple[slice, NDArray[Any]]]]:
        def bring(low: int, high: int, room: Room) -> tuple[slice, NDArray[Any]]:
            return slice(low, high), room.ready(self._read(low, high, room))

        for low in range(start, stop, size):
            high = min(low + size, stop)
            yield partial(bring, low, high, rooms.next(high - low + 2 * STRIP))

    def read_strips(self, strips: IntArray, room: Room) -> NDArray[Any]:
        """The strips (ascending numbers, by the rows of the store) one after the other, as stored; (64 · s, d).

        What the last strip of a store lacks is left as it is.
        """
        total = self.blocks.layout.num_rows
        firsts = [(int(strips[low]) * STRIP, (high - low) * STRIP) for low, high in runs_of(strips)]
        self.blocks.read_runs([(first, min(count, total - first)) for first, count in firsts], room.memory)
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
        self.blocks.read(first, last - first, room.bytes)
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


def runs_of(strips: IntArray) -> Iterator[tuple[int, int]]:
    """Where in ascending numbers runs of neighbours begin and end.

    >>> list(runs_of(np.array([3, 4, 7])))
    [(0, 2), (2, 3)]
    """
    breaks = np.flatnonzero(np.diff(strips) != 1) + 1
    return pairwise([0, *breaks.tolist(), len(strips)])


class Room:
    """Where rows are read to, and decoded."""

    def __init__(self, rows: StoredRows, count: int) -> None:
        layout = rows.blocks.layout
        self.rows, self.count = rows, count
        self.memory = _spare.take(count * layout.row_bytes)
        self.bytes = bytes_of(self.memory)[: count * layout.row_bytes]
        self.raw: NDArray[Any] = np.frombuffer(self.bytes, dtype=layout.dtype).reshape(-1, layout.num_columns)
        self.decoded = None if rows.code is None else np.empty(self.raw.shape, dtype=rows.dtype)

    def ready(self, found: NDArray[Any]) -> NDArray[Any]:
        """What has been read into it, as numbers to compute with."""
        if self.rows.code is not None and self.decoded is not None:
            from descend.engines.decoding import decode  # compiled

            decode(self.rows.code.like(found), NO_ORDER, 0, len(found), self.decoded)
            found = self.decoded[: len(found)]
        return found if self.rows.columns is None else np.ascontiguousarray(found[:, self.rows.columns])


class Rooms:
    """Rooms that are used in turn: what was read into one stays until ``ROOMS`` more have been."""

    def __init__(self, rows: StoredRows) -> None:
        self.rows = rows
        self.rooms: deque[Room] = deque(maxlen=ROOMS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Hands the rooms on: from here on others read into them."""
        for room in self.rooms:
            _spare.give(room.memory)
        self.rooms.clear()

    def next(self, count: int) -> Room:
        """The room that was used longest ago, or a new one where that is too small for so many rows."""
        room = self.rooms.popleft() if len(self.rooms) == ROOMS else None
        if room is None or room.count < count:
            if room is not None:
                _spare.give(room.memory)
            room = Room(self.rows, count)
        self.rooms.append(room)
        return room


class _Spare:
    """Memory that rooms had and others may have: fresh memory of some megabytes costs as long as reading them.

    An engine that kept its own would keep it for as long as it lives.
    """

    def __init__(self) -> None:
        self.pieces: list[NDArray[np.uint8]] = []
        self.renew()

    def renew(self) -> None:
        self.lock = threading.Lock()

    def take(self, size: int) -> NDArray[np.uint8]:
        with self.lock:
            fitting = [piece for piece in self.pieces if size <= piece.size <= LARGER * size + 2**20]
            if fitting:
                piece = min(fitting, key=len)
                self.pieces = [other for other in self.pieces if other is not piece]
                return piece
        return np.empty(size, dtype=np.uint8)

    def give(self, piece: NDArray[np.uint8]) -> None:
        with self.lock:
            self.pieces = [*self.pieces, piece][-MOST_SPARE:]


_spare = _Spare()
renewed_in_forks(_spare.renew)
