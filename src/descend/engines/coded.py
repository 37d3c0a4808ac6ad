"""The compiled engine over rows kept in small numbers: a few are decoded, and the dense engine works on them.

Decoding takes 0.15 to 0.4 ns a number, and what it writes is read again out of the near cache. Kernels know nothing
of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from descend.batches import NO_ORDER, row_number
from descend.engines import row_sums
from descend.engines.base import Rule, State, Sums
from descend.engines.decoding import decode, distinct, near_rows
from descend.engines.linear import LinearEngine
from descend.engines.linear_arguments import Data
from descend.engines.logistic_columns import NO_HESSIAN, add_logistic, goes_by_columns
from descend.objectives.losses import LOG_LOSS
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import LBFGS, NEWTON, SAGA

FEWEST = 128
"""Rows of a chunk of the full batch at least: each has a gradient of its own."""


class CodedEngine(LinearEngine):
    """``LinearEngine`` where ``data.X`` are ``CodedRows``; ``near`` of them are decoded at a time."""

    def __init__(self, data: Dataset, *args: Any, near: int | None = None, **options: Any) -> None:
        super().__init__(data, *args, **options)
        self.near_rows = near or near_rows(data.num_columns)
        self.num_near = min(self.near_rows, self.num_rows)
        self._cut(near or max(FEWEST, self.near_rows))
        self.rooms = threading.local()
        X: Any = data.X
        as_floats = data.is_coded and X.values.dtype == X.dtype and self.loss.code == LOG_LOSS
        self.goes_by_columns = as_floats and goes_by_columns(X.values, data.num_columns)
        self._dense_of: Callable[[Dataset], LinearEngine] = lambda rows: LinearEngine(
            rows, *args, **options | {"threads": 1}
        )
        self.marks = np.empty(0, dtype=np.int32)
        if self.only_visits.size:
            self._once(np.zeros(1, dtype=row_number(self.num_rows)))  # compiled before a clock runs

    @cached_property
    def near(self) -> LinearEngine:
        """The dense engine; its rows are those of the moment."""
        few = self.num_near
        engine = self._dense_of(Dataset(self._room(few), self.data.y[:few]))
        engine.all_rows, engine.inverse = self.num_rows, self.inverse
        return engine

    @cached_property
    def places(self) -> IntArray:
        return np.arange(self.num_near, dtype=row_number(self.num_near))

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        order = np.arange(self.num_rows)[rows] if isinstance(rows, slice) else rows
        total = Sums(0.0, np.zeros_like(parameters), 0.0)
        for start in range(0, len(order), self.near_rows):
            part = super().loss_and_gradient(parameters, order[start : start + self.near_rows])
            total = Sums(total.loss + part.loss, total.gradient + part.gradient, total.weight + part.weight)
        return total

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        if order is None or rule.optimizer.code in (LBFGS, NEWTON):
            super().run(state, rule, order, batch_size)
            return
        if rule.optimizer.code == SAGA:
            self._start_saga(state)
        order = order.astype(row_number(self.num_rows), copy=False)
        whole = self.near_rows // batch_size * batch_size
        for start in range(0, len(order), whole or batch_size):
            rows = order[start : start + (whole or batch_size)]
            if whole:
                with self._brought(state, rule, rows) as places:
                    self.near.run(state, rule, places, batch_size)
            elif rule.optimizer.code == SAGA:
                self._long_saga_step(state, rule, rows, batch_size)
            else:
                self._long_step(state, rule, rows)

    @contextmanager
    def _brought(self, state: State, rule: Rule, rows: IntArray) -> Iterator[IntArray]:
        """Gives the dense engine these rows, and says where each of them is; of SAGA's table its rows, too.

        A row that comes again has one place: what SAGA's table says of it changes from visit to visit.
        """
        near = self.near
        places: IntArray = self.places[: len(rows)]
        saga = rule.optimizer.code == SAGA
        if saga and self.only_visits.size:
            rows, places = self._once(rows)
        room = self._room(len(rows))
        self._fill(rows, room)
        near.data, near.rows = Dataset(room, self.data.y.take(rows, axis=0)), (room,)
        for name in ("weights", "visit_weights", "only_visits"):
            each = getattr(self, name)
            if each.size:
                setattr(near, name, each.take(rows))
        table = state.table
        if not saga or table is None:
            yield places
            return
        state.table = table.take(rows, axis=0)
        try:
            yield places
            table[rows] = state.table
        finally:
            state.table = table

    def _fill(self, rows: IntArray, room: FloatArray) -> None:
        """Decodes these rows into ``room``."""
        decode(self.data.X, rows, 0, len(rows), room)  # type: ignore[arg-type]

    def _once(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """The distinct ones of ``rows``, and where in them each row is."""
        if not self.marks.size:
            self.marks = np.full(self.num_rows, -1, dtype=np.int32)
        found, places = np.empty_like(rows), np.empty(len(rows), dtype=np.int32)
        return found[: distinct(rows, self.marks, found, places)], places

    def _long_step(self, state: State, rule: Rule, rows: IntArray) -> None:
        """A step on a batch of more rows than are decoded at a time."""
        gradient = np.zeros(state.parameters.shape)
        for start in range(0, len(rows), self.near_rows):
            with self._brought(state, rule, rows[start : start + self.near_rows]) as places:
                near, part = self.near, np.zeros_like(state.parameters)
                data = near.data.X, near.data.y, near.visit_weights
                row_sums.add_gradient(data, 0, len(places), state.parameters, self.loss, part)
            gradient += part
        state.visits += len(rows)
        state.steps += 1
        self._take_step(state, rule, gradient, len(rows))
        if self.average_every and state.steps % self.average_every == 0:
            state.num_averaged += 1
            state.average += (state.parameters - state.average) / state.num_averaged

    def _long_saga_step(self, state: State, rule: Rule, rows: IntArray, batch_size: int) -> None:
        sums, before = (np.zeros_like(state.parameters), np.zeros_like(state.parameters)), state.share
        for start in range(0, len(rows), self.near_rows):
            is_last = start + self.near_rows >= len(rows)
            with self._brought(state, rule, rows[start : start + self.near_rows]) as places:
                piece = (len(rows), is_last, before, *sums)
                self.near._saga_piece(state, rule, places, batch_size, piece)
        state.visits += len(rows)

    def _objective_of(self, chunk: slice, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Two classes by columns, where that is the quicker way; all else by rows."""
        if not self.goes_by_columns or self.in_float64:
            return super()._objective_of(chunk, parameters)
        X: Any = self.data.X
        gradient = np.zeros(parameters.shape)
        value = add_logistic(
            X.values.T,
            X.code,
            self.data.y,
            self.weights,
            chunk.start,
            chunk.stop,
            parameters[0],
            False,
            gradient[0],
            NO_HESSIAN,
        )
        return value, gradient

    def _read(self, rows: slice) -> Iterator[tuple[Data, int, int]]:
        count = rows.stop - rows.start
        room = self._room(count)
        decode(self.data.X, NO_ORDER, rows.start, rows.stop, room)  # type: ignore[arg-type]
        weights = self.weights[rows] if self.weights.size else self.weights
        yield (room, self.data.y[rows], weights), 0, count

    def _room(self, num_rows: int) -> FloatArray:
        """The calling thread's own place for decoded rows."""
        room: FloatArray | None = getattr(self.rooms, "room", None)
        if room is None or len(room) < num_rows:
            room = self.rooms.room = np.empty((num_rows, self.data.num_columns), dtype=self.data.X.dtype)
        return room
