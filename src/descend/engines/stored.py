"""The compiled engine over rows of a block store: a window of them is read while the one before is trained on.

Kernels know nothing of it. A window holds the strips that some batches of the order come to; rows keep their order, so
that steps are those of rows in memory to the last bit. Sums over all rows are added up in the same places, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from descend.batches import GROUP, STRIP, row_number
from descend.engines.base import Rule, State, Sums
from descend.engines.coded import FEWEST, CodedEngine
from descend.engines.decoding import near_rows
from descend.engines.full_batch import CHUNKS, SMALLEST_CHUNK
from descend.engines.linear import LinearEngine
from descend.engines.strips import find_places, find_strips
from descend.store.read_ahead import read_ahead
from descend.store.rows import Room, Rooms, StoredRows, runs_of
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import LBFGS, NEWTON, SAGA

BATCH_BYTES = 32 * 2**20
"""A batch of more than this is added up from parts."""
SPARE = 4
"""How many times the strips are read that the rows of a window would fill: others hold one heavy row each."""


WEIGHTS = ("weights", "visit_weights", "only_visits")


class Window(NamedTuple):
    """Rows that are there: those of some strips, and where in them the rows of an order are."""

    X: FloatArray
    beside: tuple[FloatArray, ...]
    """What is in memory for each row: targets, weights; of the rows of the window."""
    places: IntArray
    spans: list[tuple[slice, slice]]
    """Which rows of all stand where, a run of neighbours at a time."""


class Windows:
    """Reads the windows of an order."""

    def __init__(self, X: StoredRows, batch_bytes: int = BATCH_BYTES) -> None:
        self.X = X
        self.marks = np.full(X.stop // STRIP + 1, -1, dtype=np.int32)
        self.most_rows = max(1, batch_bytes // max(1, X.shape[1] * X.dtype.itemsize))
        """Rows of a batch that is brought whole."""
        self.rooms = Rooms(X)

    def of(self, order: IntArray, batch_size: int, beside: tuple[FloatArray, ...]) -> Iterator[Window]:
        """Windows that hold whole batches of ``order``; each lives until the next one is asked for.

        ``beside`` are arrays (n, …) whose rows are brought, too.
        """
        return read_ahead(self._of(order, batch_size, beside))

    def _of(
        self, order: IntArray, batch_size: int, beside: tuple[FloatArray, ...]
    ) -> Iterator[Callable[[], Window]]:
        unit = GROUP if batch_size == 1 else batch_size
        rows = min(max(self.X.window_rows, unit) // unit * unit, len(order))
        strips = np.empty(max(2, SPARE * -(-rows // STRIP)), dtype=np.int32)
        start = 0
        while start < len(order):
            stop, count = find_strips(order, start, rows, unit, self.X.start, self.marks, strips)
            if stop > start:
                found = np.sort(strips[:count])
                places = np.empty(stop - start, dtype=np.int32)
                find_places(order, start, stop, self.X.start, found, self.marks, places)
                yield partial(self._read, found, places, beside, self.rooms.next(count * STRIP))
            else:  # rows of one batch lie in too many strips to read these whole
                stop = min(start + unit, len(order))
                yield partial(self._gathered, order[start:stop], beside)
            start = stop

    def _read(self, strips: IntArray, places: IntArray, beside: tuple[FloatArray, ...], room: Room) -> Window:
        X = room.ready(self.X.read_strips(strips, room))
        spans = self._spans(strips)
        return Window(X, tuple(gather(array, spans, len(X)) for array in beside), places, spans)

    def _gathered(self, order: IntArray, beside: tuple[FloatArray, ...]) -> Window:
        rows, places = np.unique(order, return_inverse=True)
        spans = [(slice(row, row + 1), slice(place, place + 1)) for place, row in enumerate(rows.tolist())]
        return Window(self.X[rows], tuple(array[rows] for array in beside), places.astype(np.int32), spans)

    def _spans(self, strips: IntArray) -> list[tuple[slice, slice]]:
        spans = []
        for low, high in runs_of(strips):
            start = int(strips[low]) * STRIP - self.X.start
            stop = min(start + (high - low) * STRIP, len(self.X))
            skipped = max(0, -start)  # what lies before row 0 is no row of these
            place = low * STRIP
            spans.append((slice(start + skipped, stop), slice(place + skipped, place + stop - start)))
        return spans


def gather(array: FloatArray, spans: list[tuple[slice, slice]], count: int) -> FloatArray:
    """What ``array`` (n, …) says of the rows of a window of ``count`` rows, each at its place."""
    found = np.empty((count, *array.shape[1:]), dtype=array.dtype)
    for rows, places in spans:
        found[places] = array[rows]
    return found


class StoredEngine(CodedEngine):
    """``LinearEngine`` where ``data.X`` are ``StoredRows``."""

    def __init__(self, data: Dataset, *args: Any, **options: Any) -> None:
        X: Any = data.X
        few = near_rows(data.num_columns)
        self.windows = Windows(X)
        super().__init__(data, *args, near=few, **options)
        if X.code is None:
            self._cut(max(SMALLEST_CHUNK, -(-data.num_rows // CHUNKS)))
            self.near_rows = self.windows.most_rows
        else:
            self._cut(max(FEWEST, few))  # as rows that are coded in memory are added up

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        if order is None or rule.optimizer.code in (LBFGS, NEWTON) or batch_size > self.near_rows:
            super().run(state, rule, order, batch_size)
            return
        if rule.optimizer.code == SAGA:
            self._start_saga(state)
        order = order.astype(row_number(self.num_rows), copy=False)
        names = [name for name in WEIGHTS if getattr(self, name).size]
        beside = (self.data.y, *(getattr(self, name) for name in names))
        for window in self.windows.of(order, batch_size, beside):
            for name, array in zip(names, window.beside[1:], strict=True):
                setattr(self.near, name, array)
            self._step_through(state, rule, window, batch_size)

    def _step_through(self, state: State, rule: Rule, window: Window, batch_size: int) -> None:
        near, table = self.near, state.table
        near.data, near.rows = Dataset(window.X, window.beside[0]), (window.X,)
        if rule.optimizer.code != SAGA or table is None:
            near.run(state, rule, window.places, batch_size)
            return
        state.table = own = gather(table, window.spans, len(window.X))
        try:
            near.run(state, rule, window.places, batch_size)
            for rows, places in window.spans:
                table[rows] = own[places]
        finally:
            state.table = table

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        order = np.arange(self.num_rows)[rows] if isinstance(rows, slice) else np.asarray(rows)
        total = Sums(0.0, np.zeros_like(parameters), 0.0)
        for start in range(0, len(order), self.near_rows):  # straight: these rows need no places
            part = LinearEngine.loss_and_gradient(self, parameters, order[start : start + self.near_rows])
            total = Sums(total.loss + part.loss, total.gradient + part.gradient, total.weight + part.weight)
        return total

    def _once(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        found, places = np.unique(rows, return_inverse=True)
        return found, places.astype(np.int32)

    def _fill(self, rows: IntArray, room: FloatArray) -> None:
        room[: len(rows)] = self.data.X[rows]

    def _read(self, rows: slice) -> Iterator[tuple[FloatArray, FloatArray, FloatArray, int, int]]:
        for part, X in self._pieces(rows):
            weights = self.weights[part] if self.weights.size else self.weights
            yield X, self.data.y[part], weights, 0, len(X)

    def _pieces(self, rows: slice) -> Iterator[tuple[slice, Any]]:
        X: Any = self.data.X
        return X.windows(rows.start, rows.stop)  # type: ignore[no-any-return]
