"""The engine's contract for a PyTorch module: its parameters as one vector, its steps the caller's own optimizer's.

So a module is trained by the loop, the watch, the ladder and the controller that networks of a table are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from descend.engines.base import Rule, State, Sums
from descend.torch.criterion import Criterion
from descend.torch.evaluating import evaluate
from descend.torch.examine import Examiner
from descend.torch.modes import modes_kept
from descend.torch.module_data import ModuleData, PlacedRows, fill, vector_of
from descend.torch.nested import count_rows, moved_to
from descend.torch.optimizers import with_rates
from descend.torch.steps import NotFiniteError, Pieces, Place, make_step, parts
from descend.types import FloatArray, IntArray
from descend.updates import SGD
from descend.updates.schedules import rate_at

AT_ONCE = 4096
"""Rows that go through the module together; larger batches go in parts, whose gradients add up."""


class ModuleEngine:
    """Objective and update of ``data``'s module over ``rows``: the mean loss, dropout off; steps with dropout on.

    ``average_every``: so many steps from one set of parameters that is averaged to the next; 0: none is.
    ``plain``: steps of SGD with nothing besides, in the place of the caller's optimizer.
    """

    cut_rows = 0

    def __init__(
        self,
        data: ModuleData,
        rows: PlacedRows,
        average_every: int = 0,
        clip: float | None = None,
        plain: bool = False,
    ) -> None:
        self.data, self.rows, self.num_rows = data, rows, rows.num_rows
        self.average_every, self.clip, self.plain = average_every, clip, plain
        self.device = None if data.device.type == "cpu" else data.device
        self._ended: FloatArray | None = None
        self._by_plain: bool | None = None

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        """Sums over the rows, dropout off."""
        fill(self.data.parameters, parameters)
        batch = self._moved(self.rows.fetch(rows))
        count = count_rows(batch[1])
        criterion: Criterion = self.data.criterion
        for p in self.data.parameters:
            p.grad = None
        total = 0.0
        with modes_kept(self.data.module), torch.enable_grad():
            self.data.module.eval()
            if criterion.adds_up:
                weights = batch[2] if len(batch) == 3 else None
                divisor = criterion.divisor_of_batch(batch[1], weights)
                for part in parts(batch, AT_ONCE):
                    w = part[2] if len(part) == 3 else None
                    total += self._back(criterion.part(self.data.call(part[0]), part[1], w, divisor))
            else:
                total = self._back(criterion(self.data.call(batch[0]), *batch[1:]))
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.data.parameters]
        return Sums(total * count, vector_of(flat) * count, float(count))

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        """Walks ``order`` in batches; where the loss is no number, ``state`` has no numbers either."""
        if order is not None and not len(order):
            return
        self._take_up(state, rule)
        state.visits += self.num_rows if order is None else len(order)
        try:
            for batch in self._batches(order, batch_size):
                state.steps += 1
                self._set_rate(rate_at(rule.schedule, rule.rate_in(state), state.steps, rule.num_steps))
                self._step(batch)
                if self.average_every and order is not None and state.steps % self.average_every == 0:
                    state.num_averaged += 1
                    state.average += (vector_of(self.data.parameters) - state.average) / state.num_averaged
            state.parameters[:] = vector_of(self.data.parameters)
        except NotFiniteError:
            state.parameters[:] = np.nan
        self._ended = state.parameters.copy()

    def mean_loss(
        self, parameters: FloatArray, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        """The mean loss over the first ``num_rows`` rows (all by default), dropout off."""
        few = None if num_rows is None or num_rows >= self.num_rows else num_rows
        fill(self.data.parameters, parameters)
        batches = self.rows.batches(min(AT_ONCE, few or self.num_rows), few, self.device)
        return evaluate(self.data.module, self.data.call, self.data.criterion, batches)

    def _take_up(self, state: State, rule: Rule) -> None:
        """The module where ``state`` is. An optimizer goes on where it was: it is fresh where somebody moved them."""
        plain = self.plain or rule.optimizer.code == SGD
        moved = self._ended is None or not np.array_equal(self._ended, state.parameters)
        fill(self.data.parameters, state.parameters)
        if not moved and plain == self._by_plain:
            return
        self._by_plain = plain
        optimizer, self._set_rate = with_rates(lambda rate: self.data.make(rate, plain))
        self._step = make_step(
            Pieces(
                self.data.call,
                self.data.criterion,
                optimizer,
                self.data.parameters,
                Place(),
                Examiner(self.data.criterion, self.rows.rows),
                clip=self.clip,
                device=self.data.device,
                microbatch=AT_ONCE if self.num_rows > AT_ONCE else None,
            )
        )

    def _batches(self, order: IntArray | None, batch_size: int) -> Iterator[tuple[Any, ...]]:
        if order is None:
            yield self._moved(self.rows.whole())
            return
        for start in range(0, len(order), batch_size):
            yield self._moved(self.rows.fetch(order[start : start + batch_size]))

    def _moved(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.device is None:
            return batch
        return tuple(moved_to(part, self.device) for part in batch)

    def _back(self, value: torch.Tensor) -> float:
        value.backward()
        return float(value.item())
