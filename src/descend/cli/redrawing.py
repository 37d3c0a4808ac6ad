"""A part of the terminal that is drawn again and again, and taken away in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


class Redrawn:
    """Drawn when it is shown, and by nobody else: nothing competes with what is measured."""

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
