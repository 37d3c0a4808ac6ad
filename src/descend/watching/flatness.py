"""Whether a run still gains: three rules, each for runs of its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite

from descend.updates.schedules import PLATEAU_EPOCHS, PLATEAU_GAIN
from descend.watching.limits import Limits

FEWEST_UPDATES = 50
"""A gain is judged over at least as many updates: momentum swings, and five of its steps say nothing."""
HELD_OUT_FLOOR = 0.1
HELD_OUT_PATIENCE = 1.6
"""Of ``Limits.patience``. Eight epochs for five: letter 0.9595 → 0.9622 of the rows, kin40k 0.156 → 0.150, adult the
same, means of six seeds, for 1.3 to 1.9 times the time. Ten epochs gain no more, and patience that grows
faster little for much time."""
UNMOVED = 0.95
PLATEAU_UPDATES = 2000
"""A network that is no better than the best constant may be on the plateau where many begin: so long it is given."""

Mark = tuple[int, float]
"""An epoch, and the loss of every row at its end."""


def gained_nothing(marks: Sequence[Mark], window: int, tol: float) -> bool:
    """Whether the last ``window`` epochs gained less than a tenth of the share ``tol`` of all that was gained."""
    epoch, first = marks[-1][0], marks[0][1]
    before = [loss for then, loss in marks if then <= epoch - window]
    if not before:
        return False
    lowest = min(loss for _, loss in marks)
    return min(before) - lowest <= 0.1 * tol * (first - lowest)


def on_plateau(window: int, loss: float, first: float, epochs_of: Callable[[int], int]) -> int:
    """The epochs of patience with a network whose ``loss`` of the training rows is hardly below ``first``."""
    return max(window, epochs_of(PLATEAU_UPDATES)) if loss > UNMOVED * abs(first) else window


@dataclass(slots=True)
class Plateau:
    """The schedule "plateau": the rate falls after epochs in which the last parameters' loss hardly did."""

    loss: float = inf
    epoch: int = 0
    """Of the last gain that counted, or of the last fall of the rate."""
    slowed: int | None = None
    """The epoch of the first fall."""

    def is_reached(self, loss: float, epoch: int) -> bool:
        """Whether the rate is to fall behind this epoch."""
        if loss < self.loss - PLATEAU_GAIN * abs(self.loss) or not isfinite(self.loss):
            self.loss, self.epoch = loss, epoch
            return False
        if epoch - self.epoch < PLATEAU_EPOCHS:
            return False
        self.epoch = epoch
        self.slowed = self.slowed or epoch
        return True

    def has_yet_to_show(self, epoch: int, window: int) -> bool:
        """Whether a lower rate has not yet had the time to show what it gains."""
        return self.slowed is None or epoch - self.slowed < window


@dataclass(slots=True)
class Flatness:
    """Of a network's phases, which end where nothing more is gained.

    A gain counts when it is a share ``tol`` of the score, or of the constant model's where that is more: a loss
    that can fall to zero falls for ever. Rows held out may be believed longer: a tenth of that, and patience
    is more and grows with the run. Without them a network goes on to learn the noise by heart, ever more slowly.
    """

    score: float = inf
    epoch: int = 0
    """Of the last gain that counted, or since when another rate is tried."""

    def is_reached(
        self,
        score: float,
        loss: float,
        first: float,
        epoch: int,
        epochs_of: Callable[[int], int],
        limits: Limits,
    ) -> bool:
        """Whether nothing more is gained behind this epoch.

        ``loss``: of the training rows at the best score, for few rows held out may have a lower one than all from
        the start; ``first``: the loss that gains are counted from; ``epochs_of``: epochs that so many updates take.
        """
        assert limits.tol is not None
        floor, patience = 1.0, limits.patience
        if limits.early_stopping:
            floor, patience = HELD_OUT_FLOOR, max(ceil(HELD_OUT_PATIENCE * patience), epoch // 25)
        window = on_plateau(max(patience, epochs_of(FEWEST_UPDATES)), loss, first, epochs_of)
        if score < self.score - limits.tol * max(abs(self.score), floor * abs(first)) or not isfinite(
            self.score
        ):
            self.score, self.epoch = score, epoch
            return False
        if epoch - self.epoch < window:
            return False
        self.epoch = epoch
        return True
