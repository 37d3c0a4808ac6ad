"""Which rows train and which are set aside: decided row by row, whatever the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError, shorten
from descend.types import Block, is_sparse

Chosen: TypeAlias = NDArray[np.intp] | slice
ALL = slice(None)


@dataclass(slots=True)
class Split:
    """How many rows went where."""

    share: float
    num_seen: int = 0
    num_train: int = 0
    num_validation: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, rows: Rows) -> None:
        self.num_seen += rows.num_seen
        self.num_train += num_chosen(rows.train, rows.num_seen)
        self.num_validation += num_chosen(rows.validation, rows.num_seen)


@dataclass(frozen=True, slots=True)
class Rows:
    """A block and the rows of it that train and that validate; rows of weight 0 do neither."""

    block: Block
    first_row: int
    num_seen: int
    train: Chosen
    validation: Chosen

    def part(self, chosen: Chosen) -> tuple[Any, NDArray[np.float64] | None, Any]:
        """Columns, weights and target of some of the rows; all of them are no copy."""
        block = self.block
        weights = None if block.weights is None else block.weights[chosen]
        return _take(block.columns, chosen), weights, _take(block.target, chosen)


def check_share(share: Any) -> float:
    """The share of rows to set aside, or an ``InputError``; 0 for none."""
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= float(share) < 1:
        raise InputError(
            f"validation is {shorten(repr(share))}; give a share of at least 0 and less than 1, such as 0.1"
        )
    return float(share)


def split_rows(blocks: Iterable[Block], share: float, seed: int, first: int = 0) -> Iterator[Rows]:
    """Blocks with their rows split: row i validates where the i-th number of the stream is below ``share``.

    The stream is drawn for every row, so the split depends on ``seed`` and the row's place alone. ``first`` is the
    number of the first row, where the blocks are not the source's from the beginning on.
    """
    stream = _stream(seed, first) if share > 0 else None
    for block in blocks:
        count = block.num_rows
        present = None if block.weights is None else block.weights > 0
        if present is not None and present.all():
            present = None
        train: Chosen = ALL
        validation: Chosen = slice(0, 0)
        if stream is not None:
            aside = stream.random(count) < share
            train = np.flatnonzero(~aside if present is None else ~aside & present)
            validation = np.flatnonzero(aside if present is None else aside & present)
        elif present is not None:
            train = np.flatnonzero(present)
        yield Rows(block, first, count, train, validation)
        first += count


def _stream(seed: int, first: int) -> np.random.Generator:
    bits = np.random.PCG64([seed, 0])
    bits.advance(first)
    return np.random.Generator(bits)


def _take(values: Any, chosen: Chosen) -> Any:
    if values is None or chosen is ALL:
        return values
    if isinstance(values, np.ndarray) or is_sparse(values):
        return values[chosen]
    if isinstance(chosen, slice):
        return values.slice(0, 0)
    return values.take(_arrow_indices(chosen))


def _arrow_indices(places: NDArray[np.intp]) -> Any:
    import pyarrow as pa

    return pa.array(places)


def num_chosen(chosen: Chosen, count: int) -> int:
    """How many of ``count`` rows are chosen."""
    return len(range(*chosen.indices(count))) if isinstance(chosen, slice) else len(chosen)
