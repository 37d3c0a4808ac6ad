"""How much is left to gain: which estimate or bound is asked, and the last step that an estimate points to."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from descend.engines.base import State
from descend.engines.certificate import Estimate, block_inverse, intercept_bend
from descend.engines.closing import ROUNDING as ROUNDING_OF_VALUES
from descend.engines.closing import Closing, close
from descend.engines.curved_steps import CurvedSteps
from descend.engines.duality import lower_bound
from descend.engines.full_batch import FEWEST_QUICK, MOST_NUMBERS
from descend.engines.gap_bound import Place, bound_beside, settle, settle_quickly, tighten_quickly
from descend.engines.inner import inner
from descend.engines.lbfgs import Known, Memory, aim
from descend.engines.proximal import aim_with_l1, free_numbers, least_slope
from descend.engines.sampled import SampledCurvature
from descend.objectives.losses import SQUARED_ERROR
from descend.types import FloatArray
from descend.updates import NEWTON

LANDED = 0.1
HARDLY = 0.8
FURTHER = 2.0
"""Weights that come in later, and a curvature that falls on the way, are half of the gap at times (50 rows × 400)."""
ROUNDING = 1e-14
TOO_MUCH = 2.0
"""A full-batch method's estimate is cut short above this many times what is asked for."""
FAR_OFF = 0.15
"""How far the decrement has to fall before it is asked for again."""
LEAST_BY_CLASS = 0.25
DOUBT = 0.5
"""After a certificate that was not believed the next one waits until half is left to gain."""


QUICK_ROUNDING = 1e-6
"""The share of a loss that sums of float32 may be wrong by."""
NOISE = 3e-7
"""The same of each number of a gradient."""
SEEN = 1e-4
"""The share of a loss that rounding may hide without anybody seeing it."""


class Certified(CurvedSteps):
    """Steps from the whole curvature that tell how far the objective still is from its lowest value."""

    def estimate_gap(self, state: State, enough: float, exact: bool = True) -> float:
        """½ g · H⁻¹ g by conjugate gradients; not run where a cheaper estimate is above ``enough`` already.

        Where corners are rounded, what that hides is added.
        """
        if self.loss.has_corners and not self.smooth.shape[1]:
            return np.inf  # steps on batches: corners that are not rounded have no curvature to go by
        width = self.smooth.shape[1] * len(state.parameters)
        if not width:
            return self._smooth_gap(state, enough, exact)
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
            for part in self._map(lambda chunk: self._sum_of_rows(chunk, shares, parameters.dtype)):
                total += part
            return total

        slopes = self._slopes(parameters)
        return lower_bound(
            slopes, self.data.y, self.weights, self.loss, self.penalty, product, self.fit_intercept
        )

    def kept(self) -> dict[str, Any]:
        """What steps and certificates remember of the run; what follows from the rows alone is made anew."""
        return {
            "width": self.smooth.shape[1] if self.smooth is not self.loss else None,
            "in_float64": self.in_float64,
            "lowest": self.lowest,
            "by_class_at": self.by_class_at,
            "by_sample_at": None if self.by_sample is None else self.by_sample.at,
        }

    def recall(self, kept: dict[str, Any]) -> None:
        self.smooth = self.loss if kept["width"] is None else self.loss.rounded(kept["width"])
        self.in_float64, self.lowest = kept["in_float64"], kept["lowest"]
        if kept["by_class_at"] is not None:
            self._look_by_class(kept["by_class_at"])
        if kept["by_sample_at"] is not None:
            self.by_sample = SampledCurvature(
                self.data, self.penalty.alpha, self.fit_intercept, self.sample()
            )
            self.by_sample.look(kept["by_sample_at"])

    def _look_by_class(self, at: FloatArray) -> None:
        """Makes the inverses by class, once: of the place where they are first asked for."""
        self.by_class_at = at.copy(order="K")
        self.by_class = block_inverse(self.data, self.smooth, self.penalty.alpha, at, self.sample())

    def _sum_of_rows(self, chunk: slice, shares: FloatArray, dtype: Any) -> FloatArray:
        """Σ over a chunk of (n, k) shares times x, (k, d)."""
        total = np.zeros((shares.shape[1], self.data.num_columns))
        for rows, X in self._pieces(chunk):
            total += np.asarray((X.T @ shares[rows].astype(dtype)).T)
        return total

    def _smooth_gap(self, state: State, enough: float, exact: bool = True) -> float:
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
        begun = memory.point is not None
        most = TOO_MUCH * enough if (begun or not exact) and not self.smooth.shape[1] else np.inf
        gap, step = self._estimate(at, gradient, enough, most)
        if gap > most:
            if begun:
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
            least = 0.5 * inner(gradient, step)
            if least > enough or self.loss.code == SQUARED_ERROR:
                return Estimate(least, step)
        if self.by_class_at is None:
            self._look_by_class(at)
        if self.by_class is not None and most < np.inf:
            # Softmax bends no more than twice as much as its classes by themselves: a quarter is below the gap, as
            # far as their rows know, and if that is too much the Hessian of more rows need not be made.
            step = self.by_class(gradient)
            least = LEAST_BY_CLASS * inner(gradient, step)
            if least > most:
                return Estimate(least, step)
        # Not kept: a method of its own would keep the rows of an engine alive.
        first = self.by_class or self._first
        return self._follow(at, gradient, first, most=most)

    def close(self, state: State, enough: float, move: bool) -> Closing:
        """Takes the step of the last estimate, and says what is left to gain behind it (``engines/closing.py``).

        ``move``: ``state`` goes on from there, if it is lower.
        """
        memory, known = state.memory, state.memory.toward
        assert known is not None
        if self.by_products is not None:
            above = self._bound_by_products(known)
            if above is not None and above <= enough:
                return Closing(min(known.gap, above), above, True, None)
            known = self._read_anew(memory, known, enough)
        is_newton = memory.point is not None and memory.moves.maxlen == 0

        def left(place: Place) -> Estimate:
            if not is_newton:
                return self._estimate(place.parameters, place.gradient, np.inf)
            step = self._newton_direction(Memory(point=place.parameters), place.gradient)
            return Estimate(0.5 * inner(place.gradient, step), step)

        quick = not is_newton and self._may_be_quick(known, enough)
        above = self._bound_on_sight(known, quick)
        if above is not None and above <= enough:
            return Closing(min(known.gap, above), above, True, None)

        def settled(at: FloatArray, toward: tuple[FloatArray, FloatArray] | None) -> Place:
            place = self._place_quickly(at, toward) if quick and toward is not None else None
            return place or settle(self.data, self.smooth, self.penalty.alpha, at, self.fit_intercept, toward)

        def tightened(place: Place) -> Place:
            p = place.parameters
            return self._tighten_quickly(place, enough) or settle(
                self.data, self.smooth, self.penalty.alpha, p, self.fit_intercept
            )

        rounding = QUICK_ROUNDING if quick else ROUNDING_OF_VALUES
        closing = close(settled, known, left, enough, move, rounding, tightened if quick else None)
        if closing.place is not None:
            self._go_to(state, closing.place)
        if not closing.certified:
            memory.doubted = DOUBT * memory.decrement
        return closing

    def _may_be_quick(self, known: Known, enough: float) -> bool:
        """Whether the kernels' rounding is far below what may be left to gain, so that they do for a certificate."""
        loss, alpha = self.smooth, self.penalty.alpha
        if self.num_rows < FEWEST_QUICK or self.in_float64 or loss.has_corners or loss.has_straights:
            return False
        if not loss.has_bound or known.point.size > MOST_NUMBERS:
            return False
        if self.data.X.dtype == np.float64:
            return True
        noise = NOISE * NOISE * known.gradient.size
        return enough > 10.0 * QUICK_ROUNDING * abs(known.value) and noise <= 0.02 * alpha * enough

    def _bound_by_products(self, known: Known) -> float | None:
        """The bound where the estimate was made, with all that rounding may hide in the products.

        None without one, and where rounding hides more of the loss than anybody would see.
        """
        products, alpha = self.by_products, self.penalty.alpha
        assert products is not None
        above = bound_beside(known.gradient, np.eye(len(known.point)), alpha, self._most_bend)
        of_value, of_gradient = products.doubt(known.point, self.num_rows)
        if above is None or of_value > SEEN * known.value:
            return None
        return float((np.sqrt(above) + of_gradient / np.sqrt(2.0 * alpha)) ** 2)

    def _read_anew(self, memory: Memory, known: Known, enough: float) -> Known:
        """The same place by the rows themselves, which from now on are read."""
        self.by_products = self.last = None
        value, gradient = self.objective(known.point)
        if memory.point is not None:
            memory.value, memory.gradient = value, gradient
            aim(memory, self._first)
        gap, step = self._estimate(known.point, gradient, enough)
        return Known(known.point, value, gradient, gap, step)

    def _bound_on_sight(self, known: Known, quick: bool) -> float | None:
        """The bound where the estimate was made, from its gradient alone: no step need be taken to see.

        Squared error's one step by its own curvature ends so near that rounding is all that another would move.
        """
        if self.loss.code != SQUARED_ERROR or self.num_rows < FEWEST_QUICK:
            return None
        if not quick:  # in float64, the intercept at its lowest
            place = settle(self.data, self.smooth, self.penalty.alpha, known.point, self.fit_intercept)
            return None if place.above is None else place.above + max(0.0, known.value - place.value)
        return bound_beside(known.gradient, np.eye(len(known.point)), self.penalty.alpha, self._most_bend)

    @property
    def _most_bend(self) -> float:
        """What the objective bends at the most."""
        if self.by_sample is not None:
            return 2.0 * self.by_sample.most_bend
        return self.mean_curvature if self.preconditioner is None else self.preconditioner.bend

    def _place_quickly(self, at: FloatArray, toward: tuple[FloatArray, FloatArray]) -> Place | None:
        bend = self._intercept_bend(at - toward[1])
        return settle_quickly(self.objective, self.penalty.alpha, at, toward, bend, self._most_bend)

    def _tighten_quickly(self, place: Place, enough: float) -> Place | None:
        bend = self._intercept_bend(place.parameters)
        return tighten_quickly(self.objective, self.penalty.alpha, place, bend, self._most_bend, enough)

    def _intercept_bend(self, at: FloatArray) -> FloatArray:
        if self.loss.code == SQUARED_ERROR:
            return np.eye(len(at))
        data, chosen = self._sampled_rows()
        return intercept_bend(data, self.smooth, at, chosen)

    def _go_to(self, state: State, place: Place) -> None:
        state.parameters[:] = place.parameters
        state.steps += 1
        state.visits += 2 * self.num_rows
        memory = state.memory
        if memory.point is not None and memory.gradient is not None:
            memory.learn(place.parameters - memory.point, place.gradient - memory.gradient)
            memory.stuck = memory.stuck and not place.value < memory.value
            memory.point, memory.value, memory.gradient = place.parameters, place.value, place.gradient
            first = (
                (self.by_class or self._first)
                if memory.moves.maxlen
                else partial(self._newton_direction, memory)
            )
            aim(memory, first)

    def gap_bound(self, parameters: FloatArray) -> float | None:
        """How far the mean loss + penalty is above its lowest value at the most; None where nothing bounds it."""
        if self.penalty.l1:
            return self.bound_gap(parameters)
        if (told := self._bound_told(parameters)) is not None:
            return told
        place = settle(self.data, self.smooth, self.penalty.alpha, parameters, self.fit_intercept)
        if place.above is None:
            return None
        return place.above + max(0.0, self.mean_loss(parameters) - place.value)

    def _bound_told(self, parameters: FloatArray) -> float | None:
        """Squared error's bound from a gradient that is known already, its rounding counted; None without one."""
        last, alpha = self.last, self.penalty.alpha
        if self.loss.code != SQUARED_ERROR or self.num_rows < FEWEST_QUICK or last is None:
            return None
        if last.smooth is not self.loss or not np.array_equal(last.at, self._own(parameters)):
            return None
        above = bound_beside(last.gradient, np.eye(len(parameters)), alpha, self._most_bend)
        if above is None:
            return None
        noise = 0.0 if self.data.X.dtype == np.float64 else NOISE * float(np.sqrt(last.gradient.size))
        if self.by_products is not None:
            noise = self.by_products.doubt(last.at.astype(np.float64), self.num_rows)[1]
        return min(float((np.sqrt(above) + noise / np.sqrt(2.0 * alpha)) ** 2), last.value)

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
        if memory.exact and self._is_told_by_landing:
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
        gap = self._follow(memory.point, slope, self._first, free=free).gap
        gap *= _shortfall(memory, gap)
        if gap > enough:
            memory.doubted = memory.decrement * enough / gap
        return gap

    @property
    def _is_told_by_landing(self) -> bool:
        return self.smooth.shape[1] > 0.0 or self.loss.has_straights

    def _newton_gap(self, memory: Memory) -> float:
        """What Newton's next step gains, where it ends at the lowest place; infinite where it does not.

        On rounded corners and straights its own promise does not count: a row that leaves a corner bends no more, one
        that comes off a straight begins to, and what is left to gain is then more. A convex loss whose gradient is
        gone at the step's end is lowest there.
        """
        if not self._is_told_by_landing:
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


def _shortfall(memory: Memory, gap: float) -> float:
    """By what factor the estimate before this one proved too small; 1 where it did not."""
    if memory.point is None:
        return 1.0
    before, memory.estimate = memory.estimate, (gap, memory.value)
    if before is None or not before[0] > 0.0:
        return 1.0
    return max(1.0, (before[1] - memory.value + gap) / before[0])
