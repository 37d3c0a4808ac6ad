"""Hessians times directions, and losses of blocks, of sparse rows: those of the same rows kept dense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse

from descend.engines.certificate import estimate_gap, hessian_product, intercept_bend
from descend.engines.choose import make_engine
from descend.engines.preconditioner import precondition
from descend.engines.sparse_curvature import SHARE
from descend.objectives.losses import LOSSES, SOFTMAX_LOSS, Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset

CHOSEN = np.random.default_rng(3).permutation(700)[:500]


def table(loss: Loss, outputs: int) -> tuple[Any, Any]:
    random = np.random.default_rng(outputs)
    X = np.where(random.random((700, 9)) < 0.4, random.normal(size=(700, 9)), 0.0)
    if loss is SOFTMAX_LOSS:
        return X, random.integers(outputs, size=(700, 1)).astype(np.int8)
    if loss.name == "log_loss":
        return X, random.integers(2, size=(700, 1)).astype(np.int8)
    return X, random.normal(size=(700, outputs))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("chosen", [CHOSEN, slice(700)], ids=["some", "all"])
@pytest.mark.parametrize(
    ("loss", "outputs"),
    [(LOSSES["log_loss"], 1), (SOFTMAX_LOSS, 3), (SOFTMAX_LOSS, 9), (LOSSES["squared_error"], 2)],
    ids=["two", "three", "nine", "numbers"],
)
def test_gaps_are_those_of_dense_rows(loss: Loss, outputs: int, chosen: Any, fit_intercept: bool) -> None:
    """Estimate, step and the intercept's bend do not tell sparse rows from dense ones."""
    X, y = table(loss, outputs)
    random = np.random.default_rng(1)
    at, gradient = random.normal(size=(2, outputs, 10))
    if loss is SOFTMAX_LOSS:  # it does not slope along what is added to all outputs
        gradient -= gradient.mean(axis=0)
    weights = random.random(len(np.arange(700)[chosen])) / 500
    found = []
    for rows in (X, scipy.sparse.csr_array(X)):
        data = Dataset(rows, y)
        hessian = hessian_product(data, loss, 0.01, at, fit_intercept, (chosen, weights))
        gap = estimate_gap(hessian, gradient, np.copy, fit_intercept)
        found.append((gap.gap, gap.step, intercept_bend(data, loss, at, (chosen, weights))))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_far_scores_are_those_of_dense_rows(weighted: bool, dtype: Any) -> None:
    """Log loss told for a block of rows at once is right where every score of the block is far from zero."""
    random = np.random.default_rng(0)
    X, y = table(LOSSES["log_loss"], 1)
    at = (40.0 * random.normal(size=(1, 10))).astype(dtype)
    weights = 2.0 * random.random(700) if weighted else None
    sparse = make_engine(
        Dataset(scipy.sparse.csr_array(X.astype(dtype)), y, weights), LOSSES["log_loss"], Penalty(0.1)
    )
    scores = sparse.data.X.astype(np.float64) @ at[0, :-1].astype(np.float64) + at[0, -1]
    losses = np.logaddexp(0.0, scores) - y[:, 0] * scores
    losses *= 1.0 if weights is None else weights
    penalty = 0.05 * float(np.square(at[0, :-1].astype(np.float64)).sum())
    close = 1e-6 if dtype == np.float32 else 1e-12
    total = 700.0 if weights is None else weights.sum()
    assert sparse.mean_loss(at) == pytest.approx(losses.sum() / total + penalty, rel=close)
    assert sparse.objective(at)[0] == pytest.approx(losses.mean() + penalty, rel=close)
    rows = random.permutation(700)[:130]
    assert sparse.loss_and_gradient(at, rows).loss == pytest.approx(losses[rows].sum(), rel=close)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("columns", [9, 140])
def test_the_sampled_inverse_is_that_of_the_certificates_hessian(columns: int, fit_intercept: bool) -> None:
    """With the share of the bound, and the flat direction where no intercept is fitted, taken off again."""
    random = np.random.default_rng(0)
    X = np.where(random.random((700, columns)) < 0.1, random.normal(size=(700, columns)), 0.0)
    data = Dataset(scipy.sparse.csr_array(X), random.integers(2, size=(700, 1)).astype(np.int8))
    loss, at = LOSSES["log_loss"], random.normal(size=(1, columns + 1))
    chosen = CHOSEN, random.random(500) / 500
    bound = precondition(data, 0.25, 0.01, norms=False, fit_intercept=fit_intercept)
    engine = make_engine(data, loss, Penalty(0.01), preconditioner=bound, fit_intercept=fit_intercept)
    engine.sampled = chosen
    engine._look_by_class(at)
    v = random.normal(size=(1, columns + 1))
    scores = X[CHOSEN] @ at[0, :-1] + at[0, -1]
    shares = chosen[1] * np.exp(-np.logaddexp(0.0, scores) - np.logaddexp(0.0, -scores))
    rows = np.column_stack([X[CHOSEN], np.full(500, float(fit_intercept))])
    H = (rows * shares[:, None]).T @ rows + np.diag([0.01] * columns + [0.0]) + SHARE * bound.matrix
    np.testing.assert_allclose(engine.by_class(v) @ H, v, rtol=1e-9, atol=1e-9)
