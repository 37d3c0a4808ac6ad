"""One line on stderr while rows are read and a model is trained."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from descend.cli.talk import Talk, terminal_width
from descend.report import formatting

if TYPE_CHECKING:
    from descend.watching import Observation

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 3.0
"""Between two lines where stderr is no terminal."""


class StatusLine:
    """A line that replaces itself on a terminal; elsewhere a new line every few seconds."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self._is_drawn = False
        self._next = 0.0

    def show(self, text: str) -> None:
        """Draws ``text`` if the last drawing is long enough ago."""
        now = time.monotonic()
        if self.talk.quiet or now < self._next:
            return
        if self.talk.is_live:
            self._next = now + REDRAW_SECONDS
            sys.stderr.write(f"\r\x1b[K{text[: terminal_width() - 1]}")
            self._is_drawn = True
        else:
            self._next = now + PLAIN_SECONDS
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Takes the line away and lets the next one be drawn at once."""
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._is_drawn = False
        self._next = 0.0


class ReadingLine:
    """Rows read so far; called with the rows done, of twice the rows (one pass to learn, one to encode)."""

    def __init__(self, line: StatusLine, name: str) -> None:
        self.line = line
        self.name = name
        self._started = time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._started > 0.3:
            self.line.show(f"reading {self.name}: {formatting.count(done)} rows (each is read twice)")


def training_text(seen: Observation) -> str:
    """Where training stands.

    >>> from descend.watching import Observation
    >>> training_text(Observation(1.0, 2.5, 250, 250, 0.5, None, 250.0, 125.0))
    'epoch 2.5 · loss 0.5000 · 250 rows/s · at most 2 min 5 s left'
    """
    parts = [f"epoch {formatting.short_count(seen.epoch)}", f"loss {formatting.loss(_finite(seen.loss))}"]
    if seen.validation_loss is not None:
        parts.append(f"validation {formatting.loss(_finite(seen.validation_loss))}")
    parts.append(f"{formatting.short_count(seen.rows_per_second)} rows/s")
    if seen.seconds_left is not None:
        parts.append(f"at most {formatting.duration(_whole(seen.seconds_left))} left")
    return " · ".join(parts)


def _whole(seconds: float) -> float:
    return round(seconds) if seconds >= 1 else seconds


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
