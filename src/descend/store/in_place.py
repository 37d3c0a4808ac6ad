"""Rows of a store used where the system keeps them: strips mapped, verified and let go, some ahead of their use.

A read can fail and say so; a page that is touched cannot. So pages are asked for by a call that fails, before they
are used; what still goes wrong behind that (the file is cut in these milliseconds) is a page of zeros and a count:
``mapping.guarded``. Whoever used such a page is told at once.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.errors import SourceError
from descend.store.block_files import damaged, unreadable
from descend.store.layout import bytes_of, num_strips
from descend.store.mapping import Mapping, can_map, guarded, is_local
from descend.store.read_ahead import ROOMS, read_ahead, renewed_in_forks
from descend.store.reading import BlockReader
from descend.types import IntArray

T = TypeVar("T")


class _Part:
    """Some rows of a walk; the strips of those that do not stay."""

    strips: NDArray[np.int64] = np.empty(0, dtype=np.int64)


def _ascending(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The strips of several parts."""
    return np.sort(np.concatenate([_Part.strips, *parts]))


class RowsInPlace:
    """All rows of a store as an array ``X`` (n, d); a part of it may be touched while a ``walk`` has it mapped.

    The first of the rows, up to ``most_bytes``, stay mapped once they are.
    """

    def __init__(self, blocks: BlockReader, mapping: Mapping, most_bytes: int) -> None:
        layout = blocks.layout
        self.blocks, self.mapping, self.X = blocks, mapping, mapping.X
        self._per_block = layout.block_rows // STRIP
        self._staying = most_bytes // (STRIP * layout.row_bytes)
        """Strips below this number are not let go."""
        self._held = np.zeros(num_strips(layout.num_rows), dtype=np.bool_)
        """Which strips have been verified and are mapped to stay."""
        self._stamps: list[Any] = [None] * len(blocks.records)
        """Of each block what was known of its file when it was mapped."""
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """Nobody walks yet, or any more: the walks of a fork's parent are not its own."""
        self._alive: list[_Part] = []
        """What is in use or on its way, in all walks, of rows that do not stay."""
        self._changing = threading.Lock()
        self._opening = threading.Lock()
        """Two threads that come to a block at once map it once: else strips that one holds would be let go."""

    def holds(self, start: int, stop: int) -> bool:
        """Whether rows start … stop − 1 are all there: then they may be walked as one part."""
        return bool(self._held[start // STRIP : -(-stop // STRIP)].all())

    def walk(self, parts: Iterable[tuple[IntArray, T]]) -> Iterator[T]:
        """What goes with the strips (ascending numbers) of each part, while these are mapped and verified.

        The next parts are brought on threads, and a part is let go when the next one is asked for.
        """
        mine: deque[_Part] = deque()
        opened = np.zeros(len(self._stamps), dtype=np.bool_)

        def begun() -> Iterator[Callable[[], T]]:
            for strips, what in parts:
                over = [mine.popleft()] if len(mine) == ROOMS else []
                mine.append(_Part())
                yield partial(self._bring, strips, what, opened, mine[-1], over)

        with guarded():
            before = self.mapping.replaced_pages
            try:
                for what in read_ahead(begun()):
                    yield what
                    if self.mapping.replaced_pages != before:
                        raise self._failure(np.flatnonzero(opened))
                self._look_again(np.flatnonzero(opened))
            finally:
                self._let_go(list(mine))

    def _let_go(self, over: list[_Part]) -> None:
        with self._changing:
            if not any(part in self._alive for part in over):  # they stay
                return
            self._alive = [part for part in self._alive if part not in over]
            used = [part.strips for part in self._alive]
        self.mapping.let_go(self._staying, _ascending([part.strips for part in over]), _ascending(used))

    def _bring(
        self, strips: IntArray, what: T, opened: NDArray[np.bool_], part: _Part, over: list[_Part]
    ) -> T:
        """Lets go of what is ``over``; maps and verifies ``strips``."""
        self._let_go(over)
        if not len(strips):
            return what
        few = np.zeros(len(opened), dtype=np.bool_)
        few[strips // self._per_block] = True
        for block in np.flatnonzero(few & ~opened).tolist():
            self._map(block)
        opened[few] = True  # by |= a thread may write back what it read of others' blocks
        needed = strips[~self._held[strips]].astype(np.int64)
        cut = int(np.searchsorted(needed, self._staying))
        if cut:
            self._ask(needed[:cut])
            self._held[needed[:cut]] = True
        if cut < len(needed):
            self._ask(needed[cut:], part)
        return what

    def _ask(self, strips: NDArray[np.int64], part: _Part | None = None) -> None:
        blocks = strips // self._per_block
        if part is not None:
            part.strips = strips
            with self._changing:
                self._alive.append(part)
        if not self.mapping.ask(strips):
            raise self._failure(np.unique(blocks))
        new = self.blocks.has_unknown(blocks)
        if not new.any():
            return
        strips, blocks = strips[new], blocks[new]
        ends = np.flatnonzero((np.diff(strips) != 1) | (np.diff(blocks) != 0)) + 1
        lows, highs = np.append(0, ends), np.append(ends, len(strips))
        firsts = strips[lows] * STRIP
        counts = np.minimum((strips[highs - 1] + 1) * STRIP, self.blocks.layout.num_rows) - firsts
        for block, first, count in zip(blocks[lows].tolist(), firsts.tolist(), counts.tolist(), strict=True):
            self._verify(block, first, count)

    def _map(self, block: int) -> None:
        with self._opening:
            file, stamp = self.blocks.open(block)  # held: another thread may put it out of those kept open
            if self._stamps[block] != stamp:
                try:
                    self.mapping.put(block, file.descriptor, file.start)
                except OSError as error:
                    raise unreadable(self.blocks.path(block), error) from None
                self._held[block * self._per_block : (block + 1) * self._per_block] = False
                self._stamps[block] = stamp

    def _verify(self, block: int, first: int, count: int) -> None:
        try:
            place = first - block * self.blocks.layout.block_rows
            self.blocks.verify(block, place, bytes_of(self.X[first : first + count]))
        except SourceError as error:
            self.blocks.open(block)  # zeros where it is cut do not match either: then that is what is said
            raise error from None

    def _look_again(self, blocks: NDArray[np.int64]) -> None:
        """Verifies blocks whose files have been written to since they were mapped."""
        for block in blocks.tolist():
            if self.blocks.open(block)[1] != self._stamps[block]:
                self._map(block)
                first = block * self.blocks.layout.block_rows
                self._verify(block, first, self.blocks.records[block].rows)

    def _failure(self, blocks: NDArray[np.int64]) -> SourceError:
        """Why pages of one of these blocks could not be had; raised where reading tells."""
        self._stamps = [None] * len(self._stamps)  # what was mapped has holes
        self._held[:] = False
        for block in blocks.tolist():
            rows = self.blocks.records[block].rows
            step = max(STRIP, 2**20 // self.blocks.layout.row_bytes // STRIP * STRIP)
            room = memoryview(bytearray(step * self.blocks.layout.row_bytes))
            for place in range(0, rows, step):
                first = block * self.blocks.layout.block_rows + place
                count = min(step, rows - place)
                self.blocks.read(first, count, room)
        return damaged(self.blocks.path(int(blocks[0])), "it, or one beside it, changed while it was read")


_all: weakref.WeakSet[RowsInPlace] = weakref.WeakSet()


def _renew() -> None:
    for rows in list(_all):
        rows.renew()


renewed_in_forks(_renew)


def rows_in_place(blocks: BlockReader, most_bytes: int) -> RowsInPlace | None:
    """The rows of these blocks in place, ``most_bytes`` of them to stay; None where they have to be read."""
    if not can_map(blocks.layout) or not is_local(blocks.open(0)[0].descriptor):
        return None
    try:
        return RowsInPlace(blocks, Mapping(blocks.layout), most_bytes)
    except OSError:
        return None
