"""Sources in parts that can be read by themselves, and so in any order.

Row groups of Parquet files, record batches of Arrow files, slices of ``.npy`` arrays and ranges of bytes that end
where a line ends are such parts. Compressed text and archives are not: what lies before has to be unpacked first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from descend.types import Block, Chunks, Source

Part: TypeAlias = Callable[[], Iterator[Block]]
"""Reads the blocks of one part, each time anew; several threads may do so at once."""


class Parts:
    """Chunks that are read in any order."""

    in_any_order = True

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[Iterator[Block]]:
        return (part() for part in self._parts)

    def read(self, chunk: int) -> Iterator[Block]:
        return self._parts[chunk]()


class InSequence:
    """The blocks of a source that is read from its beginning to its end, each a chunk; for one thread at a time."""

    in_any_order = False

    def __init__(self, source: Source) -> None:
        self._source = source
        self._blocks: Iterator[Block] = iter(())
        self._next = -1

    def __iter__(self) -> Iterator[Iterator[Block]]:
        return (iter((block,)) for block in self._source.blocks())

    def read(self, chunk: int) -> Iterator[Block]:
        if self._next < 0 or chunk < self._next:
            self._blocks, self._next = self._source.blocks(), 0
        for block in self._blocks:
            self._next += 1
            if self._next > chunk:
                yield block
                return


def chunks_of(source: Source) -> Chunks:
    """The chunks of any source, to be asked for when it was read once: only then the types of a text are certain.

    >>> from descend.sources import array_source
    >>> chunks = chunks_of(array_source([[1.0], [2.0]], y=[0, 1]))
    >>> chunks.in_any_order, [block.num_rows for block in chunks.read(0)]
    (False, [2])
    """
    parts: Callable[[], Sequence[Part] | None] | None = getattr(source, "parts", None)
    found = None if parts is None else parts()
    return InSequence(source) if found is None else Parts(found)
