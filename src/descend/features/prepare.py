"""From a source to encoded rows in memory: one pass to learn the columns, one to write them in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from descend.coded_rows import SMALL, CodedRows
from descend.errors import ColumnError, InputError, SourceError, shorten
from descend.features.class_weights import ClassWeight, class_weights
from descend.features.clustering import Clustering
from descend.features.features import Features
from descend.features.prepare_source import Place, choose_place, does_not_fit, prepare_source, tell_order
from descend.features.source_rows import Weigh
from descend.features.sparse import SparseFiller
from descend.features.split import Chosen, Rows, Split, split_rows
from descend.features.statistics import InfiniteValueError, Statistics
from descend.features.target import Target
from descend.features.target_statistics import TargetStatistics, TargetValueError
from descend.sources.arrays import ArraySource
from descend.types import Block, Dataset, Source, Task, is_sparse

OnProgress: TypeAlias = Callable[[int], None]
ENCODED_VALUES = 2**20
"""Values encoded at a time before they go to their places: 4 or 8 MB."""
FEWEST_CODED = 2**20
"""From so many small numbers on they stay as they are: fewer cost little, and float64 ends nearer to the optimum."""
ALL_THE_WEIGHT = 1.0 - 1e-9
"""The share of all weight above which one row's leaves nothing for the others."""


@dataclass(frozen=True)
class Prepared:
    """Everything training needs. ``num_rows`` counts the rows used, training and validation together."""

    train: Dataset
    validation: Dataset | None
    features: Features
    target: Target
    notes: tuple[str, ...]
    num_rows: int
    learned: Learned | None = None
    """What the first pass found out about the training rows: more rows may be added to it later."""


def prepare(
    source: Source,
    *,
    task: Task | None = None,
    validation: float = 0.1,
    seed: int = 0,
    standardize: bool = True,
    scale_target: bool = True,
    centre: bool = True,
    shuffle: bool = True,
    dtype: DTypeLike | None = None,
    validation_source: Source | None = None,
    class_weight: ClassWeight = None,
    memory_limit: int | None = None,
    in_source: bool | None = False,
    needs_memory: str | None = None,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """Learn the columns from the training rows, then encode all rows straight into their final places.

    A share ``validation`` of the rows is set aside, row by row, by a random stream that depends on ``seed``
    alone; ``validation_source`` gives them instead where present. Training rows lie in random order unless
    ``shuffle`` is off. ``dtype`` is float32 for files and that of the array for arrays unless given. The data
    exists once: no second copy is made, and no copy at all of a C-contiguous float array that is neither
    standardised, shuffled nor split. A matrix of a million or more 8- or 16-bit numbers without gaps keeps their type
    (``CodedRows``; trained on in float32), and is not copied at all where it is an array, neither shuffled nor split,
    of which every column is used. ``scale_target`` False leaves a target of numbers as it is; ``centre``
    False leaves 0 where it is in columns and target, for models without an intercept. ``on_progress`` is called
    with the rows done, of twice the rows.

    With ``in_source`` None, rows that take more than half of the memory that is free (``memory_limit`` bytes at the
    most for the whole process) stay in their source and are read from it in every epoch (``SourceRows``); True and
    False settle it. ``needs_memory`` names what cannot use rows in a source: those that do not fit are refused.

    >>> import numpy as np
    >>> from descend.sources import array_source
    >>> rows = np.arange(40.0).reshape(20, 2)
    >>> ready = prepare(array_source(rows, y=rows[:, 0] > 19), validation=0.25, seed=1)
    >>> ready.num_rows, ready.train.num_rows + ready.validation.num_rows, ready.target.task
    (20, 20, 'classification')
    """
    if not 0 <= validation < 1:
        raise InputError(
            f"validation is {validation}; give a share of at least 0 and less than 1, such as 0.1"
        )
    share = 0.0 if validation_source is not None else validation
    hint = getattr(source, "task", None) if task is None else task
    learned, split = _learn(source, share, seed, on_progress, hint)
    notes = list(split.notes)
    features = Features.from_statistics(learned.columns, standardize, centre=centre)
    scaled = standardize and scale_target
    target = Target.from_statistics(learned.target, hint, scaled, learned.target.name, centre)
    if task is None and hint is not None:
        target.reason = f"{shorten(target.name)}: {hint}, as {source.name} is known to be"
    weighting = class_weights(class_weight, target, learned.target)
    kind = np.dtype(dtype if dtype is not None else getattr(source, "dtype", None) or np.float32)
    if _is_small(learned, features, split, dtype):
        kind = np.dtype(np.float32)
        stored, held_stored = learned.columns.stored, learned.held_out.stored if learned.held_out else None
    else:
        stored = held_stored = None
    _check_range(learned.columns, features, kind)
    place = (
        None
        if in_source is False
        else _place(learned, split, features, stored or kind, memory_limit, in_source)
    )
    if place is not None and needs_memory and not place.fits:
        raise does_not_fit(source, needs_memory, place, memory_limit)
    if place is not None and place.in_source and not needs_memory:
        return _left_in_source(
            source, learned, split, seed, features, target, weighting, place, notes, on_progress
        )
    whole = _untouched(source, features, target, split, shuffle, stored or kind)
    if whole is not None:
        train, held_out = weighting(whole), None
    else:
        order = _order(split.num_train, seed) if shuffle else None
        train_rows = _Filler(split.num_train, features, target, kind, order, learned.lengths, stored)
        held_rows = _Filler(
            split.num_validation, features, target, kind, None, learned.held_lengths, held_stored
        )
        done = split.num_seen
        for rows in split_rows(source.blocks(), split.share, seed):
            train_rows.add(rows, rows.train)
            held_rows.add(rows, rows.validation)
            done += rows.num_seen
            if on_progress is not None:
                on_progress(done)
        if not (train_rows.is_complete and held_rows.is_complete):
            raise SourceError(f"{source.name} changed while it was read; leave its files alone and try again")
        train = weighting(train_rows.dataset())
        held_out = weighting(held_rows.dataset()) if split.num_validation else None
    if validation_source is not None:
        match_columns = getattr(validation_source, "match_columns", None)
        if match_columns is not None:  # rows that go by number: the width is that of the training rows
            match_columns(features.input_names)
        held_out, told = read_validation(validation_source, features, target, kind, source.name)
        held_out = weighting(held_out)
        notes += told
    train, held_out = normalised(train, held_out)
    notes = [*getattr(source, "notes", ()), *notes, *features.notes]
    num_rows = train.num_rows + (0 if held_out is None else held_out.num_rows)
    return Prepared(train, held_out, features, target, tuple(notes), num_rows, learned)


def _place(
    learned: Learned,
    split: Split,
    features: Features,
    dtype: np.dtype[Any],
    memory_limit: int | None,
    in_source: bool | None,
) -> Place:
    row_bytes = float(features.num_columns * dtype.itemsize)
    if learned.lengths is not None:  # an index beside each number
        row_bytes = 8.0 * (1.0 + float(learned.lengths.mean()))
    outputs = learned.target.num_outputs
    return choose_place(split.num_train + split.num_validation, row_bytes, memory_limit, outputs, in_source)


def _left_in_source(
    source: Source,
    learned: Learned,
    split: Split,
    seed: int,
    features: Features,
    target: Target,
    weighting: Weigh,
    place: Place,
    notes: list[str],
    on_progress: OnProgress | None,
) -> Prepared:
    learned = learned.without_rows()
    train, held_out, told = prepare_source(
        source, split, seed, features, target, weighting, place, on_progress
    )
    rows: Any = train.X
    notes = [*getattr(source, "notes", ()), *notes, *features.notes, place.reason, *told]
    notes += tell_order(rows, learned.clustering)
    num_rows = split.num_train + split.num_validation
    return Prepared(train, held_out, features, target, tuple(notes), num_rows, learned)


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
        return Learned(self.columns, self.target, clustering=self.clustering)


def _joined(lengths: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=np.int64), *lengths])


def _learn(
    source: Source, share: float, seed: int, on_progress: OnProgress | None, task: Task | None = None
) -> tuple[Learned, Split]:
    """The first pass; it begins again where a file's types turn out wider than its first rows said."""
    from descend.sources.widening import TypesWidened

    for _ in range(1 + 4 * len(source.column_names) + 8):
        try:
            learned, split = _first_pass(source, share, seed, on_progress, task)
        except TypesWidened:
            continue
        except (InfiniteValueError, TargetValueError) as error:
            raise with_row_of_file(error, source) from None
        if (
            share
            and (split.num_validation == 0 or split.num_train < 2)
            and split.num_train + split.num_validation
        ):
            learned, split = _first_pass(source, 0.0, seed, on_progress, task)
            split.notes.append(
                f"too few rows ({split.num_train}) to set some aside for validation: all are used for "
                "training"
            )
        _check_rows(source, split)
        return learned, split
    raise SourceError(f"{source.name} changes its types each time it is read; leave its files alone")


def _first_pass(
    source: Source, share: float, seed: int, on_progress: OnProgress | None, task: Task | None
) -> tuple[Learned, Split]:
    name = source.target_name or "y"
    columns, held_columns = Statistics(source.column_names), Statistics(source.column_names)
    goal, held_goal = TargetStatistics(name, task), TargetStatistics(name, task)
    split, clustering = Split(share), Clustering()
    heaviest = 0.0
    blocks = getattr(source, "draft_blocks", source.blocks)()
    for rows in split_rows(blocks, share, seed):
        if rows.block.target is None:
            raise InputError(f"{source.name} has no target; name one with --target, or give y")
        block, weights, target = rows.part(rows.train)
        columns.place_rows(rows.train, rows.first_row)
        columns.update(block, weights)
        if weights is not None and len(weights):
            heaviest = max(heaviest, float(weights.max()))
        goal.place_rows(rows.train, rows.first_row)
        goal.update(target, weights)
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


def _order(num_rows: int, seed: int) -> NDArray[np.int64]:
    """Where row i goes: a random permutation that depends on ``seed`` and the number of rows alone."""
    return np.random.Generator(np.random.PCG64([seed, 1])).permutation(num_rows)


def _is_small(learned: Learned, features: Features, split: Split, dtype: DTypeLike | None) -> bool:
    """Whether rows stay in the small numbers they came in."""
    return (
        learned.columns.stored in SMALL
        and features.is_scaling
        and (dtype is None or np.dtype(dtype) == np.float32)
        and split.num_train * features.num_columns >= FEWEST_CODED
    )


class _Filler:
    """Encodes rows into preallocated arrays, each at its place; numbers of the small type ``stored`` stay so."""

    def __init__(
        self,
        num_rows: int,
        features: Features,
        target: Target,
        dtype: np.dtype[Any],
        order: NDArray[np.int64] | None,
        lengths: NDArray[Any] | None = None,
        stored: np.dtype[Any] | None = None,
    ) -> None:
        outputs = len(target.mean) if target.task == "regression" else 1
        self._num_rows, self._dtype = num_rows, dtype
        self._sparse = None if lengths is None else SparseFiller(lengths, features.num_columns, dtype, order)
        self._stored = stored if stored in SMALL else None
        shape = (num_rows if lengths is None else 0, features.num_columns)
        self._X = np.empty(shape, dtype=self._stored or dtype)
        self.y = np.empty((num_rows, outputs))
        self.weights: NDArray[np.float64] | None = None
        self.filled = 0
        self._changed = False
        self._features = features
        self._target = target
        self._order = order

    def add(self, rows: Rows, chosen: Chosen) -> None:
        """Encode these rows of a block; a few at a time, for one-hot columns make a block much wider."""
        block, weights, target = rows.part(chosen)
        count = Block(block).num_rows
        span = slice(self.filled, self.filled + count)
        self.filled += count
        if count == 0 or self.filled > self._num_rows:
            return
        self._changed |= self._stored is not None and block.dtype != self._stored
        places: Any = span if self._order is None else self._order[span]
        if self._sparse is not None:
            self._sparse.put(self._features.encode(block, dtype=self._dtype), places)
        else:
            self._write(block, count, span)
        self.y[places] = self._target.encode(target)
        if weights is not None:
            if self.weights is None:
                self.weights = np.ones(self._num_rows)
            self.weights[places] = weights

    def _write(self, block: Any, count: int, span: slice) -> None:
        step = max(256, ENCODED_VALUES // self._X.shape[1])
        for start in range(0, count, step):
            piece = block[start : start + step] if isinstance(block, np.ndarray) else block.slice(start, step)
            at = slice(span.start + start, min(span.start + start + step, span.stop))
            if self._stored is not None:
                self._X[at if self._order is None else self._order[at]] = piece[:, self._features.origin]
            else:
                self._features.encode_at(piece, self._X, at if self._order is None else self._order[at])

    @property
    def is_complete(self) -> bool:
        """Whether as many rows came as were counted, of the type they had."""
        return self.filled == self._num_rows and not self._changed

    def dataset(self) -> Dataset:
        X: Any = self._X if self._sparse is None else self._sparse.matrix()
        if self._stored is not None:
            X = CodedRows(X, self._features.mean, self._features.scale)
        return Dataset(X, self.y, self.weights)


def _untouched(
    source: Source, features: Features, target: Target, split: Split, shuffle: bool, dtype: np.dtype[Any]
) -> Dataset | None:
    """The user's own array where encoding would change nothing in it, or is done where rows are used."""
    if not isinstance(source, ArraySource) or shuffle or split.num_validation:
        return None
    X: Any = source.array
    in_order = is_sparse(X) or X.flags.c_contiguous
    as_they_are = features.num_columns == X.shape[1] if dtype in SMALL else features.is_identity
    fits = X.dtype == dtype and in_order and as_they_are and split.num_train == X.shape[0]
    if not fits:
        return None
    if dtype in SMALL:
        X = CodedRows(X, features.mean, features.scale)
    y = np.empty((X.shape[0], len(target.mean) if target.task == "regression" else 1))
    weights, done = [], 0
    for block in source.blocks():  # written in place: joined from parts they would be there twice
        y[done : done + block.num_rows] = target.encode(block.target)
        done += block.num_rows
        if block.weights is not None:
            weights.append(block.weights)
    return Dataset(X, y, np.concatenate(weights) if weights else None)


def read_validation(
    source: Source, features: Features, target: Target, dtype: np.dtype[Any], train_name: str
) -> tuple[Dataset, list[str]]:
    """Rows of another source, encoded as the training rows were; labels that are no class are left out."""
    Xs, ys, ws = [], [], []
    unknown = 0
    for rows in split_rows(source.blocks(), 0.0, 0):
        block, weights, goal = rows.part(rows.train)
        if goal is None:
            raise InputError(f"{source.name} has no target; validation rows need one")
        y = target.encode(goal, unknown="mark")
        known = np.ones(len(y), dtype=bool) if target.task == "regression" else y[:, 0] >= 0
        unknown += int(len(y) - known.sum())
        Xs.append(features.encode(block, dtype=dtype)[known])
        ys.append(y[known])
        ws.append(np.ones(int(known.sum())) if weights is None else weights[known])
    if not sum(map(len, ys)):
        raise SourceError(f"{source.name} has no rows that can be used for validation of {train_name}")
    W = np.concatenate(ws)
    notes = [f"{unknown:,} validation rows of classes unknown to {train_name} left out"] if unknown else []
    return Dataset(_stacked(Xs), np.concatenate(ys), None if (W == 1).all() else W), notes


def _stacked(parts: list[Any]) -> Any:
    if not is_sparse(parts[0]):
        return np.concatenate(parts)
    from scipy.sparse import vstack

    return vstack(parts, format="csr")


def normalised(train: Dataset, held_out: Dataset | None) -> tuple[Dataset, Dataset | None]:
    """Weights with mean 1 over the training rows; those of validation rows on the same scale."""
    if train.weights is None and (held_out is None or held_out.weights is None):
        return train, held_out
    mean = 1.0 if train.weights is None else float(train.weights.mean())

    def scaled(data: Dataset) -> Dataset:
        weights = None if data.weights is None else data.weights / mean
        return Dataset(data.X, data.y, weights)

    return scaled(train), None if held_out is None else scaled(held_out)


def _check_range(stats: Statistics, features: Features, dtype: np.dtype[Any]) -> None:
    """Raw numbers have to fit the type they are kept in."""
    if features.standardize or dtype != np.float32:
        return
    with np.errstate(over="ignore"):
        largest = np.maximum(np.abs(stats.moments.maximum), np.abs(stats.moments.minimum))
    top = float(np.finfo(np.float32).max)
    for name, slot in stats.slots.items():
        if stats.moments.count[slot] and largest[slot] > top:
            raise ColumnError(
                f"column {shorten(name)!r} holds {largest[slot]:.3g}, beyond the range of float32; "
                "standardise, or "
                "give float64 arrays"
            )
