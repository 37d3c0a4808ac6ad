"""Windows of stored rows of which the heavy ones are in memory: an epoch visits these several times.

That is for rows that are read, and not used in place: coded ones, and where files cannot be mapped. Each visit would
else read the strip that the row lies in, 64 rows for one. Heavy rows are few; as many as there is
memory to spare for are kept, those first that are visited most often.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP, rows_between_cuts
from descend.engines.windows import SPARE, Window, Windows, gather
from descend.store.rows import Room, Rooms, StoredRows
from descend.types import FloatArray, IntArray

ROW_BYTES = 16
"""Kept of a row besides its numbers."""


def windows_of(X: StoredRows, visit_weights: FloatArray) -> Windows:
    """The windows of ``X``; ``visit_weights`` (n,), or empty: lower for the rows that are visited several times."""
    if not visit_weights.size or X.columns is not None or X.in_place is not None:
        return Windows(X)  # rows that are used in place need no copy
    known: Kept | None = X.blocks.shared.get("kept", lambda: None)()
    if known is not None and known.start == X.start:
        return KeptWindows(X, known)  # of an engine beside this one: what is not among them is read
    heavy = np.flatnonzero(visit_weights < visit_weights.max())
    most = X.blocks.spare_bytes // (X.blocks.layout.row_bytes + ROW_BYTES)
    if len(heavy) > most:
        by_visits = np.argsort(visit_weights[heavy], kind="stable")
        heavy = np.sort(heavy[by_visits[:most]])
    if not len(heavy):
        return Windows(X)
    kept = Kept(X, heavy)
    X.blocks.shared["kept"] = weakref.ref(kept)
    return KeptWindows(X, kept)


class Kept:
    """Rows in memory, as they are stored; ``numbers`` ascending."""

    def __init__(self, X: StoredRows, numbers: IntArray) -> None:
        self.start, self.numbers = X.start, numbers.astype(np.int64)
        self.values = X.stored(self.numbers)


class KeptWindows(Windows):
    """``Windows`` with rows out of memory, behind the strips of the others."""

    def __init__(self, X: StoredRows, kept: Kept) -> None:
        super().__init__(X)
        self.kept = kept
        self.is_kept = np.zeros(len(X), dtype=np.bool_)
        self.is_kept[kept.numbers[kept.numbers < len(X)]] = True

    def _of(
        self,
        order: IntArray,
        batch_size: int,
        y: NDArray[np.float64],
        beside: tuple[FloatArray, ...],
        rooms: Rooms,
    ) -> Iterator[Callable[[], Window]]:
        unit = rows_between_cuts(batch_size)
        step = max(self.X.window_rows, unit) // unit * unit
        for start in range(0, len(order), step):
            rows = order[start : start + step].astype(np.int64)
            alone = self.is_kept[rows]
            strips = np.unique((rows[~alone] + self.X.start) // STRIP)
            if len(strips) > SPARE * (len(rows) // STRIP + 1):  # too many to read them whole
                yield partial(self._gathered, order[start : start + step], y, beside)
                continue
            kept = np.unique(rows[alone])
            room = rooms.next(len(strips) * STRIP + len(kept))
            yield partial(self._brought, rows, alone, strips, kept, y, beside, room)

    def _brought(
        self,
        rows: NDArray[np.int64],
        alone: NDArray[np.bool_],
        strips: NDArray[np.int64],
        kept: NDArray[np.int64],
        y: NDArray[np.float64],
        beside: tuple[FloatArray, ...],
        room: Room,
    ) -> Window:
        first = len(strips) * STRIP
        if first:
            self.X.read_strips(strips, room)
        room.raw[first : first + len(kept)] = self.kept.values[np.searchsorted(self.kept.numbers, kept)]
        X = room.ready(room.raw[: first + len(kept)])
        places = np.empty(len(rows), dtype=np.int32)
        light = rows[~alone] + self.X.start
        places[~alone] = np.searchsorted(strips, light // STRIP) * STRIP + light % STRIP
        places[alone] = first + np.searchsorted(kept, rows[alone])
        spans: list[Any] = self._spans(strips) if first else []
        # Behind those of the strips: a kept row is there twice, and what counts is its last place.
        spans.append((kept, slice(first, first + len(kept))))
        near = tuple(gather(array, spans, len(X)) for array in beside)
        return Window(X, gather(y, spans, len(X)), near, places, spans)
