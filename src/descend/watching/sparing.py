"""Looks that cost little beside the steps between them: a few rows tell what changed since more were read.

    inside an epoch      FEW rows
    end of an epoch      FEW rows choose between the last parameters and their average; a tenth of all rows tell the
                         loss of what was chosen, and every row where their loss decides on something, in epochs
                         8, 16, 32, …, and at the end: there the tenth chooses
    rows held out        all of them at ends of epochs, FEW inside

Each smaller set is corrected by what it was off the larger one when both were read last. Only rows in random order
stand for the others. What is read follows from epochs alone, never from the time of day.

A few rows err in one of thirty runs of five epochs, and last parameters of large steps may have a hundred times the
excess loss of their average.

Before that a network read all rows at every end of an epoch, twice, and 10,000 of them wherever its rate was looked
at, all off its own clock: letter waited 43 ms for 13 of training (``docs/architecture.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from descend.types import FloatArray
from descend.watching.losses import LossOf, Seen

FEW = 256
SHARE, FEWEST = 0.1, 1000
FIRST_WHOLE = 8
"""The epoch whose end reads every row for the first time; then at twice as many each."""
LOOK_SHARE = 0.05
EVALUATION = 0.4
"""What a row costs that is only evaluated, as a share of one that is trained on."""
ROWS_BETWEEN = int(3 * FEW * EVALUATION / LOOK_SHARE)
"""Looks inside an epoch are at least so many rows apart: three sets of a few rows are a twentieth of that."""

Depth = Literal["few", "sample", "whole"]


@dataclass(slots=True)
class Sparing:
    """What smaller sets of rows are off the larger ones."""

    rows: int = 0
    """Of the sample."""
    offset: float = 0.0
    """The loss of all rows less the sample's, when both were known last."""
    offset_of_few: float = 0.0
    """The same of what was told last, and the few rows."""
    offset_held_out: float = 0.0
    held_out_at: FloatArray | None = None
    loss_held_out: float = 0.0
    """Parameters whose loss on all rows held out is known, and that on few of them not yet: most epochs end
    without it."""
    next_whole: int = FIRST_WHOLE

    def take(self, num_rows: int, most: int) -> None:
        """Settles how many rows the sample has: no more than ``most``."""
        self.rows = min(max(FEWEST, int(SHARE * num_rows)), most, num_rows)

    def is_due(self, epoch: int) -> bool:
        """Whether the end of this epoch reads every row."""
        if epoch < self.next_whole:
            return False
        self.next_whole = 2 * epoch
        return True

    def look(
        self,
        parameters: FloatArray,
        average: FloatArray | None,
        loss_of: LossOf,
        num_rows: int,
        depth: Depth,
    ) -> Seen:
        """Evaluates the better of ``parameters`` and ``average``."""
        either = [parameters] if average is None else [parameters, average]
        few = [loss_of(one, FEW) for one in either]
        by_more = depth == "whole" and len(either) > 1 and self.rows > FEW
        told = [loss_of(one, self.rows) for one in either] if by_more else few
        best = int(len(either) > 1 and (told[1] < told[0] or not isfinite(told[0])))
        chosen = either[best]
        if depth == "few":
            return Seen(chosen, few[best] + self.offset_of_few, few[0] + self.offset_of_few, whole=False)
        loss = told[best] if by_more or self.rows <= FEW else loss_of(chosen, self.rows)
        if depth == "whole" and self.rows < num_rows:
            exact = loss_of(chosen, None)
            self.offset = exact - loss if isfinite(exact - loss) else 0.0
            loss = exact
        else:
            loss += self.offset
        self.correct_few(loss, few[best])
        whole = depth == "whole" or self.rows == num_rows
        return Seen(chosen, loss, few[0] + self.offset_of_few if best else loss, whole)

    def correct_few(self, loss: float, few: float) -> None:
        """A larger set has told ``loss`` of the same parameters."""
        self.offset_of_few = loss - few if isfinite(loss - few) else 0.0

    def held_out(self, parameters: FloatArray, loss_of: LossOf, whole: bool) -> float:
        """The loss of rows held out, at parameters that the last one may not have been told of."""
        if whole:
            self.held_out_at, self.loss_held_out = parameters.copy(), loss_of(parameters, None)
            return self.loss_held_out
        if self.held_out_at is not None:
            difference = self.loss_held_out - loss_of(self.held_out_at, FEW)
            self.offset_held_out = difference if isfinite(difference) else 0.0
            self.held_out_at = None
        return loss_of(parameters, FEW) + self.offset_held_out
