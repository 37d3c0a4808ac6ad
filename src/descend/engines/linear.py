"""The compiled engine for linear models: dense rows, any number of outputs, threads for the full batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from descend.batches import order
from descend.engines import row_kernels, saga_kernels, step_kernels
from descend.engines.base import Rule, State, Sums
from descend.engines.certificate import Estimate, estimate_gap
from descend.engines.closing import Closing, close
from descend.engines.gap_bound import Place, settle
from descend.engines.lbfgs import Known, Memory, aim, lbfgs_step
from descend.engines.newton import newton_direction
from descend.engines.preconditioner import Preconditioner
from descend.objectives.losses import SQUARED_ERROR, Loss, losses_and_derivatives
from descend.objectives.penalties import Penalty
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import LBFGS, NEWTON, SAGA, SGD
from descend.updates.schedules import rate_at

T = TypeVar("T")

NO_ORDER = np.empty(0, dtype=np.int64)
ALL_ONE = np.empty(0, dtype=np.float64)
CHUNKS = 64
LANDED = 0.1
ROUNDING = 1e-14
TOO_MUCH = 2.0
"""A full-batch method's estimate is cut short above this many times what is asked for."""
FAR_OFF = 0.15
"""How far the decrement has to fall before it is asked for again."""
DOUBT = 0.5
"""After a certificate that was not believed the next one waits until half is left to gain."""
CAREFUL = 0.2
"""Newton's step on rounded corners, when no more than this share of it led down, is followed by a safe one."""
SMALLEST_CHUNK = 4096
MOST_NUMBERS = 2**18
"""With more parameters, which then do not lie near the processor, BLAS is used instead of loops over rows."""
SMALLEST_SHARED = 500_000  # numbers; handing out less to threads takes longer than reading it


class LinearEngine:
    """Walks the rows of ``data`` in compiled loops.

    ``weights`` (n,) multiply each row's gradient in ``run`` on top of ``data.weights``, ``average_every`` > 0
    averages the parameters of every so many steps into ``State.average``. Results do not depend on ``threads``:
    the rows are cut into chunks by their number alone, and the chunks are added up in order.
    """

    def __init__(
        self,
        data: Dataset,
        loss: Loss,
        penalty: Penalty,
        weights: FloatArray | None = None,
        average_every: int = 0,
        threads: int = 1,
        preconditioner: Preconditioner | None = None,
        precondition_steps: bool = False,
        mean_curvature: float = 1.0,
        fit_intercept: bool = True,
    ) -> None:
        self.data, self.loss, self.penalty = data, loss, penalty
        self.smooth = loss
        """The loss as ``objective`` has it: corners rounded over the width that the rule asks for."""
        self.in_float64 = False
        """Whether ``objective`` computes so on float32 rows too: what lies in a narrow corner is lost in float32."""
        self.num_rows = data.num_rows
        self.only_visits = ALL_ONE if weights is None else weights
        self.preconditioner, self.mean_curvature = preconditioner, mean_curvature
        self.fit_intercept = fit_intercept
        self.inverse = np.empty((0, 0), dtype=data.X.dtype)
        if preconditioner is not None and precondition_steps:
            self.inverse = preconditioner.inverse.astype(data.X.dtype)
        self.average_every = average_every
        self.weights = ALL_ONE if data.weights is None else data.weights
        self.visit_weights = self.weights if weights is None else _product(self.weights, weights)
        self.threads = threads
        self._cut(max(SMALLEST_CHUNK, -(-data.num_rows // CHUNKS)))

    def _cut(self, chunk: int) -> None:
        """Cuts the rows into chunks of so many, and opens threads where that pays."""
        n = self.num_rows
        self.chunks = [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]
        worthwhile = len(self.chunks) > 1 and self.data.X.size >= SMALLEST_SHARED
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 and worthwhile else None

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        part = Dataset(self.data.X[rows], self.data.y[rows])
        weights = self.weights[rows] if self.weights.size else ALL_ONE
        gradient = np.zeros(parameters.shape, dtype=part.X.dtype)
        room = row_kernels.room_for(part.X, len(parameters))
        n = part.num_rows
        row_kernels.add_gradient(
            part.X,
            part.y,
            weights,
            NO_ORDER,
            0,
            n,
            parameters,
            room,
            self.loss.code,
            self.loss.kernel_shape,
            gradient,
        )
        loss, weight = row_kernels.add_losses(
            part.X, part.y, weights, 0, n, parameters, room, self.loss.code, self.loss.kernel_shape
        )
        return Sums(loss, gradient, weight)

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        state.visits += self.num_rows if order is None else len(order)
        if rule.optimizer.code in (LBFGS, NEWTON):
            self._curved_step(state, rule)
        elif order is None:
            self._full_batch_step(state, rule)
        elif rule.optimizer.code == SAGA:
            self._saga_steps(state, rule, order, batch_size)
        elif batch_size == 1 and rule.optimizer.code == SGD and not rule.clip and len(state.parameters) == 1:
            self._steps_of_one(state, rule, order)
        else:
            self._steps(state, rule, order, batch_size)

    def _steps_of_one(self, state: State, rule: Rule, order: IntArray) -> None:
        state.steps, state.num_averaged = step_kernels.run_sgd_of_one(
            self.data.X,
            self.data.y,
            self.visit_weights,
            order,
            state.parameters,
            state.average,
            state.num_averaged,
            self.average_every,
            state.steps,
            self.loss.code,
            self.loss.kernel_shape,
            self.penalty.alpha,
            self.penalty.l1,
            rule.schedule,
            rule.rate * state.pace,
            rule.num_steps,
            rule.fit_intercept,
        )

    def _steps(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        state.steps, state.num_averaged = step_kernels.run_steps(
            self.data.X,
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
            self.loss.kernel_shape,
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
        kernel: Any = saga_kernels.run_saga_of_one
        size: tuple[int, ...] = ()
        matrix: tuple[FloatArray, ...] = ()
        if batch_size > 1 or self.inverse.size:
            kernel, size, matrix = saga_kernels.run_saga, (batch_size,), (self.inverse,)
        state.steps, state.share = kernel(
            self.data.X,
            self.data.y,
            self.weights,
            self.only_visits,
            order,
            *size,
            state.parameters,
            state.table,
            state.mean_gradient,
            rule.filling,
            state.share,
            state.steps,
            rule.num_steps,
            self.loss.code,
            self.loss.kernel_shape,
            self.penalty.alpha,
            self.penalty.l1,
            rule.full_term,
            rule.single_term,
            *matrix,
            rule.fit_intercept,
        )

    def _curved_step(self, state: State, rule: Rule) -> None:
        """A step of L-BFGS, or of Newton, which is L-BFGS with no memory and the whole inverse to start from."""
        if rule.width != self.smooth.shape[1]:
            self.smooth = self.loss.rounded(rule.width)
            self.in_float64 = rule.optimizer.code == NEWTON and not self.data.is_sparse
            state.memory = Memory()
        memory = state.memory
        first = self._first
        if rule.optimizer.code == NEWTON:
            if memory.point is None:
                memory.moves, memory.changes = deque(maxlen=0), deque(maxlen=0)
            first = partial(self._newton_direction, memory)
        was_cautious = memory.cautious
        evaluations = lbfgs_step(self.objective, state.parameters, memory, first)
        if rule.width and rule.optimizer.code == NEWTON:
            # A second derivative taken in corners is wrong as soon as rows leave them: then go by safe parabolas.
            memory.stuck = was_cautious and memory.length == 0.0
            memory.cautious = memory.length < CAREFUL
            if not memory.stuck and memory.cautious != was_cautious:
                aim(memory, first)
        assert memory.point is not None
        state.parameters[:] = memory.point
        state.steps += 1
        state.visits += (evaluations - 1) * self.num_rows

    def _newton_direction(self, memory: Memory, gradient: FloatArray) -> FloatArray:
        assert memory.point is not None
        return newton_direction(
            self.data,
            self.smooth,
            self.penalty.alpha,
            memory.point,
            gradient,
            self.fit_intercept,
            memory.cautious,
        )

    def _first(self, gradient: FloatArray) -> FloatArray:
        """The inverse curvature to start from, times ``gradient``: the preconditioner, or 1 / L."""
        if self.preconditioner is None:
            return gradient / self.mean_curvature
        return np.asarray(gradient @ self.preconditioner.inverse)

    def objective(self, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Mean loss + penalty and its gradient (k, d + 1), float64; read in one pass."""
        own = parameters if self.in_float64 else parameters.astype(self.data.X.dtype)
        value, gradient = 0.0, np.zeros(own.shape, dtype=np.float64)
        for part_value, part in self._map(partial(self._objective_of, parameters=own)):
            value += part_value
            gradient += part
        gradient /= self.num_rows
        gradient[:, :-1] += self.penalty.alpha * own[:, :-1]
        if not self.fit_intercept:
            gradient[:, -1] = 0.0
        return value / self.num_rows + self.penalty.value(own), gradient

    def _objective_of(self, chunk: slice, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Sums over a chunk: of the weighted losses, and of their gradients."""
        if parameters.size > MOST_NUMBERS or self.in_float64:
            return self._by_products(chunk, parameters, self.smooth)
        data, loss, shape = self.data, self.smooth.code, self.smooth.kernel_shape
        part = np.zeros(parameters.shape, dtype=data.X.dtype)
        room = row_kernels.room_for(data.X, len(parameters))
        value = row_kernels.add_objective(
            data.X, data.y, self.weights, chunk.start, chunk.stop, parameters, room, loss, shape, part
        )
        return value, part

    def slack(self, num_outputs: int) -> float:
        """By how much the loss with rounded corners may lie below the loss itself, and a gap of it below the gap."""
        return 0.5 * self.smooth.shape[1] * num_outputs

    def estimate_gap(self, state: State, enough: float) -> float:
        """½ g · H⁻¹ g by conjugate gradients; not run where a cheaper estimate is above ``enough`` already.

        Where corners are rounded, the slack that this leaves is added.
        """
        slack = self.slack(len(state.parameters))
        return self._smooth_gap(state, max(enough - slack, slack)) + slack

    def _smooth_gap(self, state: State, enough: float) -> float:
        memory = state.memory
        memory.toward = None
        if memory.gradient is not None and memory.moves.maxlen == 0:
            if memory.point is not None and memory.step is not None:
                memory.toward = Known(
                    memory.point, memory.value, memory.gradient, memory.decrement, memory.step
                )
            return self._newton_gap(memory)
        if memory.gradient is not None and memory.decrement > min(enough, memory.doubted):
            memory.doubted *= 1.2  # so that it is asked again some steps later, whatever the memory thinks
            return max(memory.decrement, 2.0 * enough)
        at: FloatArray
        gradient: FloatArray
        if memory.point is None or memory.gradient is None:
            at = state.parameters.astype(np.float64)
            value, gradient = self.objective(at)
        else:
            at, value, gradient = memory.point, memory.value, memory.gradient
        most = TOO_MUCH * enough if memory.point is not None and not self.smooth.shape[1] else np.inf
        gap, step = self._estimate(at, gradient, enough, most)
        if gap > most:
            memory.doubted = FAR_OFF * memory.decrement
            return gap
        gap *= _shortfall(memory, gap)
        memory.toward = Known(at, value, gradient, gap, step)
        if gap > enough:
            memory.doubted = memory.decrement * enough / gap
        return gap

    def _estimate(
        self, at: FloatArray, gradient: FloatArray, enough: float, most: float = np.inf
    ) -> Estimate:
        """The sampled estimate at a place, or one that is cheaper: exact, or above ``enough`` already."""
        if self.preconditioner is not None and self.loss.has_bound and not self.loss.has_corners:
            # H is nowhere above the preconditioner's, so this is below the gap: a bound.
            step = self._first(gradient)
            least = 0.5 * float(np.vdot(gradient, step))
            if least > enough or self.loss.code == SQUARED_ERROR:
                return Estimate(least, step)
        return estimate_gap(
            self.data, self.smooth, self.penalty.alpha, at, gradient, self._first, self.fit_intercept, most
        )

    def close(self, state: State, enough: float, move: bool) -> Closing:
        """Takes the step of the last estimate, and says what is left to gain behind it (``engines/closing.py``).

        ``move``: ``state`` goes on from there, if it is lower.
        """
        memory, known = state.memory, state.memory.toward
        assert known is not None
        is_newton = memory.point is not None and memory.moves.maxlen == 0

        def left(place: Place) -> Estimate:
            if not is_newton:
                return self._estimate(place.parameters, place.gradient, np.inf)
            step = self._newton_direction(Memory(point=place.parameters), place.gradient)
            return Estimate(0.5 * float(np.vdot(place.gradient, step)), step)

        closing = close(
            self.data, self.smooth, self.penalty.alpha, self.fit_intercept, known, left, enough, move
        )
        if closing.place is not None:
            self._go_to(state, closing.place)
        if not closing.certified:
            memory.doubted = DOUBT * memory.decrement
        return closing

    def _go_to(self, state: State, place: Place) -> None:
        state.parameters[:] = place.parameters
        state.steps += 1
        state.visits += 2 * self.num_rows
        memory = state.memory
        if memory.point is not None and memory.gradient is not None:
            memory.learn(place.parameters - memory.point, place.gradient - memory.gradient)
            memory.point, memory.value, memory.gradient = place.parameters, place.value, place.gradient
            first = self._first if memory.moves.maxlen else partial(self._newton_direction, memory)
            aim(memory, first)

    def gap_bound(self, parameters: FloatArray) -> float | None:
        """How far the mean loss + penalty is above its lowest value at the most; None where nothing bounds it."""
        if self.penalty.l1:
            return None
        place = settle(self.data, self.smooth, self.penalty.alpha, parameters, self.fit_intercept)
        if place.above is None:
            return None
        return place.above + max(0.0, self.mean_loss(parameters) - place.value)

    def _newton_gap(self, memory: Memory) -> float:
        """What Newton's next step gains, where it ends at the lowest place; infinite where it does not.

        On rounded corners its own promise does not count: a row that leaves a corner bends no more, and what is left
        to gain is then more. A convex loss whose gradient is gone at the step's end is lowest there.
        """
        if not self.smooth.shape[1]:
            return memory.decrement
        if memory.cautious or memory.point is None or memory.step is None or memory.gradient is None:
            return np.inf
        value, gradient = self.objective(memory.point - memory.step)
        left = float(np.linalg.norm(gradient))
        if left > max(LANDED * float(np.linalg.norm(memory.gradient)), ROUNDING):
            return np.inf
        return max(memory.decrement, memory.value - value)

    def _full_batch_step(self, state: State, rule: Rule) -> None:
        """One step from every row, read where they lie: no order, no copy of the data."""
        gradient = self._full_gradient(state.parameters)
        state.steps += 1
        rows = 1 if rule.sum_rows else self.num_rows
        step_kernels.apply_update(
            state.parameters,
            gradient,
            state.first,
            state.second,
            rule.optimizer.code,
            rate_at(rule.schedule, rule.rate * state.pace, state.steps, rule.num_steps),
            np.array([rule.beta1, rule.beta2, rule.clip]),
            self.penalty.alpha * self.num_rows / rows,
            self.penalty.l1 * self.num_rows / rows,
            1.0 / rows,
            rule.fit_intercept,
            state.steps,
        )

    def _by_products(self, chunk: slice, parameters: FloatArray, loss: Loss) -> tuple[float, FloatArray]:
        """Sums of weighted loss and gradient of a chunk's rows by matrix products, in the parameters' precision."""
        X, y = self.data.X[chunk], self.data.y[chunk]
        scores = X @ parameters[:, :-1].T + parameters[:, -1]
        losses, derivatives = losses_and_derivatives(loss.code, scores, y, loss.shape)
        if self.weights.size:
            weights = self.weights[chunk].astype(X.dtype)
            losses, derivatives = losses * weights, derivatives * weights[:, None]
        gradient = np.empty(parameters.shape, dtype=np.float64)
        gradient[:, :-1] = derivatives.T @ X
        gradient[:, -1] = derivatives.sum(axis=0, dtype=np.float64)
        return float(losses.sum(dtype=np.float64)), gradient

    def _full_gradient(self, parameters: FloatArray) -> FloatArray:
        total = np.zeros(parameters.shape, dtype=np.float64)
        for part in self._map(partial(self._gradient_of, parameters=parameters)):
            total += part
        return total

    def _gradient_of(self, chunk: slice, parameters: FloatArray) -> FloatArray:
        """The sum over a chunk of the weighted losses' gradients."""
        if parameters.size > MOST_NUMBERS:
            return self._by_products(chunk, parameters, self.loss)[1]
        X, y, loss, shape = self.data.X, self.data.y, self.loss.code, self.loss.kernel_shape
        part = np.zeros(parameters.shape, dtype=X.dtype)
        room = row_kernels.room_for(X, len(parameters))
        row_kernels.add_gradient(
            X, y, self.weights, NO_ORDER, chunk.start, chunk.stop, parameters, room, loss, shape, part
        )
        return part

    def mean_loss(self, parameters: FloatArray, num_rows: int | None = None) -> float:
        end = self.num_rows if num_rows is None else min(num_rows, self.num_rows)

        def losses_of(chunk: slice) -> tuple[float, float]:
            return self._losses_of(slice(chunk.start, max(chunk.start, min(chunk.stop, end))), parameters)

        total = total_weight = 0.0
        for chunk_loss, chunk_weight in self._map(losses_of):
            total += chunk_loss
            total_weight += chunk_weight
        return total / total_weight + self.penalty.value(parameters)

    def _losses_of(self, rows: slice, parameters: FloatArray) -> tuple[float, float]:
        """Sums of the weighted losses of some rows, and of their weights."""
        data = self.data
        room = row_kernels.room_for(data.X, len(parameters))
        return row_kernels.add_losses(
            data.X,
            data.y,
            self.weights,
            rows.start,
            rows.stop,
            parameters,
            room,
            self.loss.code,
            self.loss.kernel_shape,
        )

    def warm_up(self, rules: Sequence[tuple[Rule, int]], state: State) -> None:
        """Compiles what ``rules`` at their batch sizes (0: full) need, on two rows, so that no clock counts it."""
        weights = None if self.data.weights is None else self.data.weights[:2]
        few = type(self)(
            Dataset(self.data.X[:2], self.data.y[:2], weights),
            self.loss,
            self.penalty,
            average_every=self.average_every,
            preconditioner=self.preconditioner,
            precondition_steps=self.inverse.size > 0,
            fit_intercept=self.fit_intercept,
        )
        scratch = State(state.parameters.copy())
        with np.errstate(all="ignore"):
            for rule, batch_size in rules:
                few.run(scratch, rule, None if batch_size == 0 else order(0, 0, 2), batch_size)
            few.mean_loss(scratch.parameters)
            if not rules[-1][0].optimizer.elementwise:
                few.estimate_gap(State(state.parameters.copy()), 1e300)

    def _map(self, function: Callable[[slice], T]) -> Iterator[T]:
        """``function`` of every chunk, in the chunks' order whatever the threads."""
        return self.pool.map(function, self.chunks) if self.pool else map(function, self.chunks)


def _shortfall(memory: Memory, gap: float) -> float:
    """By what factor the estimate before this one proved too small; 1 where it did not."""
    if memory.point is None:
        return 1.0
    before, memory.estimate = memory.estimate, (gap, memory.value)
    if before is None or not before[0] > 0.0:
        return 1.0
    return max(1.0, (before[1] - memory.value + gap) / before[0])


def _product(weights: FloatArray, more: FloatArray) -> FloatArray:
    return more if not weights.size else weights * more
