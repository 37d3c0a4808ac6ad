"""The compiled engine for linear models: dense rows, any number of outputs, threads for the full batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np

from descend.batches import order
from descend.engines import row_kernels, saga_kernels, step_kernels
from descend.engines.base import Rule, State, Sums
from descend.engines.certificate import Estimate, estimate_gap, sample
from descend.engines.closing import Closing, close
from descend.engines.duality import lower_bound
from descend.engines.gap_bound import Place, settle
from descend.engines.lbfgs import HALVINGS, Known, Memory, aim, lbfgs_step
from descend.engines.newton import MOST_WORK, is_small, newton_direction
from descend.engines.preconditioner import Preconditioner
from descend.engines.proximal import (
    MOST_AT_ONCE,
    NO_MATRIX,
    Quadratic,
    aim_with_l1,
    exact,
    free_numbers,
    least_slope,
    proximal_step,
    remembered,
)
from descend.objectives.losses import (
    SOFTMAX,
    SQUARED_ERROR,
    Loss,
    losses_and_derivatives,
    row_derivatives,
    row_losses,
)
from descend.objectives.penalties import Penalty
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import LBFGS, NEWTON, SAGA, SGD
from descend.updates.schedules import rate_at

T = TypeVar("T")

ALL_ONE = np.empty(0, dtype=np.float64)
CHUNKS = 16  # a call of a kernel takes 15 µs from Python: with 64, a pass of 12 ms was 1 ms longer
LANDED = 0.1
HARDLY = 0.8
FURTHER = 2.0
"""Weights that come in later, and a curvature that falls on the way, are half of the gap at times (50 rows × 400)."""
ROUNDING = 1e-14
TOO_MUCH = 2.0
"""A full-batch method's estimate is cut short above this many times what is asked for."""
FAR_OFF = 0.15
"""How far the decrement has to fall before it is asked for again."""
DOUBT = 0.5
"""After a certificate that was not believed the next one waits until half is left to gain."""
CAREFUL = 0.2
"""Newton's step on rounded corners, when no more than this share of it led down, is followed by a safe one."""
WORTH_IT = 300_000_000
"""The same as ``MOST_WORK`` where corners are rounded: a sample has too few rows in them to go by."""
FEW_ROWS = 10_000
FEW_NUMBERS = 1_000_000_000
"""A Hessian of a sample of rows: rows at the most, and rows times the square of the numbers of parameters."""
SMALLEST_CHUNK = 4096
MOST_NUMBERS = 2**18
"""With more parameters, which then do not lie near the processor, BLAS is used instead of loops over rows."""
SMALLEST_SHARED = 500_000  # numbers; handing out less to threads takes longer than reading it


class NoPassLeft(Exception):  # noqa: N818
    """A step asked for one more pass over the rows than there is left."""


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
        self.passes_left: int | None = None
        """How often a step may still read every row; None: as often as it likes."""
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
        self.lowest = -np.inf
        """The best bound so far that the objective cannot go below; kept with an L1 penalty."""
        self.few: tuple[int, tuple[IntArray | slice, FloatArray]] | None = None
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
        n = part.num_rows
        row_kernels.add_gradient(
            part.X,
            part.y,
            weights,
            0,
            n,
            parameters,
            self.loss.code,
            self.loss.kernel_shape,
            gradient,
        )
        loss, weight = row_kernels.add_losses(
            part.X, part.y, weights, 0, n, parameters, self.loss.code, self.loss.kernel_shape
        )
        return Sums(loss, gradient, weight)

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        state.visits += self.num_rows if order is None else len(order)
        if rule.optimizer.code in (LBFGS, NEWTON):
            with self._counted(state):
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

    @contextmanager
    def _counted(self, state: State) -> Iterator[None]:
        """Ends a step inside when it asks for more passes over the rows than ``state.most_visits`` leaves."""
        if state.most_visits is None:
            yield
            return
        left = 1 + (state.most_visits - state.visits) // self.num_rows  # ``run`` has counted one of them
        self.passes_left = left
        try:
            yield
        except NoPassLeft:
            state.visits += (left - 1) * self.num_rows
            if state.steps == 0:
                self._step_on_sight(state)
        finally:
            self.passes_left = None

    def _step_on_sight(self, state: State) -> None:
        """The one gradient there is makes a step, as in gradient descent; looking tells how long a one."""
        memory, dtype = state.memory, self.data.X.dtype
        if memory.point is None or memory.step is None:
            return
        before = self.mean_loss(memory.point.astype(dtype))
        for halvings in range(HALVINGS):
            point = memory.point - 0.5**halvings * memory.step
            if memory.goal is not None and halvings == 0:
                point = memory.goal
            value = self.mean_loss(point.astype(dtype))
            if value < before:
                memory.point, memory.value = point, value
                state.parameters[:] = point
                state.steps = 1
                return

    def _curved_step(self, state: State, rule: Rule) -> None:
        """A step of L-BFGS, or of Newton, which is L-BFGS with no memory and the whole inverse to start from."""
        if rule.width != self.smooth.shape[1]:
            self.smooth = self.loss.rounded(rule.width)
            self.in_float64 = rule.optimizer.code == NEWTON and not self.data.is_sparse
            state.memory = Memory()
        memory = state.memory
        first = self._first
        if rule.optimizer.code == NEWTON:
            if memory.point is None and not self.penalty.l1:
                memory.moves, memory.changes = deque(maxlen=0), deque(maxlen=0)
            first = partial(self._newton_direction, memory)
        was_cautious = memory.cautious
        l1, model = self.penalty.l1, partial(self._model, rule.optimizer.code)
        if l1:
            evaluations = proximal_step(self.objective, state.parameters, memory, model, l1)
        else:
            evaluations = lbfgs_step(self.objective, state.parameters, memory, first)
        if rule.width and rule.optimizer.code == NEWTON:
            # A second derivative taken in corners is wrong as soon as rows leave them: then go by safe parabolas.
            memory.stuck = was_cautious and memory.length == 0.0
            memory.cautious = memory.length < CAREFUL
            if not memory.stuck and memory.cautious != was_cautious:
                if l1:
                    aim_with_l1(memory, model, l1)
                else:
                    aim(memory, first)
        elif memory.length == 0.0:
            self._go_on(
                memory, partial(aim_with_l1, memory, model, l1) if l1 else partial(aim, memory, first)
            )
        assert memory.point is not None
        state.parameters[:] = memory.point
        state.steps += 1
        state.visits += (evaluations - 1) * self.num_rows

    def _go_on(self, memory: Memory, aim_again: Callable[[], None]) -> None:
        """After a step that led nowhere: without the memory, then in float64; then there is no more to gain."""
        if memory.moves:
            memory.moves.clear()
            memory.changes.clear()
        elif not self.in_float64 and self.data.X.dtype != np.float64 and not self.data.is_sparse:
            self.in_float64 = True
        else:
            memory.stuck = True
            return
        assert memory.point is not None
        memory.value, memory.gradient = self.objective(memory.point)
        aim_again()

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

    def _model(self, optimizer: int, memory: Memory) -> Quadratic:
        """The quadratic that L1 is added to: exact where that is cheap, else what L-BFGS remembers."""
        assert memory.point is not None
        assert memory.gradient is not None
        k, columns = memory.point.shape
        free = free_numbers(memory.point, memory.gradient, self.penalty.l1, self.fit_intercept)
        if optimizer == NEWTON and self.loss.code == SQUARED_ERROR and self.preconditioner is not None:
            free[:, :-1] = True
            places = np.flatnonzero(free)
            none = np.zeros((len(places), 0))
            diagonal = np.zeros(len(places))
            return Quadratic(
                places, diagonal, self.preconditioner.matrix, 1.0, places, none, none, exact=True
            )
        if optimizer == NEWTON:
            chosen = np.flatnonzero(free[:, :-1].any(axis=0))
            if k * columns <= MOST_AT_ONCE or is_small(self.num_rows, columns - 1, k):
                chosen = np.arange(columns - 1)
            numbers = k * (len(chosen) + 1)
            work = (
                numbers**2 if self.loss.code == SOFTMAX else numbers**2 // k
            )  # others have a block an output
            few, rounded = None, self.smooth.shape[1] > 0.0
            if self.num_rows * work > (WORTH_IT if rounded else MOST_WORK):
                few = self._few(max(2 * numbers, min(FEW_ROWS, FEW_NUMBERS // work)))
            if few is None or (numbers <= MOST_AT_ONCE and not rounded):
                return exact(
                    self.data, self.smooth, self.penalty.alpha, memory, chosen, self.fit_intercept, few
                )
        if self.preconditioner is None:
            bends = np.broadcast_to(1.0 / self._first(np.ones((1, columns))), memory.point.shape)
            return remembered(memory, np.flatnonzero(free), bends, NO_MATRIX, self._first)
        free[:, :-1] = True
        nothing = np.zeros(memory.point.shape)
        return remembered(memory, np.flatnonzero(free), nothing, self.preconditioner.matrix, self._first)

    def _few(self, most: int) -> tuple[IntArray | slice, FloatArray]:
        """Rows that stand for all in a Hessian, with their shares of the mean; kept from step to step."""
        if self.few is None or self.few[0] != most:
            self.few = (most, sample(self.data, most))
        return self.few[1]

    def _first(self, gradient: FloatArray) -> FloatArray:
        """The inverse curvature to start from, times ``gradient``: the preconditioner, or 1 / L."""
        if self.preconditioner is None:
            return gradient / self.mean_curvature
        return np.asarray(gradient @ self.preconditioner.inverse)

    def objective(self, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Mean loss + penalty and its gradient (k, d + 1), float64; read in one pass."""
        if self.passes_left is not None:
            if self.passes_left == 0:
                raise NoPassLeft
            self.passes_left -= 1
        own = self._own(parameters)
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
        value = row_kernels.add_objective(
            data.X, data.y, self.weights, chunk.start, chunk.stop, parameters, loss, shape, part
        )
        return value, part

    def estimate_gap(self, state: State, enough: float) -> float:
        """½ g · H⁻¹ g by conjugate gradients; not run where a cheaper estimate is above ``enough`` already.

        Where corners are rounded, what that hides is added.
        """
        if self.loss.has_corners and not self.smooth.shape[1]:
            return np.inf  # steps on batches: corners that are not rounded have no curvature to go by
        width = self.smooth.shape[1] * len(state.parameters)
        if not width:
            return self._smooth_gap(state, enough)
        gap = self._smooth_gap(state, max(enough, 0.5 * width))
        if self.penalty.l1 and state.memory.decrement <= enough < gap and state.memory.point is not None:
            gap = min(gap, self.bound_gap(state.memory.point))
            if gap <= enough:
                state.memory.hidden = 0.0
                return gap
        if gap > max(enough, width):
            return gap + 0.5 * width
        state.memory.hidden = self._hidden(state)
        return gap + state.memory.hidden

    def _hidden(self, state: State) -> float:
        """By how much the objective at the rounded loss's lowest place may lie above its own lowest value.

        The conjugate of the rounded loss is that of the loss + ½ width · slope², so that the loss itself goes no
        lower than the rounded one's lowest place + ½ width · mean slope². Only rows inside a corner are left over.
        """
        memory = state.memory
        parameters = state.parameters if memory.point is None else memory.point
        slopes = self._slopes(parameters)
        squares = (slopes * slopes).sum(axis=1)
        if self.weights.size:
            squares *= self.weights
        raised = memory.value + 0.5 * self.smooth.shape[1] * float(squares.mean())
        return max(self.mean_loss(self._own(parameters)) - raised, 0.0)

    def _own(self, parameters: FloatArray) -> FloatArray:
        """``parameters`` in the rows' data type, or in float64 where the objective is computed so."""
        return parameters if self.in_float64 else parameters.astype(self.data.X.dtype)

    def _slopes(self, parameters: FloatArray) -> FloatArray:
        """The derivative of every row's loss, corners as round as they are, with respect to its scores; (n, k)."""
        own = self._own(parameters)
        slopes = np.empty((self.num_rows, len(own)))

        def write(chunk: slice) -> None:
            X: Any = self.data.X[chunk]
            scores = X @ own[:, :-1].T + own[:, -1]
            slopes[chunk] = row_derivatives(self.smooth.code, scores, self.data.y[chunk], self.smooth.shape)

        for _ in self._map(write):
            pass
        return slopes

    def bound_gap(self, parameters: FloatArray) -> float:
        """The objective at ``parameters`` less the best bound known for its lowest value; below no true gap.

        With an L1 penalty only: it is far above the gap where L1 is weak, and infinite at a first glance.
        """
        self.lowest = max(self.lowest, self._lower_bound(parameters))
        return max(self.mean_loss(self._own(parameters)) - self.lowest, 0.0)

    def _lower_bound(self, parameters: FloatArray) -> float:
        """What no parameters go below, from the slopes at ``parameters`` (``duality.py``)."""

        def product(shares: FloatArray) -> FloatArray:
            total = np.zeros((len(parameters), parameters.shape[1] - 1))
            for part in self._map(
                lambda chunk: _sum_of_rows(self.data.X[chunk], shares[chunk], parameters.dtype)
            ):
                total += part
            return total

        slopes = self._slopes(parameters)
        return lower_bound(
            slopes, self.data.y, self.weights, self.loss, self.penalty, product, self.fit_intercept
        )

    def _smooth_gap(self, state: State, enough: float) -> float:
        memory = state.memory
        memory.toward = None
        if self.penalty.l1:
            return self._gap_with_l1(state, enough)
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
            self.data,
            self.smooth,
            self.penalty.alpha,
            at,
            gradient,
            self._first,
            self.fit_intercept,
            most=most,
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
            memory.stuck = memory.stuck and not place.value < memory.value
            memory.point, memory.value, memory.gradient = place.parameters, place.value, place.gradient
            first = self._first if memory.moves.maxlen else partial(self._newton_direction, memory)
            aim(memory, first)

    def gap_bound(self, parameters: FloatArray) -> float | None:
        """How far the mean loss + penalty is above its lowest value at the most; None where nothing bounds it."""
        if self.penalty.l1:
            return self.bound_gap(parameters)
        place = settle(self.data, self.smooth, self.penalty.alpha, parameters, self.fit_intercept)
        if place.above is None:
            return None
        return place.above + max(0.0, self.mean_loss(parameters) - place.value)

    def _gap_with_l1(self, state: State, enough: float) -> float:
        """What the step that comes next promises where it knows the curvature, else the sampled estimate."""
        memory, l1 = state.memory, self.penalty.l1
        if memory.point is None:
            memory = Memory(point=state.parameters.astype(np.float64))
            assert memory.point is not None
            memory.value, memory.gradient = self.objective(memory.point)
            aim_with_l1(memory, partial(self._model, NEWTON), l1)
        assert memory.point is not None
        assert memory.gradient is not None
        if memory.exact and self.smooth.shape[1]:
            return self._newton_gap(memory)
        if memory.exact:
            kind = 1.0 if self.loss.code == SQUARED_ERROR else FURTHER
            return kind * memory.decrement * _shortfall(memory, memory.decrement)
        if memory.decrement > min(enough, memory.doubted):
            memory.doubted *= 1.2
            return max(memory.decrement, 2.0 * enough)
        # Weights at 0 that L1 hardly holds there may move too: they make the estimate larger, never smaller.
        free = free_numbers(memory.point, memory.gradient, HARDLY * l1, self.fit_intercept)
        slope = least_slope(memory.point, memory.gradient, l1)
        gap = estimate_gap(
            self.data,
            self.smooth,
            self.penalty.alpha,
            memory.point,
            slope,
            self._first,
            self.fit_intercept,
            free,
        ).gap
        gap *= _shortfall(memory, gap)
        if gap > enough:
            memory.doubted = memory.decrement * enough / gap
        return gap

    def _newton_gap(self, memory: Memory) -> float:
        """What Newton's next step gains, where it ends at the lowest place; infinite where it does not.

        On rounded corners its own promise does not count: a row that leaves a corner bends no more, and what is left
        to gain is then more. A convex loss whose gradient is gone at the step's end is lowest there.
        """
        if not self.smooth.shape[1]:
            return memory.decrement
        if memory.cautious or memory.point is None or memory.step is None or memory.gradient is None:
            return np.inf
        l1 = self.penalty.l1
        end = memory.goal if l1 and memory.goal is not None else memory.point - memory.step
        value, gradient = self.objective(end)
        left = float(np.linalg.norm(least_slope(end, gradient, l1)))
        here = float(np.linalg.norm(least_slope(memory.point, memory.gradient, l1)))
        if left > max(LANDED * here, ROUNDING):
            return np.inf
        return max(memory.decrement, memory.value - value)

    def _full_batch_step(self, state: State, rule: Rule) -> None:
        """One step from every row, read where they lie: no order, no copy of the data."""
        gradient = self._full_gradient(state.parameters)
        state.steps += 1
        rows = 1 if rule.sum_rows else self.num_rows
        step_kernels.take_full_step(
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
        row_kernels.add_gradient(X, y, self.weights, chunk.start, chunk.stop, parameters, loss, shape, part)
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
        if parameters.dtype != data.X.dtype:  # float64 over float32 rows: kernels take one data type
            scores = data.X[rows] @ parameters[:, :-1].T + parameters[:, -1]
            losses = row_losses(self.loss.code, scores, data.y[rows], self.loss.shape)
            weights = self.weights[rows] if self.weights.size else np.ones(len(losses))
            return float(losses @ weights), float(weights.sum())
        return row_kernels.add_losses(
            data.X,
            data.y,
            self.weights,
            rows.start,
            rows.stop,
            parameters,
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


def _sum_of_rows(X: Any, shares: FloatArray, dtype: Any) -> FloatArray:
    """Σ over rows of (n, k) shares times x, (k, d)."""
    return np.asarray((X.T @ shares.astype(dtype)).T)


def _product(weights: FloatArray, more: FloatArray) -> FloatArray:
    return more if not weights.size else weights * more
