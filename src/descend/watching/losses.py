"""The losses of a run where somebody looks: of every row, or inside an epoch of the first ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from descend.engines.base import State
from descend.recipe import Phase
from descend.types import FloatArray

SAMPLE_ROWS = 10_000
SAMPLE_NUMBERS = 8_000_000
"""A look inside an epoch reads this many numbers at most (some milliseconds), but at least SAMPLE_ROWS rows."""
NO_LONGER_NEAR = 0.8
"""A sample's loss below this share of what it was no longer tells how far it is off that of all rows."""

LossOf = Callable[[FloatArray, int | None], float]
"""The loss of the first so many rows; None: of every row."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look saw: ``parameters`` are those that would be returned, and ``loss`` is theirs."""

    parameters: FloatArray
    loss: float
    last_loss: float
    """That of the last parameters, where an average of them would be returned."""
    whole: bool = True
    """Whether every row told the loss."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Parameters, with what a whole evaluation said of them."""

    epoch: int
    score: float
    loss: float
    last_loss: float
    validation_loss: float | None
    parameters: FloatArray
    whole: bool = True
    """Whether every row told the loss."""


@dataclass(slots=True)
class Sample:
    """The first rows, which stand for all: what they are off the whole hardly changes between two looks."""

    rows: int = 0
    offset: float = 0.0
    """The loss of all rows less the sample's, when both were known last."""
    loss: float = 0.0
    """The sample's, then."""
    compared_at: FloatArray | None = None
    whole_loss: float = 0.0
    """Parameters whose loss on all rows is known, and that on the sample not yet: most epochs end without it."""

    def take(self, num_parameters: int) -> None:
        """Settles how many rows a look reads."""
        self.rows = max(SAMPLE_ROWS, SAMPLE_NUMBERS // num_parameters)

    def look(
        self,
        state: State,
        average: FloatArray | None,
        phase: Phase,
        loss_of: LossOf,
        num_rows: int,
        whole: bool,
        known: float | None = None,
    ) -> Seen:
        """Evaluates the last parameters and their average, on the sample unless the ``whole`` is asked for.

        ``known``: the loss of the last parameters, where something has told it.
        """
        sample = None if whole or num_rows <= self.rows else self.rows
        if sample is not None and self.compared_at is not None:
            self.loss = loss_of(self.compared_at, sample)
            self.offset, self.compared_at = self.whole_loss - self.loss, None
        # L-BFGS and Newton know the loss where they stand, but where corners are rounded.
        if not phase.batch_size and not phase.rule.width and state.memory.point is not None:
            known = state.memory.value
        last_loss = known if known is not None else loss_of(state.parameters, sample)
        if sample is not None and last_loss < NO_LONGER_NEAR * self.loss:
            sample = None
            last_loss = loss_of(state.parameters, None)
        parameters, loss = state.parameters, last_loss
        if average is not None:
            average_loss = loss_of(average, sample)
            if average_loss < loss or not isfinite(loss):
                parameters, loss = average, average_loss
        if sample is not None:
            return Seen(parameters, loss + self.offset, last_loss + self.offset)
        if phase.batch_size and num_rows > self.rows:
            self.compared_at, self.whole_loss = parameters.copy(), loss
        return Seen(parameters, loss, last_loss)
