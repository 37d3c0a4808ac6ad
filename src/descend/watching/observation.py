"""What a callback is told while a run goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
