"""The ladder of ``learning_rate="auto"`` inside a run: its steps are the loop's own, and what they train is kept.

A rung is some steps at one rate and a look at a few rows. One that is too high is taken back: weights, buffers,
what the optimizer and the scaler remember, random numbers, and its part in the mean of the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from descend.batch_size.controller import BELOW_EDGE
from descend.batch_size.ladder import FEWEST_STEPS, ROWS_OF_RUNG
from descend.batch_size.rungs import STRIDE, BriefClimb, WaryClimb
from descend.report.formatting import counted
from descend.torch.modes import device_of, random_state, set_random_state
from descend.torch.rates import Rates, kept_state, put_back_state
from descend.torch.sample import Sample
from descend.torch.stepper import LOWEST_RATE
from descend.torch.steps import UPDATE, NotFiniteError
from descend.torch.vectors import ModuleState
from descend.torch.watching import Watch

LADDER_SHARE = 0.15
"""Of the steps or the seconds that are asked for, what a ladder may take."""
RUNGS, BRIEF_RUNGS = 12, 8
"""So many should fit into that: where steps are few, a rung has fewer."""
BRIEF_STEPS = 4
"""Of a rung where steps do not follow the gradient: the first already is as long as the rate says."""
BELOW = 4.0
"""The rate is so many times below the first that was too high. Networks of a table take 2: of 64 inputs and 128
units with dropout, half of the edge killed the units in two of three seeds."""
RISE = 4.0
"""What a rate at 32 rows may rise to where steps do not follow the gradient, and others as far: noise stops it, but
the edge is not theirs."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a ladder ends with: factors of the groups' own rates."""

    rate: float
    room: float
    """How many times that the rate may become later."""
    reason: str


class ModuleLadder:
    """Climbs while ``watch``'s run goes on; ``steps`` and ``seconds``: how long that is to be, or None."""

    def __init__(
        self,
        watch: Watch,
        rates: Rates,
        sample: Sample,
        state: ModuleState,
        scaler: Any,
        steps: int | None,
        seconds: float | None,
    ) -> None:
        self._watch, self._rates, self._sample, self._state, self._scaler = (
            watch,
            rates,
            sample,
            state,
            scaler,
        )
        self._steps, self._seconds = steps, seconds
        brief = not rates.follows_gradient
        fewest, rungs = (BRIEF_STEPS, BRIEF_RUNGS) if brief else (FEWEST_STEPS, RUNGS)
        self._steps_of_rung = max(fewest, -(-ROWS_OF_RUNG // watch.batch_size))
        if steps is not None:
            self._steps_of_rung = max(1, min(self._steps_of_rung, int(LADDER_SHARE * steps / rungs)))
        self._device = device_of(watch.module)
        rates.without_momentum()
        self._losses = (0, 0.0, 0)
        self._in_rung = 0
        self._only_lost = True
        own = rates.customary if brief else None
        self._first_rate = LOWEST_RATE if own is None else own
        begin, before = self._first_rate / rates.highest, sample.first
        self._climb: WaryClimb = (
            BriefClimb(self._keep, self._put_back, begin, before, 1.0, STRIDE if own is None else 2.0)
            if brief
            else WaryClimb(self._keep, self._put_back, begin, before, BELOW)
        )
        self._begin_rung()

    @property
    def good(self) -> dict[str, Any]:
        """The weights of the last rung that was not too high."""
        weights: dict[str, Any] = self._climb.good[0]
        return weights

    def after_step(self, lost: bool) -> Found | None:
        """A step has been taken, or is ``lost``, for its loss is no number; returns what was found at the end."""
        self._in_rung += 1
        if not lost and self._in_rung < self._steps_of_rung:
            return None
        lost = self._watch.read_losses() or lost
        now = inf if lost else self._sample.loss()
        self._only_lost &= not isfinite(now)
        self._watch.mark(now if isfinite(now) else None)
        self._climb.tell(now)
        if self._climb.is_over or self._is_cut():
            return self._end()
        self._begin_rung()
        return None

    def stop(self) -> None:
        """The run ends here, with what the lowest rung trained."""
        self._climb.end()

    def _begin_rung(self) -> None:
        watch = self._watch
        self._in_rung = 0
        self._losses = (watch.place.epoch, watch.loss_sum, watch.loss_rows)
        self._rates.set(self._climb.rate)

    def _is_cut(self) -> bool:
        """Whether another rung would take more than the ladder's share."""
        steps, seconds = self._steps, self._seconds
        if steps is not None and self._state.steps + self._steps_of_rung > LADDER_SHARE * steps:
            return True
        return seconds is not None and self._watch.seconds > LADDER_SHARE * seconds

    def _end(self) -> Found:
        climb, rates, watch = self._climb, self._rates, self._watch
        if self._only_lost:
            watch.place.doing = UPDATE  # so the module is put back
            watch.place.step, watch.place.batch = watch.place.step - 1, watch.place.batch - 1
            lowest = rates.highest * climb.rate
            tried = f"nan at every learning rate that was tried, {self._first_rate:g} to {lowest:.2g}"
            if isfinite(self._sample.first):
                raise NotFiniteError(tried, at_any_rate=True)
            at_first = f"{self._sample.first} before the first step for rows that are looked at, and {tried}"
            raise NotFiniteError(at_first, rows=(), at_any_rate=True)
        lowest = climb.end()
        rates.with_momentum()
        share = self._share
        rate = share * lowest
        if not climb.has_fallen and not isfinite(climb.edge):
            rate = max(1.0, rate)  # too short to find anything: the optimizer's own
        if not rates.follows_gradient:
            return Found(rate, max(1.0, RISE * rates.share() / share), self._told(rate))
        highest = share * climb.edge / BELOW_EDGE
        return Found(rate, max(1.0, highest / rate), self._told(rate))

    @property
    def _share(self) -> float:
        return self._rates.share(self._watch.batch_size)

    def _told(self, rate: float) -> str:
        climb, rates, watch, steps = self._climb, self._rates, self._watch, self._state.steps
        own = rates.base[0]
        share = "" if self._steps is None else f" ({steps / self._steps:.1%} of the run's)"
        end = f"{own * climb.edge:.3g} was too high" if isfinite(climb.edge) else "none was too high"
        end = f"{own * climb.stalled:.3g} gained little more" if isfinite(climb.stalled) else end
        told = (
            f"learning rate {own * rate:.3g}: from a ladder of {counted(climb.rungs, 'rung')}, "
            f"{counted(steps, 'step')}{share} in {watch.seconds:.2g} s: {end}"
        )
        if not climb.has_fallen and not isfinite(climb.edge):
            return f"{told}, and nothing was gained: no less than the optimizer's own"
        if self._share == 1.0:
            return told
        rung = "the lowest rung's" if rates.follows_gradient else "the last rung's that gained"
        return f"{told} for {rates.whom}, {self._share:.2g} of {rung} is taken"

    # --- what a rung changes ---------------------------------------------------------------------

    def _keep(self) -> Any:
        scaler = None if self._scaler is None else self._scaler.state_dict()
        moments = kept_state(self._watch.optimizer)
        return self._state.parameters.copy(), moments, scaler, random_state(self._device)

    def _put_back(self, kept: Any) -> None:
        weights, moments, scaler, numbers = kept
        self._state.parameters[:] = weights
        put_back_state(self._watch.optimizer, moments)
        if self._scaler is not None:
            self._scaler.load_state_dict(scaler)
        set_random_state(numbers, self._device)
        watch, (epoch, total, rows) = self._watch, self._losses
        same = epoch == watch.place.epoch
        watch.loss_sum, watch.loss_rows = (total, rows) if same else (0.0, 0)
