"""Figures of a model on labelled rows, added up block by block: no row is kept, but for two numbers for the ROC.

The names and the definitions are scikit-learn's; it is not used because it wants all rows at once, clips
probabilities before it takes their logarithm, and takes a second to import. ``tests`` hold them equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.types import FloatArray

MOST_SORTED = 2**20
"""Scores that are sorted at a time: that takes 60 bytes each."""
Metrics: TypeAlias = dict[str, float | None]


def log_losses(scores: FloatArray, codes: NDArray[np.intp]) -> FloatArray:
    """−log of the probability of each row's class (n,), from scores (n, k): exact however sure they are.

    >>> log_losses(np.array([[800.0], [-2.0]]), np.array([0, 0])).round(4).tolist()
    [800.0, 0.1269]
    """
    if scores.shape[1] == 1:
        signed = np.where(codes == 1, scores[:, 0], -scores[:, 0])
        return np.asarray(np.logaddexp(0.0, -signed))
    top = scores.max(axis=1)
    total = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    return np.asarray(total - scores[np.arange(len(codes)), codes])


def roc_auc(
    scores: FloatArray, positive: NDArray[np.bool_], weights: FloatArray | None = None
) -> float | None:
    """Area under the ROC curve: the share of pairs in which the positive row scores higher, ties half.

    None where there is one class only.

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    area, ups, downs = _area(scores, positive, weights)
    return area / (ups * downs) if ups * downs > 0 else None


def _area(
    scores: FloatArray, positive: NDArray[np.bool_], weights: FloatArray | None
) -> tuple[float, float, float]:
    """The weight of pairs in which the positive row scores higher, ties half; of positive rows, and of the others."""
    if not len(scores):
        return 0.0, 0.0, 0.0
    order = np.argsort(scores, kind="stable")
    ranked, is_positive = scores[order], positive[order]
    weight = np.ones(len(ranked)) if weights is None else weights[order].astype(np.float64)
    # Equal scores are one group: within it positive and negative rows tie.
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ups = np.add.reduceat(weight * is_positive, starts)
    downs = np.add.reduceat(weight * ~is_positive, starts)
    below = np.cumsum(downs) - downs
    return float(np.sum(ups * (below + 0.5 * downs))), float(ups.sum()), float(downs.sum())


def roc_auc_of_many(
    scores: Sequence[FloatArray], positive: Sequence[NDArray[np.bool_]], weights: Sequence[FloatArray]
) -> float | None:
    """``roc_auc`` of rows that come in pieces, with less memory: those of some range of scores are sorted at a time.

    ``weights`` is empty where all are 1.

    >>> scores, positive = [np.array([0.1, 0.4]), np.array([0.35])], [np.array([False, False]), np.array([True])]
    >>> roc_auc_of_many(scores, positive, [])
    0.5
    """
    num_rows = sum(map(len, scores))
    sample = np.sort(np.concatenate([some[:: 1 + num_rows // MOST_SORTED] for some in scores]))
    ranges = 1 + num_rows // MOST_SORTED
    edges = np.unique(sample[np.arange(1, ranges) * len(sample) // ranges])
    edges = edges[np.isfinite(edges)]  # a score may be infinite; it belongs to the first or the last range
    area = ups = downs = 0.0
    for low, high in pairwise([-np.inf, *edges.tolist(), np.inf]):
        chosen = [(low <= some) & (some < high) if high < np.inf else low <= some for some in scores]
        part = [np.concatenate([s[c] for s, c in zip(of, chosen, strict=True)]) for of in (scores, positive)]
        weight = np.concatenate([w[c] for w, c in zip(weights, chosen, strict=True)]) if weights else None
        more, up, down = _area(part[0], part[1], weight)
        area += more + up * downs
        ups, downs = ups + up, downs + down
    return area / (ups * downs) if ups * downs > 0 else None


def _narrow(scores: FloatArray) -> FloatArray:
    """The same numbers in float32 where that holds them: they are kept of every row."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = scores.astype(np.float32)
    return narrow if np.array_equal(narrow, scores) else scores.copy()


@dataclass
class ClassificationMetrics:
    """Sums over rows of a classification into ``num_classes``; codes are −1 for labels that are no class.

    A row of an unknown class is told wrong: it counts in ``accuracy``, ``balanced_accuracy`` and ``f1``, each
    unknown label as a class of its own. Its log loss would be infinite, so ``log_loss`` leaves it out, and so
    does ``roc_auc``.
    """

    num_classes: int
    log_odds: bool = True
    """Whether scores are log-odds; where they are margins there is no log loss."""
    rows: int = 0
    unknown_rows: int = 0
    confusion: FloatArray = field(init=False)
    """Weight of rows of class i (row) that were told j (column)."""
    unknown: dict[Any, float] = field(default_factory=dict)
    _lost: float = 0.0
    _told_for_unknown: FloatArray = field(init=False)
    _scores: list[FloatArray] = field(default_factory=list)
    _positive: list[NDArray[np.bool_]] = field(default_factory=list)
    _weights: list[FloatArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.num_classes, self.num_classes))
        self._told_for_unknown = np.zeros(self.num_classes)

    def add(
        self,
        scores: FloatArray,
        codes: NDArray[Any],
        weights: FloatArray | None = None,
        labels: Sequence[Any] | NDArray[Any] | None = None,
    ) -> None:
        """Scores (r, 1) or (r, K), codes (r,), weights (r,); ``labels`` (r,) tell unknown classes apart."""
        codes = np.asarray(codes, dtype=np.intp).reshape(-1)
        weight = np.ones(len(codes)) if weights is None else np.asarray(weights, dtype=np.float64)
        told = (scores[:, 0] > 0).astype(np.intp) if scores.shape[1] == 1 else scores.argmax(axis=1)
        known = codes >= 0
        self.rows += len(codes)
        if not known.all():
            self._add_unknown(~known, told, weight, labels)
            scores, codes, told, weight = scores[known], codes[known], told[known], weight[known]
        pairs = np.bincount(codes * self.num_classes + told, weight, minlength=self.num_classes**2)
        self.confusion += pairs.reshape(self.num_classes, self.num_classes)
        self._lost += float(np.sum(log_losses(np.asarray(scores, dtype=np.float64), codes) * weight))
        if self.num_classes == 2:
            self._scores.append(_narrow(scores[:, 0]))
            self._positive.append(codes == 1)
            if weights is not None:
                self._weights.append(weight)

    def result(self) -> Metrics:
        """``accuracy``, ``balanced_accuracy``, ``log_loss``, ``roc_auc`` (of two classes) and ``f1``.

        ``f1`` is that of the second class where there are two, and the plain mean over the classes (macro)
        where there are more. None where these rows do not tell.
        """
        known = float(self.confusion.sum())
        total = known + sum(self.unknown.values())
        right = np.diagonal(self.confusion)
        found = self.confusion.sum(axis=1)
        recalls = [*(right[found > 0] / found[found > 0]), *(0.0 for _ in self.unknown)]
        metrics: Metrics = {
            "accuracy": float(right.sum() / total) if total else None,
            "balanced_accuracy": float(np.mean(recalls)) if recalls else None,
            "log_loss": self._lost / known if known and self.log_odds else None,
        }
        if self.num_classes == 2:
            metrics["roc_auc"] = self._roc_auc()
        metrics["f1"] = self._f1() if total else None
        return metrics

    def _add_unknown(
        self,
        unknown: NDArray[np.bool_],
        told: NDArray[np.intp],
        weight: FloatArray,
        labels: Sequence[Any] | NDArray[Any] | None,
    ) -> None:
        self.unknown_rows += int(unknown.sum())
        self._told_for_unknown += np.bincount(told[unknown], weight[unknown], minlength=self.num_classes)
        given = ["?"] * len(unknown) if labels is None else labels
        for place in np.flatnonzero(unknown).tolist():
            label = given[place]
            self.unknown[label] = self.unknown.get(label, 0.0) + float(weight[place])

    def _f1(self) -> float | None:
        right = np.diagonal(self.confusion)
        found = self.confusion.sum(axis=1)
        told = self.confusion.sum(axis=0) + self._told_for_unknown
        either = found + told
        scores = np.divide(2 * right, either, out=np.zeros(self.num_classes), where=either > 0)
        if self.num_classes == 2:
            return float(scores[1])
        occurring = [*scores[either > 0], *(0.0 for _ in self.unknown)]
        return float(np.mean(occurring)) if occurring else None

    def _roc_auc(self) -> float | None:
        if not self._scores:
            return None
        if sum(map(len, self._scores)) > MOST_SORTED:
            return roc_auc_of_many(self._scores, self._positive, self._weights)
        weights = np.concatenate(self._weights) if self._weights else None
        return roc_auc(np.concatenate(self._scores), np.concatenate(self._positive), weights)


ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Numbers that differ by no more than this share of their mean are taken for one."""


@dataclass
class RegressionMetrics:
    """Sums over rows of predicted and true numbers (r, k), in the target's units."""

    num_outputs: int
    rows: int = 0
    _weight: float = 0.0
    _squared: FloatArray = field(init=False)
    _absolute: FloatArray = field(init=False)
    _mean: FloatArray = field(init=False)
    _spread: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        for name in ("_squared", "_absolute", "_mean", "_spread"):
            setattr(self, name, np.zeros(self.num_outputs))

    def add(self, predicted: FloatArray, true: FloatArray, weights: FloatArray | None = None) -> None:
        predicted = np.asarray(predicted, dtype=np.float64).reshape(len(predicted), -1)
        true = np.asarray(true, dtype=np.float64).reshape(len(true), -1)
        weight = (np.ones(len(true)) if weights is None else np.asarray(weights, dtype=np.float64))[:, None]
        count = float(weight.sum())
        self.rows += len(true)
        if count == 0.0:
            return
        with np.errstate(over="ignore"):
            self._squared += np.sum(weight * (predicted - true) ** 2, axis=0)
            self._absolute += np.sum(weight * np.abs(predicted - true), axis=0)
            # Chan's formula: the spread of two parts together, without the cancellation of sums of squares.
            mean = np.sum(weight * true, axis=0) / count
            between = (mean - self._mean) ** 2 * self._weight * count / (self._weight + count)
            self._spread += np.sum(weight * (true - mean) ** 2, axis=0) + between
        self._weight += count
        self._mean += (mean - self._mean) * count / self._weight

    def result(self) -> Metrics:
        """``r2``, ``rmse`` and ``mae``; of several outputs the plain mean. None where these rows do not tell."""
        if not self._weight:
            return {"r2": None, "rmse": None, "mae": None}
        # The mean of equal numbers is not always one of them.
        least = self._weight * np.square(ROUNDING * self._mean)
        tells = self.rows > 1 and bool((self._spread > least).all())
        return {
            "r2": float(np.mean(1.0 - self._squared / self._spread)) if tells else None,
            "rmse": float(np.mean(np.sqrt(self._squared / self._weight))),
            "mae": float(np.mean(self._absolute / self._weight)),
        }
