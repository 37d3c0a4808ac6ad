"""Where a run stands, on one line of stderr."""

from __future__ import annotations

import sys
import time

from descend.watching import Observation

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 3.0


class Progress:
    """A callback: a line that replaces itself on a terminal, and elsewhere a new line every few seconds."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, seen: Observation) -> None:
        now = time.monotonic()
        if now < self._next and seen.validation_loss is None:
            return
        self._next = now + (REDRAW_SECONDS if self.live else PLAIN_SECONDS)
        sys.stderr.write(f"\r\x1b[K{text(seen)}" if self.live else f"{text(seen)}\n")
        if self.live and seen.seconds_left == 0.0:
            sys.stderr.write("\n")
        sys.stderr.flush()


def text(seen: Observation) -> str:
    """One line.

    >>> text(Observation(1.0, 2.5, 250, 250, 0.5, None, 250.0, 125.0))
    'epoch 2.50 · loss 0.5 · 250 rows/s · at most 125 s left'
    """
    parts = [f"epoch {seen.epoch:.2f}", f"loss {seen.loss:.5g}"]
    if seen.validation_loss is not None:
        parts.append(f"validation {seen.validation_loss:.5g}")
    parts.append(f"{seen.rows_per_second:,.0f} rows/s")
    if seen.seconds_left is not None:
        parts.append(f"at most {seen.seconds_left:,.0f} s left")
    return " · ".join(parts)
