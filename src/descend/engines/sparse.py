"""The compiled engine for linear models over sparse rows: same contract, same results as the dense one."""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.batches import NO_ORDER, row_number
from descend.engines import sparse_kernels, sparse_steps
from descend.engines.base import Rule, State, Sums
from descend.engines.full_batch import CHUNKS, SMALLEST_CHUNK
from descend.engines.inner import in_order_of_columns
from descend.engines.linear import LinearEngine, pace_of, saga_pace_of
from descend.engines.newton import is_small, newton_direction
from descend.engines.sparse_curvature import goes_by_numbers, inverse_above, sampled_hessian
from descend.engines.sparse_dense_steps import run_dense_steps
from descend.engines.sparse_proximal import run_proximal_sgd
from descend.engines.sparse_saga import run_sparse_saga
from descend.errors import InputError
from descend.objectives.losses import LOG_LOSS
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import SGD

PIECE = 2**23
"""Stored numbers that are read between two cuts of an epoch, some hundredths of a second."""
WRITTEN_SHARE = 16
"""But no fewer than so many times those that are written out then."""
NO_SUMS = np.empty((0, 1), dtype=np.float64)


class SparseEngine(LinearEngine):
    """``LinearEngine`` where ``data.X`` is a CSR array. Nothing is made dense but arrays of k · (d + 1)."""

    rows: tuple[Any, Any, Any]

    def __init__(self, data: Dataset, *args: Any, **options: Any) -> None:
        super().__init__(data, *args, **options)
        X: Any = data.X
        self.rows = self._kernel_rows()
        self.numbers_of_row = X.size / max(1, data.num_rows)
        self.diagonal: FloatArray | None = None
        # A chunk has a gradient of its own, as wide as the data: rows enough that it is worth it.
        fewest = -(-4 * data.num_columns * data.num_rows // max(1, X.nnz))
        size = max(SMALLEST_CHUNK, -(-data.num_rows // CHUNKS), fewest)
        self._cut(size)
        self.cut_rows = self._rows_between_cuts()

    def _kernel_rows(self) -> Any:
        """What kernels take for the rows."""
        return sparse_kernels.kernel_rows(self.data.X)

    def _rows_between_cuts(self) -> int:
        """Weights are written out at the end of a call, with their rounding: seldom enough that it costs little."""
        numbers = max(PIECE, WRITTEN_SHARE * self._num_outputs() * self.data.num_columns)
        return max(1, int(numbers * self.data.num_rows / max(1, self.data.X.size)))

    def _num_outputs(self) -> int:
        """Outputs at the most: of two classes there is one, and they are counted as two."""
        classes = self.loss.task == "classification"
        return int(self.data.y.max()) + 1 if classes else int(self.data.y.shape[1])

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        if isinstance(rows, slice):
            rows = np.arange(self.num_rows)[rows]
        order = np.asarray(rows, dtype=row_number(self.num_rows))
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
        V = np.ascontiguousarray(parameters.T)
        gradient = np.zeros(V.shape if with_gradient else (0, 1), dtype=V.dtype)
        loss, weight = self._add_sums(self.weights, order, part, V, with_loss, gradient, rounded)
        return loss, weight, gradient.T

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
        """Adds to ``gradient`` (d + 1, k), or to none of size 0; sums of losses and weights."""
        loss_used = self.smooth if rounded else self.loss
        loss, weight = sparse_kernels.add_sums(
            (*self.rows, self.data.y, weights),
            order,
            part.start,
            part.stop,
            V,
            loss_used.code,
            loss_used.kernel_shape,
            with_loss,
            gradient,
        )
        return loss, weight

    def _objective_of(self, chunk: slice, parameters: FloatArray) -> tuple[float, FloatArray]:
        loss, _, gradient = self._sums(parameters, NO_ORDER, chunk, True, True, rounded=True)
        return loss, gradient

    def _gradient_of(self, chunk: slice, parameters: FloatArray) -> FloatArray:
        return self._sums(parameters, NO_ORDER, chunk, False, True)[2]

    def _losses_of(self, rows: slice, parameters: FloatArray) -> tuple[float, float]:
        loss, weight, _ = self._sums(parameters, NO_ORDER, rows, True, False)
        return loss, weight

    def _steps_of_one(self, state: State, rule: Rule, order: IntArray) -> None:
        if self.penalty.l1:
            self._steps(state, rule, order, 1)
            return
        sums = self._sums_to_average(state)
        state.steps, more = sparse_steps.run_sgd_of_one(
            (*self.rows, self.data.y, self.visit_weights),
            order,
            _by_column(state, "parameters"),
            (sums, self.average_every, self._is_narrow(1)),
            self._objective_under(rule),
            pace_of(rule, state),
        )
        _average_again(state, sums, more)

    def _is_narrow(self, batch_size: int) -> bool:
        """Whether the rows between two averages hold more numbers than the data has columns."""
        numbers = self.numbers_of_row * batch_size * self.average_every
        return bool(numbers > self.data.num_columns)

    def _sums_to_average(self, state: State) -> FloatArray:
        """The sum of the parameters averaged so far, (d + 1, k), in the place of their average; empty without one."""
        if not self.average_every:
            return NO_SUMS
        sums = _by_column(state, "average")
        sums *= state.num_averaged
        return sums

    def _steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        if rule.optimizer.code != SGD or rule.clip:
            self._steps_by(run_dense_steps, state, rule, order, batch_size)
            return
        run = sparse_steps.run_sgd
        if self.penalty.l1:
            run = run_proximal_sgd
        elif len(state.parameters) == 1:
            run = sparse_steps.run_sgd_of_one_output
        sums = self._sums_to_average(state)
        state.steps, more = run(
            (*self.rows, self.data.y, self.visit_weights),
            order,
            batch_size,
            _by_column(state, "parameters"),
            (sums, self.average_every, self._is_narrow(batch_size)),
            self._objective_under(rule),
            pace_of(rule, state),
            rule.sum_rows,
        )
        _average_again(state, sums, more)

    def _saga_steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        self._start_saga(state)
        assert state.table is not None
        V, mean_gradient = _by_column(state, "parameters"), _by_column(state, "mean_gradient")
        state.steps, state.share = run_sparse_saga(
            (*self.rows, self.data.y, self.weights),
            (order, self.only_visits),
            batch_size,
            V,
            (state.table, mean_gradient, self.all_rows),
            self._objective_under(rule),
            saga_pace_of(rule, state),
        )

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
        return np.asarray(gradient * self.diagonal.astype(gradient.dtype, copy=False))

    def _look_by_class(self, at: FloatArray) -> None:
        """With two classes the inverse is that of all that a sample knows, where the bound's matrix is at hand."""
        super()._look_by_class(at)
        bound = self.preconditioner
        if bound is None or self.loss.code != LOG_LOSS or self.penalty.l1 or len(at) > 1:
            return
        if goes_by_numbers(self.data.X):
            H = sampled_hessian(
                self.data, self.loss, self.penalty.alpha, at, self.sample(), self.fit_intercept
            )
            self.by_class = inverse_above(H, bound)

    def _inverse_diagonal(self) -> FloatArray:
        """1 / (curvature · mean(weight · x²) + alpha) of every column, and of the intercept; (d + 1,)."""
        total = float(self.weights.sum()) if self.weights.size else float(self.num_rows)
        bends = np.append(self._column_squares(), total)
        bends *= self.loss.curvature / self.num_rows
        bends[:-1] += self.penalty.alpha
        return np.asarray(1.0 / np.maximum(bends, 1e-6 * bends.max()))

    def _column_squares(self) -> FloatArray:
        """Σ weight · x² of every column (d,), float64."""
        found = np.zeros(self.data.num_columns)
        for rows, X in self._pieces(slice(0, self.num_rows)):
            squares = np.square(X.data.astype(np.float64))
            if self.weights.size:
                squares *= np.repeat(self.weights[rows], np.diff(X.indptr))
            found += np.bincount(X.indices, squares, minlength=self.data.num_columns)
        return found


def _by_column(state: State, name: str) -> FloatArray:
    """An array (k, d + 1) of the state as (d + 1, k), contiguous. From then on the state keeps it in this order."""
    kept = in_order_of_columns(getattr(state, name))
    setattr(state, name, kept)
    return kept.T


def _average_again(state: State, sums: FloatArray, more: int) -> None:
    """Makes an average of ``sums``, in place; ``more`` parameters were added to it."""
    state.num_averaged += more
    sums /= max(1, state.num_averaged)
