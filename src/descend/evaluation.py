"""``evaluate``: figures of a fitted estimator on arrays and tables with their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from descend.errors import InputError, shorten
from descend.model_metrics import add_rows, figures, make_sums


def evaluate(model: Any, X: Any, y: Any, *, sample_weight: Any = None) -> dict[str, Any]:
    """Figures of a fitted estimator on rows ``X`` (n, d) with their truth ``y`` (n,) or (n, k), as a dict.

    ``model``: an estimator, or a path of one that was saved. ``X``: as its ``predict`` takes it. Of classes
    ``accuracy``, ``balanced_accuracy``, ``log_loss``, ``roc_auc`` (of two classes) and ``f1``; of several labels a
    row ``accuracy`` (all of them right), ``hamming_loss``, ``log_loss``, ``roc_auc``, ``f1`` (macro), ``f1_micro``,
    and ``labels``, the figures of each; of numbers ``r2``, ``rmse`` and ``mae``; and ``rows``. What these rows do not
    tell is None.

    Raises ``InputError`` for a model that is not fitted, and where lengths or labels do not fit.

    >>> from descend import LinearRegressor
    >>> X = np.linspace(0.0, 1.0, 50)[:, None]
    >>> evaluate(LinearRegressor().fit(X, 2.0 * X[:, 0]), X, 2.0 * X[:, 0])["rows"]
    50
    """
    if isinstance(model, (str, Path)):
        from descend.api import load

        model = load(model)
    inner = getattr(model, "model_", None)
    if inner is None:
        raise InputError(
            f"model is {shorten(repr(model))}; a fitted estimator of descend, or the path of a saved model, is needed"
        )
    scores = np.asarray(model._scores(X))
    truth = np.asarray(y)
    if truth.ndim == 0:
        raise InputError(f"y is {shorten(repr(y))}; give one target a row")
    if len(truth) != len(scores):
        raise InputError(f"y has {len(truth)} rows, but X has {len(scores)}: give one target a row")
    weights = None
    if sample_weight is not None:
        from descend.sources.tables import as_weights

        weights = as_weights(sample_weight, len(scores), "X")
    sums = make_sums(inner)
    add_rows(sums, inner, scores, truth, weights)
    return figures(sums)
