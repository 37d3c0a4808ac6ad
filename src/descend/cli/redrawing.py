"""What is shown while something long goes on: a context, drawn now and then, and taken away in the end."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import RenderableType


class Showing:
    """Silent; also the base of the others. A context."""

    def __init__(self) -> None:
        self._next = 0.0
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def draw_if_due(self) -> None:
        """Draws if the last drawing is long enough ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self.draw()

    def draw(self) -> float:
        """Shows the state; returns the seconds until it may be called again."""
        return math.inf

    def close(self) -> None:
        """Takes away what was drawn."""


class Redrawn:
    """A part of the terminal that is drawn again and again.

    Drawn when it is shown, and by nobody else: nothing competes with what is measured.
    """

    def __init__(self) -> None:
        self._live: Any = None

    @property
    def is_shown(self) -> bool:
        return self._live is not None

    @property
    def height(self) -> int:
        """Lines of the terminal."""
        return int(self._begun().console.height)

    def show(self, picture: RenderableType) -> None:
        """Draws in the place of what is there."""
        self._begun().update(picture, refresh=True)

    def close(self) -> None:
        """Takes away what was drawn."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _begun(self) -> Any:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True, highlight=False, emoji=False),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self._live
