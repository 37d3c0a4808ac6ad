"""Sparse rows of more columns than there are rows: what a pass by columns tells, how a run begins, where it ends."""

from math import sqrt
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression, Ridge

from descend import LinearClassifier, LinearRegressor
from descend.engines.base import LEAST_SHARE, Rule, State
from descend.engines.certificate import Estimate
from descend.engines.choose import make_engine
from descend.engines.closing import close
from descend.engines.gap_bound import Place
from descend.engines.inner import in_order_of_columns, inner
from descend.engines.lbfgs import Known
from descend.engines.sparse import SparseEngine
from descend.engines.wide_sparse import WideSparseEngine
from descend.objectives.losses import LOSSES, SOFTMAX_LOSS
from descend.objectives.penalties import Penalty
from descend.types import Dataset, FloatArray
from descend.updates import OPTIMIZERS
from descend.watching.certificate import Certificate

N, D = 400, 900
NEWTON = Rule(OPTIMIZERS["lbfgs"], 1.0, truncated=True)


def texts(classes: int, seed: int = 0, dtype: Any = np.float64, heavy: float = 1.0) -> tuple[Any, Any]:
    """Few of many words in each row together tell the class; one row in a hundred is ``heavy`` times longer."""
    rng = np.random.default_rng(seed)
    X = sp.random_array((N, D), density=0.03, format="csr", dtype=np.float64, rng=rng)
    X = sp.csr_array(sp.diags_array(np.where(np.arange(N) % 100 == 3, heavy, 1.0)) @ X, dtype=dtype)
    scores = X @ rng.normal(size=(D, classes)) + 0.1 * rng.gumbel(size=(N, classes))
    return X, scores.argmax(axis=1)


def data_of(classes: int, weighted: bool = False, **options: Any) -> Dataset:
    X, y = texts(classes, **options)
    weights = np.random.default_rng(1).random(N) if weighted else None
    return Dataset(X, y[:, None].astype(np.int8), None if weights is None else weights / weights.mean())


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 9])
def test_columns_tell_what_rows_tell(classes: int, dtype: Any, weighted: bool, fit_intercept: bool) -> None:
    """Objective, gradient and the Hessian's products are those of an engine that goes row by row."""
    data = data_of(classes, weighted, dtype=dtype)
    engines: list[Any] = [
        kind(data, SOFTMAX_LOSS, Penalty(0.01), fit_intercept=fit_intercept)
        for kind in (WideSparseEngine, SparseEngine)
    ]
    rng = np.random.default_rng(2)
    at, direction = rng.normal(size=(2, classes, D + 1))
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype is np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    (value, gradient), (expected, by_rows) = (engine.objective(at) for engine in engines)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, by_rows, **close)
    np.testing.assert_allclose(*(engine._column_squares() for engine in engines), rtol=1e-6)
    products = [engine._hessian_at(at)(direction) for engine in engines]
    np.testing.assert_allclose(*products, **close)
    ends = []
    for engine in engines:
        state = State(np.zeros((classes, D + 1), dtype))
        engine.run(state, NEWTON, None, 0)
        ends.append((state.parameters, [state.share]))
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.02, atol=1e-3)


def test_the_engine_goes_with_wide_rows_of_several_outputs() -> None:
    """Two classes have one output, and rows that are more than their columns are walked row by row."""
    wide = data_of(3)
    tall = Dataset(sp.csr_array(wide.X[:, :50]), wide.y)
    kinds = [type(make_engine(data, SOFTMAX_LOSS, Penalty(0.01))) for data in (wide, tall)]
    assert kinds == [WideSparseEngine, SparseEngine]
    assert type(make_engine(data_of(2), LOSSES["log_loss"], Penalty(0.01))) is SparseEngine


def bends(scores: FloatArray) -> FloatArray:
    """How sharply softmax bends at each row's scores, by the eigenvalues of its Hessian there."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return np.array([np.linalg.eigvalsh(np.diag(one) - np.outer(one, one))[-1] for one in p])


def test_a_truncated_step_is_lower_than_an_epoch_and_tells_the_curvature_there() -> None:
    """Heavy rows leave steps over batches so low a rate that an epoch gains less than three gradients do."""
    data = data_of(4, heavy=30.0)
    engine, state = make_engine(data, SOFTMAX_LOSS, Penalty(1e-4)), State(np.zeros((4, D + 1)))
    before = engine.mean_loss(state.parameters)
    engine.run(state, NEWTON, None, 0)
    assert engine.mean_loss(state.parameters) < 0.4 * before
    least = (
        bends(data.X @ state.parameters[:, :-1].T + state.parameters[:, -1]).mean() / SOFTMAX_LOSS.curvature
    )
    assert least <= state.share <= 1.5 * least
    epoch = State(np.zeros((4, D + 1)))
    rate = 1.0 / (SOFTMAX_LOSS.curvature * sp.linalg.norm(data.X, axis=1).max() ** 2)
    engine.run(epoch, Rule(OPTIMIZERS["sgd"], rate), np.arange(N, dtype=np.int32), 1)
    assert engine.mean_loss(state.parameters) < engine.mean_loss(epoch.parameters)


def test_a_rate_by_share_goes_up_with_the_root_of_what_the_curvature_is_less() -> None:
    state = State(np.zeros((1, 2)), share=0.25)
    rules = [Rule(OPTIMIZERS["sgd"], 0.1, by_share=by_share) for by_share in (False, True)]
    assert [rule.rate_in(state) for rule in rules] == [0.1, 0.2]
    state.share = LEAST_SHARE / 100
    assert rules[1].rate_in(state) == pytest.approx(0.1 / sqrt(LEAST_SHARE))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_wide_fit_ends_within_what_was_asked_of_scikit_learns_optimum(classes: int, weighted: bool) -> None:
    X, y = texts(classes)
    alpha, weights = 1e-2, None
    if weighted:
        weights = np.random.default_rng(3).random(N)
        weights /= weights.mean()
    model = LinearClassifier(alpha=alpha, standardize=False, random_state=0).fit(X, y, sample_weight=weights)
    best = LogisticRegression(C=1 / (N * alpha), tol=1e-10, max_iter=10_000).fit(X, y, weights)

    def objective(m: Any) -> float:
        p = m.predict_proba(X)[np.arange(N), y]
        return float(-np.average(np.log(p), weights=weights) + 0.5 * alpha * (m.coef_**2).sum())

    gap = objective(model) - objective(best)
    history = model.history_
    assert history.stopped == "converged"
    assert history.rule == "certified"
    assert gap < 1e-3 * (np.log(classes) - objective(best))
    assert history.gap_bound is not None
    assert gap <= history.gap_bound + 1e-9


@pytest.mark.parametrize("columns", [450, D])
def test_rows_that_may_not_be_shuffled_end_at_the_same_optimum(columns: int) -> None:
    """They stand for all in another order; up to 500 columns go by the bound's matrix, wide or not."""
    X, y = texts(3)
    X = X[:, :columns]
    ends = [
        LinearClassifier(alpha=1e-2, shuffle=shuffle, tol=1e-8, random_state=0).fit(X, y)
        for shuffle in (True, False)
    ]
    assert [end.history_.stopped for end in ends] == ["converged", "converged"]
    np.testing.assert_allclose(ends[0].coef_, ends[1].coef_, atol=2e-3)


def test_wide_least_squares_are_ridges() -> None:
    X, _ = texts(2)
    y = X @ np.random.default_rng(4).normal(size=D)
    model = LinearRegressor(alpha=0.01, standardize=False, tol=1e-6).fit(X, y)
    ridge = Ridge(alpha=0.01 * N, tol=1e-12).fit(X, y)
    assert model.score(X, y) == pytest.approx(ridge.score(X, y), abs=1e-4)


def test_an_objective_near_zero_is_certificate_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left to gain is no more than the objective: below what was asked for, nothing is estimated."""

    def estimate(*_: Any) -> None:
        raise AssertionError("estimated")

    monkeypatch.setattr(Certificate, "estimate", estimate)
    X, y = texts(3)
    model = LinearClassifier(alpha=1e-6, standardize=False, tol=0.2, random_state=0).fit(X, y)
    history = model.history_
    assert history.stopped == "converged"
    assert history.gap_estimate == history.gap_bound == pytest.approx(history.last["loss"], rel=1e-9)
    assert history.last["loss"] < 0.2 * np.log(3)


def test_behind_a_step_to_an_objective_near_zero_nothing_is_estimated() -> None:
    place = Place(np.zeros((1, 3)), 0.001, np.ones((1, 3)), 0.001)
    known = Known(np.ones((1, 3)), 0.5, np.ones((1, 3)), 0.4, np.ones((1, 3)))

    def again(_: Place) -> Estimate:
        raise AssertionError("estimated")

    closing = close(lambda *_: place, known, again, enough=0.0006, move=True)
    assert closing == (0.001, 0.001, True, place)
    with pytest.raises(AssertionError, match="estimated"):
        close(lambda *_: place, known, again, enough=0.0004, move=True)


def test_the_inner_product_is_that_of_the_numbers_in_whichever_order_they_lie() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 3, 50))
    expected = float((one * other).sum())
    by_columns = in_order_of_columns(one), in_order_of_columns(other)
    assert by_columns[0].flags.f_contiguous
    for pair in ((one, other), by_columns, (one, by_columns[1])):
        assert inner(*pair) == pytest.approx(expected, rel=1e-12)
