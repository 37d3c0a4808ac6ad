"""The learning rate while training goes on: what the last weights and their average say of it.

    train a window: a third of all rows that were visited before it
    noise    = loss of the last weights − loss of their average
    progress = the lowest loss before − the lower of the two
        gone astray                     back to where the window began, half the rate, and never that high again
        noise > 8 · progress            half the rate: single steps are noisier than what is gained
        noise < progress / 2, gaining   twice the rate, as long as no window was noisy or went astray: until then the
                                        rate is being looked for
        noise < 0, looking, gaining     four times the rate
        noise < progress / 10, gaining  twice the rate from then on; at the second time back to one that was noisy, or
                                        above the ladder's edge, from where a window that gains nothing is taken back
        else                            the rate stays

``decide`` is numbers in, decision out, for whoever can evaluate two sets of weights. ``Controller`` does so for a
``State``, whose ``pace`` it moves. ``docs/networks.md`` has what was measured, and what the constants were chosen on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import inf, isfinite
from typing import Any, Literal

from descend.engines.base import State
from descend.report.formatting import counted
from descend.types import FloatArray

FEWEST_ROWS, FEWEST_STEPS, ENOUGH_ROWS = 1500, 12, 3000
"""A window has as many rows, and as many steps unless it comes to the last of these: a longer one is long enough."""
SHARE = 0.35
"""A window takes this share of all rows visited before it."""
NOISY = 8.0
EAGER, CALM = 0.5, 0.1
"""Noise below this share of the progress doubles the rate: while it is being looked for, and later. The window behind
a noisy one has that one's steps in its average, which looks worse than it is: rates went up and down for ever."""
LEAP = 4.0
"""What the rate rises by while it is being looked for and there is no noise at all: the average, which lags behind,
is higher than the last weights. By twos momentum took half of a job on kin40k to a rate 16 times its first."""
BELOW_EDGE = 1.9
ASTRAY = 0.5
"""A loss has gone astray that is above the lowest by this share of what was gained."""
SWING = 0.1
"""An average that is above it by this share has seen steps swing out, even if they have come back since."""
FAR_ABOVE = 2.0
UNMOVED = 0.05
"""No better than a constant by this share: on the plateau where many networks begin. There nothing is gained whatever
the rate, and it is the noise that leads away: with a rate that falls there, tanh stayed for good."""
MOST_TAKEN_BACK = 30

Verdict = Literal["astray", "noisy", "calm", "stay"]


@dataclass(frozen=True, slots=True)
class Course:
    """What is remembered from window to window. Rates are shares of the one that training began with.

    ``first`` is the loss before the first step of all, ``lowest`` the lowest since. Noise alone takes the rate no
    lower than ``lowest_rate``, and nothing higher than ``highest_rate``. ``constant`` is the loss of the best
    constant model.
    """

    first: float
    lowest: float
    highest_rate: float = inf
    lowest_rate: float = 0.25
    rate: float = 1.0
    constant: float | None = None
    chances: int = 1
    """The rate is being looked for until so many windows more were noisy, or one went astray."""
    noisy_rate: float = inf
    """The rate of the last window that was noisy."""
    num_calm: int = 0
    """Windows that would have led back there, or above the edge."""
    edge: float = inf
    """Above it a ladder met rates that were too high for the weights that training begins with. Later ones may bear
    more, and one window tells."""
    on_trial: bool = False
    """The rate was raised above the edge behind the last window."""

    @property
    def ceiling(self) -> float:
        """What the rate may rise to: above the edge only while it is being looked for."""
        return self.highest_rate if self.chances else min(self.highest_rate, self.edge)

    def has_moved(self, loss: float) -> bool:
        """Whether this is clearly less than what a constant has."""
        return self.constant is None or loss < self.constant - UNMOVED * abs(self.constant)


def decide(course: Course, last: float, average: float | None) -> tuple[Course, Verdict]:
    """The course after a window that ended at these losses of the last weights and of their average.

    Without an average noise is not known, and the rate falls only when steps go astray. A rate rises only while
    something is gained: a loss that got worse, with an average that got worse still, looks like one without noise.

    >>> course = Course(first=1.0, lowest=0.5)
    >>> [decide(course, last, average)[1] for last, average in ((0.59, 0.49), (0.4, 0.4), (0.47, 0.42), (0.9, 0.8))]
    ['noisy', 'calm', 'stay', 'astray']
    """
    loss = last if average is None or not average < last else average
    scale = max(course.first - course.lowest, 0.2 * abs(course.lowest))
    fails = course.on_trial and not loss < course.lowest
    if not isfinite(last) or loss > course.lowest + ASTRAY * scale or fails:
        highest = min(course.highest_rate, course.rate / BELOW_EDGE)
        rate = course.rate / 2.0
        return replace(
            course, rate=rate, highest_rate=highest, chances=0, num_calm=0, on_trial=False
        ), "astray"
    before = course.lowest
    if course.on_trial or loss < before:
        course = replace(course, lowest=min(before, loss), on_trial=False)
    if average is None or not course.has_moved(loss):
        return course, "stay"
    noise, progress = last - average, before - loss
    swung = average > before + SWING * scale
    if swung or noise > NOISY * max(progress, 0.0):
        rate = max(course.rate / 2.0, min(course.rate, course.lowest_rate))
        chances = max(0, course.chances - 1)
        return replace(course, rate=rate, chances=chances, noisy_rate=course.rate, num_calm=0), "noisy"
    searching = course.chances > 0
    beyond = 2.0 * course.rate > course.edge
    within = EAGER if searching and not beyond else CALM
    if progress <= 0.0 or noise >= within * progress or 2.0 * course.rate > course.ceiling:
        return course, "stay"
    if (beyond or 2.0 * course.rate >= course.noisy_rate) and not course.num_calm:
        return replace(course, num_calm=1), "stay"
    leaps = searching and noise < 0.0 and LEAP * course.rate <= min(course.edge, course.highest_rate)
    rate = course.rate * (LEAP if leaps else 2.0)
    floor = course.lowest_rate * (2.0 if searching else 1.0)
    return replace(course, rate=rate, lowest_rate=floor, num_calm=0, on_trial=beyond), "calm"


class Controller:
    """Moves ``State.pace`` after each window. ``loss`` (parameters → loss) is of rows that stay the same."""

    def __init__(
        self,
        loss: Callable[[FloatArray], float],
        state: State,
        lowest: float,
        constant: float | None = None,
        batch_size: int = 1,
        chances: int = 1,
    ) -> None:
        """``state`` stands before the first step of all; ``lowest``, ``constant``, ``chances`` are the course's."""
        self._loss = loss
        self._fewest_rows = min(ENOUGH_ROWS, max(FEWEST_ROWS, FEWEST_STEPS * batch_size))
        first = loss(state.parameters)
        self._course = Course(first, first, lowest_rate=lowest, constant=constant, chances=chances)
        self._begun_at = state.parameters.copy()
        self.next_visit = self.num_taken_back = 0
        self.verdicts: list[Verdict] = []
        self.paces = [1.0]

    @property
    def reason(self) -> str:
        """What it did, in words; empty where the rate stayed."""
        if set(self.paces) == {1.0}:
            return ""
        begun = f"begun at {self.paces[0]:.3g} times that" if self.paces[0] != 1.0 else ""
        if len(set(self.paces)) == 1:
            return begun
        begun += " and " if begun else ""
        moves = sum(one != other for one, other in pairwise(self.paces))
        back = (
            f", {counted(self.num_taken_back, 'time')} after steps went astray" if self.num_taken_back else ""
        )
        return (
            f"{begun}moved {counted(moves, 'time')}, between {min(self.paces):.3g} and "
            f"{max(self.paces):.3g} times that{back}"
        )

    @property
    def begun_at(self) -> Any:
        """The parameters that the window began with."""
        return self._begun_at

    def kept(self) -> dict[str, Any]:
        """What it remembers, for a checkpoint."""
        kept = {name: value for name, value in vars(self).items() if name not in ("_loss", "_fewest_rows")}
        return kept | {"_course": asdict(self._course)}

    def recall(self, kept: dict[str, Any]) -> None:
        """Goes on as the one would that said ``kept``."""
        vars(self).update(kept | {"_course": Course(**kept["_course"])})

    def limit(self, highest_rate: float) -> None:
        """The rate may rise to so many times the one that training begins with."""
        self._course = replace(self._course, highest_rate=highest_rate)

    def meet(self, edge: float) -> None:
        """Above so many times the rate that training begins with, a ladder's steps went astray or might have."""
        self._course = replace(self._course, edge=edge)

    def start_at(self, state: State, rate: float) -> None:
        """Training begins with so many times the rate."""
        self._course, self.paces, state.pace = replace(self._course, rate=rate), [rate], rate

    def refuses(self, state: State, loss: float) -> bool:
        """Takes back what a ladder did whose few rows hid that others went astray; ``loss``: of all rows."""
        if loss <= self._course.first + (FAR_ABOVE - 1.0) * abs(self._course.first):
            return False
        state.parameters[:] = self._begun_at
        return True

    def begin(self, state: State) -> None:
        """A window begins where ``state`` is."""
        self._course = replace(self._course, lowest=min(self._course.lowest, self._loss(state.parameters)))
        self._begin_window(state)

    def look(self, state: State, average: FloatArray | None, astray: bool = False) -> bool:
        """The end of a window: moves the rate; True: the parameters are not those that it ended with.

        ``astray``: the loss of other rows has blown up, and ``state`` stands where it had not yet.
        """
        last = inf if astray else self._loss(state.parameters)
        averaged = None if average is None or astray else self._loss(average)
        self._course, verdict = decide(self._course, last, averaged)
        taken_back = verdict == "astray" and self.num_taken_back < MOST_TAKEN_BACK
        if taken_back:
            self.num_taken_back += 1
            if not astray:
                state.parameters[:] = self._begun_at
            state.first[:] = 0.0
        state.pace = self._course.rate
        self.verdicts.append(verdict)
        self.paces.append(state.pace)
        self._begin_window(state)
        return taken_back

    def _begin_window(self, state: State) -> None:
        self._begun_at = state.parameters.copy()
        self.next_visit = state.visits + max(self._fewest_rows, int(SHARE * state.visits))
