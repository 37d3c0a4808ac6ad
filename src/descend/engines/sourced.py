"""The compiled engine over rows that stay in their source: a window is read while the one before is trained on.

Kernels know nothing of it: each window has an engine of its own. Looks at the loss are looks at
``SourceRows.sample``, because reading all rows to look at them would take as long as an epoch.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.batches import Stretch
from descend.engines.base import KeepsNothing, Rule, State
from descend.engines.choose import make_engine
from descend.engines.linear import LinearEngine
from descend.engines.source_windows import Window, windows
from descend.features.source_rows import SourceRows
from descend.objectives.losses import Loss
from descend.objectives.penalties import Penalty
from descend.store.ahead import ahead
from descend.types import FloatArray, IntArray


@dataclass(slots=True)
class _Walk:
    """How far an epoch has come."""

    epoch: tuple[int, int, bool]
    """Its number, the seed, and whether rows come as they lie."""
    batch_size: int
    windows: Generator[Window]
    place: int = 0
    engine: LinearEngine | None = None
    left: IntArray | None = None
    """The visits of the window at hand that are still to come."""


class SourcedEngine(KeepsNothing):
    """Steps of batches and of every row, for optimizers that need no more than a gradient."""

    def __init__(
        self,
        rows: SourceRows,
        loss: Loss,
        penalty: Penalty,
        average_every: int = 0,
        threads: int = 1,
        fit_intercept: bool = True,
    ) -> None:
        self.rows, self.loss, self.penalty = rows, loss, penalty
        self.num_rows = len(rows)
        self.threads = threads
        self.options: dict[str, Any] = {"average_every": average_every, "fit_intercept": fit_intercept}
        self.near = make_engine(rows.sample, loss, penalty, threads=threads, **self.options)
        """The engine of the sample."""
        self.cut_rows = self.near.cut_rows
        self._walk: _Walk | None = None

    def run(self, state: State, rule: Rule, order: Any, batch_size: int) -> None:
        """``order`` is a ``Stretch`` of an epoch, walked as its rows are read; None: one step on every row."""
        if order is None:
            state.visits += self.num_rows
            gradient = self._full_gradient(state.parameters)
            state.steps += 1
            self.near._take_step(state, rule, gradient, self.num_rows)
        elif len(order):
            for engine, rows in self._visits(order, batch_size):
                engine.run(state, rule, rows, batch_size)

    def mean_loss(
        self, parameters: FloatArray, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        """Mean loss + penalty over the sample, or the first ``num_rows`` of it."""
        return self.near.mean_loss(parameters, num_rows)

    def gap_bound(self, parameters: FloatArray) -> float | None:
        return None

    def warm_up(self, rules: Sequence[tuple[Rule, int]], state: State) -> None:
        self.near.warm_up(rules, state)

    def close(self) -> None:
        """Ends an epoch that is not walked to its end, so that nobody reads any more."""
        if self._walk is not None:
            self._walk.windows.close()
            self._walk = None

    def _visits(self, order: Stretch, batch_size: int) -> Iterator[tuple[LinearEngine, IntArray]]:
        walk = self._at(order, batch_size)
        while walk.place < order.stop:
            if walk.left is None or not len(walk.left):
                self._next_window(walk)
            assert walk.engine is not None
            assert walk.left is not None
            count = min(len(walk.left), order.stop - walk.place)
            rows, walk.left = walk.left[:count], walk.left[count:]
            walk.place += count
            yield walk.engine, rows
        if walk.place == self.rows.heaviness.num_visits:
            self.close()

    def _at(self, order: Stretch, batch_size: int) -> _Walk:
        """The walk of this epoch, come to where the stretch begins."""
        walk, epoch = self._walk, (order.epoch, order.seed, order.in_order)
        if walk is not None and (walk.epoch, walk.place, walk.batch_size) == (epoch, order.start, batch_size):
            return walk
        self.close()
        parts = windows(self.rows, order.epoch, batch_size, self.threads, order.in_order, order.seed)
        walk = self._walk = _Walk(epoch, batch_size, ahead(parts, most=1))
        while walk.place < order.start:  # a run that is taken up again in the midst of an epoch
            window = self._taken(walk)
            passed = min(len(window.order), order.start - walk.place)
            walk.place += passed
            self._enter(walk, window, passed)
        return walk

    def _next_window(self, walk: _Walk) -> None:
        self._enter(walk, self._taken(walk), 0)

    def _taken(self, walk: _Walk) -> Window:
        window = next(walk.windows, None)
        if window is None:
            raise self.rows.changed()
        return window

    def _enter(self, walk: _Walk, window: Window, passed: int) -> None:
        walk.engine = make_engine(
            window.data, self.loss, self.penalty, weights=window.visit_weights, **self.options
        )
        walk.left = window.order[passed:]

    def _full_gradient(self, parameters: FloatArray) -> FloatArray:
        """The sum over all rows, read once from the first to the last."""
        self.close()
        total = np.zeros(parameters.shape, dtype=np.float64)
        for piece in self.rows.pieces(self.threads):
            total += make_engine(piece, self.loss, self.penalty)._full_gradient(parameters)
        return total
