"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass


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
        return Place(self.phase, self.phase_epoch, self.epoch, visits, visits >= num_visits)
