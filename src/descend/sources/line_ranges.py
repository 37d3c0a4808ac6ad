"""A text file cut into ranges of bytes that end where lines end, so that each can be read by itself."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from descend.errors import SourceError, shorten
from descend.sources.dialect import damaged

READ_BYTES = 2**20
FEWEST_BYTES = 2**16
RANGES = 256
"""In how many ranges a small file is cut at least: rows are mixed the better, the more of them fill a window."""

Range = tuple[int, int]
"""The first byte, and the byte after the last one."""


def line_ranges(path: Path, delimiter: str | None) -> list[Range]:
    """Ranges of about a megabyte, together the whole file; it is read through to find them.

    A line feed inside quotes ends no line; ``delimiter`` None: the format knows no quotes.
    """
    ends = [0]
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            ends += _ends(stream, min(READ_BYTES, max(FEWEST_BYTES, size // RANGES)), delimiter)
    except OSError as error:
        raise damaged(path, error) from None
    return list(pairwise(ends))


def read_range(path: Path, part: Range) -> bytes:
    """The bytes of a range; fewer than there were are an error."""
    start, stop = part
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            text = stream.read(stop - start)
    except OSError as error:
        raise damaged(path, error) from None
    if len(text) < stop - start:
        raise changed(path)
    return text


def changed(path: Path) -> SourceError:
    """The message for a file that is no longer what it was when it was first read."""
    return SourceError(f"{shorten(path.name)} changed while it was read; leave it alone and try again")


def _ends(stream: object, step: int, delimiter: str | None) -> Iterator[int]:
    """Where ranges end: after the last line of each piece of ``step`` bytes that holds the end of one."""
    begun, state = 0, 0
    last = 0
    while piece := stream.read(step):  # type: ignore[attr-defined]
        cut, state = _cut(piece, delimiter, state)
        if cut > 0:
            last = begun + cut
            yield last
        begun += len(piece)
    if last < begun:
        yield begun


def _cut(piece: bytes, delimiter: str | None, state: int) -> tuple[int, int]:
    """Just after the last end of a line in ``piece``, 0 or less where there is none; and how the piece ends."""
    from_quotes = state >= 2
    if delimiter is None or (not from_quotes and b'"' not in piece):
        at_begin = piece[-1:] in (b"\n", b"\r", (delimiter or "\n").encode())
        return piece.rfind(b"\n") + 1, 0 if at_begin else 1
    from descend.engines.quoted_text import last_line_end

    return last_line_end(np.frombuffer(piece, dtype=np.uint8), ord(delimiter), state)
