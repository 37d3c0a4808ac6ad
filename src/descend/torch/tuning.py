"""``learning_rate="auto"``: the rate of a module's optimizer is found while it trains, followed, and lowered.

    a ladder           ever higher rates, a few steps each, until the loss says too high (``batch_size/rungs.py``)
    a controller       moves the rate by what the last weights and their average say (``batch_size/controller.py``)
    a quarter, twice   where the run is that far, or nothing more is gained (``networks/recipe.py``)

and the better of the last and the averaged weights is what is left. All steps are those of the one loop: the ladder's
count, and what its lowest rung trained is gone on with. Where a schedule is named, the rate that the ladder found is
what it multiplies, and nothing else moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os
from math import inf, isfinite
from typing import Any

from descend.averaging import TailAverage
from descend.batch_size.controller import BELOW_EDGE, Controller
from descend.batch_size.ladder import FEWEST_STEPS, ROWS_OF_RUNG
from descend.batch_size.rungs import Climb
from descend.networks.fitting import CHANCES_OF_MOMENTUM, HIGHEST_OF_RULE, LOWEST_OF_LADDER, NETWORK_GROWTH
from descend.networks.recipe import FALL, SHARES, shared_out
from descend.report.formatting import counted
from descend.torch.optimizers import Schedule
from descend.torch.rates import Rates, kept_state, put_back_state, stand_still
from descend.torch.sample import Sample, fill
from descend.torch.steps import DATA, UPDATE, NotFiniteError, Step
from descend.torch.stepper import LOWEST_RATE
from descend.torch.vectors import Vector, state_of
from descend.torch.watching import Watch

LADDER_SHARE = 0.2
"""Of the steps or the seconds that are asked for, what a ladder may take."""
RUNGS = 12
"""So many should fit into that: where steps are few, a rung has fewer."""
AVERAGE_ROWS = 64
"""The average takes in the weights every so many rows, or at every step: it costs no share of one."""


@dataclass(frozen=True, slots=True)
class Length:
    """How long the run is to be; None: until nothing is gained."""

    epochs: int | None
    steps: int | None
    seconds: float | None

    def falls_done(self, epoch: int, seconds: float) -> int:
        """How often the rate should have fallen when ``epoch`` epochs are done."""
        done = 0
        if self.epochs is not None:
            first, second, _ = shared_out(self.epochs)
            done = sum(epoch >= end for end in (first, first + second))
        if self.seconds is not None:
            ends = (SHARES[0], SHARES[0] + SHARES[1])
            done = max(done, sum(seconds >= end * self.seconds for end in ends))
        return done


class Tuner:
    """Finds and moves the rate of one run. The watch tells it of every step and every epoch."""

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
        self.watch, self.rates, self.sample, self.schedule = watch, rates, sample, schedule
        self._scaler, self._length, self._renew = scaler, length, renew
        self._state: Any = state_of(watch.module, watch.optimizer)
        batch_size = watch.batch_size
        self._full = batch_size >= watch.num_rows
        steps = max(FEWEST_STEPS, -(-ROWS_OF_RUNG // batch_size))
        if length.steps is not None:
            steps = max(1, min(steps, int(LADDER_SHARE * length.steps / RUNGS)))
        self._steps_of_rung = steps
        self._every = max(1, AVERAGE_ROWS // batch_size)
        self.lost = False
        """Whether the loss has become no number since the last look."""
        self.found = 0.0
        """The factor of the groups' own rates that training goes on with."""
        self.num_falls = 0
        self._reason = ""
        self._climb: Climb | None = None
        self._in_rung = 0
        self._losses = (0, 0.0, 0)
        self._only_lost = True
        self._first: dict[str, Any] = {}
        self._controller: Controller | None = None
        self._follows = False
        self._tail: TailAverage | None = None

    # --- the ladder ------------------------------------------------------------------------------

    @property
    def is_climbing(self) -> bool:
        """Whether the ladder is under way."""
        return self._climb is not None

    def begin(self) -> None:
        """Before the first step of all; a run that is gone on with has its rate."""
        if self.found:
            return
        why = self.sample.why_as_trained()
        if why is not None:
            self.watch.history.notes.append(
                f"learning rate: looked for in training mode; in evaluation mode the loss raised {why}"
            )
        self._make_controller()
        self._first = self._state.parameters.copy()
        self.rates.without_momentum()
        before = self.sample.loss()
        self._climb = Climb(self._keep, self._put_back, LOWEST_RATE / self.rates.highest, before, wary=True, below=float(os.environ.get("EDGE","4")) if self.rates.follows_gradient else 2.0)
        self._begin_rung()

    def _make_controller(self) -> None:
        self._controller = Controller(
            self._loss_of,
            self._state,
            lowest=LOWEST_OF_LADDER,
            batch_size=self.watch.batch_size,
            chances=self.rates.follows_gradient * (CHANCES_OF_MOMENTUM if self.rates.uses_momentum else 1),
        )

    def _loss_of(self, weights: Any) -> float:
        if self.lost:
            return inf
        return self.sample.loss(weights if isinstance(weights, Vector) else None)

    def _keep(self) -> Any:
        scaler = None if self._scaler is None else self._scaler.state_dict()
        return self._state.parameters.copy(), kept_state(self.watch.optimizer), scaler

    def _put_back(self, kept: Any) -> None:
        weights, moments, scaler = kept
        self._state.parameters[:] = weights
        put_back_state(self.watch.optimizer, moments)
        if self._scaler is not None:
            self._scaler.load_state_dict(scaler)
        epoch, total, rows = self._losses  # steps that are taken back have no part in the mean of the epoch
        same = epoch == self.watch.place.epoch
        self.watch.loss_sum, self.watch.loss_rows = (total, rows) if same else (0.0, 0)

    def _begin_rung(self) -> None:
        assert self._climb is not None
        watch = self.watch
        self._in_rung, self.lost = 0, False
        self._losses = (watch.place.epoch, watch.loss_sum, watch.loss_rows)
        self.rates.set(self._climb.rate)

    def _end_rung(self) -> None:
        climb, watch = self._climb, self.watch
        assert climb is not None
        watch.read_losses()
        now = inf if self.lost else self.sample.loss()
        self._only_lost &= not isfinite(now)
        watch.mark(now if isfinite(now) else None)
        climb.tell(now)
        if climb.is_over or self._no_rung_left():
            self._end_ladder()
        else:
            self._begin_rung()

    def _no_rung_left(self) -> bool:
        length, watch = self._length, self.watch
        if length.steps is not None and watch.place.step + self._steps_of_rung > LADDER_SHARE * length.steps:
            return True
        return length.seconds is not None and watch.seconds > LADDER_SHARE * length.seconds

    def _end_ladder(self) -> None:
        climb, watch, rates, state = self._climb, self.watch, self.rates, self._state
        assert climb is not None
        lowest = LOWEST_RATE
        if self._only_lost:
            self._climb = None
            watch.place.doing = UPDATE
            watch.place.step, watch.place.batch = watch.place.step - 1, watch.place.batch - 1
            raise NotFiniteError(f"nan at every learning rate that was tried, from {lowest:g} on")
        rate = climb.end()
        self.found = rates.share * rate
        highest = max(self.found, rates.share * climb.edge / BELOW_EDGE)
        self._climb, self.lost = None, False
        rates.with_momentum()
        self._reason = self._told(climb)
        self._say()
        moved = self._moved_buffers()
        self._begin_phases(highest / self.found, moved)
        self._first = {}
        state.pace = 1.0
        self._set()
        self.schedule.begin(watch.place.step, watch.place.epoch - 1)
        if self._controller is not None:
            self._controller.begin(state)

    def _told(self, climb: Climb) -> str:
        steps = self.watch.place.step
        share = "" if self._length.steps is None else f", {steps / self._length.steps:.1%} of the run's"
        rate = self.rates.base[0] * climb.edge
        end = f"{rate:.3g} was too high" if isfinite(climb.edge) else "none was too high"
        if self.rates.share != 1.0:
            end += f"; {self.rates.share:.3g} times the lowest rung's, as {self.rates.why} wants"
        return (
            f"learning rate {self.rates.base[0] * self.found:.3g}: from a ladder of {counted(climb.rungs, 'rung')}, "
            f"{counted(steps, 'step')}{share}, in {self.watch.seconds:.2g} s: {end}"
        )

    def _say(self) -> None:
        self.watch.history.notes.append(self._reason)

    def _moved_buffers(self) -> list[str]:
        """Buffers that steps change and no rule renews: what they would be at averaged weights is not known."""
        renewed = self.sample.renewed_buffers
        return [
            name
            for name, buffer in self.watch.module.named_buffers()
            if id(buffer) not in renewed and not buffer.equal(self._first.get(f"b:{name}", buffer))
        ]

    def _begin_phases(self, room: float, moved: list[str]) -> None:
        """What follows a ladder. ``room``: what the rate may rise to, as a factor; ``moved``: buffers that did."""
        if self.schedule.is_given:
            self._controller = None
            return
        assert self._controller is not None
        self._controller.limit(room if self.rates.follows_gradient else float(os.environ.get("HIGH","2")))
        self._follows = True
        if moved:
            self.watch.history.notes.append(
                f"no average of the weights: buffer {moved[0]!r} moves with them, and what it would be at an average "
                "is not known"
            )
        elif not self._full:
            self._tail = TailAverage(NETWORK_GROWTH)
            self._tail.begin_anew(self._state)

    # --- steps -----------------------------------------------------------------------------------

    def guarded(self, step: Step) -> Step:
        """The step that returns None where the loss is no number, as long as that can be taken back."""

        def taken(batch: tuple[Any, ...]) -> Any:
            try:
                return step(batch)
            except NotFiniteError:
                if not self._can_take_back(batch):
                    raise
                self.lost = True
                self.watch.place.doing = DATA
                return None

        return taken

    @property
    def takes_back(self) -> bool:
        """Whether steps that lead to no number are taken back."""
        return self.is_climbing or self._follows

    def _can_take_back(self, batch: tuple[Any, ...]) -> bool:
        """Not where the loss of this batch is no number at good weights either: no rate helps there."""
        if not self.takes_back:
            return False
        parameters, now = self._state.parameters, self._state.parameters.copy()
        parameters[:] = self._climb.good[0] if self._climb is not None else self._controller.begun_at  # type: ignore[union-attr]
        lost = self.sample.is_lost(batch)
        parameters[:] = now
        return not lost

    def after_step(self, rows: int) -> None:
        """A step of so many rows has been taken."""
        state = self._state
        state.steps += 1
        state.visits += rows
        if self._climb is not None:
            self._in_rung += 1
            if self.lost or self._in_rung >= self._steps_of_rung:
                self._end_rung()
            return
        if self._tail is not None and not self.lost:
            if state.steps % self._every == 0:
                state.take_in()
            self._tail.close_if_due(state)
        if self._follows and self._controller is not None:
            if self.lost or state.visits >= self._controller.next_visit:
                self._follow()
        if self._length.seconds is not None:
            self._fall_if_due(0)

    def _follow(self) -> None:
        """The end of a window: the controller looks."""
        controller, watch, state = self._controller, self.watch, self._state
        assert controller is not None
        watch.read_losses()
        lost = self.lost
        watch.mark_running()
        average = None if self._tail is None or lost else self._tail.parameters(state)
        taken_back = controller.look(state, average)
        if lost and not taken_back:
            raise NotFiniteError("nan, however low the learning rate")
        self.lost = False
        if taken_back:
            watch.flat_since = watch.place.epoch
            if self._tail is not None:
                self._tail.begin_anew(state)
        self._set()

    def _set(self) -> None:
        self.rates.set(self.found * self._state.pace * FALL**self.num_falls)

    # --- epochs and the end ----------------------------------------------------------------------

    def after_epoch(self, epoch: int) -> None:
        """So many epochs are done."""
        self._fall_if_due(epoch)

    def _fall_if_due(self, epoch: int) -> None:
        if self.is_climbing or self.schedule.is_given:
            return
        if self._length.falls_done(epoch, self.watch.seconds) > self.num_falls and self._is_noisy():
            self._fall()

    def _is_noisy(self) -> bool:
        """Whether the averaged weights are the better ones: a lower rate takes noise away, and costs progress."""
        if self._tail is None:
            return True
        average = self._tail.parameters(self._state)
        return average is not None and self.sample.loss(average) < self.sample.loss()

    def falls_when_flat(self) -> bool:
        """Nothing more is gained: goes on from the best at a lower rate, or says that there is none left."""
        if self.is_climbing:
            return True
        if self.schedule.is_given or self.num_falls == len(SHARES) - 1:
            return False
        self.offer_average()
        self.watch.go_back_to_best()
        stand_still(self.watch.optimizer)
        self._fall()
        return True

    def _fall(self) -> None:
        self.num_falls += 1
        self._follows = False
        if self._tail is not None:
            self._tail.begin_anew(self._state)
        self._set()

    def offer_average(self) -> None:
        """Shows the averaged weights to the rows that choose the module; the better ones are kept."""
        watch, state = self.watch, self._state
        average = None if self._tail is None else self._tail.parameters(state)
        if average is None or watch.evaluate is None:
            return
        kept = state.parameters.copy()
        fill(state.trained, average)
        self._renew()
        watch.offer()
        state.parameters[:] = kept

    def settle(self) -> None:
        """The run is over: the better of the last and the averaged weights are in the module."""
        watch, state = self.watch, self._state
        if self._climb is not None:
            self._climb.end()
            self._climb = None
            self.rates.with_momentum()
            watch.history.notes.append("learning rate: the run ended before the ladder did")
            return
        if self._controller is not None and self._controller.reason:
            watch.history.notes.append(f"learning rate: {self._controller.reason}")
        if watch.early_stopping and watch.evaluate is not None:
            self.offer_average()
            return
        average = None if self._tail is None else self._tail.parameters(state)
        if average is not None and self.sample.loss(average) < self.sample.loss():
            fill(state.trained, average)
            self._renew()
            watch.offer()

    def leave(self) -> None:
        """Whatever ended the run: an optimizer that is the caller's has its momentum again."""
        if self._climb is not None:
            self._climb = None
            self.rates.with_momentum()

    # --- checkpoints -----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, once the ladder is over."""
        state, tail, controller = self._state, self._tail, self._controller
        return {
            "found": self.found,
            "reason": self._reason,
            "falls": self.num_falls,
            "follows": self._follows,
            "state": (state.visits, state.steps, state.pace, state.num_averaged),
            "average": state.average.tensors,
            "tail": None
            if tail is None
            else (tail.began, tail.next_close, tail.num_closed, tail.closed and tail.closed.tensors),
            "controller": None if controller is None else controller.kept(),
            "base": self.rates.base,
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Goes on behind the ladder, as the run would that said ``kept``."""
        state = self._state
        self.rates.base = list(kept["base"])
        self.found, self._reason, self.num_falls = kept["found"], kept["reason"], kept["falls"]
        state.visits, state.steps, state.pace, state.num_averaged = kept["state"]
        device = [one.device for one in state.average.tensors]
        state.average = Vector([one.to(d) for one, d in zip(kept["average"], device, strict=True)])
        if kept["tail"] is not None:
            tail = self._tail = TailAverage(NETWORK_GROWTH)
            tail.began, tail.next_close, tail.num_closed, closed = kept["tail"]
            moved: Any = None if closed is None else Vector([c.to(d) for c, d in zip(closed, device, strict=True)])
            tail.closed = moved
        if kept["controller"] is not None:
            self._make_controller()
            assert self._controller is not None
            self._controller.recall(kept["controller"])
        self._follows = kept["follows"]
        self._say()
        self._set()
        self.schedule.begin(0, 0)
