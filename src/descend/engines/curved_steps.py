"""Steps from the whole curvature: L-BFGS and Newton, with and without L1, within the passes that are left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from descend.engines.base import Rule, State
from descend.engines.certificate import (
    Estimate,
    Product,
    Sample,
    curvature_share,
    estimate_gap,
    hessian_product,
    sample,
)
from descend.engines.full_batch import FullBatch, NoPassLeft
from descend.engines.lbfgs import HALVINGS, Memory, aim, lbfgs_step
from descend.engines.newton import MOST_WORK, is_small, newton_direction
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
from descend.engines.sampled import SampledCurvature
from descend.objectives.losses import SOFTMAX, SQUARED_ERROR
from descend.types import Dataset, FloatArray
from descend.updates import NEWTON

CAREFUL = 0.2
"""Newton's step on rounded corners, when no more than this share of it led down, is followed by a safe one."""
WORTH_IT = 300_000_000
"""The same as ``MOST_WORK`` where corners are rounded: a sample has too few rows in them to go by."""
FEW_GRADIENTS = 0.1
"""A truncated step ends where a conjugate gradient adds less than this share of the gain promised: three or four."""
FEW_ROWS = 10_000
FEW_NUMBERS = 1_000_000_000
"""A Hessian of a sample of rows: rows at the most, and rows times the square of the numbers of parameters."""


class CurvedSteps(FullBatch):
    """A full batch whose steps go by its curvature: a Hessian, a preconditioner, or what L-BFGS remembers."""

    by_class: Product | None = None
    """Inverses by class that the certificate has made: conjugate gradients and L-BFGS start from them."""
    by_sample: SampledCurvature | None = None
    """A sample's curvature in the place of the preconditioner, where the rule asks for one."""
    by_class_at: FloatArray | None = None
    """The parameters that they were made at; None: nobody has asked for them yet."""

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
        self.passes_left = None  # looking is free, and the gradient at the end will be asked for
        before = self.mean_loss(memory.point.astype(dtype))
        for halvings in range(HALVINGS):
            point = memory.point - 0.5**halvings * memory.step
            if memory.goal is not None and halvings == 0:
                point = memory.goal
            value = self.mean_loss(point.astype(dtype), gradient_follows=True)
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
        first = self.by_class or self._first
        if rule.optimizer.code == NEWTON:
            if memory.point is None and not self.penalty.l1:
                memory.moves, memory.changes = deque(maxlen=0), deque(maxlen=0)
            first = partial(self._newton_direction, memory)
        elif rule.by_sample and memory.point is None:
            self._begin_by_sample(state)
            return
        elif rule.truncated:
            self._truncated_step(state)
            return
        was_cautious = memory.cautious
        l1, model = self.penalty.l1, partial(self._model, rule.optimizer.code)
        if l1:
            evaluations = proximal_step(self.objective, state.parameters, memory, model, l1)
        else:
            evaluations = lbfgs_step(self.objective, state.parameters, memory, first)
        assert memory.point is not None
        assert memory.gradient is not None
        idled = memory.has_idled(float(np.linalg.norm(least_slope(memory.point, memory.gradient, l1))))
        if idled:
            memory.length = 0.0
        aim_again = partial(aim_with_l1, memory, model, l1) if l1 else partial(aim, memory, first)
        careful = rule.optimizer.code == NEWTON and (rule.width > 0.0 or self.loss.has_straights)
        if careful and not (was_cautious and memory.length == 0.0):
            # A second derivative is wrong as soon as rows leave corners or straights: then go by safe parabolas.
            memory.cautious = memory.length < CAREFUL
            if memory.cautious != was_cautious:
                aim_again()
        elif memory.length == 0.0:
            self._go_on(memory, aim_again, idled)
        state.parameters[:] = memory.point
        state.steps += 1
        state.visits += (evaluations - 1) * self.num_rows

    def _begin_by_sample(self, state: State) -> None:
        """Goes to a sample's lowest place, unless the loss of all rows is above the sample's at the start."""
        memory = state.memory
        self.by_sample = SampledCurvature(self.data, self.penalty.alpha, self.fit_intercept, self.sample())
        here = state.parameters.astype(np.float64)
        memory.point, before, rows_read = self.by_sample.lowest(here)
        memory.value, memory.gradient = self.objective(memory.point)
        if not memory.value < before:
            memory.point = here
            memory.value, memory.gradient = self.objective(here)
            state.visits += self.num_rows
        self.by_sample.look(memory.point)
        aim(memory, self._first)
        state.parameters[:] = memory.point
        state.steps += 1
        state.visits += rows_read

    def _truncated_step(self, state: State) -> None:
        """Newton's step along the directions that conjugate gradients find first, halved until it leads down.

        Rows of more columns than there are rows tell the rest of the step little, and what they tell costs other
        rows (``docs/architecture.md``).
        """
        here = state.parameters.astype(np.float64)
        before, gradient = self.objective(here)
        step = self._follow(here, gradient, self._first, small=FEW_GRADIENTS).step
        for halvings in range(HALVINGS):
            there = here - 0.5**halvings * step
            state.visits += self.num_rows
            if self.objective(there)[0] < before:
                state.parameters[:] = there
                break
        state.steps += 1
        state.share = curvature_share(self.data, self.loss, state.parameters, self.sample())

    def _go_on(self, memory: Memory, aim_again: Callable[[], None], idled: bool) -> None:
        """After a step that led nowhere: without the memory, then in float64; then there is no more to gain.

        ``idled``: many steps have, each of which the memory took for one down; without it they would again.
        """
        misled = bool(memory.moves) and not idled
        memory.moves.clear()
        memory.changes.clear()
        if not misled:
            if self.in_float64 or self.data.X.dtype == np.float64 or self.data.is_sparse:
                memory.stuck = True
                return
            self.in_float64 = True
            memory.lowest = memory.shortest = np.inf  # they are told anew
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

    def _follow(self, at: FloatArray, gradient: FloatArray, first: Product, **options: Any) -> Estimate:
        """Conjugate gradients from the gradient at a place on; ``options`` are those of ``estimate_gap``."""
        return estimate_gap(self._hessian_at(at), gradient, first, self.fit_intercept, **options)

    def _hessian_at(self, at: FloatArray) -> Product:
        """The product of the Hessian with a direction, on the certificate's rows."""
        data, chosen = self._sampled_rows()
        return hessian_product(data, self.smooth, self.penalty.alpha, at, self.fit_intercept, chosen)

    def _sampled_rows(self) -> tuple[Dataset, Sample]:
        """Where the certificate finds its rows: those that a run began with are at hand."""
        if self.by_sample is None:
            return self.data, self.sample()
        return Dataset(self.by_sample.X, self.by_sample.y), (slice(None), self.by_sample.shares)

    def sample(self) -> Sample:
        """The certificate's rows; they are the same each time."""
        if self.sampled is None:
            self.sampled = sample(self.data, in_order=self.in_order)
        return self.sampled

    def _few(self, most: int) -> Sample:
        """Rows that stand for all in a Hessian, with their shares of the mean; kept from step to step."""
        if self.few is None or self.few[0] != most:
            self.few = (most, sample(self.data, most, self.in_order))
        return self.few[1]

    def _first(self, gradient: FloatArray) -> FloatArray:
        """The inverse curvature to start from, times ``gradient``: a sample's, the preconditioner's, or 1 / L."""
        if self.by_sample is not None:
            return self.by_sample.product(gradient)
        if self.preconditioner is None:
            return gradient / self.mean_curvature
        return np.asarray(gradient @ self.preconditioner.inverse)
