"""What in columns, target or labels keeps a rate or an optimum from existing: told, with the name.

Numbers that cannot be used at all (infinite, too large to be squared) are refused before training, where they are
read. What is found here lets a model be trained, but not the one that was wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from descend.errors import ColumnError, shorten
from descend.objectives.losses import LOG_LOSS, SOFTMAX, Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset, FloatArray

if TYPE_CHECKING:
    from descend.features import Prepared

FAR = 1e9
"""A number this large, with nearly all of its column's deviation in its one row, is taken for a mistake."""
NEARLY_ALL = 0.99
UNLIKE = 1e8
"""Columns whose scales differ by so much share no rate: a step that moves one throws the other away."""
BLOCK_NUMBERS = 2**21
UNLIKE_OUTPUTS = 10.0
"""Of two outputs of a network whose deviations differ by so much the smaller one is a hundredth of the loss, and
the first to be learnt badly: R² 0.95 for 0.99 at a factor of 10, 0.78 at 100, below 0 at 1,000."""


def troubles(
    prepared: Prepared, loss: Loss, penalty: Penalty, parameters: FloatArray, standardize: bool
) -> list[str]:
    """One sentence for each trouble; none for data that has none."""
    found = [*_one_row_columns(prepared), *_target(prepared)]
    if not standardize:
        found += _unlike_columns(prepared)
    if not (penalty.alpha or penalty.l1) and loss.code in (LOG_LOSS, SOFTMAX):
        found += _separated(prepared, parameters)
    return found


def unlike_outputs(data: Dataset, target_name: str) -> list[str]:
    """What to tell where outputs that share hidden layers differ much in scale: the loss is the sum over them.

    Standardising each by itself would weigh them otherwise than the squared error that was asked for, and numbers of
    one unit (the prices of several days) are meant to be weighed as they are.
    """
    if data.y.shape[1] < 2:
        return []
    deviations = np.array([data.y[:, output].std() for output in range(data.y.shape[1])])
    largest, least = deviations.max(), deviations[deviations > 0].min(initial=np.inf)
    if not UNLIKE_OUTPUTS * least <= largest:
        return []
    small, large = int(np.flatnonzero(deviations == least)[0]), int(deviations.argmax())
    less = f"{largest / least:.3g} times less"
    return [
        f"target {shorten(target_name)!r}: output {small} varies {less} than output {large} "
        "(counted from 0), and the loss is the sum over outputs: it is learnt last, or not at all; scale the outputs "
        "alike before training"
    ]


def _one_row_columns(prepared: Prepared) -> list[str]:
    """Columns that say one thing only: one row is as far away as 1e30, and the others are alike beside it."""
    if prepared.learned is None:
        return []
    stats = prepared.learned.columns
    places = {slot: name for name, slot in stats.slots.items()}
    return [
        f"column {shorten(places[slot])!r}: the deviation is that of one number, {number:.3g}, beside which the "
        "other rows are alike; correct it, or leave the row out"
        for slot, number in _lone_numbers(stats.moments)
        if slot in places
    ]


def _target(prepared: Prepared) -> list[str]:
    target, learned = prepared.target, prepared.learned
    if target.task != "regression" or learned is None:
        return []
    name = f"target {shorten(target.name)!r}"
    moments = learned.target.moments
    if (moments.minimum == moments.maximum).all():
        value = ", ".join(f"{v:.6g}" for v in moments.minimum[:3])
        return [f"{name} is {value} in every row: there is nothing to learn, and the model predicts it"]
    return [
        f"{name}: the deviation is that of one number, {number:.3g}, beside which the other rows are alike; "
        "correct it, or leave the row out"
        for _, number in _lone_numbers(moments)
    ]


def _lone_numbers(moments: Any) -> list[tuple[int, float]]:
    """Place and value of the extreme numbers that alone make nearly all of their column's deviation."""
    found: list[tuple[int, float]] = []
    if not max(moments.maximum.max(initial=0.0), -moments.minimum.min(initial=0.0)) >= FAR:
        return found
    with np.errstate(over="ignore", invalid="ignore"):
        for extreme in (moments.maximum, moments.minimum):
            lone = (np.abs(extreme) >= FAR) & ((extreme - moments.mean) ** 2 >= NEARLY_ALL * moments.M2)
            # Of n equal rows but one, the one has (n − 1)² / n² of n · the deviation's square: nearly all.
            found += [(int(i), float(extreme[i])) for i in np.flatnonzero(lone & (moments.M2 > 0.0))]
    return found


def _unlike_columns(prepared: Prepared) -> list[str]:
    """Raw columns whose scales are too far apart for one rate."""
    scales = column_scales(prepared.train)
    used = scales[scales > 0.0]
    if not len(used) or used.max() < UNLIKE * np.median(used):
        return []
    name = prepared.features.names[int(np.argmax(scales))]
    return [
        f"column {shorten(name)!r} is about {used.max() / np.median(used):.0e} times as large as the others: no "
        "learning rate suits both; standardise the columns, or divide it"
    ]


def _separated(prepared: Prepared, parameters: FloatArray) -> list[str]:
    """Classes that a plane separates have no finite optimum without a penalty: the further out the lower the loss."""
    data = prepared.train
    if not np.isfinite(parameters).all() or not _all_right(data, parameters):
        return []
    weights = np.abs(parameters[:, :-1]).max(axis=0)
    name = prepared.features.names[int(np.argmax(weights))] if len(weights) else ""
    return [
        "no finite optimum: the columns separate the classes and there is no penalty, so the weights grow as "
        f'long as it trains, most of all column {shorten(name)!r}\'s; take penalty "l2" with alpha above 0'
    ]


def _all_right(data: Dataset, parameters: FloatArray) -> bool:
    """Whether every row of any weight lies strictly on its class's side."""
    W, b = parameters[:, :-1].astype(np.float64).T, parameters[:, -1].astype(np.float64)
    step = max(1, BLOCK_NUMBERS // max(1, data.num_columns))
    for start in range(0, data.num_rows, step):
        rows = slice(start, start + step)
        scores = np.asarray(data.X[rows] @ W + b)
        codes = data.y[rows, 0].astype(np.intp)
        if scores.shape[1] == 1:
            right = np.where(codes == 1, scores[:, 0], -scores[:, 0]) > 0.0
        else:
            places = np.arange(len(codes))
            own = scores[places, codes].copy()
            scores[places, codes] = -np.inf
            right = own > scores.max(axis=1)
        if data.weights is not None:
            right |= data.weights[rows] == 0.0
        if not right.all():
            return False
    return True


def check_range(prepared: Prepared) -> None:
    """Raises ``ColumnError`` naming a column, taken as it is, whose squares add up to no number in its type."""
    data = prepared.train
    scales = column_scales(data)
    worst = int(np.argmax(scales))
    most = float(np.finfo(data.X.dtype if data.X.dtype.kind == "f" else np.float32).max)
    if scales[worst] ** 2 * data.num_rows >= most:
        raise ColumnError(
            f"column {shorten(prepared.features.names[worst])!r} has numbers around {scales[worst]:.3g}, whose "
            "squares are too large to be added up; standardise the columns, or divide it"
        )


def column_scales(data: Dataset) -> FloatArray:
    """Root mean square of each column over the first rows, shape (d,)."""
    few: Any = data.first(10_000).X
    if data.is_sparse:
        few = few[:]  # where they are in a store
        sums = few.multiply(few).sum(axis=0, dtype=np.float64)
    else:
        sums = np.zeros(data.num_columns)
        step = len(few) if not data.comes_in_parts else max(1, BLOCK_NUMBERS // max(1, data.num_columns))
        for start in range(0, len(few), step):
            some = few[start : start + step]  # summed a buffer at a time: no copy in float64
            sums += np.einsum("ij,ij->j", some, some, dtype=np.float64)
    return np.asarray(np.sqrt(np.asarray(sums).ravel() / few.shape[0]))
