"""One line on stderr while rows are read and a model is trained."""

from __future__ import annotations

import sys
import time

from descend.cli.talk import Talk, terminal_width
from descend.report import formatting

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
    """Rows read so far; called with the rows done, of ``passes`` times the rows (one to learn, one to encode)."""

    def __init__(self, line: StatusLine, name: str, passes: int = 2) -> None:
        self.line = line
        self.name = name
        self.twice = " (each is read twice)" if passes == 2 else ""
        self._started = time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._started > 0.3:
            self.line.show(f"reading {self.name}: {formatting.count(done)} rows{self.twice}")
