"""The first pass over a source: what the columns and the target hold, and every row scattered by its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, InputError, SourceError
from descend.features.first_pass import ALL_THE_WEIGHT, with_row_of_file
from descend.features.row_index import RowIndex
from descend.features.split import Rows, split_rows
from descend.features.statistics import InfiniteValueError, Statistics
from descend.features.target import Target
from descend.features.target_statistics import TargetStatistics, TargetValueError
from descend.sources.widening import TypesWidened
from descend.store.ahead import ahead
from descend.store.keys import RowKeys
from descend.store.packing import FormatChangedError, Packer
from descend.store.regroup import regroup
from descend.store.spill import Spill
from descend.types import Block, Source, Task

MOST_BEGINNINGS = 200


@dataclass
class Gathered:
    """What the first pass leaves: statistics, and rows by their keys."""

    columns: Statistics
    target: TargetStatistics
    packer: Packer
    spill: Spill
    notes: tuple[str, ...] = ()


def gather(
    source: Source,
    task: Task | None,
    keys: Callable[[], RowKeys],
    spill: Callable[[], Spill],
    on_rows: Callable[[int], None],
) -> Gathered:
    """Read the source once; again from the beginning where its types turn out wider than its first rows said.

    ``keys`` and ``spill`` are made anew for each beginning; ``on_rows`` is called with the rows read so far.
    """
    packer = Packer(source.target_name or "y")
    for _ in range(MOST_BEGINNINGS + 4 * len(source.column_names)):
        try:
            return _pass(source, task, packer, keys(), spill(), on_rows)
        except (TypesWidened, FormatChangedError):
            packer.begin_again()
        except (InfiniteValueError, TargetValueError) as error:
            raise with_row_of_file(error, source) from None
    raise SourceError(f"{source.name} changes its types each time it is read; leave its files alone")


def _pass(
    source: Source,
    task: Task | None,
    packer: Packer,
    keys: RowKeys,
    spill: Spill,
    on_rows: Callable[[int], None],
) -> Gathered:
    columns = Statistics(source.column_names)
    target = TargetStatistics(source.target_name or "y", task)
    index, heaviest = RowIndex(source.column_names), 0.0
    rows = 0
    with closing(ahead(_blocks(source))) as blocks:
        for some in split_rows(regroup(blocks, len(source.column_names)), 0.0, 0):
            if some.block.target is None:
                raise InputError(f"{source.name} has no target; name one with --target, or give y")
            index.add(some.block.columns)
            heaviest = max(heaviest, _add(some, columns, target, packer, keys.next(some.num_seen), spill))
            columns.forget_rows()
            _refuse_early(target, task)
            rows += some.num_seen
            on_rows(rows)
    spill.finish()
    _check_rows(source, columns, rows, spill.num_rows)
    if heaviest >= ALL_THE_WEIGHT * columns.total and spill.num_rows > 1:
        raise ColumnError(
            f"one row of {source.name} has the weight {heaviest:.3g}, beside which the others count for nothing: "
            "nothing is learnt from one row; correct it, or leave the row out"
        )
    return Gathered(columns, target, packer, spill, tuple(index.notes()))


def _blocks(source: Source) -> Iterator[Block]:
    blocks: Iterator[Block] = getattr(source, "draft_blocks", source.blocks)()
    return blocks


def _add(
    rows: Rows,
    columns: Statistics,
    target: TargetStatistics,
    packer: Packer,
    keys: NDArray[np.uint64],
    spill: Spill,
) -> float:
    """Count and scatter the rows of a block; the largest of their weights."""
    block, weights, goal = rows.part(rows.train)
    columns.place_rows(rows.train, rows.first_row)
    columns.update(block, weights)
    target.place_rows(rows.train, rows.first_row)
    target.update(goal, weights)
    records = packer.pack(block, goal, weights, keys[rows.train])
    assert packer.format is not None
    spill.add(records, packer.format)
    return 0.0 if weights is None or not len(weights) else float(weights.max())


def _refuse_early(target: TargetStatistics, task: Task | None) -> None:
    """A target of too many different texts is refused before all of them are kept."""
    if target.kind == "text" and target.overflowed:
        Target.from_statistics(target, task)


def _check_rows(source: Source, columns: Statistics, seen: int, kept: int) -> None:
    if seen == 0:
        raise SourceError(f"{source.name} has no rows with a target; at least 2 are needed")
    if kept == 0 or columns.total == 0:
        raise ColumnError(f"every weight of {source.name} is 0; at least 2 rows need a weight above 0")
    if kept < 2:
        raise SourceError(f"{source.name} has 1 row to learn from (1 sample); at least 2 are needed")
