"""Averaging the tail: a constant rate keeps single steps noisy, and the mean of many of them is not.

The average covers the last two windows of steps. A window closes when the number of steps has grown by half
(or by what else is said) since the last one did, so at any time the average holds the last third to last 56 % of
all steps, and no length of the run has to be known (``docs/architecture.md`` has what this gains).
"""

from __future__ import annotations

from math import ceil

import numpy as np

from descend.engines.base import NEXT_CLOSE, NUM_CLOSED, State
from descend.types import FloatArray, IntArray

GROWTH = 1.5
FIRST_CLOSE = 8


class TailAverage:
    """The closed window, while ``State.average`` is the open one."""

    def __init__(self, growth: float = GROWTH) -> None:
        """A window closes when the number of steps has grown by the factor ``growth``."""
        self.growth = growth
        self.began, self.next_close = 0, FIRST_CLOSE
        self.closed: FloatArray | None = None
        self.num_closed = 0

    def close_if_due(self, state: State) -> None:
        """Closes the open window once ``next_close`` steps are done."""
        if state.steps < self.next_close:
            return
        self.closed, self.num_closed = state.average.copy(), state.num_averaged
        state.average[:] = 0.0
        state.num_averaged = 0
        self.next_close = self.began + ceil(self.growth * (state.steps - self.began))

    def windows(self, state: State) -> tuple[FloatArray, IntArray]:
        """The closed window and what is counted, for a loop that closes windows itself; ``closed_by`` ends it."""
        closed = np.empty_like(state.average) if self.closed is None else self.closed
        return closed, np.array([self.began, self.next_close, self.num_closed])

    def closed_by(self, closed: FloatArray, windows: IntArray) -> None:
        """Takes what such a loop made of these."""
        if windows[NEXT_CLOSE] != self.next_close:
            self.closed = closed
            self.next_close, self.num_closed = int(windows[NEXT_CLOSE]), int(windows[NUM_CLOSED])

    def begin_anew(self, state: State) -> None:
        """Forgets what was averaged: from here on steps are of another kind."""
        state.average[:] = 0.0
        state.num_averaged = self.num_closed = 0
        self.closed, self.began = None, state.steps
        self.next_close = self.began + FIRST_CLOSE

    def parameters(self, state: State) -> FloatArray | None:
        """The mean over both windows in the parameters' own dtype; None while there is nothing to average."""
        total = self.num_closed + state.num_averaged
        if total == 0:
            return None
        mean = state.average * (state.num_averaged / total)
        if self.closed is not None:
            mean = mean + self.closed * (self.num_closed / total)
        return mean.astype(state.parameters.dtype)


class PolyakAverage(TailAverage):
    """The mean over all steps from the first on: one window that never closes (Polyak and Juditsky 1992)."""

    def __init__(self) -> None:
        super().__init__()
        self.next_close = 2**62
