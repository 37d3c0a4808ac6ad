"""Who may take part in a run from outside: what saves it, and what moves its rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from descend.engines.base import State
from descend.types import FloatArray

if TYPE_CHECKING:
    from descend.watching.watch import Watch


class Saver(Protocol):
    """Keeps a run on the disk (``checkpoint.py``); its time is not the run's."""

    def is_due(self) -> bool:
        """Whether it is time to save again."""
        ...

    def save(self, state: State, watch: Watch, looked: bool) -> None:
        """Writes where the run is; ``looked``: the watch has done with this place."""
        ...


class Tuner(Protocol):
    """Moves a run's rate while it goes on (``batch_size/controller.py``); its time is the run's."""

    next_visit: int
    """After so many rows it wants to look."""

    def refuses(self, state: State, loss: float) -> bool:
        """Whether what was found before the first step is none: then it takes ``state`` back to where all began."""
        ...

    def kept(self) -> dict[str, Any]:
        """What it remembers, for a checkpoint; ``recall`` takes it back."""
        ...

    def recall(self, kept: dict[str, Any]) -> None: ...

    def begin(self, state: State) -> None:
        """A phase begins where ``state`` is."""
        ...

    def look(self, state: State, average: FloatArray | None, astray: bool) -> bool:
        """May change the rate's ``pace`` of ``state``; True: it took the parameters back, too.

        ``astray``: it should, for the loss of other rows has blown up.
        """
        ...
