"""The order in which rows are visited, and how it is cut into batches.

The order of an epoch is a pure function of (seed, epoch): nothing is carried over, so a run can be
resumed, repeated and compared step by step. Rows already lie in random order (``features.prepare`` put
them there), so an epoch need not jump all over memory: strips of rows are permuted, a window of strips
is filled, and the rows inside the window are permuted, in large data in runs of eight; in very large data
neighbouring strips come one soon after the other. That keeps the reads near one another and, on shuffled rows,
is as good as a full permutation (CorgiPile, https://arxiv.org/abs/2206.05830).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError, shorten
from descend.types import FloatArray, IntArray

NO_ORDER = np.empty(0, dtype=np.int32)
"""What kernels are given where rows are taken as they lie."""
STRIP = 64
WINDOW = 32 * STRIP
GROUP = 8
SINGLE_ROWS = 32
"""So many rows of small batches, and single rows, go through an engine together: cut apart elsewhere, they round
differently."""
GROWING = "growing"
"""A batch size that only fits settle (``growing.py``)."""
LARGE = 2**16
LARGE_STRIP = 1024
RUN = 8
"""From ``LARGE`` rows on, strips are longer and runs of neighbours stay together: memory is read nearly in sequence,
which takes a third off an epoch on rows of 20 columns (``docs/architecture.md``)."""
VERY_LARGE = 2**20
STRETCH = 16 * LARGE_STRIP
"""From ``VERY_LARGE`` rows on, strips that lie together come one soon after the other: windows of a store that are
mapped for a while then lie together, too. In fewer rows, with fewer stretches, gaps were 5 to 11 % worse."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Which rows an epoch visits, and with what weight.

    ``rows`` (N,) holds row numbers in ascending order of place, a heavy row several times; None means every
    row once. ``weights`` (n,) multiply each row's gradient at every visit; None means all 1.
    """

    num_rows: int
    rows: NDArray[np.integer[Any]] | None = None
    weights: FloatArray | None = None

    @property
    def num_visits(self) -> int:
        return self.num_rows if self.rows is None else len(self.rows)


@dataclass(frozen=True, slots=True)
class VisitsAsRead(Visits):
    """Visits of rows whose order shows as they are read: ``total`` of them, heavy rows counted several times."""

    total: int = 0

    @property
    def num_visits(self) -> int:
        return self.total


@dataclass(frozen=True, slots=True)
class Stretch:
    """Visits ``start`` … ``stop`` − 1 of an epoch, for an engine that knows itself which rows these are.

    >>> part = Stretch(1, 0, 100)[40:60]
    >>> part.start, len(part)
    (40, 20)
    """

    epoch: int
    start: int
    stop: int
    in_order: bool = False
    seed: int = 0

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> Stretch:
        start, stop, _ = part.indices(len(self))
        return replace(self, start=self.start + start, stop=self.start + stop)


def order(seed: int, epoch: int, num_visits: int) -> IntArray:
    """The places 0 … num_visits − 1 in the order of this epoch, int32 where that holds them.

    >>> sorted(order(seed=0, epoch=3, num_visits=5).tolist())
    [0, 1, 2, 3, 4]
    """
    from descend.engines import order as kernels  # compiled: costs a second, which `--help` need not pay

    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    levels, dtype = _levels(num_visits), row_number(num_visits)
    run = levels[-1].piece
    total = num_visits // run * run
    places, size = np.zeros(min(1, total), dtype=dtype), total
    for level in levels:
        pieces = np.empty(-(-total // level.piece), dtype=dtype)
        kernels.write_pieces(places, -(-size // level.piece), pieces)
        kernels.permute_windows(state, -(-level.window // level.piece), pieces)
        places, size = pieces, level.piece
    if run == 1:
        return places
    runs, places = places, np.empty(num_visits, dtype=dtype)
    kernels.write_runs(state, runs, run, places)
    return places


class _Level(NamedTuple):
    """Pieces of so many neighbours that are permuted in windows of so many places."""

    piece: int
    window: int


def _levels(num_visits: int) -> list[_Level]:
    if num_visits < LARGE:
        return [_Level(STRIP, max(1, num_visits)), _Level(1, WINDOW)]
    strips, runs = _Level(LARGE_STRIP, num_visits), _Level(RUN, WINDOW)
    if num_visits < VERY_LARGE:
        return [strips, runs]
    return [_Level(STRETCH, num_visits), _Level(LARGE_STRIP, STRETCH), runs]


def neighbours(num_visits: int) -> int:
    """Rows that lie together and come one soon after the other in an epoch's order.

    >>> neighbours(1000), neighbours(100_000), neighbours(10**7)
    (64, 1024, 16384)
    """
    return _levels(num_visits)[0].piece


def row_number(num_rows: int) -> type[np.integer[Any]]:
    """The type that row numbers are kept in: of a narrow row the number is a tenth of what is read."""
    return np.int32 if num_rows < 2**31 else np.int64


def shuffle(visits: Visits, seed: int, epoch: int, in_order: bool = False) -> IntArray:
    """Row numbers in the order of this epoch, shape (N,). ``in_order`` leaves the rows as they lie.

    Of ``VisitsAsRead`` a ``Stretch`` takes the place of the numbers.
    """
    if isinstance(visits, VisitsAsRead):
        return Stretch(epoch, 0, visits.total, in_order, seed)  # type: ignore[return-value]
    dtype = row_number(visits.num_visits)
    places = np.arange(visits.num_visits, dtype=dtype) if in_order else order(seed, epoch, visits.num_visits)
    if visits.rows is not None:
        for start in range(0, len(places), WINDOW):  # in place: an epoch's order is kept once
            part = places[start : start + WINDOW]
            part[:] = visits.rows[part]
    return places


def rows_together(batch_size: int) -> int:
    """Rows, in whole batches, that an engine takes together.

    >>> rows_together(1), rows_together(3), rows_together(32)
    (8, 6, 32)
    """
    return batch_size * max(1, GROUP // batch_size)


def rows_between_cuts(batch_size: int) -> int:
    """Rows, in whole batches, after which a run may be cut in two: each half rounds as the whole would have.

    >>> rows_between_cuts(1), rows_between_cuts(3), rows_between_cuts(32)
    (32, 6, 32)
    """
    return SINGLE_ROWS if batch_size == 1 else rows_together(batch_size)


def check_batch_size(batch_size: object, num_rows: int | None = None) -> int | str:
    """``batch_size`` as an int, ``"full"`` or ``"auto"``.

    A number above ``num_rows``, when that is known, is every row. Raises ``InputError`` for anything else.

    >>> check_batch_size("32"), check_batch_size("full")
    (32, 'full')
    >>> check_batch_size(200, num_rows=150)
    150
    """
    accepted = 'a whole number from 1 on, "full" or "auto"'
    if isinstance(batch_size, str):
        text = batch_size.strip().lower()
        if text in ("full", "auto"):
            return text
        try:
            batch_size = int(text)
        except ValueError:
            raise InputError(f"batch size {shorten(text)!r} is not one; {accepted} is needed") from None
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)):
        raise InputError(f"batch size {batch_size!r} is not one; {accepted} is needed")
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is below 1; {accepted} is needed")
    return int(batch_size) if num_rows is None else min(int(batch_size), num_rows)


def kind_of(batch_size: int, num_rows: int) -> str:
    """The name of a batch size.

    >>> kind_of(1, 100), kind_of(32, 100), kind_of(100, 100)
    ('stochastic', 'mini-batch', 'batch')
    """
    if batch_size >= num_rows:
        return "batch"
    return "stochastic" if batch_size == 1 else "mini-batch"
