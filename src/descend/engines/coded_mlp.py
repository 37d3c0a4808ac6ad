"""The compiled engine for networks over rows kept in small numbers: a few are decoded, and kernels work on them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.batches import row_number, rows_together
from descend.engines.base import AverageWindows, Rule, State
from descend.engines.decoding import decode, near_rows
from descend.engines.mlp import ALL_ONE, LARGE, NetworkEngine, kernel_rows
from descend.engines.mlp_passes import BLOCK
from descend.types import Dataset, FloatArray, IntArray


class CodedNetworkEngine(NetworkEngine):
    """``NetworkEngine`` where ``data.X`` are ``CodedRows``; ``near`` of them are decoded at a time."""

    def __init__(self, data: Dataset, *args: Any, near: int | None = None, **options: Any) -> None:
        super().__init__(data, *args, **options)
        self.near_rows = near or max(BLOCK, near_rows(data.num_columns) // BLOCK * BLOCK)
        self.large = min(LARGE, self.near_rows + 1)
        self.rooms = threading.local()
        few = Dataset(data.X[:2], data.y[:2])
        self.near = NetworkEngine(few, *args, **options | {"threads": 1, "weights": None})
        """The dense engine; its rows are those of the moment."""
        self.places = np.arange(min(self.near_rows, self.num_rows), dtype=row_number(self.near_rows))

    def close_windows_of(self, tail: AverageWindows) -> None:
        super().close_windows_of(tail)
        self.near.close_windows_of(tail)

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        if order is None or batch_size >= self.large:
            super().run(state, rule, order, batch_size)
            return
        unit = rows_together(batch_size)
        whole = self.near_rows // unit * unit
        for start in range(0, len(order), whole):
            rows = order[start : start + whole]
            near = self.near
            near.rows = kernel_rows(
                self._decoded(rows, 0, len(rows)), self.data.y.take(rows, axis=0), ALL_ONE
            )
            if self.visit_weights.size:
                near.visit_weights = self.visit_weights.take(rows)
            near.run(state, rule, self.places[: len(rows)], batch_size)

    def warm_up(self, rules: Sequence[tuple[Rule, int]], state: State) -> None:
        super().warm_up(rules, state)
        self._decoded(self.places, 0, 1)

    def _sums_of(
        self,
        order: IntArray,
        part: slice,
        weights: FloatArray,
        parameters: FloatArray,
        gradient: FloatArray,
        with_loss: bool,
    ) -> tuple[float, float]:
        loss = weight = 0.0
        for start in range(part.start, part.stop, self.near_rows):
            stop = min(start + self.near_rows, part.stop)
            rows: Any = order[start:stop] if order.size else slice(start, stop)
            some = self._sums(
                kernel_rows(
                    self._decoded(order, start, stop),
                    self.data.y[rows],
                    weights[rows] if weights.size else weights,
                ),
                order[:0],
                slice(0, stop - start),
                parameters,
                gradient,
                with_loss,
            )
            loss, weight = loss + some[0], weight + some[1]
        return loss, weight

    def _decoded(self, order: IntArray, start: int, stop: int) -> FloatArray:
        """Rows order[start:stop], or start … stop − 1 where it is empty, in the calling thread's own room."""
        room: FloatArray | None = getattr(self.rooms, "room", None)
        if room is None:
            room = self.rooms.room = np.empty((self.near_rows, self.data.num_columns), dtype=np.float32)
        decode(self.data.X, order.astype(row_number(self.num_rows), copy=False), start, stop, room)  # type: ignore[arg-type]
        return room
