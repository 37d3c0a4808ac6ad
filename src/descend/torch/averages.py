"""The mean of a module's weights over the tail of its steps, on their own device (``descend/averaging.py``)."""

from __future__ import annotations

from typing import Any

from descend.averaging import TailAverage
from descend.networks.fitting import NETWORK_GROWTH
from descend.torch.vectors import ModuleState, Vector

AVERAGE_ROWS = 64
"""Weights are taken in every so many rows, at the most at every step: at 32 rows 14 of the 385 µs of 784-128-10."""


class ModuleAverage:
    """The average of ``state``'s weights in runs of ``batch_size`` rows a step; ``is_on``: it is taken at all."""

    def __init__(self, state: ModuleState, batch_size: int) -> None:
        self._state: Any = state
        self._every = max(1, AVERAGE_ROWS // batch_size)
        self._tail = TailAverage(NETWORK_GROWTH)
        self.is_on = False

    def begin(self) -> None:
        """From here on weights are averaged; what was averaged before is forgotten."""
        self.is_on = True
        self._tail.begin_anew(self._state)

    def begin_anew(self) -> None:
        """Forgets what was averaged, if anything is: from here on steps are of another kind."""
        if self.is_on:
            self._tail.begin_anew(self._state)

    def after_step(self) -> None:
        """A step has been taken."""
        if not self.is_on:
            return
        if self._state.steps % self._every == 0:
            self._state.take_in()
        self._tail.close_if_due(self._state)

    @property
    def weights(self) -> Vector | None:
        """The averaged weights; None where there are none."""
        found: Any = self._tail.parameters(self._state) if self.is_on else None
        return found if isinstance(found, Vector) else None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        tail: Any = self._tail
        return {
            "is_on": self.is_on,
            "open": (self._state.num_averaged, self._state.average.tensors),
            "tail": (tail.began, tail.next_close, tail.num_closed),
            "closed": None if tail.closed is None else tail.closed.tensors,
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Goes on from there."""
        state, tail = self._state, self._tail
        self.is_on = kept["is_on"]
        state.num_averaged, tensors = kept["open"]
        state.average = state.average.like(tensors)
        tail.began, tail.next_close, tail.num_closed = kept["tail"]
        tail.closed = None if kept["closed"] is None else state.average.like(kept["closed"])
