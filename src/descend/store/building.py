"""The second pass: rows in order of their keys are encoded and written as blocks, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.store.ahead import ahead
from descend.store.block_files import BlockRecord, write_block
from descend.store.encoding import RecordEncoder
from descend.store.layout import Layout
from descend.store.records import Records, SparseRecords
from descend.store.spill import Spill, storage_error

FILLED_BYTES = 2**19
"""Records that are brought together and encoded at a time: they stay in the processor's cache."""


class OpenBlock:
    """A block that is being filled; its rows may come in several pieces, on several threads."""

    def __init__(self, number: int, layout: Layout) -> None:
        self.number, self.layout = number, layout
        rows = layout.rows_of(number)
        self.X = np.zeros((0 if layout.sparse else rows, layout.num_columns), dtype=layout.dtype)
        self.y = np.empty((rows, layout.num_outputs))
        self.weights = np.ones(rows) if layout.has_weights else None
        self._sparse: dict[int, Any] = {}
        self._lacking = rows
        self._lock = threading.Lock()

    def fill(self, encoder: RecordEncoder, records: Records, order: NDArray[np.intp], at: int) -> bool:
        """Encode the rows ``order`` of the records from row ``at`` on; whether that made the block whole."""
        step = max(256, FILLED_BYTES * len(records) // max(1, records.nbytes))
        for start in range(0, len(order), step):
            some = records.take(order[start : start + step])
            here = slice(at + start, at + start + len(some))
            if isinstance(some, SparseRecords):
                self._sparse[here.start] = encoder.sparse_rows(some)
            else:
                encoder.rows(some, self.X[here])
            self.y[here] = encoder.targets(some)
            if self.weights is not None:
                self.weights[here] = some.heads["weight"] if encoder.has_weights else 1.0
        return self._count(len(order))

    def take(self, X: Any, y: NDArray[np.float64], weights: NDArray[np.float64] | None) -> bool:
        """Rows that are encoded already, to the beginning of the block."""
        if self.layout.sparse:
            self._sparse[0] = X
        else:
            self.X[: len(y)] = X
        self.y[: len(y)] = y
        if self.weights is not None and weights is not None:
            self.weights[: len(y)] = weights
        return self._count(len(y))

    def write(self, folder: Path, name: str) -> BlockRecord:
        X: Any = self.X
        if self.layout.sparse:
            from scipy.sparse import vstack

            X = vstack([self._sparse[at] for at in sorted(self._sparse)], format="csr")
        try:
            return write_block(
                folder, name, self.layout, X, self.y, self.weights, self.layout.lead_of(self.number)
            )
        except OSError as error:
            raise storage_error(folder / name, error) from error

    def _count(self, rows: int) -> bool:
        with self._lock:
            self._lacking -= rows
            return self._lacking == 0


class Builder:
    """Writes the blocks that are not ``done``; ``name_of`` gives their files' names.

    The rows of the spill follow ``before`` rows that the store has; ``head`` are the last of these where they do
    not fill a block, encoded.
    """

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        encoder: RecordEncoder,
        name_of: Callable[[int], str],
        threads: int,
        on_block: Callable[[int, BlockRecord], None],
    ) -> None:
        self.folder, self.layout, self.encoder, self.name_of = folder, layout, encoder, name_of
        self.threads, self.on_block = threads, on_block
        self._open: dict[int, OpenBlock] = {}
        self._running: set[Future[tuple[int, BlockRecord | None]]] = set()

    def build(
        self,
        spill: Spill,
        share_bytes: int,
        done: Mapping[int, BlockRecord],
        before: int = 0,
        head: Any = None,
    ) -> list[BlockRecord]:
        """Write the blocks from the one that row ``before`` lies in; their records in order."""
        found = dict(done)
        first = before // self.layout.block_rows
        if head is not None and first not in found:
            self._open_block(first).take(*head)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="descend-ingest") as pool:
            try:
                with closing(ahead(self._load(spill, share_bytes, found, before), 1)) as shares:
                    for start, records, order in shares:
                        self._submit(pool, found, start, records, order)
                        del records, order
                while self._running:
                    self._collect(found)
            finally:
                for future in self._running:
                    future.cancel()
        return [found[number] for number in range(first, self.layout.num_blocks)]

    def _load(
        self, spill: Spill, share_bytes: int, done: Mapping[int, BlockRecord], before: int
    ) -> Iterator[tuple[int, Records, NDArray[np.intp]]]:
        """Shares of rows with the row each begins at; those whose blocks are all there are not read."""
        finished = set(done)
        row = before
        for start, stop in spill.shares(share_bytes):
            rows = int(spill.histogram[start:stop].sum())
            size = self.layout.block_rows
            if rows and not set(range(row // size, (row + rows - 1) // size + 1)) <= finished:
                records, order = spill.read(start, stop)
                yield row, records, order
                del records, order
            row += rows

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        found: dict[int, BlockRecord],
        start: int,
        records: Records,
        order: Any,
    ) -> None:
        size = self.layout.block_rows
        done = 0
        while done < len(order):
            number, at = divmod(start + done, size)
            count = min(len(order) - done, size - at)
            if number not in found:
                while number not in self._open and len(self._open) > self.threads:
                    self._collect(found)
                block = self._open.get(number) or self._open_block(number)
                self._running.add(pool.submit(self._fill, block, records, order[done : done + count], at))
            done += count
        # The next share is read meanwhile; with this one still in use there would be three.
        while len(self._running) > self.threads:
            self._collect(found)

    def _open_block(self, number: int) -> OpenBlock:
        block = self._open[number] = OpenBlock(number, self.layout)
        return block

    def _fill(
        self, block: OpenBlock, records: Records, order: Any, at: int
    ) -> tuple[int, BlockRecord | None]:
        if not block.fill(self.encoder, records, order, at):
            return block.number, None
        return block.number, block.write(self.folder, self.name_of(block.number))

    def _collect(self, found: dict[int, BlockRecord]) -> None:
        """Wait for work to be done, and note the blocks that are whole."""
        ready, self._running = wait(self._running, return_when=FIRST_COMPLETED)
        for future in ready:
            number, record = future.result()
            if record is not None:
                found[number] = record
                del self._open[number]
                self.on_block(number, record)
