"""What is said, and where: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from descend.cli.failures import one_line

LABEL_WIDTH = 15


@dataclass(frozen=True, slots=True)
class Talk:
    """How much a command says; made from ``--json``, ``--quiet`` and ``--verbose``."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def is_live(self) -> bool:
        """Whether stderr is a terminal that can be drawn on again and again."""
        return not self.quiet and sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"

    def note(self, label: str, text: str) -> None:
        """One line about how the command goes about it."""
        if not self.quiet:
            shown = f"{label:<{LABEL_WIDTH}} {one_line(text)}" if label else one_line(text)
            print(_wrapped(shown) if sys.stderr.isatty() else shown, file=sys.stderr, flush=True)

    def notes(self, texts: tuple[str, ...] | list[str], most: int = 5) -> None:
        """Notes about the data; the first few unless ``--verbose``."""
        shown = texts if self.verbose else texts[:most]
        for text in shown:
            self.note("note", text)
        if len(texts) > len(shown):
            self.note("note", f"and {len(texts) - len(shown)} more (--verbose shows them)")

    def result(self, record: dict[str, Any], table: Callable[[Any], Any], text: Callable[[Any], str]) -> None:
        """A result for people: drawn by ``table`` on a terminal, ``text`` in a pipe; nothing with ``--json``."""
        if self.as_json:
            return
        self.note("", "")
        if sys.stdout.isatty():
            from rich.console import Console

            Console(highlight=False, emoji=False).print(table(record))
        else:
            sys.stdout.write(text(record))
        sys.stdout.flush()

    def text(self, plain: str) -> None:
        """A result that looks the same everywhere; nothing with ``--json``."""
        if not self.as_json:
            sys.stdout.write(plain)
            sys.stdout.flush()

    def json(self, value: dict[str, Any]) -> None:
        """The one object on stdout, with ``--json``."""
        if self.as_json:
            sys.stdout.write(json.dumps(plain_json(value), allow_nan=False) + "\n")
            sys.stdout.flush()


def terminal_width() -> int:
    """Columns of the terminal, 80 where there is none."""
    return shutil.get_terminal_size().columns


def _wrapped(line: str) -> str:
    """A labelled line broken between words, its text in one column."""
    indent = " " * (LABEL_WIDTH + 1)
    return textwrap.fill(
        line, max(40, terminal_width() - 1), subsequent_indent=indent, break_on_hyphens=False
    )


def plain_json(value: Any) -> Any:
    """The same as JSON can say it: numbers of NumPy as numbers, what is not finite as null.

    >>> plain_json({"loss": float("nan"), "rows": (1, 2)})
    {'loss': None, 'rows': [1, 2]}
    """
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist") and not isinstance(value, float):
        return plain_json(value.tolist())
    if isinstance(value, float):
        return value if isfinite(value) else None
    return str(value)
