"""``learning_rate="auto"``: the rate of a module's optimizer is found while it trains, followed, and lowered.

    a ladder           ever higher rates, a few steps each, until the loss says too high (``climbing.py``)
    a controller       moves the rate by what the last weights and their average say (``batch_size/controller.py``)
    a quarter, twice   where the run is that far and there is noise to take away, or nothing more is gained

and the better of the last and the averaged weights is what is left. Where a schedule is named, the rate that the
ladder found is what it multiplies, and nothing else moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import Any

from descend.batch_size.controller import Controller
from descend.networks.fitting import LOWEST_OF_LADDER
from descend.networks.recipe import FALL, SHARES
from descend.torch.averages import ModuleAverage
from descend.torch.climbing import Found, ModuleLadder
from descend.torch.rates import Rates, stand_still
from descend.torch.sample import Sample, fill
from descend.torch.scheduling import Schedule
from descend.torch.steps import DATA, NotFiniteError, Step
from descend.torch.vectors import Vector, state_of
from descend.torch.watching import Watch

FALLS = (SHARES[0], SHARES[0] + SHARES[1])
"""Where the rate falls, as shares of a run whose length is known."""
NEVER = 2**62
STEPS_BETWEEN, CHECKS = 50, 20
"""Looks at whether the rate should fall: so many steps apart, or so many in a run whose steps are known."""


@dataclass(frozen=True, slots=True)
class Length:
    """How long the run is to be, in steps, in seconds; None: until nothing is gained."""

    steps: int | None
    seconds: float | None

    def falls_due(self, steps: int, seconds: float) -> int:
        """How often the rate should have fallen when so much is over."""
        done = max(
            0.0 if self.steps is None else steps / self.steps,
            0.0 if self.seconds is None else seconds / self.seconds,
        )
        return sum(done >= end for end in FALLS)

    def next_check(self, steps: int) -> int:
        """The step at which the next fall may be due."""
        after: list[float] = [] if self.seconds is None else [steps + STEPS_BETWEEN]
        if self.steps is not None:
            ends = [ceil(end * self.steps) for end in FALLS]
            after += [end for end in ends if end > steps]
            after.append(max(ends[0], steps + max(1, self.steps // CHECKS)))
        return int(min(after, default=NEVER))


class Tuner:
    """Finds and moves the rate of one run. The watch tells it of every step, the loop of every epoch."""

    def __init__(
        self,
        watch: Watch,
        rates: Rates,
        sample: Sample,
        schedule: Schedule,
        scaler: Any,
        length: Length,
        renew: Callable[[], None],
    ) -> None:
        """``renew``: gives the module's buffers what they have to be at weights that were put into it."""
        self._watch, self._rates, self._sample, self._schedule = watch, rates, sample, schedule
        self._scaler, self._length, self._renew = scaler, length, renew
        self._state: Any = state_of(watch.module, watch.optimizer)
        self._full = watch.batch_size >= watch.num_rows
        self._average = ModuleAverage(self._state, watch.batch_size)
        self._ladder: ModuleLadder | None = None
        self._controller: Controller | None = None
        self.lost = False
        """Whether the loss has become no number since the last look."""
        self._rate = 0.0
        self._num_falls = 0
        self._follows = False
        self._reason = ""
        self._next_check = 0

    # --- the ladder ------------------------------------------------------------------------------

    @property
    def is_found(self) -> bool:
        """Whether the rate is known."""
        return self._rate > 0.0

    @property
    def is_climbing(self) -> bool:
        """Whether the ladder is under way."""
        return self._ladder is not None

    def begin(self) -> None:
        """Before the first step of all; a run that is gone on with has its rate."""
        if self._rate:
            return
        note = self._sample.first_look()
        if note is not None:
            self._note(f"learning rate: {note}")
        if not self._sample.works:
            self._rate = 1.0
            self._set()
            self._schedule.begin(0, 0)
            return
        self._refuse_rows_not_finite()
        self._controller = self._new_controller()
        length = self._length
        self._ladder = ModuleLadder(
            self._watch, self._rates, self._sample, self._state, self._scaler, length.steps, length.seconds
        )
        self._sample.see_buffers()

    def _refuse_rows_not_finite(self) -> None:
        """Where rows that are looked at hold what is no number, and their loss is none, every rate looks too high."""
        sample = self._sample
        if isfinite(sample.first):
            return
        try:
            bad = sample.rows_not_finite()
        except Exception:  # of batches that are anything: the steps say what is wrong
            return
        if bad:
            raise NotFiniteError(str(sample.first), bad)

    def _new_controller(self) -> Controller:
        return Controller(
            lambda weights: inf if self.lost else self._sample.loss(_averaged(weights)),
            self._state,
            lowest=LOWEST_OF_LADDER,
            batch_size=self._watch.batch_size,
            chances=0,
        )

    def _go_on(self, found: Found) -> None:
        """The ladder is over."""
        self._ladder, self._rate, self._reason = None, found.rate, found.reason
        self._watch.flat_since = self._watch.place.epoch
        self._note(found.reason)
        self._state.pace = 1.0
        self._set()
        self._schedule.begin(self._watch.place.step, self._watch.place.epoch - 1)
        if self._schedule.is_given:
            self._controller = None
            return
        moved = self._sample.moved_buffer()
        if moved is not None:
            self._note(
                f"no average of the weights: buffer {moved!r} moves with them, and what it would be is not known"
            )
        elif not self._full:
            self._average.begin()
        assert self._controller is not None
        self._controller.limit(found.room)
        self._controller.begin(self._state)
        self._follows = True

    # --- steps -----------------------------------------------------------------------------------

    @property
    def takes_back(self) -> bool:
        """Whether steps that lead to no number are taken back."""
        return self.is_climbing or self._follows

    def guarded(self, step: Step) -> Step:
        """The step that returns None where the loss is no number, as long as a lower rate may help."""

        def taken(batch: tuple[Any, ...]) -> Any:
            try:
                return step(batch)
            except NotFiniteError as error:
                error.at_any_rate = self.takes_back and self._is_lost_anyway(batch)
                if error.at_any_rate or not self.takes_back:
                    raise
                self.lost = True
                self._watch.place.doing = DATA
                return None

        return taken

    def _is_lost_anyway(self, batch: tuple[Any, ...]) -> bool:
        """Whether the loss of this batch is no number at good weights either: then no rate is to blame."""
        weights, now = self._state.parameters, self._state.parameters.copy()
        if self._ladder is not None:
            weights[:] = self._ladder.good
        elif self._controller is not None:
            weights[:] = self._controller.begun_at
        lost = self._sample.is_lost(batch)
        weights[:] = now
        return lost

    def after_step(self, rows: int) -> None:
        """A step of so many rows has been taken."""
        state = self._state
        state.steps += 1
        state.visits += rows
        if not self._sample.works:
            return
        if self._ladder is not None:
            found = self._ladder.after_step(self.lost)
            self.lost = False
            if found is not None:
                self._go_on(found)
            return
        if not self.lost:
            self._average.after_step()
        if self._follows and (self.lost or state.visits >= self._controller.next_visit):  # type: ignore[union-attr]
            self._watch.mark_running()
            self._follow()
        if state.steps >= self._next_check:
            self._fall_if_due()

    def _follow(self) -> bool:
        """The end of a window: the controller looks; whether it took the weights back.

        Once the rate has fallen it may be halved where steps go astray, and nothing else.
        """
        controller, watch, state = self._controller, self._watch, self._state
        assert controller is not None
        self.lost = watch.read_losses() or self.lost
        average: Any = None if self.lost or self._num_falls else self._average.weights
        taken_back = controller.look(state, average)
        if self.lost and not taken_back:
            raise NotFiniteError("nan, however low the learning rate", at_any_rate=True)
        self.lost = False
        if taken_back:
            watch.flat_since = watch.place.epoch  # a lower rate has yet to show what it gains
            self._average.begin_anew()
        self._set()
        return taken_back

    def set_rates(self) -> None:
        """The groups' rates are those of this place, once they are found and where no schedule moves them."""
        if self._rate and not self._schedule.is_given:
            self._set()

    def _set(self) -> None:
        self._rates.set(self._rate * self._state.pace * FALL**self._num_falls)

    # --- falls -----------------------------------------------------------------------------------

    def _fall_if_due(self) -> None:
        length, steps = self._length, self._state.steps
        self._next_check = NEVER if self._schedule.is_given else length.next_check(steps)
        if self._schedule.is_given or length.falls_due(steps, self._watch.seconds) <= self._num_falls:
            return
        if steps != length.steps and self._is_noisy():
            self._fall()

    def _is_noisy(self) -> bool:
        """Whether the averaged weights are the better ones: a lower rate takes noise away, and costs progress."""
        if self._full:
            return not self._rates.follows_gradient
        average = self._average.weights
        if average is None:
            return not self._average.is_on
        return self._sample.loss(average) < self._sample.loss()

    def falls_when_flat(self) -> bool:
        """Nothing more is gained: goes on from the best at a lower rate, or says that there is none left."""
        if self.is_climbing:
            return True
        if not self._sample.works or self._schedule.is_given or self._num_falls == len(SHARES) - 1:
            return False
        self._offer_average()
        self._watch.go_back_to_best()
        stand_still(self._watch.optimizer)
        self._fall()
        return True

    def _fall(self) -> None:
        self._num_falls += 1
        self._average.begin_anew()
        if self._follows and self._controller is not None:
            self._controller.begin(self._state)
        self._set()

    # --- the end ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """The run is over: the better of the last and the averaged weights are in the module."""
        watch = self._watch
        if self._ladder is not None:
            self._ladder.stop()
            self.leave()
            self._note("learning rate: the run ended before its ladder did")
            return
        if self._follows and self._follow():  # steps since the last look went astray
            watch.offer()
        if self._controller is not None and self._controller.reason:
            self._note(f"learning rate: {self._controller.reason}")
        if watch.early_stopping and watch.evaluate is not None:
            self._offer_average()
            return
        average = self._average.weights
        if average is not None and self._sample.loss(average) < self._sample.loss():
            fill(self._state.trained, average)
            self._renew()
            watch.offer()

    def leave(self) -> None:
        """Whatever ended the run: an optimizer that is the caller's has its momentum again."""
        if self._ladder is not None:
            self._rates.with_momentum()
            self._ladder = None

    def _offer_average(self) -> None:
        """Shows the averaged weights to the rows that choose the module."""
        average, weights = self._average.weights, self._state.parameters
        if average is None or self._watch.evaluate is None:
            return
        last = weights.copy()
        fill(self._state.trained, average)
        self._renew()
        self._watch.offer()
        weights[:] = last

    def _note(self, text: str) -> None:
        self._watch.history.notes.append(text)

    # --- checkpoints -----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, once the ladder is over."""
        state, controller = self._state, self._controller
        return {
            "rate": self._rate,
            "works": self._sample.works,
            "base": self._rates.base,
            "reason": self._reason,
            "falls": self._num_falls,
            "length": self._length.steps,
            "follows": self._follows,
            "next_check": self._next_check,
            "state": (state.visits, state.steps, state.pace),
            "average": self._average.state_dict(),
            "controller": None if controller is None else controller.kept(),
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Goes on behind the ladder, as the run would that said ``kept``; before it, the ladder begins anew.

        With more epochs than were asked for then the rate is again what it would be there.
        """
        state = self._state
        if not kept["rate"]:
            return
        self._sample.works = kept["works"]
        self._rates.base = list(kept["base"])
        self._rate, self._reason, self._num_falls = kept["rate"], kept["reason"], kept["falls"]
        self._follows, self._next_check = kept["follows"], kept["next_check"]
        if kept["controller"] is not None:
            self._controller = self._new_controller()
            self._controller.recall(kept["controller"])
        state.visits, state.steps, state.pace = kept["state"]
        if self._length.steps is not None and kept["length"] != self._length.steps:
            self._num_falls = min(self._num_falls, self._length.falls_due(state.steps, 0.0))
            self._next_check = self._length.next_check(state.steps)
        self._average.load_state_dict(kept["average"])
        self._note(self._reason)
        self._set()
        self._schedule.begin(0, 0)


def _averaged(weights: Any) -> Vector | None:
    """Weights to put into the module, or None: they are those that it has."""
    return weights if isinstance(weights, Vector) else None
