"""The compiled engine for linear models over dense rows: its two doors, and the steps of batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from descend.batches import row_number
from descend.engines import many_outputs, many_saga, row_sums, saga_kernels, step_kernels
from descend.engines.base import Rule, State, Sums
from descend.engines.full_batch import ALL_ONE
from descend.engines.gaps import Certified
from descend.engines.linear_arguments import Method, Objective, Pace, Piece, SagaPace
from descend.engines.many_outputs import FEWEST
from descend.engines.rehearsal import Rehearsal, rehearse
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import LBFGS, NEWTON, SAGA, SGD
from descend.updates.schedules import rate_at

_warm: set[Hashable] = set()
"""What has been compiled or loaded in this process."""


class LinearEngine(Certified):
    """Walks the rows of ``data`` in compiled loops; its arguments are those of ``FullBatch``."""

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        part = Dataset(self.data.X[rows], self.data.y[rows])
        weights = self.weights[rows] if self.weights.size else ALL_ONE
        gradient = np.zeros(parameters.shape, dtype=part.X.dtype)
        n = part.num_rows
        data = part.X, part.y, weights
        row_sums.add_gradient(data, 0, n, parameters, self.loss, gradient)
        loss, weight = row_sums.add_losses(data, 0, n, parameters, self.loss, 0.0)
        return Sums(loss, gradient, weight)

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        state.visits += self.num_rows if order is None else len(order)
        if rule.optimizer.code in (LBFGS, NEWTON):
            with self._counted(state):
                self._curved_step(state, rule)
            return
        if order is None:
            self._full_batch_step(state, rule)
            return
        # Of another type, kernels would be compiled anew.
        order = order.astype(row_number(self.num_rows), copy=False)
        if rule.optimizer.code == SAGA:
            self._saga_steps(state, rule, order, batch_size)
        elif batch_size == 1 and self._looks_ahead(state, rule):
            self._steps_of_one(state, rule, order)
        else:
            self._steps(state, rule, order, batch_size)

    def _looks_ahead(self, state: State, rule: Rule) -> bool:
        """Whether a step of one row is a sum, so that a score can be told before the step that comes ahead of it."""
        plain = rule.optimizer.code == SGD and not rule.clip and not self.penalty.l1
        return plain and len(state.parameters) == 1

    def _steps_of_one(self, state: State, rule: Rule, order: IntArray) -> None:
        state.steps, state.num_averaged = step_kernels.run_sgd_of_one(
            (self.data.X, self.data.y, self.visit_weights),
            order,
            state.parameters,
            (state.average, state.num_averaged, self.average_every),
            self._objective_under(rule),
            pace_of(rule, state),
        )

    def _steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        many = batch_size > 1 and len(state.parameters) >= FEWEST
        kernel = many_outputs.run_steps_of_many if many else step_kernels.run_steps
        self._steps_by(kernel, state, rule, order, batch_size)

    def _steps_by(
        self,
        kernel: Callable[..., tuple[int, int]],
        state: State,
        rule: Rule,
        order: IntArray,
        batch_size: int,
    ) -> None:
        """Steps of any optimizer that has no table of rows, by the kernel that goes with the rows."""
        state.steps, state.num_averaged = kernel(
            (*self.rows, self.data.y, self.visit_weights),
            order,
            batch_size,
            (state.parameters, state.first, state.second),
            (state.average, state.num_averaged, self.average_every),
            self._objective_under(rule),
            method_of(rule),
            pace_of(rule, state),
        )

    def _objective_under(self, rule: Rule) -> Objective:
        """What is minimised, as kernels take it."""
        loss, penalty = self.loss, self.penalty
        return loss.code, loss.kernel_shape, penalty.alpha, penalty.l1, rule.fit_intercept

    def _saga_steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        self._start_saga(state)
        if batch_size > 1 or self.inverse.size:
            sums = np.zeros_like(state.parameters), np.zeros_like(state.parameters)
            self._saga_piece(state, rule, order, batch_size, (0, True, 0.0, *sums))
            return
        assert state.table is not None
        assert state.mean_gradient is not None
        state.steps, state.share = saga_kernels.run_saga_of_one(
            (self.data.X, self.data.y, self.weights),
            (order, self.only_visits),
            state.parameters,
            (state.table, state.mean_gradient, self.all_rows),
            self._objective_under(rule),
            saga_pace_of(rule, state),
        )

    def _saga_piece(self, state: State, rule: Rule, order: IntArray, batch_size: int, piece: Piece) -> None:
        """SAGA's steps, or a piece of one."""
        assert state.table is not None
        assert state.mean_gradient is not None
        many = len(state.parameters) >= FEWEST
        kernel = many_saga.run_saga_of_many if many else saga_kernels.run_saga
        state.steps, state.share = kernel(
            (self.data.X, self.data.y, self.weights),
            (order, self.only_visits),
            batch_size,
            state.parameters,
            (state.table, state.mean_gradient, self.all_rows),
            self._objective_under(rule),
            saga_pace_of(rule, state),
            self.inverse,
            piece,
        )

    def _start_saga(self, state: State) -> None:
        if state.table is None or state.mean_gradient is None:
            state.table = np.zeros((self.num_rows, len(state.parameters)), dtype=self.data.X.dtype)
            state.mean_gradient = np.zeros(state.parameters.shape)

    def _full_batch_step(self, state: State, rule: Rule) -> None:
        """One step from every row, read where they lie: no order, no copy of the data."""
        gradient = self._full_gradient(state.parameters)
        state.steps += 1
        self._take_step(state, rule, gradient, self.num_rows)

    def _take_step(self, state: State, rule: Rule, gradient: FloatArray, num_rows: int) -> None:
        """A step from the sum, float64, of the gradients of so many rows; ``state.steps`` counts it already."""
        rate = rate_at(rule.schedule, rule.rate_in(state), state.steps, rule.num_steps)
        rows = 1 if rule.sum_rows else num_rows
        alpha, l1 = self.penalty.alpha * num_rows / rows, self.penalty.l1 * num_rows / rows
        step_kernels.take_full_step(
            (state.parameters, state.first, state.second),
            gradient,
            method_of(rule),
            (state.steps, rate, 1.0 / rows, alpha, l1),
            rule.fit_intercept,
        )

    def warm_up(self, rules: Sequence[tuple[Rule, int]], state: State) -> None:
        """Compiles what ``rules`` at their batch sizes (0: full) need, on two rows, so that no clock counts it.

        What a run before it needed is there already: it took a third of a millisecond to find that out.
        """
        needed = self._kernels_of(rules, state)
        if needed in _warm:
            return
        few = type(self)(
            self.data.first(2),
            self.loss,
            self.penalty,
            average_every=self.average_every,
            preconditioner=self.preconditioner,
            precondition_steps=self.inverse.size > 0,
            fit_intercept=self.fit_intercept,
        )
        rehearse(Rehearsal(few, rules, state.parameters))
        _warm.add(needed)

    def _kernels_of(self, rules: Sequence[tuple[Rule, int]], state: State) -> Hashable:
        """What decides on the kernels, and the types they are compiled for."""
        steps = tuple(
            (rule.optimizer.code, min(batch_size, 2), rule.clip > 0.0, rule.width > 0.0)
            for rule, batch_size in rules
        )
        arrays = tuple(
            (array.dtype, array.flags.c_contiguous, array.flags.writeable)
            for array in (*(getattr(rows, "values", rows) for rows in self.rows), self.data.y)
            if hasattr(array, "flags")
        )
        kind = (
            type(self),
            self.loss.code,
            type(self.loss.kernel_shape),
            self.penalty.l1 > 0.0,
            self.fit_intercept,
        )
        sizes = (
            len(state.parameters) > 1,
            len(state.parameters) >= FEWEST,
            self.inverse.size > 0,
            self.preconditioner is None,
            self.average_every > 0,
        )
        return (*kind, *sizes, steps, arrays)


def method_of(rule: Rule) -> Method:
    """How gradients become steps, as kernels take it."""
    return rule.optimizer.code, np.array([rule.beta1, rule.beta2, rule.clip]), rule.sum_rows


def saga_pace_of(rule: Rule, state: State) -> SagaPace:
    """SAGA's rates, as kernels take them."""
    full_term, single_term = rule.full_term / state.pace, rule.single_term / state.pace
    return rule.filling, state.share, state.steps, rule.num_steps, full_term, single_term


def pace_of(rule: Rule, state: State) -> Pace:
    """The rates of the steps to come, as kernels take them."""
    return rule.schedule, rule.rate_in(state), state.steps, rule.num_steps
