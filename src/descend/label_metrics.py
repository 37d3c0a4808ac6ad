"""Figures of a model that tells several labels a row, each there or not: of them together, and of each.

The names and the definitions are scikit-learn's for indicator matrices; ``tests`` hold them equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.metrics import ClassificationMetrics, Metrics
from descend.types import FloatArray


@dataclass
class LabelMetrics:
    """Sums over rows of which each has ``num_labels`` labels, 0 or 1."""

    num_labels: int
    rows: int = 0
    each: list[ClassificationMetrics] = field(init=False)
    """Of every label, as of a classification into two."""
    _weight: float = 0.0
    _all_right: float = 0.0

    def __post_init__(self) -> None:
        self.each = [ClassificationMetrics(2) for _ in range(self.num_labels)]

    def add(self, scores: FloatArray, true: NDArray[Any], weights: FloatArray | None = None) -> None:
        """Log-odds (r, k), labels (r, k) of 0 and 1, weights (r,)."""
        weight = np.ones(len(true)) if weights is None else np.asarray(weights, dtype=np.float64)
        self.rows += len(true)
        self._weight += float(weight.sum())
        self._all_right += float(weight[((scores > 0) == (true > 0)).all(axis=1)].sum())
        for place, label in enumerate(self.each):
            label.add(scores[:, place : place + 1], true[:, place] > 0, weights)

    def result(self) -> Metrics:
        """The figures of all labels together; None where these rows do not tell.

        ``accuracy``: the share of rows of which every label is told right. ``hamming_loss``: the share of labels that
        are told wrong. ``log_loss`` and ``f1``: the plain mean over the labels (macro); a label that is nowhere, told
        or true, has an f1 of 0. ``f1_micro``: of all labels counted together. ``roc_auc``: the mean over those labels
        that some rows have and some have not.
        """
        if not self._weight:
            return dict.fromkeys(("accuracy", "hamming_loss", "log_loss", "roc_auc", "f1", "f1_micro"))
        found = self.per_label()
        right, missed, wrong = (
            sum(label.confusion[at] for label in self.each) for at in ((1, 1), (1, 0), (0, 1))
        )
        areas = [one["roc_auc"] for one in found if one["roc_auc"] is not None]
        return {
            "accuracy": self._all_right / self._weight,
            "hamming_loss": float((missed + wrong) / (self._weight * self.num_labels)),
            "log_loss": float(np.mean([one["log_loss"] for one in found])),
            "roc_auc": float(np.mean(areas)) if areas else None,
            "f1": float(np.mean([one["f1"] for one in found])),
            "f1_micro": _share(2 * right, 2 * right + missed + wrong),
        }

    def per_label(self) -> list[Metrics]:
        """Of each label ``share``, ``precision``, ``recall``, ``f1``, ``log_loss`` and ``roc_auc``.

        ``share``: of the rows that have it. ``precision`` is 0 where it is told of no row, ``recall`` and
        ``f1`` where no row has it.
        """
        found: list[Metrics] = []
        for label in self.each:
            told = label.result()
            right, total = label.confusion[1, 1], float(label.confusion.sum())
            found.append(
                {
                    "share": _share(label.confusion[1].sum(), total) if total else None,
                    "precision": _share(right, label.confusion[:, 1].sum()),
                    "recall": _share(right, label.confusion[1].sum()),
                    "f1": told["f1"],
                    "log_loss": told["log_loss"],
                    "roc_auc": told["roc_auc"],
                }
            )
        return found


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
