"""What is seen of a run: when somebody looks, the losses there, the history, the best parameters so far.

What decides the result (whole evaluations, windows of the average, the tuner's looks) happens at places that follow
from the numbers of rows and steps alone, never from the time of day: the same seed gives the same model on a
busy machine. Only a time budget, which asks for it, depends on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite

from descend.averaging import TailAverage
from descend.batches import rows_between_cuts
from descend.engines.base import Engine, State
from descend.history import History
from descend.recipe import Phase
from descend.types import FloatArray
from descend.updates.schedules import rate_at
from descend.watching.flatness import Mark
from descend.watching.keepers import Tuner
from descend.watching.limits import Limits
from descend.watching.losses import Kept, Sample, Seen
from descend.watching.observation import Callback, Observation
from descend.watching.sparing import FEW, ROWS_BETWEEN, Depth, Sparing

LOOK_SECONDS = 0.2
BLOW_UP = 100.0
"""A loss this many times the first is taken for divergence."""
FAR_ABOVE = 2.0
"""The same where a tuner can take it back."""
HARDLY_WORSE = 0.002
"""Of the gain. For so little, rows held out went back over several passes: three of ten fits of adult (28,000 rows)
were left 0.4 to 0.5 % of the gain above the best place, told on rows apart. By this it is 0.23 % less there (means of
ten seeds), 0.67 % on fashion_mnist, 0.36 % on 1,500 rows of usps, and the same to 0.07 % on small parts of four
others. With one standard error in its place, fits of 1,500 rows of fashion_mnist were 3 % worse."""

FEW_HELD_OUT = 30
"""Fewer rows held out do not choose the beginning of a convex fit: a handful that lie on the far side prefer
knowing nothing. Of 66 fits of tables of 20 to 200 rows in which rows held out outweighed the certificate, 35 gave
back the constant model. With the best pass behind it in its place, on rows apart (20 rows, 40, 100, 200 of a weak
signal): accuracy 0.50, 0.53, 0.57, 0.56 → 0.57, 0.61, 0.64, 0.66; log loss 0.77, 0.71, 0.67, 0.67 → 0.86, 0.73,
0.64, 0.62. With the last pass: accuracy 0.56, 0.61, 0.64, 0.66; log loss 2.66, 1.02, 0.67, 0.62."""


@dataclass(slots=True)
class Observer:
    """Looks at one run. ``unit`` turns the engine's loss into the user's (squared error of a scaled target)."""

    engine: Engine
    num_visits: int
    limits: Limits
    validation: Engine | None = None
    tail: TailAverage | None = None
    cuts_windows: bool = True
    """Whether the run is cut where the average's windows close, each at its own step and not where somebody looks;
    else the engine closes them. Small batches, which go several together, are cut there anyway."""
    tuner: Tuner | None = None
    mend: Callable[[State], object] | None = None
    """Starts anew what has died on the way, at a tuner's looks and whole ones; on the clock."""
    unit: float = 1.0
    callbacks: Sequence[Callback] = ()
    first_loss: float | None = None
    """The loss before the first step, where a formula gives it."""
    fresh: bool | None = None
    """Whether the run began at a model that knows nothing; None: where all parameters are zero. One that begins at an
    optimum may hover above it, and its first loss is where another ended: told of every row."""
    snapshot: Callable[[FloatArray], object] | None = None
    """Called with the last parameters at every observation: the path over the loss surface."""
    history: History = field(default_factory=History)
    phase: Phase = field(init=False)
    best: Kept = field(init=False)
    latest: Kept = field(init=False)
    as_good: Kept | None = None
    """The last behind the best that rows held out like hardly less, and that fits the training rows better: of convex
    objectives alone, on which every pass comes nearer to the optimum."""
    behind_start: Kept | None = None
    """The best behind the first, where rows held out are too few to choose the first."""
    sample: Sample = field(default_factory=Sample)
    sparing: Sparing = field(default_factory=Sparing)
    stopped: str = ""
    asked_to_stop: bool = False
    """A callback asked for the end: it comes when the look is done with, as if nobody had asked."""
    seconds: float = 0.0
    call_seconds: float = 0.0
    """What it takes to enter the engine and come back. An epoch is entered once; more often only to look."""
    _started: float = 0.0
    _last_seconds: float = 0.0
    _last_look: float = 0.0
    _rows: int = 0
    _steps: int = 0
    _next_dense: int = 1
    _marks: list[Mark] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        """Rows in a batch of the phase that is going on."""
        return self.phase.batch_size or self.engine.num_rows

    @property
    def _first(self) -> float:
        """The loss before the first step; marks told by a sample are as far off as that is."""
        return self._marks[0][1] + self.sparing.offset

    @property
    def _knows_nothing(self) -> float:
        """The loss that gains are counted from: the best constant model's, or where the run began."""
        return self._first if self.limits.constant is None else self.limits.constant

    def _gain(self) -> float:
        return self._knows_nothing - min(loss for _, loss in self._marks)

    @property
    def chosen(self) -> Kept:
        """What would be returned, as far as losses choose."""
        kept = self.as_good or self.best
        return self.behind_start or kept if kept.epoch == 0 else kept

    def _has_blown_up(self, loss: float) -> bool:
        first = abs(self._first)
        if self.tuner is None:
            return not isfinite(loss) or loss > BLOW_UP * max(first, 1e-300)
        return not isfinite(loss) or loss > FAR_ABOVE * max(first, abs(self.limits.constant or 0.0))

    # --- the clock -------------------------------------------------------------------------------

    def _resume(self) -> None:
        self._started = time.perf_counter()

    def _pause(self) -> None:
        if self._started:
            self.seconds += time.perf_counter() - self._started
        self._started = 0.0

    def _visits_until_next_look(self, start: int, num_visits: int) -> int:
        visits = self._visits_by_count() if self.engine.cut_rows else self._visits_by_clock()
        visits = min(visits, num_visits - start)
        if self.tuner is not None and self.phase.tuned:
            visits = min(visits, max(1, self.tuner.next_visit - self._rows))
        together, batch_size = rows_between_cuts(self.batch_size), self.batch_size
        visits += -visits % together  # cut apart, they round differently
        steps = ceil(visits / batch_size)
        if self.tail is not None and (self.cuts_windows or together != batch_size):
            steps = min(steps, max(1, self.tail.next_close - self._steps))
        return steps * batch_size

    def _visits_by_clock(self) -> int:
        visits = 4096  # before anything is known about the speed
        if self.seconds > 0 and self._rows:
            visits = ceil(LOOK_SECONDS * self._rows / self.seconds)
        return min(visits, max(1, self._next_dense - self._rows)) if self.limits.dense else visits

    def _visits_by_count(self) -> int:
        """Where a cut changes how steps round, the clock has no say in it."""
        more = ceil((self.limits.growth - 1.0) * self._rows)
        return min(self.engine.cut_rows, max(1, more)) if self.limits.dense else self.engine.cut_rows

    def _look_is_due(self) -> bool:
        if self.limits.dense and self._rows >= self._next_dense:
            return True
        return self.seconds - self._last_look >= LOOK_SECONDS

    def _tuner_is_due(self) -> bool:
        return self.tuner is not None and self.phase.tuned and self._rows >= self.tuner.next_visit

    # --- observing -------------------------------------------------------------------------------

    def _observe(self, state: State, epoch: int, whole: bool, last: bool = False) -> float:
        """Evaluates, records and tells; returns the loss of what would be returned (in the engine's unit).

        ``whole``: an end of an epoch at which is decided; ``last``: nothing comes after it, as far as is known.
        """
        seen = self._look(state, epoch, whole, last)
        validation_loss = self._validation_loss(seen.parameters, whole)
        if whole:
            self._keep_if_best(epoch, seen, validation_loss)
        self._record(state, seen.loss, seen.last_loss, validation_loss)
        self._tell(seen.loss, validation_loss, state.steps)
        self._last_look = self.seconds
        apart = ROWS_BETWEEN if self.limits.thrifty else 1
        self._next_dense = max(self._rows + apart, ceil(self.limits.growth * self._rows))
        if self.snapshot is not None:
            self.snapshot(state.parameters)
        return seen.loss

    def _look(self, state: State, epoch: int, whole: bool, last: bool) -> Seen:
        """Evaluates the last parameters and their average: on all rows, or on some that stand for them."""
        average = self.tail.parameters(state) if self.tail is not None else None
        num_rows, limits = self.engine.num_rows, self.limits
        if limits.thrifty and (limits.by_sample or not whole):
            depth: Depth = "few"
            if whole:
                everything = self.sparing.is_due(epoch) or last or (epoch == 0 and not self.fresh)
                depth = "whole" if everything else "sample"
            return self.sparing.look(state.parameters, average, self._loss, num_rows, depth)
        known = self.first_loss if epoch == 0 and whole else None
        seen = self.sample.look(state, average, self.phase, self._loss, num_rows, whole, known)
        if limits.thrifty and self.phase.batch_size:
            self.sparing.correct_few(seen.loss, self._loss(seen.parameters, FEW))
        return seen

    def _loss(self, parameters: FloatArray, num_rows: int | None) -> float:
        if self.limits.certify and num_rows is None and (self._rows or not self.phase.batch_size):
            return self.engine.mean_loss(parameters, gradient_follows=True)
        return self.engine.mean_loss(parameters, num_rows)

    def _validation_loss(self, parameters: FloatArray, whole: bool = True) -> float | None:
        validation = self.validation
        if validation is None:
            return None
        if not self.limits.thrifty or not self.phase.batch_size:
            return validation.mean_loss(parameters)
        return self.sparing.held_out(parameters, validation.mean_loss, whole)

    def _keep_if_best(self, epoch: int, seen: Seen, validation_loss: float | None) -> None:
        score = seen.loss if validation_loss is None or not self.limits.early_stopping else validation_loss
        kept = Kept(
            epoch,
            score,
            seen.loss,
            seen.last_loss,
            validation_loss,
            seen.parameters.copy(order="K"),
            seen.whole,
        )
        self.latest = kept
        if not self._marks or (score < self.best.score and not self._has_blown_up(seen.loss)):
            self.best, self.as_good = kept, None
        elif self.limits.certify and kept.loss < self.chosen.loss and self._is_hardly_worse(score):
            self.as_good = kept
        if self._marks and self._too_few_held_out() and kept.loss < self._first:
            self.behind_start = min(kept, self.behind_start or kept, key=lambda one: one.score)

    def _too_few_held_out(self) -> bool:
        """Whether the rows held out have no say against a model that is trained, however little."""
        if self.validation is None or not (self.limits.early_stopping and self.limits.certify):
            return False
        return bool(self.fresh) and self.validation.num_rows < FEW_HELD_OUT

    def _is_hardly_worse(self, score: float) -> bool:
        return score - self.best.score <= HARDLY_WORSE * self._gain()

    def _record(self, state: State, loss: float, last_loss: float, validation_loss: float | None) -> None:
        rule = self.phase.rule
        self.history.append(
            {
                "seconds": self.seconds,
                "epoch": self._rows / self.num_visits,
                "rows": self._rows,
                "updates": state.steps,
                "loss": _number(loss * self.unit),
                "last_loss": _number(last_loss * self.unit),
                "validation_loss": None if validation_loss is None else _number(validation_loss * self.unit),
                "batch_size": self.batch_size,
                "learning_rate": rate_at(
                    rule.schedule, rule.rate_in(state), max(1, state.steps), rule.num_steps
                ),
            }
        )

    def loss_at_start(self, parameters: FloatArray) -> float:
        """The loss there, from as many rows as ends of epochs read."""
        self.take_sample(parameters)
        by_sample = self.limits.by_sample and self.fresh
        return self.engine.mean_loss(parameters, self.sparing.rows if by_sample else None)

    def take_sample(self, parameters: FloatArray) -> None:
        """Settles how many rows looks read that do not read them all."""
        self.sample.take(parameters.size)
        self.sparing.take(self.engine.num_rows, self.sample.rows)

    def tell_beginning(self, loss: float) -> None:
        """Tells callbacks of the loss before the first step, where steps are taken before ``start``."""
        self._tell(loss, None, 0)

    def _tell(self, loss: float, validation_loss: float | None, steps: int) -> None:
        if not self.callbacks or self.stopped or self.asked_to_stop:  # who ended the run is not asked again
            return
        speed = self._rows / self.seconds if self.seconds > 0 else 0.0
        observation = Observation(
            seconds=self.seconds,
            epoch=self._rows / self.num_visits,
            rows=self._rows,
            updates=steps,
            loss=loss * self.unit,
            validation_loss=None if validation_loss is None else validation_loss * self.unit,
            rows_per_second=speed,
            seconds_left=self._seconds_left(speed),
        )
        for callback in self.callbacks:
            if callback(observation) is True and not self.stopped:
                self.asked_to_stop = True
                self.history.stopped_by_callback = True

    def _seconds_left(self, speed: float) -> float | None:
        left = []
        if self.limits.seconds is not None:
            left.append(self.limits.seconds - self.seconds)
        if speed > 0 and not self.limits.certify:  # a certificate comes long before the last allowed epoch
            left.append((self.limits.epochs * self.num_visits - self._rows) / speed)
        return max(0.0, min(left)) if left else None


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None
