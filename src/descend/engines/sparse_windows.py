"""Windows of stored sparse rows: what some batches of an order come to, read while other rows are trained on.

Where a window ends hangs on the shape of the data and the batch size alone, since the sparse kernels round at the end
of a call. Rows that are visited again and again, the heavy ones, are brought by themselves: out of memory as far as
they fit, and not with the strips that they lie in.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP, rows_between_cuts
from descend.store.read_ahead import read_ahead
from descend.store.sparse_rows import Room, Rooms, StoredSparseRows, spans
from descend.types import FloatArray, IntArray

SPARE = 4
"""How many times the rows of a window may be read for it: where an order jumps more, each comes by itself."""
ROW_BYTES = 16
"""Kept of a row in memory besides its numbers."""


class SparseWindow(NamedTuple):
    """Rows that are there; they live until the next window is asked for."""

    rows: tuple[FloatArray, IntArray, IntArray]
    """As kernels take them (``sparse_kernels.kernel_rows``)."""
    numbers: IntArray
    """Which of all rows each is. A row that is there twice is used at its last place."""
    places: IntArray
    """Where in them the rows of the order are."""


class KeptRows:
    """Rows in memory, ``numbers`` ascending."""

    def __init__(self, X: StoredSparseRows, numbers: NDArray[np.int64]) -> None:
        self.numbers, self.start = numbers, X.start
        rows = X[numbers]
        self.data, self.indices = rows.data, rows.indices
        self.ends = rows.indptr.astype(np.int64)

    def copy_to(self, room: Room, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
        """Copies some of them into ``room``, the numbers of each from ``starts`` on."""
        own = np.searchsorted(self.numbers, rows)
        lengths = self.ends[own + 1] - self.ends[own]
        took, goes = spans(self.ends[own], lengths), spans(starts, lengths)
        room.data[goes], room.indices[goes] = self.data[took], self.indices[took]


class SparseWindows:
    """Reads the windows of an order. ``copies`` (n,): weights of the visits, lower where a row is visited often."""

    def __init__(self, X: StoredSparseRows, visit_weights: FloatArray, num_outputs: int = 1) -> None:
        self.X = X
        self.rows = X.window_rows(num_outputs)
        self.heavy: NDArray[np.bool_] | None = None
        """Which rows are visited several times an epoch."""
        self.kept: KeptRows | None = None
        if visit_weights.size and float(visit_weights.min()) < float(visit_weights.max()):
            self.heavy = visit_weights < visit_weights.max()
            self.kept = self._keep(visit_weights)

    def of(self, order: IntArray, batch_size: int) -> Iterator[SparseWindow]:
        """Windows that hold whole batches of ``order``."""
        unit = rows_between_cuts(batch_size)
        step = max(self.rows // unit, 1) * unit
        shared = self.X.blocks.shared
        rooms: Rooms = shared.pop("rooms", None) or Rooms(self.X)

        def calls() -> Iterator[Callable[[], SparseWindow]]:
            for start in range(0, len(order), step):
                yield partial(self._bring, order[start : start + step], rooms.next())

        try:
            yield from read_ahead(calls())
        finally:
            shared["rooms"] = rooms

    def _keep(self, visit_weights: FloatArray) -> KeptRows | None:
        """The rows that are visited most often, as many as there is memory to spare for.

        Those that an engine beside this one keeps do as well: what is not among them is read.
        """
        assert self.heavy is not None
        found: KeptRows | None = self.X.blocks.shared.get("kept", lambda: None)()
        if found is not None and found.start == self.X.start:
            return found
        heavy = np.flatnonzero(self.heavy)
        by_visits = heavy[np.argsort(visit_weights[heavy], kind="stable")]
        ends = self.X.indptr
        sizes = np.cumsum(8 * (ends[by_visits + 1] - ends[by_visits]) + ROW_BYTES)
        few = by_visits[: int(np.searchsorted(sizes, self.X.blocks.spare_bytes, side="right"))]
        if not len(few):
            return None
        kept = KeptRows(self.X, np.sort(few))
        self.X.blocks.shared["kept"] = weakref.ref(kept)
        return kept

    def _bring(self, order: IntArray, room: Room) -> SparseWindow:
        X, first = self.X, self.X.start
        rows = order.astype(np.int64)
        single = np.zeros(len(rows), dtype=np.bool_) if self.heavy is None else self.heavy[rows]
        strips = np.unique((rows[~single] + first) // STRIP)
        if len(strips) * STRIP > SPARE * len(rows) + STRIP:
            single[:], strips = True, strips[:0]
        alone = np.unique(rows[single])
        of_strips = (strips[:, None] * STRIP + np.arange(STRIP)).ravel()
        of_strips = of_strips[of_strips < X.stop] - first
        numbers = np.concatenate([of_strips, alone])
        ends = X.blocks.ends
        indptr = np.concatenate([[0], np.cumsum(ends[numbers + first + 1] - ends[numbers + first])])
        room.fit(int(indptr[-1]))
        X.read_strips(strips, room)
        # Over the numbers of those rows of the last strip that are not of these.
        self._add_alone(room, alone, indptr[len(of_strips) : -1])
        places = np.empty(len(rows), dtype=np.int32)
        light = ~single
        place = np.searchsorted(strips, (rows[light] + first) // STRIP)
        places[light] = place * STRIP + (rows[light] + first) % STRIP
        places[single] = len(of_strips) + np.searchsorted(alone, rows[single])
        whole = slice(int(indptr[-1]))
        kernel_rows = (room.data[whole], room.indices[whole].view("u4"), indptr.astype(np.int32))
        # What lies in the first strip before the first row is never visited.
        return SparseWindow(kernel_rows, np.maximum(numbers, 0), places)

    def _add_alone(self, room: Room, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
        """Brings these rows, ascending, the numbers of each from ``starts`` on."""
        there = np.zeros(len(rows), dtype=np.bool_)
        if self.kept is not None:
            there = np.isin(rows, self.kept.numbers)
            self.kept.copy_to(room, rows[there], starts[there])
        if not there.all():
            found = self.X[rows[~there]]
            goes = spans(starts[~there], np.diff(found.indptr))
            room.data[goes], room.indices[goes] = found.data, found.indices
