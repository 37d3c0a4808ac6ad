"""The watch over one run: behind every part of an epoch it looks, lets the rate be moved, saves, or ends the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import ceil, isfinite

import numpy as np

from descend.engines.base import State
from descend.engines.restart import restart_saga
from descend.recipe import Phase
from descend.types import FloatArray, IntArray
from descend.updates.schedules import PLATEAU_FACTOR
from descend.watching.certificate import Certificate, may_be_left
from descend.watching.chance import clearly_lower
from descend.watching.flatness import FEWEST_UPDATES, Flatness, Plateau, gained_nothing, on_plateau
from descend.watching.keepers import Saver
from descend.watching.losses import Kept
from descend.watching.observing import Observer
from descend.watching.place import Place

ASTRAY = 0.02
"""Steps on batches have gone astray when they end an epoch above the best by this share of the gain."""
WORTH_GOING_BACK = 0.01
"""Rows held out outweigh a certificate where earlier parameters please them more by this share of the gain, and by
more than chance: else their choice costs the optimum."""
FEWEST_EPOCHS_OF_A_BOUND = 16
"""Runs that are over sooner are told of by the estimate."""
TOLD = 16.0
"""How many times its own rounding a loss may be wrong by, added up from rows."""
SLOWEST = 0.17
"""SAGA's rate is at most 1 / √0.03 times what is safe everywhere: below this share another cause is at work."""
CLEARLY_ABOVE = 0.1
"""A run that ends by this share above its first loss has diverged; less is what data without a signal do."""


@dataclass(slots=True)
class Watch(Observer):
    """Follows one run and ends it: an observer that decides."""

    place: Place = field(default_factory=Place)
    """Where the run is; kept up by ``training.py``."""
    saver: Saver | None = None
    phase_is_over: bool = False
    certificate: Certificate = field(default_factory=Certificate)
    plateau: Plateau = field(default_factory=Plateau)
    flatness: Flatness = field(default_factory=Flatness)
    kept_above: float = 0.0
    """How far the loss of the parameters that are kept is above that of the last ones."""
    returned: Kept | None = None
    """What the run came to, when it is over."""
    retreated: bool = False
    """Whether steps on batches went astray: the rest is left to a method of every row."""
    _phase_epochs: int = 0
    _next_epoch: int = 1

    def start(self, state: State, phase: Phase) -> None:
        """The row of the history before the first step; starts the clock."""
        self.phase = phase
        self._rows, self._steps = state.visits, state.steps
        self._last_seconds = self.seconds
        if self.fresh is None:
            self.fresh = not state.parameters.any()
        self.take_sample(state.parameters)
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
        self.certificate.begin()
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
            loss = self._observe(state, epoch, whole=True, last=last)
            self._decide(state, loss, epoch, out_of_time, last)
            if self.limits.plateau:
                self._slow_down_on_plateau(state, epoch)
        elif self._look_is_due() or (self._tuner_is_due() and not self.limits.thrifty):
            self._observe(state, epoch, whole=False)
        if self._tuner_is_due() and not self.stopped and not self.phase_is_over:
            before = state.pace
            self._tune(state, epoch)
            if state.pace != before and self.limits.thrifty:  # each rate stands in the history
                self._observe(state, epoch, whole=False)
        elif whole and not self.stopped:
            self._mend(state)
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
        if self.mend is not None:
            self.mend(state)
        if taken_back:
            self.flatness.epoch = epoch  # a lower rate has yet to show what it gains
            if self.tail is not None:
                self.tail.begin_anew(state)
        self._pause()
        self._last_seconds = self.seconds
        return taken_back

    def _mend(self, state: State) -> None:
        if self.mend is None:
            return
        self._resume()
        self.mend(state)
        self._pause()
        self._last_seconds = self.seconds

    def finish(self, state: State) -> FloatArray:
        """Ends the history with the parameters that are returned, and returns them."""
        self._pause()
        if not self.stopped:  # the phases are over: as low as numbers can tell, or given up
            if self.saver is not None:
                self.saver.save(state, self, looked=True)
            as_low = self._is_good_enough(state) or self._is_lowest_told(state)
            self.stopped = "converged" if as_low else "epochs"
        if self.stopped == "interrupted":  # somewhere inside an epoch: what was learnt there counts too
            self._observe(state, self._rows // self.num_visits, whole=True)
        kept = self._told_by_all(self.latest if self._last_ones_count() else self.chosen)
        if self.certificate.certified and self.limits.early_stopping and kept is not self.latest:
            self.stopped = "early_stopping"  # the certificate was of others
        first, came_to = self._first, kept
        if kept.epoch == 0:
            first, came_to = kept.loss, self._told_by_all(self.latest)
        above = came_to.loss > first + CLEARLY_ABOVE * abs(first)
        if above and self.fresh and self.stopped != "interrupted":
            self.stopped = "diverged"
        self._say_of_kept(kept)
        self.returned = kept
        if self.history.last["loss"] != kept.loss * self.unit:
            self._record(state, kept.loss, kept.last_loss, kept.validation_loss)
        self.history.stopped = self.stopped
        return kept.parameters

    def _told_by_all(self, kept: Kept) -> Kept:
        """The same with the loss of every row, where a sample had told it."""
        if kept.whole:
            return kept
        loss, told = self._loss(kept.parameters, None), self._loss(kept.parameters, self.sparing.rows)
        self.sparing.offset = loss - told if isfinite(loss - told) else 0.0
        whole = replace(kept, loss=loss, last_loss=kept.last_loss + loss - kept.loss, whole=True)
        self.latest = whole if kept is self.latest else self.latest
        return whole

    def _last_ones_count(self) -> bool:
        """Whether the last parameters are returned, though rows held out may like earlier ones better."""
        if self.limits.exact and self.stopped == "epochs":
            return True
        if not (self.stopped == "converged" and self.certificate.certified):
            return False
        little = self.latest.score - self.best.score <= WORTH_GOING_BACK * self._gain()
        if little or self.validation is None or not self.limits.early_stopping:
            return little
        return not clearly_lower(self.validation, self.best.parameters, self.latest.parameters)

    def _say_of_kept(self, kept: Kept) -> None:
        """What was told of the last parameters, for those that are kept.

        Earlier ones, which validation rows liked better, have as much more to gain as they lie above the last.
        """
        self.kept_above = max(0.0, kept.loss - self.latest.loss)
        self.certificate.add(self.kept_above)

    def _no_pass_left(self) -> bool:
        """Whether the line searches of L-BFGS or Newton have used up the epochs that were asked for."""
        if not self.limits.exact or self.phase.batch_size:
            return False
        return self.limits.epochs * self.num_visits - self._rows < self.engine.num_rows

    def _decide(self, state: State, loss: float, epoch: int, out_of_time: bool, last: bool) -> None:
        first = self._first
        if self.phase.can_retreat and not loss <= self.best.loss + ASTRAY * max(0.0, first - self.best.loss):
            self._retreat(state)
            loss = self.best.loss
        if self._should_slow_down(state, loss):
            self._slow_down(state)
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
        self._marks.append((epoch, loss - self.sparing.offset))
        updates_an_epoch = ceil(self.num_visits / self.batch_size)
        window = max(self.limits.patience, epoch // 4, ceil(FEWEST_UPDATES / updates_an_epoch))
        if out_of_time:
            self.stopped = "time"
        elif self.phase.when_flat in ("next", "stop"):
            self._leave_when_flat(state, epoch, last)
        elif self.limits.early_stopping and epoch - self.best.epoch >= self._patience(window):
            self.stopped = "early_stopping"
        elif (
            self._is_certified(state, epoch, loss)
            if self.limits.certify
            else self._gained_nothing(epoch, window)
        ):
            self.stopped = "converged"
        elif last:
            self.stopped = "epochs"

    def _is_certified(self, state: State, epoch: int, loss: float) -> bool:
        """Whether what is left to gain is small enough; also tells whether the phase still pays."""
        if self.limits.tol is None:
            return False
        phase, certificate = self.phase, self.certificate
        enough = may_be_left(self.limits.tol, self._gain(), self._first, self.limits.rounding)
        if self.limits.never_negative and loss <= 2.0 * enough:  # no estimate, which has to be half of that
            certificate.gap = certificate.bound = loss
            certificate.certified = True
            return True
        if phase.rule.truncated:
            return False
        gap, worth_closing, slow = certificate.estimate(self.engine, state, phase, enough, self.limits)
        if self.retreated and phase.batch_size:
            return False
        leaves = phase.leave_when_slow and slow and self._phase_epochs >= 2
        if phase.rule.width:  # where this width hides little enough, it is the last one
            small = gap <= phase.rule.width * len(state.parameters)
            leaves = small and state.memory.hidden > 0.5 * enough
        self.phase_is_over = leaves or state.memory.stuck
        if worth_closing:
            return self._closes(state, enough, epoch)
        certificate.certified = gap <= enough or self._is_bounded(state, enough, epoch)
        return certificate.certified

    def _is_bounded(self, state: State, enough: float, epoch: int) -> bool:
        """Whether the bound itself is small enough, asked for when a run has taken twice as long as at the last time.

        Where rows leave a corner or a straight the estimate, which goes by the curvature, may never come near.
        """
        if self.phase.batch_size or epoch < FEWEST_EPOCHS_OF_A_BOUND or epoch & (epoch - 1):
            return False
        self._resume()
        bound = self.engine.gap_bound(state.parameters)
        self._pause()
        if bound is None or bound > enough:
            return False
        self.certificate.gap = self.certificate.bound = bound
        return True

    def _closes(self, state: State, enough: float, epoch: int) -> bool:
        """Whether the certificate is believed; the step that it took to see may have moved the parameters."""
        self._resume()
        closing = self.engine.close(state, enough, move=self.limits.close)
        self._pause()
        self.certificate.gap, self.certificate.bound = closing.gap, closing.bound
        if closing.place is not None:
            self._rows, self._steps, self._last_seconds = state.visits, state.steps, self.seconds
            self._marks[-1] = (epoch, self._observe(state, epoch, whole=True))
            if not self.limits.early_stopping:
                self.best, self.as_good = self.latest, None  # lower, if only by what rounding hides
        if not self.phase.batch_size and not state.memory.stuck:
            self.phase_is_over = False  # the step led on where the optimizer's own did not
        self.certificate.certified = closing.certified
        return closing.certified

    def _retreat(self, state: State) -> None:
        """Goes back to the best parameters; the phases of batches that are left are passed over.

        Curvature is taken for a share of its bound that rows seen lately have, and many sure rows can hide a few
        that are not.
        """
        state.parameters[:] = self.best.parameters
        state.table = state.mean_gradient = None
        self.retreated = self.phase_is_over = True

    def _should_slow_down(self, state: State, loss: float) -> bool:
        """Whether SAGA went astray at a rate that may be above the bound's own."""
        astray = not loss <= self.best.loss + ASTRAY * max(0.0, self._gain())
        return self.phase.can_slow_down and astray and state.pace > SLOWEST

    def _slow_down(self, state: State) -> None:
        """Goes back to the best parameters with derivatives told there, and on at half the rate.

        The curvature's share is a mean over rows: along directions that few of them decide on there may be more.
        """
        state.parameters[:] = self.best.parameters
        state.pace *= 0.5
        self.latest = self.best
        self._resume()
        restart_saga(self.engine, state, self.phase.rule, self.phase.batch_size)
        self._pause()
        self._rows, self._last_seconds = state.visits, self.seconds

    def _is_good_enough(self, state: State) -> bool:
        """Whether the gap that was left is within what was asked for, where more was attempted (small tables)."""
        certificate, asked = self.certificate, self.limits.asked
        if not self.limits.certify or asked is None or certificate.gap is None:
            return False
        enough = may_be_left(asked, self._gain(), self._first, rounding=0.0)
        # By steps on batches an estimate was cut short above what was attempted, far below the gap it may be.
        if certificate.gap <= enough and state.memory.point is None:
            certificate.gap = self.engine.estimate_gap(state, enough)
            if certificate.gap <= enough and state.memory.toward is not None:
                return self._closes(state, enough, self._marks[-1][0])
        certificate.certified = certificate.gap <= enough
        return certificate.certified

    def _is_lowest_told(self, state: State) -> bool:
        """Whether steps found nothing more to gain, and what the next one promises is lost in rounding."""
        memory = state.memory
        if not memory.stuck or self.phase.batch_size or self.phase.rule.width:
            return False
        return bool(memory.decrement <= TOLD * np.finfo(state.parameters.dtype).eps * abs(memory.value))

    def believe(self, bound: float | None) -> None:
        """Takes a run that came to its last epoch as certified where ``bound``, told behind it, is small enough.

        Steps that are wrong where rows leave a corner or a straight get no estimate on the way.
        """
        limits = self.limits
        asked = limits.tol if limits.asked is None else limits.asked
        if self.stopped != "epochs" or bound is None or asked is None or not limits.certify:
            return
        if bound <= may_be_left(asked, self._gain(), self._first, rounding=0.0):
            self.certificate.gap, self.certificate.certified = bound, True
            self.stopped = self.history.stopped = "converged"

    def _slow_down_on_plateau(self, state: State, epoch: int) -> None:
        if not self.plateau.is_reached(self.latest.last_loss, epoch):
            return
        if self.phase.when_flat == "plateau":
            self.phase_is_over = True  # the next one's rate is lower, or its batches are larger
        else:
            state.pace *= PLATEAU_FACTOR

    def _leave_when_flat(self, state: State, epoch: int, last: bool) -> None:
        """Of a network's phases, where nothing is gained: goes on from the best at a lower rate, or ends."""
        if last:
            self.stopped = "epochs"
        if self.limits.tol is None:
            return
        score, loss = self.latest.score, self.best.loss
        if not self.flatness.is_reached(
            score, loss, self._knows_nothing, epoch, self._epochs_of, self.limits
        ):
            return
        if self.phase.when_flat == "stop":
            self.stopped = "early_stopping" if self.limits.early_stopping else "converged"
        else:
            self.phase_is_over = True
        self._go_on_from_best(state)

    def _patience(self, window: int) -> int:
        """With rows held out, which on the plateau where a network may begin are liked or not by chance."""
        constant = self.limits.constant
        if constant is None or self.limits.certify:
            return window
        return on_plateau(window, self.best.loss, constant, self._epochs_of)

    def _epochs_of(self, updates: int) -> int:
        return ceil(updates * self.batch_size / self.num_visits)

    def _fall_back(self, state: State, epoch: int) -> None:
        """Where a rate that was found by trying proves too high later on: a lower one is next anyway."""
        self.phase_is_over, self.flatness.epoch = True, epoch
        self._go_on_from_best(state)
        state.second[:] = 0.0

    def _go_on_from_best(self, state: State) -> None:
        state.parameters[:] = self.best.parameters
        state.first[:] = 0.0

    def _gained_nothing(self, epoch: int, window: int) -> bool:
        if self.limits.tol is None:
            return False
        if self.limits.plateau and self.plateau.has_yet_to_show(epoch, window):
            return False
        return gained_nothing(self._marks, window, self.limits.tol)
