"""Rows that do not fit into memory: they stay in their source, and are read and encoded anew in every epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.errors import SourceError
from descend.features.features import Features
from descend.features.filling import ENCODED_VALUES
from descend.features.heavy_rows import Heaviness, weighted_norms
from descend.features.split import Chosen, Rows, num_chosen, split_rows
from descend.features.target import Target
from descend.machine import give_back_memory
from descend.sources.stamps import Stamps
from descend.types import Block, Chunks, Dataset

SMALL_CHUNK = 2**21
"""Values as they are read, 16 MB: chunks of fewer are read several at a time, by threads."""
WELL_MIXED = 16
"""Chunks whose rows are together in a window, where each holds one class: fewer, and steps forget the others."""
MOST_READINGS = 32
Weigh: TypeAlias = Callable[[Dataset], Dataset]


class SourceRows:
    """The training rows (n, d) of a source; ``pieces`` reads them.

    It stands in ``Dataset.X`` where an array would, of which it has shape and type. ``sample`` are some of the rows
    in memory, chosen at random: what is measured on rows is measured there.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(
        self,
        name: str,
        chunks: Chunks,
        features: Features,
        target: Target,
        weigh: Weigh,
        share: float,
        seed: int,
    ) -> None:
        self.name, self.chunks, self.features, self.target, self.weigh = name, chunks, features, target, weigh
        self.share, self.seed = share, seed
        self.first_rows: list[int] = []
        """The number of the first row of each chunk, validation rows counted."""
        self.counts: list[int] = []
        """Training rows of each chunk."""
        self.mean_weight = 1.0
        self.heaviness = Heaviness()
        self.sample: Dataset
        self.window_rows = 1
        """Rows that are read before they are mixed and trained on; two such windows live at a time."""
        self.stamps: Stamps | None = None
        """What the files were when their rows were first read."""
        self.warning: str | None = None
        """What to tell of the order of the rows, where it is bad for training."""
        self.clustered = 0.0
        """The share of the target's variance that lies between parts of the source, beyond chance."""

    @property
    def shape(self) -> tuple[int, int]:
        return sum(self.counts), self.features.num_columns

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def num_chunks(self) -> int:
        return len(self.counts)

    @property
    def num_windows(self) -> int:
        """Windows in an epoch."""
        return max(1, -(-len(self) // self.window_rows))

    @property
    def readings(self) -> int:
        """How often each chunk is read in an epoch, every time for other rows of it, chosen at random.

        Where the target changes along the source a window wants rows from many places; read once, a chunk is in one
        or two windows. What can only be read from first to last is read until a window has rows from everywhere.
        """
        if self.clustered == 0.0 or self.num_windows == 1:
            return 1
        in_window = max(1e-9, self.num_chunks / self.num_windows)
        wanted = WELL_MIXED * self.clustered / in_window
        if not self.chunks.in_any_order:
            wanted = self.num_windows
        return max(1, min(MOST_READINGS, self.num_windows, ceil(wanted)))

    def __len__(self) -> int:
        return self.shape[0]

    def pieces(self, threads: int = 1) -> Iterator[Dataset]:
        """All training rows as they lie, encoded, some thousand at a time."""
        for chunk, read in self._chunks(range(self.num_chunks), threads):
            yield from map(self.normalised, self._raw_pieces(chunk, read))
        self._end_reading()

    def visits(
        self, epoch: int, threads: int = 1, in_order: bool = False, seed: int = 0
    ) -> Iterator[tuple[Dataset, NDArray[np.int64]]]:
        """All training rows in the order of an epoch, and how often each is visited.

        Chunks come at random, the rows of each as they lie; of one that is read several times it is other rows each
        time.
        """
        readings = 1 if in_order else self.readings
        order = np.arange(readings * self.num_chunks)
        if self.chunks.in_any_order and not in_order:
            order = np.random.Generator(np.random.PCG64([seed, 5, epoch])).permutation(order)
        numbers = (order % self.num_chunks).tolist()
        for turn, (chunk, read) in zip(order // self.num_chunks, self._chunks(numbers, threads), strict=True):
            random = np.random.Generator(np.random.PCG64([seed, 6, epoch, chunk]))
            drawn = (random, readings, int(turn)) if readings > 1 else None
            for piece in self._raw_pieces(chunk, read, drawn):
                yield self.normalised(piece), self.heaviness.copies(weighted_norms(piece))
        self._end_reading()

    def normalised(self, data: Dataset) -> Dataset:
        """Weights such that their mean over all training rows is 1."""
        if data.weights is None:
            return data
        return Dataset(data.X, data.y, data.weights / self.mean_weight)

    @property
    def heaviest(self) -> float:
        """|x|² + 1 of the heaviest visit, at the weight it has."""
        return self.heaviness.heaviest / self.mean_weight

    def _raw_pieces(
        self, chunk: int, read: Iterable[Rows], drawn: tuple[np.random.Generator, int, int] | None = None
    ) -> Iterator[Dataset]:
        """The training rows of a chunk; ``drawn``: those to which the random stream gives the number of this turn."""
        count = 0
        for rows in read:
            chosen: Any = rows.train
            here = num_chosen(chosen, rows.num_seen)
            count += here
            if drawn is not None:
                random, readings, turn = drawn
                places = np.flatnonzero(random.integers(readings, size=here) == turn)
                chosen = places if isinstance(chosen, slice) else chosen[places]
            yield from self.encoded(rows, chosen)
        if count != self.counts[chunk]:
            raise self.changed()

    def encoded(self, rows: Rows, chosen: Chosen) -> Iterator[Dataset]:
        """Rows of a block as they are trained on, but for their weights, which are as they came."""
        block, weights, target = rows.part(chosen)
        count = Block(block).num_rows
        if not count:
            return
        y = self.target.encode(target)
        step = max(256, ENCODED_VALUES // self.features.num_columns)
        for start in range(0, count, step):
            part = slice(start, start + step)
            some = block.slice(start, step) if hasattr(block, "slice") else block[part]
            X = self.features.encode(some, dtype=self.dtype)
            yield self.weigh(Dataset(X, y[part], None if weights is None else weights[part]))

    def split(self, blocks: Iterable[Block], first: int) -> Iterator[Rows]:
        """Blocks with training and validation rows told apart, as in the first reading."""
        return split_rows(blocks, self.share, self.seed, first)

    def changed(self) -> SourceError:
        return SourceError(f"{self.name} changed while it was read; leave its files alone and try again")

    def _end_reading(self) -> None:
        """Numbers of rows are counted as they are read; other numbers in them are told by the files themselves."""
        give_back_memory()  # of blocks in all stages between a file and rows some 50 MB
        if self.stamps is not None:
            self.stamps.check()

    def _chunks(self, numbers: Iterable[int], threads: int) -> Iterator[tuple[int, Iterable[Rows]]]:
        """These chunks, in this order, which is the source's own where that is read from first to last."""
        if not self.chunks.in_any_order:
            yield from self._in_sequence(numbers)
            return
        wide = max(self.counts) * len(self.features.input_names)
        if threads == 1 or wide > SMALL_CHUNK:
            for chunk in numbers:
                yield chunk, self._read(chunk)
            return
        with ThreadPoolExecutor(threads, thread_name_prefix="descend-parse") as pool:
            yield from in_turn(pool, lambda chunk: (chunk, list(self._read(chunk))), numbers, threads + 1)

    def _in_sequence(self, numbers: Iterable[int]) -> Iterator[tuple[int, Iterable[Rows]]]:
        chunks: Iterator[Iterator[Block]] = iter(())
        for number in numbers:
            if number == 0:
                chunks = iter(self.chunks)
            blocks = next(chunks, None)
            if blocks is None:
                raise self.changed()
            yield number, self.split(blocks, self.first_rows[number])

    def _read(self, chunk: int) -> Iterator[Rows]:
        return self.split(self.chunks.read(chunk), self.first_rows[chunk])


def in_turn(
    pool: ThreadPoolExecutor, call: Callable[[int], Any], numbers: Iterable[int], most: int
) -> Iterator[Any]:
    """``call`` of each number, in their order, at most so many of them under way or waiting to be taken."""
    waiting: deque[Future[Any]] = deque()
    try:
        for number in numbers:
            waiting.append(pool.submit(call, number))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
