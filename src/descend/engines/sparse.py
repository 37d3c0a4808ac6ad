"""The compiled engine for linear models over sparse rows: same contract, same results as the dense one."""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines import sparse_kernels as kernels
from descend.engines.base import Rule, State, Sums
from descend.engines.linear import CHUNKS, NO_ORDER, SMALLEST_CHUNK, LinearEngine
from descend.engines.newton import is_small, newton_direction
from descend.engines.sparse_saga import run_sparse_saga
from descend.errors import InputError
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import SGD

NO_SUMS = np.empty((0, 1), dtype=np.float64)


class SparseEngine(LinearEngine):
    """``LinearEngine`` where ``data.X`` is a CSR array. Nothing is made dense but arrays of k · (d + 1)."""

    def __init__(self, data: Dataset, *args: Any, **options: Any) -> None:
        super().__init__(data, *args, **options)
        X: Any = data.X
        self.rows = (X.data, X.indices, X.indptr)
        self.diagonal: FloatArray | None = None
        # A chunk has a gradient of its own, as wide as the data: rows enough that it is worth it.
        fewest = -(-4 * data.num_columns * data.num_rows // max(1, X.nnz))
        size = max(SMALLEST_CHUNK, -(-data.num_rows // CHUNKS), fewest)
        self._cut(size)

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        if isinstance(rows, slice):
            rows = np.arange(self.num_rows)[rows]
        order = np.asarray(rows, dtype=np.int64)
        if not len(order):
            return Sums(0.0, np.zeros_like(parameters), 0.0)
        loss, weight, gradient = self._sums(parameters, order, slice(0, len(order)), True, True)
        return Sums(loss, gradient, weight)

    def _sums(
        self,
        parameters: FloatArray,
        order: IntArray,
        part: slice,
        with_loss: bool,
        with_gradient: bool,
        rounded: bool = False,
    ) -> tuple[float, float, FloatArray]:
        """Sums of losses and weights, and the gradient (k, d + 1), of a part of the rows."""
        loss_used = self.smooth if rounded else self.loss
        V = _by_column(parameters)
        gradient = np.zeros(V.shape if with_gradient else (0, 1), dtype=V.dtype)
        loss, weight = kernels.add_sums(
            *self.rows,
            self.data.y,
            self.weights,
            order,
            part.start,
            part.stop,
            V,
            loss_used.code,
            loss_used.shape,
            with_loss,
            gradient,
        )
        return loss, weight, gradient.T

    def _objective_of(self, chunk: slice, parameters: FloatArray) -> tuple[float, FloatArray]:
        loss, _, gradient = self._sums(parameters, NO_ORDER, chunk, True, True, rounded=True)
        return loss, gradient

    def _gradient_of(self, chunk: slice, parameters: FloatArray) -> FloatArray:
        return self._sums(parameters, NO_ORDER, chunk, False, True)[2]

    def _losses_of(self, rows: slice, parameters: FloatArray) -> tuple[float, float]:
        loss, weight, _ = self._sums(parameters, NO_ORDER, rows, True, False)
        return loss, weight

    def _steps_of_one(self, state: State, rule: Rule, order: IntArray) -> None:
        if self.penalty.l1:  # every weight moves towards zero, whatever the row holds
            self._dense_steps(state, rule, order, 1)
            return
        V = _by_column(state.parameters)
        sums = self._no_sums(V)
        state.steps, more = kernels.run_sgd_of_one(
            *self.rows,
            self.data.y,
            self.visit_weights,
            order,
            V,
            sums,
            self.average_every,
            state.steps,
            self.loss.code,
            self.loss.shape,
            self.penalty.alpha,
            rule.schedule,
            rule.rate * state.pace,
            rule.num_steps,
            rule.fit_intercept,
        )
        self._leave(state, V, sums, more)

    def _no_sums(self, V: FloatArray) -> FloatArray:
        return np.zeros(V.shape) if self.average_every else NO_SUMS

    def _leave(self, state: State, V: FloatArray, sums: FloatArray, more: int) -> None:
        """What the kernel leaves, as the state has it: ``sums`` is that of ``more`` parameters averaged."""
        state.parameters[:] = V.T
        if more:
            state.num_averaged += more
            state.average += (sums.T - more * state.average) / state.num_averaged

    def _steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        if rule.optimizer.code != SGD or rule.clip or self.penalty.l1:
            self._dense_steps(state, rule, order, batch_size)
            return
        V = _by_column(state.parameters)
        sums = self._no_sums(V)
        run = kernels.run_sgd_of_one_output if len(state.parameters) == 1 else kernels.run_sgd
        state.steps, more = run(
            *self.rows,
            self.data.y,
            self.visit_weights,
            order,
            batch_size,
            V,
            sums,
            self.average_every,
            state.steps,
            self.loss.code,
            self.loss.shape,
            self.penalty.alpha,
            rule.schedule,
            rule.rate * state.pace,
            rule.num_steps,
            rule.sum_rows,
            rule.fit_intercept,
        )
        self._leave(state, V, sums, more)

    def _dense_steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        state.steps, state.num_averaged = kernels.run_dense_steps(
            *self.rows,
            self.data.y,
            self.visit_weights,
            order,
            batch_size,
            state.parameters,
            state.first,
            state.second,
            state.average,
            state.num_averaged,
            self.average_every,
            state.steps,
            self.loss.code,
            self.loss.shape,
            self.penalty.alpha,
            self.penalty.l1,
            rule.optimizer.code,
            rule.schedule,
            rule.rate * state.pace,
            rule.num_steps,
            np.array([rule.beta1, rule.beta2, rule.clip]),
            rule.sum_rows,
            rule.fit_intercept,
        )

    def _saga_steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        if state.table is None or state.mean_gradient is None:
            state.table = np.zeros((self.num_rows, len(state.parameters)), dtype=self.data.X.dtype)
            state.mean_gradient = np.zeros(state.parameters.shape)
        V, mean_gradient = _by_column(state.parameters), _by_column(state.mean_gradient)
        state.steps, state.share = run_sparse_saga(
            *self.rows,
            self.data.y,
            self.weights,
            self.only_visits,
            order,
            batch_size,
            V,
            state.table,
            mean_gradient,
            rule.filling,
            state.share,
            state.steps,
            rule.num_steps,
            self.loss.code,
            self.loss.shape,
            self.penalty.alpha,
            rule.full_term,
            rule.single_term,
            rule.fit_intercept,
        )
        state.parameters[:], state.mean_gradient[:] = V.T, mean_gradient.T

    def _newton_direction(self, memory: Any, gradient: FloatArray) -> FloatArray:
        if not is_small(self.num_rows, self.data.num_columns, len(gradient)):
            raise InputError(
                f"optimizer 'newton' solves for {gradient.size:,} parameters at once, which is too much for "
                f"sparse rows of {self.data.num_columns:,} columns; take 'lbfgs'"
            )
        X: Any = self.data.X
        dense = Dataset(X.toarray(), self.data.y, self.data.weights)
        return newton_direction(
            dense,
            self.smooth,
            self.penalty.alpha,
            memory.point,
            gradient,
            self.fit_intercept,
            memory.cautious,
        )

    def _first(self, gradient: FloatArray) -> FloatArray:
        """Where the columns are too many for a matrix: the inverse of the bound's diagonal."""
        if self.preconditioner is not None:
            return super()._first(gradient)
        if self.diagonal is None:
            self.diagonal = self._inverse_diagonal()
        return gradient * self.diagonal

    def _inverse_diagonal(self) -> FloatArray:
        """1 / (curvature · mean(weight · x²) + alpha) of every column, and of the intercept; (d + 1,)."""
        values, indices, indptr = self.rows
        squares = np.square(values.astype(np.float64))
        total = float(self.num_rows)
        if self.weights.size:
            squares *= np.repeat(self.weights, np.diff(indptr))
            total = float(self.weights.sum())
        bends = np.append(np.bincount(indices, squares, minlength=self.data.num_columns), total)
        bends *= self.loss.curvature / self.num_rows
        bends[:-1] += self.penalty.alpha
        return np.asarray(1.0 / np.maximum(bends, 1e-6 * bends.max()))


def _by_column(parameters: FloatArray) -> FloatArray:
    """(d + 1, k), contiguous; one output is a view, more are a copy."""
    return np.ascontiguousarray(parameters.T)
