"""Where a run stands, on one line of stderr."""

from __future__ import annotations

import sys
import time

from descend.report.formatting import training_text
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
        text = training_text(seen)
        sys.stderr.write(f"\r\x1b[K{text}" if self.live else f"{text}\n")
        if self.live and seen.seconds_left == 0.0:
            sys.stderr.write("\n")
        sys.stderr.flush()
