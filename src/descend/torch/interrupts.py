"""Ctrl-C waits for the step that is going on: half an update is no state to go on from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from descend.torch.watching import Watch


@contextmanager
def interrupts_wait(watch: Watch) -> Iterator[None]:
    """The first Ctrl-C ends the run behind the step; a second raises at once. Other threads' handlers stay."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if watch.interrupt:
            raise KeyboardInterrupt
        watch.interrupt = True

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
