"""What the configurator needs of anything that can be trained: a table's model here, a PyTorch module elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Look:
    """Where a run is: seconds of training alone, rows and updates so far, and the objective."""

    seconds: float
    rows: int
    updates: int
    loss: float


class Trainer(Protocol):
    """Trains from the same start again and again; nothing of the caller's is changed by it."""

    num_rows: int

    def possible(self, batch_size: int) -> bool:
        """Whether steps of so many rows can be taken at all, the last of an epoch among them."""
        ...

    def time_steps(self, batch_size: int, count: int) -> float:
        """Seconds that ``count`` steps take now, through the path that data really take."""
        ...

    def first_rate(self, batch_size: int) -> float:
        """A learning rate to begin with, from curvature, a rule or a ladder."""
        ...

    def train(self, batch_size: int, rate: float, seed: int, look: Callable[[Look], bool]) -> None:
        """Trains from the start at a constant rate; calls ``look`` ever so often, which ends the run by True."""
        ...
