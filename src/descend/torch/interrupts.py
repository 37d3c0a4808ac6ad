"""Ctrl-C waits for the step that is going on: half an update is no state to go on from.

So does a polite request to end (SIGTERM), where there is a checkpoint to write first.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from descend.torch.watching import Watch

OWN: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""Python's own handlers: whoever has set another one is not disturbed."""


@contextmanager
def interrupts_wait(watch: Watch) -> Iterator[None]:
    """The first signal ends the run behind the step; a second raises at once. Other threads' handlers stay."""
    heard: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        wanted = [signal.SIGINT] if watch.save is None else [signal.SIGINT, signal.SIGTERM]
        heard = [one for one in wanted if signal.getsignal(one) == OWN[one]]

    def ask(number: int, frame: Any) -> None:
        if watch.interrupt:
            raise KeyboardInterrupt
        watch.interrupt = number

    for one in heard:
        signal.signal(one, ask)
    try:
        yield
    finally:
        for one in heard:
            signal.signal(one, OWN[one])
