"""Whether the files of a source are still what they were when its rows were first read.

Rows are read several times, and what was learnt from the first reading is used in the later ones: a file that was
written to in between would give a model of neither. A file of the same length with other numbers is told by its time
of writing alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descend.errors import SourceError, shorten
from descend.sources.line_ranges import changed


class Stamps:
    """Size, time of writing and number of each file of ``source``; nothing of rows that lie elsewhere."""

    def __init__(self, source: Any) -> None:
        self._files: tuple[Path, ...] = getattr(source, "files", ())
        self._first = [_stamp(path) for path in self._files]

    def check(self) -> None:
        """Raises ``SourceError`` naming the first file that is another one now."""
        for path, first in zip(self._files, self._first, strict=True):
            if _stamp(path) != first:
                raise changed(path)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise SourceError(
            f"{shorten(path.name)} cannot be read any more: {error.strerror}; leave it alone and try again"
        ) from None
    return found.st_size, found.st_mtime_ns, found.st_ino
