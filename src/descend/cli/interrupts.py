"""Ctrl-C, and a polite request to end (SIGTERM), while something is being made that is worth keeping."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_heard = False
"""Whether a signal came before anything was made. What it raises gets lost where Python has no one to tell, as in
what an import leaves to be cleaned up; then it is raised once more, before anything is made."""


def hear_interrupts() -> None:
    """From now on a polite request to end is heard as Ctrl-C, and neither is lost."""
    global _heard
    _heard = False
    for one in SIGNALS:
        signal.signal(one, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    global _heard
    _heard = True
    raise KeyboardInterrupt


class Interrupts:
    """A context in which the first signal can be made to wait.

    While ``gentle`` is True the first signal only sets ``asked``: training ends at its next look, half a
    second later at most, with everything in order. A second signal, or one that comes when ``gentle`` is
    False, raises ``error`` at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self._gentle = self._raised = False
        self.error: type[BaseException] = KeyboardInterrupt
        self._before: dict[signal.Signals, Any] = {}

    @property
    def gentle(self) -> bool:
        """Whether the first signal waits."""
        return self._gentle

    @gentle.setter
    def gentle(self, gentle: bool) -> None:
        if gentle:
            self.raise_lost()
        self._gentle = gentle

    def raise_lost(self) -> None:
        """Raises what a signal raised where Python had no one to tell: to be called ever so often."""
        if self._raised:
            raise self.error

    def __enter__(self) -> Interrupts:
        if _heard:
            raise KeyboardInterrupt
        if threading.current_thread() is threading.main_thread():
            for one in SIGNALS:
                self._before[one] = signal.signal(one, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler if handler is not None else signal.SIG_DFL)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if self.gentle and not self.asked:
            self.asked = True
            return
        self.asked = self._raised = True
        raise self.error


class StopComparing(BaseException):
    """Leaves a comparison as a whole; KeyboardInterrupt would end one of its runs and go on with the next."""
