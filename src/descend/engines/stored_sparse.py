"""The compiled engine over sparse rows of a block store: a window of them is read while others are trained on.

Steps are those of sparse rows in memory but for rounding: kernels write out at the end of a window what they put off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from descend.engines import sparse_kernels
from descend.engines.base import Rule, State
from descend.engines.newton import is_small, newton_direction
from descend.engines.sparse import SparseEngine
from descend.engines.sparse_windows import SparseWindow, SparseWindows
from descend.errors import InputError
from descend.store.sparse_rows import MOST_NUMBERS, StoredSparseRows
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import LBFGS, NEWTON, SAGA

WEIGHTS = ("weights", "visit_weights", "only_visits")


class StoredSparseEngine(SparseEngine):
    """``SparseEngine`` where ``data.X`` are ``StoredSparseRows``."""

    def __init__(self, data: Dataset, *args: Any, **options: Any) -> None:
        self.stored: StoredSparseRows = data.X  # type: ignore[assignment]
        super().__init__(data, *args, **options)
        self.windows = SparseWindows(self.stored, self.only_visits, self._num_outputs())
        self.cut_rows = max(1, self.cut_rows // self.windows.rows) * self.windows.rows
        self.most_rows = max(self.windows.rows, int(MOST_NUMBERS / max(1.0, self.numbers_of_row)))
        """Rows of a batch that is brought whole."""
        few = Dataset(self.stored[:2], data.y[:2])
        self.near = SparseEngine(few, *args, **options | {"threads": 1, "weights": None})
        """The engine of rows in memory; its rows are those of the moment."""
        self.near.numbers_of_row, self.near.all_rows = self.numbers_of_row, self.num_rows

    def _kernel_rows(self) -> Any:
        return ()  # a window's, when there is one

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        if order is None or rule.optimizer.code in (LBFGS, NEWTON):
            super().run(state, rule, order, batch_size)
            return
        saga = rule.optimizer.code == SAGA
        if saga:
            self._start_saga(state)
        if batch_size > self.most_rows:
            if saga:
                raise self._too_large(batch_size)
            for start in range(0, len(order), batch_size):
                self._long_step(state, rule, order[start : start + batch_size])
            return
        near, table = self.near, state.table
        for window in self.windows.of(order, batch_size):
            self._enter(window)
            if not saga or table is None:
                near.run(state, rule, window.places, batch_size)
                continue
            state.table = own = table[window.numbers]
            try:
                near.run(state, rule, window.places, batch_size)
                table[window.numbers] = own
            finally:
                state.table = table

    def warm_up(self, rules: Sequence[tuple[Rule, int]], state: State) -> None:
        for rule, batch_size in rules:
            if rule.optimizer.code == SAGA and batch_size > self.most_rows:
                raise self._too_large(batch_size)
        super().warm_up(rules, state)

    def _too_large(self, batch_size: int) -> InputError:
        return InputError(
            f"batch size {batch_size:,} is more rows than saga holds of sparse rows that stay in their store; take "
            f'at most {self.most_rows:,}, "full", optimizer "sgd", or a higher memory limit'
        )

    def _enter(self, window: SparseWindow) -> None:
        """Gives the engine of rows in memory these."""
        near = self.near
        near.rows = window.rows
        near.data = Dataset(near.data.X, self.data.y[window.numbers])
        for name in WEIGHTS:
            each = getattr(self, name)
            if each.size:
                setattr(near, name, each[window.numbers])

    def _long_step(self, state: State, rule: Rule, rows: IntArray) -> None:
        """A step on a batch of more rows than are held at a time."""
        gradient = np.zeros(state.parameters.shape)
        V = np.ascontiguousarray(state.parameters.T)
        for window in self.windows.of(rows, 1):
            self._enter(window)
            near, part = self.near, np.zeros_like(V)
            near._add_sums(near.visit_weights, window.places, slice(0, len(window.places)), V, False, part)
            gradient += part.T
        state.visits += len(rows)
        state.steps += 1
        self._take_step(state, rule, gradient, len(rows))
        if self.average_every and state.steps % self.average_every == 0:
            state.num_averaged += 1
            state.average += (state.parameters - state.average) / state.num_averaged

    def _add_sums(
        self,
        weights: FloatArray,
        order: IntArray,
        part: slice,
        V: FloatArray,
        with_loss: bool,
        gradient: FloatArray,
        rounded: bool = False,
    ) -> tuple[float, float]:
        loss_used = self.smooth if rounded else self.loss
        loss = weight = 0.0
        for rows, X in self._some(order, part):
            more, another = sparse_kernels.add_sums(
                (
                    *sparse_kernels.kernel_rows(X),
                    self.data.y[rows],
                    weights[rows] if weights.size else weights,
                ),
                order[:0],
                0,
                X.shape[0],
                V,
                loss_used.code,
                loss_used.kernel_shape,
                with_loss,
                gradient,
            )
            loss, weight = loss + more, weight + another
        return loss, weight

    def _some(self, order: IntArray, part: slice) -> Iterator[tuple[Any, Any]]:
        """Rows order[part], or rows ``part`` where it is empty, some at a time."""
        if not order.size:
            yield from self._pieces(part)
            return
        for start in range(part.start, part.stop, self.windows.rows):
            rows = order[start : min(start + self.windows.rows, part.stop)]
            yield rows, self.stored[rows]

    def _pieces(self, rows: slice) -> Iterator[tuple[slice, Any]]:
        return self.stored.windows(rows.start, rows.stop)

    def _newton_direction(self, memory: Any, gradient: FloatArray) -> FloatArray:
        if not is_small(self.num_rows, self.data.num_columns, len(gradient)):
            return super()._newton_direction(memory, gradient)
        return newton_direction(
            self.data,
            self.smooth,
            self.penalty.alpha,
            memory.point,
            gradient,
            self.fit_intercept,
            memory.cautious,
        )
