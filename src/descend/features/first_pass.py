"""The first pass over a source: what its columns and its target hold, and which rows are set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, InputError, SourceError
from descend.features.clustering import Clustering
from descend.features.covariance import Covariance
from descend.features.row_index import RowIndex
from descend.features.split import Split, split_rows
from descend.features.statistics import InfiniteValueError, Statistics
from descend.features.target_statistics import TargetStatistics, TargetValueError
from descend.types import Source, Task

OnProgress: TypeAlias = Callable[[int], None]
"""Told the rows that are done with."""
ALL_THE_WEIGHT = 1.0 - 1e-9
"""The share of all weight above which one row's leaves nothing for the others."""


@dataclass
class Learned:
    """Statistics of columns and target."""

    columns: Statistics
    target: TargetStatistics
    held_out: Statistics | None = None
    clustering: Clustering | None = None

    @property
    def lengths(self) -> NDArray[Any] | None:
        """Stored numbers of each training row, where rows are sparse."""
        return _joined(self.columns.row_lengths) if self.columns.row_lengths else None

    @property
    def held_lengths(self) -> NDArray[Any] | None:
        return None if self.lengths is None or self.held_out is None else _joined(self.held_out.row_lengths)

    def without_rows(self) -> Learned:
        """The same without what is kept of single rows: it may be added to for ever."""
        self.columns.forget_rows()
        self.columns.covariance = None
        return Learned(self.columns, self.target, clustering=self.clustering)


def _joined(lengths: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=np.int64), *lengths])


def learn(
    source: Source,
    share: float,
    seed: int,
    on_progress: OnProgress | None,
    task: Task | None = None,
    covariance: bool = False,
) -> tuple[Learned, Split]:
    """The first pass; it begins again where a file's types turn out wider than its first rows said.

    ``covariance``: that of columns and target is of use, if it is to be had.
    """
    from descend.sources.widening import TypesWidened

    for _ in range(1 + 4 * len(source.column_names) + 8):
        try:
            learned, split = _first_pass(source, share, seed, on_progress, task, covariance)
        except TypesWidened:
            continue
        except (InfiniteValueError, TargetValueError) as error:
            raise with_row_of_file(error, source) from None
        if (
            share
            and (split.num_validation == 0 or split.num_train < 2)
            and split.num_train + split.num_validation
        ):
            learned, split = _first_pass(source, 0.0, seed, on_progress, task, covariance)
            split.notes.append(
                f"too few rows ({split.num_train}) to set some aside for validation: all are used for "
                "training"
            )
        _check_rows(source, split)
        return learned, split
    raise SourceError(f"{source.name} changes its types each time it is read; leave its files alone")


def _first_pass(
    source: Source,
    share: float,
    seed: int,
    on_progress: OnProgress | None,
    task: Task | None,
    covariance: bool,
) -> tuple[Learned, Split]:
    name = source.target_name or "y"
    columns, held_columns = Statistics(source.column_names), Statistics(source.column_names)
    columns.covariance = Covariance() if covariance else None
    goal, held_goal = TargetStatistics(name, task), TargetStatistics(name, task)
    split, clustering = Split(share), Clustering()
    index, heaviest = RowIndex(source.column_names), 0.0
    blocks = getattr(source, "draft_blocks", source.blocks)()
    for rows in split_rows(blocks, share, seed):
        if rows.block.target is None:
            raise InputError(f"{source.name} has no target; name one with --target, or give y")
        index.add(rows.block.columns)
        block, weights, target = rows.part(rows.train)
        columns.place_rows(rows.train, rows.first_row)
        moments = columns.update(block, weights, target if task == "regression" else None)
        if weights is not None and len(weights):
            heaviest = max(heaviest, float(weights.max()))
        goal.place_rows(rows.train, rows.first_row)
        goal.update(target, weights, moments)
        clustering.add(goal)
        if share:
            block, weights, target = rows.part(rows.validation)
            held_columns.place_rows(rows.validation, rows.first_row)
            held_columns.update(block, weights)
            held_goal.place_rows(rows.validation, rows.first_row)
            held_goal.update(target, weights)
        split.count(rows)
        if on_progress is not None:
            on_progress(split.num_seen)
    if heaviest >= ALL_THE_WEIGHT * columns.total and split.num_train > 1:
        raise ColumnError(
            f"one row of {source.name} has the weight {heaviest:.3g}, beside which those of the other "
            f"{split.num_train - 1:,} count for nothing: nothing is learnt from one row; correct it, or leave "
            "the row out"
        )
    split.notes += index.notes()
    goal.merge(held_goal, weight=0.0)
    columns.merge_mistakes(held_columns)
    return Learned(columns, goal, held_columns, clustering), split


def _check_rows(source: Source, split: Split) -> None:
    if split.num_seen == 0:
        raise SourceError(f"{source.name} has no rows with a target; at least 2 are needed")
    if split.num_train == 0:
        raise ColumnError(f"every weight of {source.name} is 0; at least 2 rows need a weight above 0")
    if split.num_train < 2:
        raise SourceError(f"{source.name} has 1 row to learn from (1 sample); at least 2 are needed")


def with_row_of_file(error: InfiniteValueError | TargetValueError, source: Source) -> ColumnError:
    """The same message with the row as the file counts it, rows left out before it included."""
    row_number = getattr(source, "row_number", None)
    return error if row_number is None else _at_row(error, row_number(error.row) - 1)


def _at_row(error: InfiniteValueError | TargetValueError, row: int) -> ColumnError:
    if isinstance(error, InfiniteValueError):
        return InfiniteValueError(error.name, error.value, row, error.sparse)
    return TargetValueError(error.name, error.value, row)
