"""Everything that looks at a run without being part of it: clock, history, stopping, the best parameters so far.

What decides the result (whole evaluations, windows of the average, stopping) happens at places that follow
from the numbers of rows and steps alone, never from the time of day: the same seed gives the same model on a
busy machine. Only a time budget, which asks for it, depends on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf, isfinite
from typing import Any, Protocol

from descend.averaging import TailAverage
from descend.batches import GROUP
from descend.engines.base import Engine, State
from descend.history import History
from descend.recipe import Phase
from descend.types import FloatArray, IntArray
from descend.updates.schedules import PLATEAU_EPOCHS, PLATEAU_FACTOR, PLATEAU_GAIN, rate_at

SAMPLE_ROWS = 10_000
SAMPLE_NUMBERS = 8_000_000
"""A look inside an epoch reads this many numbers at most (some milliseconds), but at least SAMPLE_ROWS rows."""
FEWEST_UPDATES = 50
"""A gain is judged over at least as many updates: momentum swings, and five of its steps say nothing."""
LOOK_SECONDS = 0.2
WORTHWHILE = 2.5
ASTRAY = 0.02
"""Steps on batches have gone astray when they end an epoch above the best by this share of the gain."""
CLOSE_FROM, CLOSE_SOON = 8.0, 100.0
"""The certificate's step is taken where it is estimated to gain no more than so many times what may be left: sooner
where another epoch over batches would follow, which takes longer than a few certificates."""
HELD_OUT_FLOOR = 0.1
UNMOVED = 0.95
PLATEAU_UPDATES = 2000
"""A network that is no better than the best constant may be on the plateau where many begin: so long it is given."""
TO_THE_LAST_DIGIT = 1e-12
"""Where so little may be left the step is one more, and not the one that arrives."""
BLOW_UP = 100.0
"""A loss this many times the first is taken for divergence."""
FAR_ABOVE = 2.0
"""The same where a tuner can take it back."""
CLEARLY_ABOVE = 0.1
"""A run that ends by this share above its first loss has diverged; less is what data without a signal do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run ends."""

    epochs: int
    seconds: float | None = None
    tol: float | None = 1e-3
    """Ends when the last quarter of the epochs gained less than a tenth of this share of all that was gained;
    None: never. A tenth, because what is left is several times the last gain where progress is slow."""
    patience: int = 5
    """The least number of epochs that a quarter is taken for."""
    early_stopping: bool = False
    certify: bool = False
    """Ends when the estimated gap is below ``tol`` of what was gained (``engines/certificate.py``)."""
    asked: float | None = None
    """``tol`` as it was asked for, where a smaller one is attempted."""
    close: bool = False
    """The certificate's own step may be taken as the last one."""
    by_batches: bool = False
    """An epoch over batches is followed by others."""
    constant: float | None = None
    """The loss of the best constant model, from which gains are counted; None: from where the run began."""
    rounding: float = 1e-7
    """What is left to gain below this share of the first loss cannot be told from rounding."""
    plateau: bool = False
    """The rate falls where the loss does not: the schedule "plateau"."""
    exact: bool = False
    """The caller asked for so many epochs: what they end with is returned, and not the best on the way."""
    dense: bool = False
    """Look often from the first step on, at row counts that grow by ``growth``: for curves."""
    growth: float = 1.1


@dataclass(frozen=True, slots=True)
class Observation:
    """What a callback is told."""

    seconds: float
    epoch: float
    rows: int
    updates: int
    loss: float
    validation_loss: float | None
    rows_per_second: float
    seconds_left: float | None
    """Until the last allowed epoch or the end of the time budget; None when neither is near."""


Callback = Callable[[Observation], object]


@dataclass(frozen=True, slots=True)
class Place:
    """How far a run is: phases and epochs are counted as they begin, ``visits`` are those of the epoch."""

    phase: int = 0
    phase_epoch: int = 0
    epoch: int = 0
    visits: int = 0
    epoch_done: bool = True

    @property
    def begins_phase(self) -> bool:
        return self.phase_epoch == 1 and self.visits == 0

    def after(self, visits: int, num_visits: int) -> Place:
        """So many of the epoch's rows later."""
        return replace(self, visits=visits, epoch_done=visits >= num_visits)


class Saver(Protocol):
    """Keeps a run on the disk (``checkpoint.py``); its time is not the run's."""

    def is_due(self) -> bool:
        """Whether it is time to save again."""
        ...

    def save(self, state: State, watch: Watch, looked: bool) -> None:
        """Writes where the run is; ``looked``: the watch has done with this place."""
        ...


class Tuner(Protocol):
    """Moves a run's rate while it goes on (``batch_size/controller.py``); its time is the run's."""

    next_visit: int
    """After so many rows it wants to look."""

    def refuses(self, state: State, loss: float) -> bool:
        """Whether what was found before the first step is none: then it takes ``state`` back to where all began."""
        ...

    def kept(self) -> dict[str, Any]:
        """What it remembers, for a checkpoint; ``recall`` takes it back."""
        ...

    def recall(self, kept: dict[str, Any]) -> None: ...

    def begin(self, state: State) -> None:
        """A phase begins where ``state`` is."""
        ...

    def look(self, state: State, average: FloatArray | None, astray: bool) -> bool:
        """May change the rate's ``pace`` of ``state``; True: it took the parameters back, too.

        ``astray``: it should, for the loss of other rows has blown up.
        """
        ...


@dataclass(slots=True)
class Kept:
    """Parameters, with what a whole evaluation said of them."""

    epoch: int
    score: float
    loss: float
    last_loss: float
    validation_loss: float | None
    parameters: FloatArray


@dataclass(slots=True)
class Watch:
    """Follows one run. ``unit`` turns the engine's loss into the user's (squared error of a scaled target)."""

    engine: Engine
    num_visits: int
    limits: Limits
    validation: Engine | None = None
    tail: TailAverage | None = None
    tuner: Tuner | None = None
    unit: float = 1.0
    callbacks: Sequence[Callback] = ()
    first_loss: float | None = None
    """The loss before the first step, where a formula gives it."""
    snapshot: Callable[[FloatArray], object] | None = None
    """Called with the last parameters at every observation: the path over the loss surface."""
    history: History = field(default_factory=History)
    phase: Phase = field(init=False)
    phase_is_over: bool = False
    gap: float | None = None
    """The last estimate of what is left to gain, in the engine's unit; None without a certificate."""
    bound: float | None = None
    """What is left to gain at the most, where the certificate says so."""
    fresh: bool | None = None
    """Whether the run began at a model that knows nothing; None: where all parameters are zero. One that begins at an
    optimum may hover above it."""
    certified: bool = False
    """Whether a certificate ended the run."""
    kept_above: float = 0.0
    """How far the loss of the parameters that are kept is above that of the last ones."""
    retreated: bool = False
    """Whether steps on batches went astray: the rest is left to a method of every row."""
    best: Kept = field(init=False)
    latest: Kept = field(init=False)
    sample_rows: int = 0
    stopped: str = ""
    asked_to_stop: bool = False
    """A callback asked for the end: it comes when the look is done with, as if nobody had asked."""
    saver: Saver | None = None
    place: Place = field(default_factory=Place)
    """Where the run is; kept up by ``training.py``."""
    seconds: float = 0.0
    call_seconds: float = 0.0
    """What it takes to enter the engine and come back. An epoch is entered once; more often only to look."""
    _started: float = 0.0
    _rows: int = 0
    _steps: int = 0
    _phase_epochs: int = 0
    _previous_gap: float = inf
    _plateau_loss: float = inf
    _plateau_epoch: int = 0
    _slowed_epoch: int | None = None
    """Where the rate fell first."""
    _flat_score: float = inf
    _flat_epoch: int = 0
    """The score, and the epoch, of the last gain that counted in a phase that ends when nothing is gained."""
    _next_dense: int = 1
    _next_epoch: int = 1
    _last_look: float = 0.0
    _last_seconds: float = 0.0
    _sample_offset: float = 0.0
    _offset_loss: float = 0.0
    _offset_at: FloatArray | None = None
    _offset_whole: float = 0.0
    """Parameters whose loss on all rows is known, and that on the sample not yet: most epochs end without it."""
    _marks: list[tuple[int, float]] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        """Rows in a batch of the phase that is going on."""
        return self.phase.batch_size or self.engine.num_rows

    def start(self, state: State, phase: Phase) -> None:
        """The row of the history before the first step; starts the clock."""
        self.phase = phase
        self._rows, self._steps = state.visits, state.steps
        self._last_seconds = self.seconds
        if self.fresh is None:
            self.fresh = not state.parameters.any()
        self.sample_rows = max(SAMPLE_ROWS, SAMPLE_NUMBERS // state.parameters.size)
        loss = self._observe(state, epoch=0, whole=True)
        if self.tuner is not None and self.tuner.refuses(state, loss):
            loss = self._observe(state, epoch=0, whole=True)
        self._marks.append((0, loss))
        self._resume()

    def enter(self, phase: Phase, call_seconds: float, state: State) -> None:
        """A new phase begins."""
        if phase.when_flat in ("next", "stop") and self.tail is not None:
            self.tail.begin_anew(state)
        self.phase, self.phase_is_over, self.call_seconds = phase, False, call_seconds
        self._phase_epochs = 0
        self._previous_gap = inf
        if self.tuner is not None:
            self.tuner.begin(state)

    def go_on(self, phase: Phase, call_seconds: float, state: State, looked: bool) -> bool:
        """Starts the clock of a run that was begun before, inside ``phase``; True where it is over.

        ``looked``: ``look`` has been at its place.
        """
        self.phase, self.call_seconds = phase, call_seconds
        if not looked:
            return self.look(state)
        if not self.stopped:
            self._resume()
        return bool(self.stopped)

    def parts(self, rows: IntArray | None, start: int = 0) -> Iterator[slice]:
        """An epoch of ``rows`` cut where somebody looks, always between two batches; the full batch is whole.

        ``start``: so many of them are behind it.
        """
        if rows is None:
            yield slice(0, self.num_visits)
            return
        num_visits = len(rows)
        del rows  # it may be let go before the last part is done with
        while start < num_visits:
            stop = start + self._visits_until_next_look(start, num_visits)
            yield slice(start, min(stop, num_visits))
            start = stop

    def look(self, state: State) -> bool:
        """Called after every part of an epoch, with ``place`` behind it; True ends the run."""
        self._pause()
        epoch, epoch_done = self.place.epoch, self.place.epoch_done
        if not epoch_done:
            self.seconds = max(self._last_seconds, self.seconds - self.call_seconds)
        self._last_seconds = self.seconds
        self._rows, self._steps = state.visits, state.steps
        if self.tail is not None:
            self.tail.close_if_due(state)
        out_of_time = self.limits.seconds is not None and self.seconds >= self.limits.seconds
        last = epoch_done and (epoch == self.limits.epochs or self._no_pass_left())
        at_limit = out_of_time or last
        if self.saver is not None and at_limit:
            # With higher limits the run goes on as if it had not looked here.
            self.saver.save(state, self, looked=False)
        self._phase_epochs += epoch_done
        whole = epoch_done and (
            epoch >= self._next_epoch or last or self.limits.certify or self.limits.plateau
        )
        if whole or out_of_time:
            self._next_epoch = max(epoch + 1, ceil(1.05 * epoch))
            loss = self._observe(state, epoch, whole=True)
            self._decide(state, loss, epoch, out_of_time, last)
            if self.limits.plateau:
                self._slow_down_on_plateau(state, epoch)
        elif self._look_is_due() or self._tuner_is_due():
            self._observe(state, epoch, whole=False)
        if self._tuner_is_due() and not self.stopped and not self.phase_is_over:
            self._tune(state, epoch)
        if self.saver is not None and not at_limit and (self._is_over or self.saver.is_due()):
            self.saver.save(state, self, looked=True)
        if self.asked_to_stop and not self.stopped:
            self.stopped = "interrupted"
        self._resume()
        return bool(self.stopped)

    @property
    def _is_over(self) -> bool:
        return bool(self.stopped) or self.asked_to_stop

    def _tune(self, state: State, epoch: int, astray: bool = False) -> bool:
        """Lets the tuner move the rate, on the clock; whether it took the parameters back as well.

        Its looks are not those of the clock's time: these would make results depend on how busy a machine is.
        """
        if self.tuner is None:
            return False
        self._resume()
        average = None if self.tail is None else self.tail.parameters(state)
        if astray:
            state.parameters[:] = self.best.parameters
        taken_back = self.tuner.look(state, average, astray)
        if taken_back:
            self._flat_epoch = epoch  # a lower rate has yet to show what it gains
            if self.tail is not None:
                self.tail.begin_anew(state)
        self._pause()
        self._last_seconds = self.seconds
        return taken_back

    def finish(self, state: State) -> FloatArray:
        """Ends the history with the parameters that are returned, and returns them."""
        self._pause()
        if not self.stopped:  # the phases are over: as low as numbers can tell, or given up
            if self.saver is not None:
                self.saver.save(state, self, looked=True)
            self.stopped = "converged" if self._is_good_enough() else "epochs"
        if self.stopped == "interrupted":  # somewhere inside an epoch: what was learnt there counts too
            self._observe(state, self._rows // self.num_visits, whole=True)
        kept = self.latest if self.limits.exact and self.stopped == "epochs" else self.best
        first = self._marks[0][1]
        came_to = self.latest if kept.epoch == 0 else kept
        above = came_to.loss > first + CLEARLY_ABOVE * abs(first)
        if above and self.fresh and self.stopped != "interrupted":
            self.stopped = "diverged"
        self._say_of_kept(kept)
        if self.history.last["loss"] != kept.loss * self.unit:
            self._record(state, kept.loss, kept.last_loss, kept.validation_loss)
        self.history.stopped = self.stopped
        return kept.parameters

    def _say_of_kept(self, kept: Kept) -> None:
        """What was told of the last parameters, for those that are kept.

        Earlier ones, which validation rows liked better, have as much more to gain as they lie above the last.
        """
        self.kept_above = max(0.0, kept.loss - self.latest.loss)
        self.gap = None if self.gap is None or not isfinite(self.gap) else self.gap + self.kept_above
        self.bound = None if self.bound is None else self.bound + self.kept_above

    def _no_pass_left(self) -> bool:
        """Whether the line searches of L-BFGS or Newton have used up the epochs that were asked for."""
        if not self.limits.exact or self.phase.batch_size:
            return False
        return self.limits.epochs * self.num_visits - self._rows < self.engine.num_rows

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
        if (
            self.batch_size == 1
        ):  # single rows go through the engine in fours: cut apart, they round differently
            visits += -visits % GROUP
        steps = ceil(visits / self.batch_size)
        if self.tail is not None:  # a window closes at its own step, not where somebody happens to look
            steps = min(steps, max(1, self.tail.next_close - self._steps))
        return steps * self.batch_size

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

    def _observe(self, state: State, epoch: int, whole: bool) -> float:
        """Evaluates, records and tells; returns the loss of what would be returned (in the engine's unit)."""
        sample = None if whole or self.engine.num_rows <= self.sample_rows else self.sample_rows
        self._learn_offset(sample)
        known = self.first_loss if epoch == 0 and whole else None
        # L-BFGS and Newton know the loss where they stand, but where corners are rounded.
        if not self.phase.batch_size and not self.phase.rule.width and state.memory.point is not None:
            known = state.memory.value
        last_loss = known if known is not None else self._loss(state.parameters, sample)
        if sample is not None and last_loss < 0.8 * self._offset_loss:
            sample = None  # so far below that the sample has to be compared with the whole again
            last_loss = self._loss(state.parameters, sample)
        parameters, loss = state.parameters, last_loss
        average = self.tail.parameters(state) if self.tail is not None else None
        if average is not None:
            average_loss = self._loss(average, sample)
            if average_loss < loss or not isfinite(loss):
                parameters, loss = average, average_loss
        if sample is not None:
            # What the sample is off the whole hardly changes between two looks: take it away.
            loss, last_loss = loss + self._sample_offset, last_loss + self._sample_offset
        elif self.phase.batch_size and self.engine.num_rows > self.sample_rows:
            self._offset_at, self._offset_whole = parameters.copy(), loss
        validation_loss = self._validation_loss(parameters)
        if whole:
            self._keep_if_best(epoch, parameters, loss, last_loss, validation_loss)
        self._record(state, loss, last_loss, validation_loss)
        self._tell(loss, validation_loss, state.steps)
        self._last_look = self.seconds
        self._next_dense = max(self._rows + 1, ceil(self.limits.growth * self._rows))
        if self.snapshot is not None:
            self.snapshot(state.parameters)
        return loss

    def _learn_offset(self, sample: int | None) -> None:
        """How far the sample's loss was off that of all rows, where both were last looked at."""
        if sample is not None and self._offset_at is not None:
            self._offset_loss = self._loss(self._offset_at, sample)
            self._sample_offset, self._offset_at = self._offset_whole - self._offset_loss, None

    def _loss(self, parameters: FloatArray, num_rows: int | None) -> float:
        if self.limits.certify and num_rows is None and (self._rows or not self.phase.batch_size):
            return self.engine.mean_loss(parameters, gradient_follows=True)
        return self.engine.mean_loss(parameters, num_rows)

    def _validation_loss(self, parameters: FloatArray) -> float | None:
        return None if self.validation is None else self.validation.mean_loss(parameters)

    def _keep_if_best(
        self,
        epoch: int,
        parameters: FloatArray,
        loss: float,
        last_loss: float,
        validation_loss: float | None,
    ) -> None:
        score = loss if validation_loss is None or not self.limits.early_stopping else validation_loss
        self.latest = Kept(epoch, score, loss, last_loss, validation_loss, parameters.copy())
        if not self._marks or (score < self.best.score and not self._has_blown_up(loss)):
            self.best = self.latest

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
                "learning_rate": state.pace
                * rate_at(rule.schedule, rule.rate, max(1, state.steps), rule.num_steps),
            }
        )

    def tell_beginning(self, loss: float) -> None:
        """Tells callbacks of the loss before the first step, where steps are taken before ``start``."""
        self._tell(loss, None, 0)

    def _tell(self, loss: float, validation_loss: float | None, steps: int) -> None:
        if self.stopped or self.asked_to_stop:  # who ended the run is not asked again
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
        if (
            speed > 0 and not self.limits.certify
        ):  # the certificate ends a run long before the last allowed epoch
            left.append((self.limits.epochs * self.num_visits - self._rows) / speed)
        return max(0.0, min(left)) if left else None

    # --- stopping --------------------------------------------------------------------------------

    def _decide(self, state: State, loss: float, epoch: int, out_of_time: bool, last: bool) -> None:
        first = self._marks[0][1]
        if self.phase.can_retreat and not loss <= self.best.loss + ASTRAY * max(0.0, first - self.best.loss):
            self._retreat(state)
            loss = self.best.loss
        if self._has_blown_up(loss) and self._tune(state, epoch, astray=True):
            loss = self._observe(state, epoch, whole=True)
        if self._has_blown_up(loss):
            if self.phase.when_flat == "next" and not (self.stopped or last):
                self._fall_back(state, epoch)
                self.stopped = "time" if out_of_time else ""
            else:
                self.stopped = "diverged"
            return
        self._marks.append((epoch, loss))
        updates_an_epoch = ceil(self.num_visits / self.batch_size)
        window = max(self.limits.patience, epoch // 4, ceil(FEWEST_UPDATES / updates_an_epoch))
        if out_of_time:
            self.stopped = "time"
        elif self.phase.when_flat in ("next", "stop"):
            self._leave_when_flat(state, epoch, last)
        elif self.limits.early_stopping and epoch - self.best.epoch >= window:
            self.stopped = "early_stopping"
        elif (
            self._is_certified(state, first, epoch)
            if self.limits.certify
            else self._gained_nothing(first, epoch, window)
        ):
            self.stopped = "converged"
        elif last:
            self.stopped = "epochs"

    def _has_blown_up(self, loss: float) -> bool:
        first = abs(self._marks[0][1])
        if self.tuner is None:
            return not isfinite(loss) or loss > BLOW_UP * max(first, 1e-300)
        return not isfinite(loss) or loss > FAR_ABOVE * max(first, abs(self.limits.constant or 0.0))

    def _is_certified(self, state: State, first: float, epoch: int) -> bool:
        """Whether what is left to gain is small enough; also tells whether the phase still pays.

        Twice the estimate has to be below ``tol`` of the gain, and be believed (``engines/closing.py``).
        """
        if self.limits.tol is None:
            return False
        lowest = min(loss for _, loss in self._marks)
        gain = (first if self.limits.constant is None else self.limits.constant) - lowest
        enough = 0.5 * max(self.limits.tol * gain, self.limits.rounding * abs(first))
        early = self.limits.close and self.limits.tol > TO_THE_LAST_DIGIT
        soon = self.phase.rule.by_sample or (self.limits.by_batches and self.phase.batch_size > 0)
        worth_closing = (CLOSE_SOON if soon else CLOSE_FROM) * enough if early else enough
        self._previous_gap, self.gap = self.gap or inf, self.engine.estimate_gap(state, worth_closing)
        self.bound = None
        if self.retreated and self.phase.batch_size:
            return False
        slow = self._phase_epochs >= 2 and self.gap > self._previous_gap / WORTHWHILE
        self.phase_is_over = (self.phase.leave_when_slow and slow) or state.memory.stuck
        if self.phase.rule.width:
            small = self.gap <= self.phase.rule.width * len(state.parameters)
            # Where this width hides little enough, it is the last one.
            self.phase_is_over = (small and state.memory.hidden > 0.5 * enough) or state.memory.stuck
        if self.phase.rule.width or self.gap > worth_closing or state.memory.toward is None:
            self.certified = self.gap <= enough
            return self.certified
        return self._closes(state, enough, epoch)

    def _closes(self, state: State, enough: float, epoch: int) -> bool:
        """Whether the certificate is believed; the step that it took to see may have moved the parameters."""
        self._resume()
        closing = self.engine.close(state, enough, move=self.limits.close)
        self._pause()
        self.gap, self.bound = closing.gap, closing.bound
        if closing.place is not None:
            self._rows, self._steps, self._last_seconds = state.visits, state.steps, self.seconds
            self._marks[-1] = (epoch, self._observe(state, epoch, whole=True))
            if not self.limits.early_stopping:
                self.best = self.latest  # lower, if only by what rounding hides in the loss
        if not self.phase.batch_size and not state.memory.stuck:
            self.phase_is_over = False  # the step led on where the optimizer's own did not
        self.certified = closing.certified
        return closing.certified

    def _retreat(self, state: State) -> None:
        """Goes back to the best parameters; the phases of batches that are left are passed over.

        Curvature is taken for a share of its bound that rows seen lately have, and many sure rows can hide a few
        that are not.
        """
        state.parameters[:] = self.best.parameters
        state.table = state.mean_gradient = None
        self.retreated = self.phase_is_over = True

    def _is_good_enough(self) -> bool:
        """Whether the gap that was left is within what was asked for, where more was attempted (small tables)."""
        if not self.limits.certify or self.limits.asked is None or self.gap is None:
            return False
        first = self._marks[0][1] if self.limits.constant is None else self.limits.constant
        self.certified = self.gap <= 0.5 * self.limits.asked * (first - min(loss for _, loss in self._marks))
        return self.certified

    def _slow_down_on_plateau(self, state: State, epoch: int) -> None:
        """The schedule "plateau": a lower rate after epochs in which the last parameters' loss hardly fell."""
        loss = self.latest.last_loss
        if loss < self._plateau_loss - PLATEAU_GAIN * abs(self._plateau_loss) or not isfinite(
            self._plateau_loss
        ):
            self._plateau_loss, self._plateau_epoch = loss, epoch
        elif epoch - self._plateau_epoch >= PLATEAU_EPOCHS:
            if self.phase.when_flat == "plateau":
                self.phase_is_over = True  # its rate is lower, or its batches are larger
            else:
                state.pace *= PLATEAU_FACTOR
            self._plateau_epoch = epoch
            self._slowed_epoch = self._slowed_epoch or epoch

    def _leave_when_flat(self, state: State, epoch: int, last: bool) -> None:
        """Of a network's phases: goes on from the best parameters at a lower rate, or ends, where nothing is gained.

        A gain counts when it is a share ``tol`` of the score, or of the constant model's where that is more: a loss
        that can fall to zero falls for ever. Rows held out may be believed longer: a tenth of that, and patience
        grows with the run. Without them a network goes on to learn the noise by heart, ever more slowly.
        """
        if last:
            self.stopped = "epochs"
        if self.limits.tol is None:
            return
        first = self._marks[0][1] if self.limits.constant is None else self.limits.constant
        held_out = self.limits.early_stopping
        window = max(self.limits.patience, ceil(FEWEST_UPDATES * self.batch_size / self.num_visits))
        floor, window = (HELD_OUT_FLOOR, max(window, epoch // 25)) if held_out else (1.0, window)
        if self.best.score > UNMOVED * abs(first):
            window = max(window, ceil(PLATEAU_UPDATES * self.batch_size / self.num_visits))
        least = self.limits.tol * max(abs(self._flat_score), floor * abs(first))
        if self.latest.score < self._flat_score - least or not isfinite(self._flat_score):
            self._flat_score, self._flat_epoch = self.latest.score, epoch
        elif epoch - self._flat_epoch >= window:
            if self.phase.when_flat == "stop":
                self.stopped = "early_stopping" if self.limits.early_stopping else "converged"
            else:
                self.phase_is_over = True
            self._flat_epoch = epoch
            self._go_on_from_best(state)

    def _fall_back(self, state: State, epoch: int) -> None:
        """Where a rate that was found by trying proves too high later on: a lower one is next anyway."""
        self.phase_is_over, self._flat_epoch = True, epoch
        self._go_on_from_best(state)
        state.second[:] = 0.0

    def _go_on_from_best(self, state: State) -> None:
        state.parameters[:] = self.best.parameters
        state.first[:] = 0.0

    def _gained_nothing(self, first: float, epoch: int, window: int) -> bool:
        if self.limits.tol is None:
            return False
        if self.limits.plateau and (self._slowed_epoch is None or epoch - self._slowed_epoch < window):
            return False  # a lower rate has yet to show what it gains
        before = [loss for then, loss in self._marks if then <= epoch - window]
        if not before:
            return False
        lowest = min(loss for _, loss in self._marks)
        return min(before) - lowest <= 0.1 * self.limits.tol * (first - lowest)


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None
