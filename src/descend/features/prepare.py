"""From a source to encoded rows in memory: one pass to learn the columns, one to write them in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from descend.coded_rows import SMALL
from descend.errors import ColumnError, InputError, SourceError, shorten
from descend.features.class_weights import ClassWeight, class_weights
from descend.features.features import Features
from descend.features.filling import Filler, random_places, untouched
from descend.features.first_pass import Learned, OnProgress, learn
from descend.features.prepare_source import (
    Place,
    choose_place,
    does_not_fit,
    prepare_source,
    reading_bytes,
    tell_order,
)
from descend.features.source_rows import Weigh
from descend.features.sparse import stacked
from descend.features.split import Split, check_share, split_rows
from descend.features.statistics import Statistics
from descend.features.target import Target
from descend.sources.stamps import Stamps
from descend.types import Dataset, KnownProducts, Source, Task

NeedsNoOrder: TypeAlias = Callable[[Features, Target, Learned], bool]
FEWEST_CODED = 2**20
"""From so many small numbers on they stay as they are: fewer cost little, and float64 ends nearer to the optimum."""


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
    in_order: bool = False
    """Whether training rows lie in the order in which they came, though nobody asked for it."""


def prepare(
    source: Source,
    *,
    task: Task | None = None,
    loss_task: Task | None = None,
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
    covariance: bool = False,
    needs_no_order: NeedsNoOrder | None = None,
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
    False leaves 0 where it is in columns and target, for models without an intercept. ``loss_task`` is that of the
    loss asked for: with one for numbers a few whole numbers are counts, not classes, unless ``task`` says so.
    ``on_progress`` is called with the rows done, of twice the rows.

    ``covariance``: the products of all rows are of use, if they can be had beside the means. ``needs_no_order``,
    asked when columns and target are learnt, says whether training reads rows so seldom, and all of them each time,
    that they may stay where they are: a float array without gaps is neither shuffled nor copied, and scaled where it
    is used.

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
    share = check_share(validation)
    if validation_source is not None:
        share = 0.0
    hint = getattr(source, "task", None) if task is None else task
    stamps = Stamps(source)
    learned, split = learn(source, share, seed, on_progress, hint, covariance)
    notes = list(split.notes)
    features = Features.from_statistics(learned.columns, standardize, centre=centre)
    scaled = standardize and scale_target
    asked = hint
    if hint is None and loss_task == "regression" and learned.target.kind == "numbers":
        asked = loss_task
    target = Target.from_statistics(learned.target, asked, scaled, learned.target.name, centre)
    if asked != hint:
        target.reason = f"{shorten(target.name)}: regression, as the loss is one for numbers"
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
        else _place(source, learned, split, features, stored or kind, memory_limit, in_source)
    )
    if place is not None and needs_memory and not place.fits:
        raise does_not_fit(source, needs_memory, place, memory_limit)
    if place is not None and place.in_source and not needs_memory:
        return _left_in_source(
            source, stamps, learned, split, seed, features, target, weighting, place, notes, on_progress
        )
    stays = needs_no_order is not None and needs_no_order(features, target, learned)
    in_order, shuffle = shuffle and stays, shuffle and not stays
    whole = untouched(source, features, target, split, shuffle, stored or kind, stays)
    if whole is not None:
        train, held_out = weighting(whole), None
    else:
        order, held_order = (
            random_places(count, seed) if shuffle else None
            for count in (split.num_train, split.num_validation)
        )
        train_rows = Filler(split.num_train, features, target, kind, order, learned.lengths, stored)
        held_rows = Filler(
            split.num_validation, features, target, kind, held_order, learned.held_lengths, held_stored
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
        stamps.check()
        train = weighting(train_rows.dataset())
        held_out = weighting(held_rows.dataset()) if split.num_validation else None
    if validation_source is not None:
        match_columns = getattr(validation_source, "match_columns", None)
        if match_columns is not None:  # rows that go by number: the width is that of the training rows
            match_columns(features.input_names)
        mixed = seed if shuffle else None
        held_out, told = read_validation(validation_source, features, target, kind, source.name, mixed)
        held_out = weighting(held_out)
        notes += told
    train, held_out = normalised(train, held_out)
    notes = [*getattr(source, "notes", ()), *notes, *features.notes]
    num_rows = train.num_rows + (0 if held_out is None else held_out.num_rows)
    if learned.columns.covariance is not None and class_weight is None:
        products = learned.columns.covariance.encoded(features, target)
        if products is not None:
            train = replace(train, known=KnownProducts(train.num_rows, products))
    return Prepared(train, held_out, features, target, tuple(notes), num_rows, learned, in_order)


def _place(
    source: Source,
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
    num_rows = split.num_train + split.num_validation
    return choose_place(num_rows, row_bytes, memory_limit, outputs, in_source, reading_bytes(source))


def _left_in_source(
    source: Source,
    stamps: Stamps,
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
    stamps.check()
    rows: Any = train.X
    rows.stamps = stamps
    notes = [*getattr(source, "notes", ()), *notes, *features.notes, place.reason, *told]
    notes += tell_order(rows, learned.clustering)
    num_rows = split.num_train + split.num_validation
    return Prepared(train, held_out, features, target, tuple(notes), num_rows, learned)


def _is_small(learned: Learned, features: Features, split: Split, dtype: DTypeLike | None) -> bool:
    """Whether rows stay in the small numbers they came in."""
    return (
        learned.columns.stored in SMALL
        and features.is_scaling
        and (dtype is None or np.dtype(dtype) == np.float32)
        and split.num_train * features.num_columns >= FEWEST_CODED
    )


def read_validation(
    source: Source,
    features: Features,
    target: Target,
    dtype: np.dtype[Any],
    train_name: str,
    seed: int | None,
) -> tuple[Dataset, list[str]]:
    """Rows of another source, encoded as the training rows were; labels that are no class are left out.

    They lie in random order, drawn from ``seed``; as they came where it is None.
    """
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
    X, Y, W = stacked(Xs), np.concatenate(ys), np.concatenate(ws)
    if seed is not None:
        order = random_places(len(Y), seed)
        X, Y, W = X[order], Y[order], W[order]
    notes = [f"{unknown:,} validation rows of classes unknown to {train_name} left out"] if unknown else []
    return Dataset(X, Y, None if (W == 1).all() else W), notes


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
