"""Ctrl-C, and a polite request to end (SIGTERM), while something is being made that is worth keeping."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """A context in which the first signal can be made to wait.

    While ``gentle`` is True the first signal only sets ``asked``: training ends at its next look, half a
    second later at most, with everything in order. A second signal, or one that comes when ``gentle`` is
    False, raises ``error`` at once.
    """

    def __init__(self) -> None:
        self.asked = False
        self.gentle = False
        self.error: type[BaseException] = KeyboardInterrupt
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
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
        self.asked = True
        raise self.error


class StopComparing(BaseException):
    """Leaves a comparison as a whole; KeyboardInterrupt would end one of its runs and go on with the next."""
