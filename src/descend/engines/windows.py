"""Windows of stored rows: the strips that some batches of an order come to, read while other rows are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP, rows_between_cuts
from descend.engines.decoding import blocks
from descend.engines.strips import find_places, find_strips
from descend.store.read_ahead import read_ahead
from descend.store.rows import Room, Rooms, StoredRows, runs_of
from descend.types import FloatArray, IntArray, is_coded

BATCH_BYTES = 8 * 2**20
"""A batch of more than this is added up from parts."""
NONE = np.empty(0, dtype=np.int32)
SPARE = 4
"""How many times the strips are read that the rows of a window would fill: others hold one heavy row each."""


class Window(NamedTuple):
    """Rows that are there: those of some strips, and where in them the rows of an order are."""

    X: FloatArray
    y: NDArray[np.float64]
    beside: tuple[FloatArray, ...]
    """What else is in memory for each row, such as weights."""
    places: IntArray
    spans: list[tuple[slice, slice]] | None
    """Which rows of all stand where, a run of neighbours at a time; None: all are there, each in its own place."""


class Windows:
    """Reads the windows of an order."""

    def __init__(self, X: StoredRows) -> None:
        self.X = X
        self.marks = np.full(X.stop // STRIP + 1, -1, dtype=np.int32)
        self.most_rows = max(1, BATCH_BYTES // max(1, X.shape[1] * X.dtype.itemsize))
        """Rows of a batch that is brought whole."""

    def of(
        self, order: IntArray, batch_size: int, y: NDArray[np.float64], beside: tuple[FloatArray, ...]
    ) -> Iterator[Window]:
        """Windows that hold whole batches of ``order``; each lives until the next one is asked for.

        ``y`` and ``beside`` are arrays (n, …) whose rows are brought, too.
        """
        if self.X.in_place is not None:
            yield from self.X.in_place.walk(self._in_place(order, batch_size, y, beside))
            return
        with Rooms(self.X) as rooms:
            yield from read_ahead(self._of(order, batch_size, y, beside, rooms))

    def _in_place(
        self, order: IntArray, batch_size: int, y: NDArray[np.float64], beside: tuple[FloatArray, ...]
    ) -> Iterator[tuple[IntArray, Window]]:
        assert self.X.in_place is not None
        X = self.X.in_place.X[self.X.start : self.X.stop]
        if self.X.in_place.holds(self.X.start, self.X.stop):
            strips = np.arange(self.X.start // STRIP, -(-self.X.stop // STRIP))
            yield strips, Window(X, y, beside, order, None)
            return
        for start, stop, found in self._cut(order, batch_size, self.X.in_place_rows):
            if found is not None:
                yield found, Window(X, y, beside, order[start:stop], None)
            else:
                yield NONE, self._gathered(order[start:stop], y, beside)

    def _of(
        self,
        order: IntArray,
        batch_size: int,
        y: NDArray[np.float64],
        beside: tuple[FloatArray, ...],
        rooms: Rooms,
    ) -> Iterator[Callable[[], Window]]:
        for start, stop, found in self._cut(order, batch_size, self.X.window_rows):
            if found is not None:
                places = np.empty(stop - start, dtype=np.int32)
                find_places(order, start, stop, self.X.start, found, self.marks, places)
                yield partial(self._read, found, places, y, beside, rooms.next(len(found) * STRIP))
            else:
                yield partial(self._gathered, order[start:stop], y, beside)

    def _cut(self, order: IntArray, batch_size: int, most: int) -> Iterator[tuple[int, int, IntArray | None]]:
        """Where windows of about ``most`` rows begin and end, and their strips in ascending order.

        None where the rows of one batch lie in too many strips to read these whole.
        """
        unit = rows_between_cuts(batch_size)
        rows = min(max(most, unit) // unit * unit, len(order))
        strips = np.empty(max(2, SPARE * -(-rows // STRIP)), dtype=np.int32)
        start = 0
        while start < len(order):
            stop, count = find_strips(order, start, rows, unit, self.X.start, self.marks, strips)
            if stop > start:
                yield start, stop, np.sort(strips[:count])
            else:
                stop = min(start + unit, len(order))
                yield start, stop, None
            start = stop

    def _read(
        self,
        strips: IntArray,
        places: IntArray,
        y: NDArray[np.float64],
        beside: tuple[FloatArray, ...],
        room: Room,
    ) -> Window:
        X = room.ready(self.X.read_strips(strips, room))
        spans = self._spans(strips)
        near = tuple(gather(array, spans, len(X)) for array in beside)
        return Window(X, gather(y, spans, len(X)), near, places, spans)

    def _gathered(self, order: IntArray, y: NDArray[np.float64], beside: tuple[FloatArray, ...]) -> Window:
        rows, places = np.unique(order, return_inverse=True)
        spans = [(slice(row, row + 1), slice(place, place + 1)) for place, row in enumerate(rows.tolist())]
        X: Any = self.X.part(rows)
        near = tuple(array[rows] for array in beside)
        ready = next(blocks(X))[1] if is_coded(X) else X
        return Window(ready, y[rows], near, places.astype(np.int32), spans)

    def _spans(self, strips: IntArray) -> list[tuple[slice, slice]]:
        spans, first, count = [], self.X.start, len(self.X)
        for low, high in runs_of(strips):
            start = int(strips[low]) * STRIP - first
            stop = min(start + (high - low) * STRIP, count)
            skipped = max(0, -start)  # what lies before row 0 is no row of these
            place = low * STRIP
            spans.append((slice(start + skipped, stop), slice(place + skipped, place + stop - start)))
        return spans


def gather(array: NDArray[Any], spans: list[tuple[slice, slice]], count: int) -> NDArray[Any]:
    """What ``array`` (n, …) says of the rows of a window of ``count`` rows, each at its place."""
    found = np.empty((count, *array.shape[1:]), dtype=array.dtype)
    for rows, places in spans:
        found[places] = array[rows]
    return found
