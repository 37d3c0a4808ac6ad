"""The compiled engine over rows of a block store: a window of them is read while the one before is trained on.

Kernels know nothing of it. Rows keep their order, so that steps are those of rows in memory to the last bit; and sums
over all rows are added up in the same places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from descend.batches import row_number
from descend.engines.base import Rule, State, Sums
from descend.engines.coded import FEWEST, CodedEngine
from descend.engines.decoding import blocks, near_rows
from descend.engines.full_batch import CHUNKS, SMALLEST_CHUNK
from descend.engines.kept_windows import windows_of
from descend.engines.linear import LinearEngine
from descend.engines.linear_arguments import Data
from descend.engines.windows import Window, gather
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import LBFGS, NEWTON, SAGA

WEIGHTS = ("weights", "visit_weights", "only_visits")


class StoredEngine(CodedEngine):
    """``LinearEngine`` where ``data.X`` are ``StoredRows``."""

    def __init__(self, data: Dataset, *args: Any, **options: Any) -> None:
        X: Any = data.X
        few = near_rows(data.num_columns)
        super().__init__(data, *args, near=few, **options)
        self.windows = windows_of(X, self.only_visits)
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
        beside = tuple(getattr(self, name) for name in names)
        for window in self.windows.of(order, batch_size, self.data.y, beside):
            for name, array in zip(names, window.beside, strict=True):
                setattr(self.near, name, array)
            self._step_through(state, rule, window, batch_size)

    def _step_through(self, state: State, rule: Rule, window: Window, batch_size: int) -> None:
        near, table = self.near, state.table
        near.data, near.rows = Dataset(window.X, window.y), (window.X,)
        if rule.optimizer.code != SAGA or table is None or window.spans is None:
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
        X: Any = self.data.X
        for part, some in blocks(X.part(rows)):
            room[part] = some

    def _read(self, rows: slice) -> Iterator[tuple[Data, int, int]]:
        for part, X in self._pieces(rows):
            weights = self.weights[part] if self.weights.size else self.weights
            yield (X, self.data.y[part], weights), 0, len(X)

    def _pieces(self, rows: slice) -> Iterator[tuple[slice, Any]]:
        X: Any = self.data.X
        return X.windows(rows.start, rows.stop)  # type: ignore[no-any-return]
