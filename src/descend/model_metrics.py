"""Figures that go with a model: which are added up on labelled rows, and how rows are added."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.target_values import as_values
from descend.label_metrics import LabelMetrics
from descend.metrics import ClassificationMetrics, RegressionMetrics
from descend.models.model import Model
from descend.types import FloatArray

Sums = ClassificationMetrics | RegressionMetrics | LabelMetrics


def make_sums(model: Model) -> Sums:
    """What adds up the figures that go with a model: of classes, of labels that are there or not, of numbers."""
    labels = getattr(model, "labels", 0)
    if labels:
        return LabelMetrics(labels)
    classes = len(model.target.classes)
    if classes:
        return ClassificationMetrics(classes, model.loss == "log_loss")
    return RegressionMetrics(model.target.num_outputs)


def add_rows(
    sums: Sums, model: Model, scores: FloatArray, target: Any, weights: FloatArray | None = None
) -> None:
    """Adds rows with scores (r, k) and their truth (r,) or (r, k); raises ``ColumnError`` for what is none."""
    if isinstance(sums, LabelMetrics):
        sums.add(scores, as_labels(target, sums.num_labels, model.target.name, sums.rows), weights)
        return
    codes = model.target.encode(target, unknown="mark")
    if isinstance(sums, RegressionMetrics):
        sums.add(model.expected(scores), model.target.decode(codes), weights)
    else:
        labels = as_values(target, model.target.name) if (codes < 0).any() else None
        sums.add(scores, codes, weights, labels)


def as_labels(target: Any, num_labels: int, name: str, rows_before: int = 0) -> NDArray[Any]:
    """Labels (r, k) of 0 and 1; raises ``ColumnError`` for anything else, the row counted from the first one read."""
    values = as_values(target, name)
    values = values[:, None] if values.ndim == 1 else values
    shown = shorten(repr(name))
    if values.shape[1] != num_labels:
        raise ColumnError(
            f"target {shown} has {values.shape[1]} columns, but the model tells {num_labels} labels a row; give each "
            "a column of 0 and 1, in the order of training"
        )
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ColumnError(
            f"target {shown} holds {shorten(str(values[row, column]))!r} as label {column} of row "
            f"{rows_before + row:,}; the model tells labels that are there (1) or not (0)"
        )
    return values


def figures(sums: Sums) -> dict[str, Any]:
    """The figures by name, with ``labels`` where the model tells several a row, and ``rows``."""
    found: dict[str, Any] = dict(sums.result())
    if isinstance(sums, LabelMetrics):
        found["labels"] = sums.per_label()
    return found | {"rows": sums.rows}
