"""Weights by class: given, or such that every class weighs the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from descend.errors import InputError, one_of, shorten
from descend.features.target import Target
from descend.features.target_statistics import TargetStatistics
from descend.types import Dataset

ClassWeight: TypeAlias = str | Mapping[Any, float] | None


def class_weights(
    class_weight: ClassWeight, target: Target, stats: TargetStatistics
) -> Callable[[Dataset], Dataset]:
    """What multiplies each row's weight by that of its class.

    ``"balanced"`` is n / (K · count of the class), counts being sums of row weights; a mapping gives the
    weight of some classes, the rest weigh 1.
    """
    if class_weight is None:
        return lambda data: data
    if target.task != "classification":
        raise InputError(
            f"class_weight is given, but target {shorten(target.name)!r} is a quantity; leave "
            "class_weight out"
        )
    if isinstance(class_weight, Mapping):
        factors = _given(class_weight, target)
    elif class_weight == "balanced":
        counts = np.array([stats.counts[c] for c in target.classes])
        factors = counts.sum() / (len(counts) * np.where(counts > 0, counts, np.inf))
        factors = np.where(counts > 0, factors, 1.0)
    else:
        raise one_of("class_weight", class_weight, ["balanced", "None", "a mapping from class to weight"])

    def weigh(data: Dataset) -> Dataset:
        by_row = factors[data.y[:, 0].astype(np.intp)]
        return Dataset(data.X, data.y, by_row if data.weights is None else data.weights * by_row)

    return weigh


def _given(class_weight: Mapping[Any, float], target: Target) -> np.ndarray[Any, np.dtype[np.float64]]:
    unknown = [c for c in class_weight if c not in target.classes]
    if unknown:
        known = ", ".join(shorten(str(c), 30) for c in target.classes[:10])
        raise InputError(
            f"class_weight names {shorten(str(unknown[0]))!r}, which is no class; classes are {known}"
        )
    factors = np.array([float(class_weight.get(c, 1.0)) for c in target.classes])
    if not (np.isfinite(factors) & (factors >= 0)).all() or not factors.any():
        raise InputError(
            f"class_weight holds {factors.tolist()}; give finite numbers of at least 0, not all 0"
        )
    if (factors > 0).sum() < 2:
        raise InputError(
            f"class_weight leaves one class only, {shorten(str(target.classes[int(factors.argmax())]))!r}; at "
            "least 2 need a weight above 0: leave their rows out, or give them a small one"
        )
    return factors


def written_weight(class_weight: ClassWeight, classes: Sequence[Any]) -> str | list[list[Any]] | None:
    """``class_weight`` as JSON: a mapping as pairs of label and weight, because keys of JSON are texts.

    >>> written_weight({1: 2.0}, [0, 1]), read_weight([[1, 2.0]])
    ([[1, 2.0]], {1: 2.0})
    """
    if not isinstance(class_weight, Mapping):
        return class_weight
    return [[label, float(class_weight[label])] for label in classes if label in class_weight]


def read_weight(written: str | list[list[Any]] | None) -> ClassWeight:
    """What ``written_weight`` wrote."""
    return dict(written) if isinstance(written, list) else written
