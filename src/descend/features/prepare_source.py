"""What training straight from a source needs besides its statistics: one more reading, by chunks.

It counts the training rows of each chunk, takes the validation rows and a random sample of the training rows into
memory, and finds out how heavy rows are.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.errors import InputError, shorten
from descend.features.clustering import Clustering
from descend.features.features import Features
from descend.features.filling import ENCODED_VALUES
from descend.features.heavy_rows import weighted_norms
from descend.features.source_rows import SourceRows, Weigh
from descend.features.sparse import stacked
from descend.features.split import Rows, Split
from descend.features.target import Target
from descend.machine import ADDRESSES, Room, find_rooms, give_back_memory, held_bytes
from descend.sources.chunks import chunks_of
from descend.sources.limits import table_rows
from descend.types import Dataset, Source

LOADED = 0.5
"""Rows that take no more than this share of what is free are loaded: training needs room beside them."""
WINDOWS = 0.25
"""The share of what is free that one window of rows takes at the most; two live at a time."""
BESIDE = 1 / 16
"""The share that the sample, and the validation rows, may take each."""
NUMBA_BYTES, KERNEL_BYTES = 45 * 10**6, 75 * 10**6
"""What Numba takes once it is loaded, and what the kernels take, with the pages of LLVM that they wake."""
NUMBA_ADDRESSES, KERNEL_ADDRESSES = 340 * 10**6, 160 * 10**6
"""What they reserve."""
BLOCKS_AT_ONCE = 3
"""Blocks of a table that live while it is read: put together, whole, and its training rows."""
MOST_WINDOW_BYTES, FEWEST_WINDOW_BYTES = 2**28, 2**22
FEWEST_WINDOW_ROWS = 256
MOST_SAMPLE_ROWS = 2**17
FEWEST_SAMPLE_ROWS = 2**12
TELLING = 0.01
"""The share of the target's variance between parts of the source from which on it is told."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whether rows are loaded or stay in their source, and why."""

    in_source: bool
    reason: str
    room: Room
    row_bytes: float
    fits: bool
    """Whether the rows could be loaded at all."""
    reading_bytes: int = 0
    """What reading them takes besides."""

    @property
    def spare_bytes(self) -> int:
        """What is left for rows where they stay in their source."""
        return max(0, self.room.bytes - self.reading_bytes)


def choose_place(
    num_rows: int,
    row_bytes: float,
    limit: int | None,
    outputs: int,
    in_source: bool | None = None,
    reading: int = 0,
) -> Place:
    """Where ``num_rows`` encoded rows go, of ``row_bytes`` each; ``in_source`` settles it.

    ``limit``: bytes that the whole process may take; ``reading``: those that reading the source takes.
    """
    from descend.report.formatting import size

    if limit is not None:
        give_back_memory()  # else what the first reading has left behind counts as held
    room = _room_beside_kernels(limit)
    needed = num_rows * (row_bytes + 8.0 * outputs)
    if in_source is None:
        in_source = needed > LOADED * room.bytes
    what = f"the limit of {size(limit)}" if limit is not None else room.bound
    reason = (
        f"{size(needed)} encoded are more than half of the {size(room.bytes)} that {what} leaves: rows are read from "
        "their files in every epoch"
    )
    if limit is not None:
        least = held_bytes() + _kernels_to_come() + reading + _least_bytes(row_bytes)
        if least > limit:
            reason += (
                f"; with the fewest rows at a time the process comes to hold about {size(least)}, so the limit is "
                "not kept: give more, or write a block store with descend ingest and train from that"
            )
    return Place(in_source, reason, room, row_bytes, needed <= room.bytes, reading)


def reading_bytes(source: Source) -> int:
    """About what reading rows of ``source`` takes: pages of its columns, blocks, and rows while they are encoded."""
    columns = len(source.column_names)
    pages = columns * int(getattr(source, "column_bytes", 0))
    return pages + BLOCKS_AT_ONCE * 8 * columns * table_rows(columns) + 8 * ENCODED_VALUES


def _least_bytes(row_bytes: float) -> int:
    """The smallest windows, sample and validation rows."""
    window = max(FEWEST_WINDOW_BYTES, FEWEST_WINDOW_ROWS * row_bytes)
    return int(2 * window + 2 * FEWEST_SAMPLE_ROWS * row_bytes)


def prepare_source(
    source: Source,
    split: Split,
    seed: int,
    features: Features,
    target: Target,
    weigh: Weigh,
    place: Place,
    on_progress: Any = None,
) -> tuple[Dataset, Dataset | None, list[str]]:
    """Training rows that stay in ``source``, validation rows in memory, and what to tell of them."""
    rows = SourceRows(source.name, chunks_of(source), features, target, weigh, split.share, seed)
    rows.window_rows = _window_rows(place)
    most = max(FEWEST_SAMPLE_ROWS, _power_of_two(BESIDE * place.spare_bytes / place.row_bytes))
    gathered = _Gathered(rows, split, min(most, MOST_SAMPLE_ROWS), most, seed)
    done = split.num_seen
    first = 0
    for blocks in rows.chunks:
        rows.first_rows.append(first)
        count = 0
        for some in rows.split(blocks, first):
            count += gathered.add(some)
            first += some.num_seen
            done += some.num_seen
            if on_progress is not None:
                on_progress(done)
        rows.counts.append(count)
    if (first, len(rows)) != (split.num_seen, split.num_train):
        raise rows.changed()
    give_back_memory()
    return gathered.datasets(rows)


class _Gathered:
    """The rows of the second reading that go into memory, chosen by random streams of their own."""

    def __init__(self, rows: SourceRows, split: Split, sample_rows: int, held_rows: int, seed: int) -> None:
        self._rows = rows
        self._split = split
        self._shares = (
            min(1.0, sample_rows / max(1, split.num_train)),
            min(1.0, held_rows / max(1, split.num_validation)),
        )
        self._streams = [np.random.Generator(np.random.PCG64([seed, 4, i])) for i in range(2)]
        self._kept: tuple[list[Dataset], list[Dataset]] = ([], [])
        self._weight = 0.0

    def add(self, some: Rows) -> int:
        """Take in a block; how many of its rows train."""
        count = 0
        for piece in self._rows.encoded(some, some.train):
            count += piece.num_rows
            if piece.weights is not None:
                self._weight += float(piece.weights.sum())
            self._rows.heaviness.add(weighted_norms(piece))
            self._keep(0, piece)
        for piece in self._rows.encoded(some, some.validation):
            self._keep(1, piece)
        return count

    def _keep(self, which: int, piece: Dataset) -> None:
        share = self._shares[which]
        chosen: Any = slice(None)
        if share < 1.0:
            chosen = np.flatnonzero(self._streams[which].random(piece.num_rows) < share)
        weights = None if piece.weights is None else piece.weights[chosen]
        X = piece.X[chosen]
        self._kept[which].append(Dataset(X, piece.y[chosen], weights))

    def datasets(self, rows: SourceRows) -> tuple[Dataset, Dataset | None, list[str]]:
        """Training and validation rows, with weights of mean 1 over the training rows."""
        if self._weight:
            rows.mean_weight = self._weight / len(rows)
        sample = rows.normalised(_joined(self._kept[0]))
        # A random choice, but in the order of the file: whoever looks at its first rows wants a mixture.
        order = self._streams[0].permutation(sample.num_rows)
        weights = None if sample.weights is None else sample.weights[order]
        rows.sample = Dataset(sample.X[order], sample.y[order], weights)
        held = rows.normalised(_joined(self._kept[1])) if self._split.num_validation else None
        notes = []
        if held is not None and held.num_rows < self._split.num_validation:
            notes.append(
                f"of {self._split.num_validation:,} validation rows {held.num_rows:,}, chosen at random, are kept: "
                "more would take too much of the memory"
            )
        return Dataset(rows, rows.target.room(0)), held, notes  # type: ignore[arg-type]


def _joined(parts: list[Dataset]) -> Dataset:
    weights = [np.ones(part.num_rows) if part.weights is None else part.weights for part in parts]
    weighted = any(part.weights is not None for part in parts)
    return Dataset(
        stacked([part.X for part in parts]),
        np.concatenate([part.y for part in parts]),
        np.concatenate(weights) if weighted else None,
    )


def _window_rows(place: Place) -> int:
    wanted = min(max(WINDOWS * place.spare_bytes, FEWEST_WINDOW_BYTES), MOST_WINDOW_BYTES)
    return max(FEWEST_WINDOW_ROWS, _power_of_two(wanted / place.row_bytes))


def _power_of_two(rows: float) -> int:
    """At most so many rows: the result depends on how many they are, and free memory is never twice the same."""
    return 1 << int(np.log2(max(1.0, rows)))


def tell_order(rows: SourceRows, clustering: Clustering | None) -> list[str]:
    """How rows are mixed; ``rows`` are told how clustered they are."""
    task = rows.target.task
    if clustering is not None and clustering.is_plain(task):
        rows.clustered = clustering.share(task) - clustering.by_chance
    if rows.num_windows == 1:
        return ["all rows are mixed at once in every epoch"]
    how = (
        "filled with parts of the file in random order"
        if rows.chunks.in_any_order
        else "filled from first to last"
    )
    notes = [f"windows of {rows.window_rows:,} rows are {how}, and the rows of each are mixed"]
    if rows.clustered < TELLING:
        return notes
    again = (
        "" if rows.readings == 1 else f", so every part is read {rows.readings} times an epoch for other rows"
    )
    rows.warning = (
        f"the target changes from one part of the file to the next ({100 * rows.clustered:.3g} % of its variance "
        f"lies between parts{again}): what steps no longer see they forget; descend ingest shuffles the rows once "
        "for all"
    )
    return [*notes, rows.warning]


def does_not_fit(source: Source, what: str, place: Place, limit: int | None) -> InputError:
    """The message for what cannot be done with rows that stay in their source. ``limit``: as in ``choose_place``."""
    if limit is not None and (held := held_bytes() + _kernels_to_come()) >= limit:
        return InputError(
            f"memory limit {limit / 1e6:,.0f} MB is too low: without rows the process comes to hold "
            f"{held / 1e6:,.0f} MB; give more"
        )
    return InputError(
        f"{shorten(source.name)} does not fit into memory ({place.reason.partition(':')[0]}), and {what} needs its "
        "rows there, or in a block store: write one with descend ingest, and give that"
    )


def _room_beside_kernels(limit: int | None) -> Room:
    rooms = (
        Room(max(0, room.bytes - _kernels_to_come(room.bound)), room.bound) for room in find_rooms(limit)
    )
    return min(rooms, key=lambda room: room.bytes)


def _kernels_to_come(bound: str = "") -> int:
    """What Numba and the kernels will take of what this bounds."""
    numba, kernels = (
        (NUMBA_ADDRESSES, KERNEL_ADDRESSES) if bound == ADDRESSES else (NUMBA_BYTES, KERNEL_BYTES)
    )
    if "numba" not in sys.modules:
        return numba + kernels
    cache = sys.modules.get("descend.engines.kernel_cache")
    return 0 if getattr(cache, "any_loaded", False) else kernels
