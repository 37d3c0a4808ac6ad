"""Strips of sparse rows out of the blocks of a store, verified when they are first read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.store.block_files import BlockRecord, damaged
from descend.store.layout import Layout, bytes_of, num_strips
from descend.store.reading import BlockReader


class SparseBlockReader(BlockReader):
    """``BlockReader`` of CSR rows. ``ends`` (n + 1,) int64: where the stored numbers of each row begin and end.

    They are read once and kept, 8 bytes a row: from then on any strip is two reads.
    """

    def __init__(
        self, folder: Path, layout: Layout, records: Sequence[BlockRecord], spare_bytes: int = 0
    ) -> None:
        super().__init__(folder, layout, records, spare_bytes)
        self.ends = np.zeros(layout.num_rows + 1, dtype=np.int64)

    def read_ends(self, block: int) -> None:
        """Brings ``ends`` of a block's rows; those of the blocks before are there already."""
        file = self._file(block)
        rows = self.records[block].rows
        own = np.empty(rows + 1, dtype=np.int64)
        self._fill(block, file, bytes_of(own), file.parts.indptr.start)
        checks = self._checks[block]
        assert checks is not None
        if zlib.crc32(bytes_of(own)) != checks[num_strips(rows)]:
            raise damaged(self.path(block), "its row ends do not match their checksum")
        first = block * self.layout.block_rows
        self.ends[first + 1 : first + rows + 1] = self.ends[first] + own[1:]

    def read_numbers(
        self, runs: Sequence[tuple[int, int]], indices: NDArray[np.int32], data: NDArray[Any]
    ) -> None:
        """Overwrites the first of ``indices`` and ``data`` with what rows store: of each run from row to row.

        A run begins at a strip and ends with one.
        """
        at = 0
        for block, start, stop in self._by_block(runs):
            file = self._file(block)
            before = int(self.ends[start] - self.ends[block * self.layout.block_rows])
            count = int(self.ends[stop] - self.ends[start])
            here = slice(at, at + count)
            for part, array in ((file.parts.indices, indices[here]), (file.parts.X, data[here])):
                self._fill(block, file, bytes_of(array), part.start + before * array.itemsize)
            if not self._known[block]:
                self._verify_numbers(block, start, stop, indices[here], data[here])
            at += count

    def _by_block(self, runs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """The runs cut where blocks end: block, and rows of the store."""
        for start, stop in runs:
            while start < stop:
                block = start // self.layout.block_rows
                end = min(stop, (block + 1) * self.layout.block_rows)
                yield block, start, end
                start = end

    def _verify_numbers(
        self, block: int, start: int, stop: int, indices: NDArray[np.int32], data: NDArray[Any]
    ) -> None:
        checks, verified = self._checks[block], self._verified[block]
        assert checks is not None
        rows = [*range(start, stop, STRIP), stop]
        ends = (self.ends[rows] - self.ends[start]).tolist()
        first = (start - block * self.layout.block_rows) // STRIP
        for strip, (a, b) in enumerate(pairwise(ends), first):
            if verified[strip]:
                continue
            if zlib.crc32(bytes_of(data[a:b]), zlib.crc32(bytes_of(indices[a:b]))) != checks[strip]:
                row = strip * STRIP
                raise damaged(
                    self.path(block), f"rows {row:,} to {row + STRIP - 1:,} do not match their checksum"
                )
            verified[strip] = True
        self._known[block] = bool(verified.all())
