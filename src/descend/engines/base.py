"""What every engine does, and the state it changes.

An engine holds the rows and has two doors:

- ``loss_and_gradient``: one batch; for teaching, tests and measuring. It returns **sums** over rows and the
  sum of weights, so that batches, microbatches and machines add up exactly.
- ``run``: many steps in one call; the hot path.

``tests/contracts`` holds that both doors of all engines agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from descend.engines.lbfgs import Memory
from descend.types import FloatArray, IntArray
from descend.updates import Optimizer

if TYPE_CHECKING:
    from descend.engines.closing import Closing


LEAST_SHARE = 0.03
"""Of the curvature's bound, that rates go by: below it a few rows that bend as sharply as they can decide."""


class Sums(NamedTuple):
    """Sums over the rows of a batch, each row times its weight; no penalty in them."""

    loss: float
    gradient: FloatArray
    weight: float


@dataclass(frozen=True, slots=True)
class Rule:
    """How a gradient becomes a step: everything that stays fixed during a run."""

    optimizer: Optimizer
    rate: float
    schedule: int = 0
    momentum: float = 0.9
    beta2: float = 0.999
    num_steps: int = 0
    """Length of a schedule that ends; 0 for the others."""
    sum_rows: bool = False
    """Reduction "sum": a step uses the sum over the batch's rows, not their mean."""
    fit_intercept: bool = True
    clip: float = 0.0
    """A batch's gradient, the penalty's apart, is shortened to this length; 0: it is not."""
    width: float = 0.0
    """What corners of the loss are rounded over, for steps from the whole curvature."""
    by_sample: bool = False
    """L-BFGS begins at the lowest place of a sample of rows, and starts from the curvature there."""
    truncated: bool = False
    """L-BFGS begins with a step of Newton's, its direction from the first few conjugate gradients."""
    by_share: bool = False
    """The rate goes up as SAGA's does where the curvature is seen to be a share of its bound (``State.share``)."""
    filling: bool = False
    """SAGA's first epoch, which has no table yet."""
    full_term: float = 0.0
    single_term: float = 0.0
    """The two terms of L(B), from which SAGA takes its rate as the curvature is seen to change."""

    @property
    def beta1(self) -> float:
        return self.momentum if self.optimizer.uses_momentum else 0.9

    def rate_in(self, state: State) -> float:
        """The rate that a schedule starts from, with all that the run has made of it."""
        share = sqrt(max(state.share, LEAST_SHARE)) if self.by_share else 1.0
        return self.rate * state.pace / share


@dataclass(slots=True)
class State:
    """What training changes. ``parameters`` is (k, d + 1): k rows of weights, each followed by its intercept."""

    parameters: FloatArray
    first: FloatArray = field(init=False)
    second: FloatArray = field(init=False)
    average: FloatArray = field(init=False)
    """Running mean of the parameters over ``num_averaged`` of the last steps, float64."""
    num_averaged: int = 0
    steps: int = 0
    pace: float = 1.0
    """What the schedule "plateau" has made of the rate so far, as a share of it."""
    visits: int = 0
    """Rows visited so far, each time counted."""
    most_visits: int | None = None
    """Where L-BFGS and Newton stop in the midst of a line search, because so many epochs were asked for."""
    table: FloatArray | None = None
    mean_gradient: FloatArray | None = None
    share: float = 1.0
    """SAGA's memory: derivatives (n, k), their mean gradient (k, d + 1), the curvature's share of its bound.
    A truncated step tells the share, too."""
    memory: Memory = field(default_factory=Memory)
    """L-BFGS's memory."""

    def __post_init__(self) -> None:
        self.first = np.zeros_like(self.parameters)
        self.second = np.zeros_like(self.parameters)
        self.average = np.zeros(self.parameters.shape, dtype=np.float64)


BEGAN, NEXT_CLOSE, NUM_CLOSED = range(3)
"""What ``AverageWindows.windows`` counts."""


class AverageWindows(Protocol):
    """The windows of an average, for an engine whose steps close them (``averaging.py``)."""

    growth: float

    def windows(self, state: State) -> tuple[FloatArray, IntArray]:
        """The closed one, to be overwritten, and what is counted; ``closed_by`` takes both back."""
        ...

    def closed_by(self, closed: FloatArray, windows: IntArray) -> None: ...

    def close_if_due(self, state: State) -> None: ...


class KeepsNothing:
    """An engine whose every memory of a run is in ``State``, wherever an epoch is cut."""

    cut_rows = 0

    def kept(self) -> dict[str, Any]:
        return {}

    def recall(self, kept: dict[str, Any]) -> None:
        pass


class Engine(Protocol):
    """Computes objective and update for the rows it was made with."""

    num_rows: int
    cut_rows: int
    """Where the steps' rounding follows from how ``run`` is called: at the most so many rows a call, and the calls at
    places that no clock has a say in. 0: an epoch may be cut between any two batches."""

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        """Sums of weighted loss and gradient (k, d + 1) over ``rows``."""
        ...

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        """Walks ``order`` in batches, one step a batch; the last may be smaller and is its own batch.

        ``order`` None means every row in one batch. ``state`` is overwritten.
        """
        ...

    def kept(self) -> dict[str, Any]:
        """What the engine remembers of a run besides ``State``, for a checkpoint; ``recall`` takes it back."""
        ...

    def recall(self, kept: dict[str, Any]) -> None:
        """Goes on as the engine would that said ``kept``."""
        ...

    def estimate_gap(self, state: State, enough: float, exact: bool = True) -> float:
        """How far the mean loss + penalty still is from its lowest value; may stop short once above ``enough``.

        ``exact`` False: it stops short behind steps on batches, too, where the next estimate is not held against it.
        """
        ...

    def close(self, state: State, enough: float, move: bool) -> Closing:
        """The step that the last estimate points to, and what is left behind it (``engines/closing.py``)."""
        ...

    def gap_bound(self, parameters: FloatArray) -> float | None:
        """How far the mean loss + penalty is from its lowest value at the most; None where nothing bounds it."""
        ...

    def mean_loss(
        self, parameters: FloatArray, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        """Mean loss + penalty over the first ``num_rows`` rows (all by default).

        ``gradient_follows``: the gradient of all rows will be asked for at the same place, and may be taken at once.
        """
        ...
