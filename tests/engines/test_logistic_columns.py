"""Log loss told column by column, against NumPy in float64."""

import numpy as np
import pytest

from descend.coded_rows import CodedRows
from descend.engines.columns import filled_up
from descend.engines.compiled import kernel
from descend.engines.decoding import norms_of_columns
from descend.engines.fast_math import log_beyond_one
from descend.engines.logistic_columns import NO_HESSIAN, add_logistic
from descend.engines.softmax_columns import add_curvature_of_columns

NONE = np.empty(0)


def table(num_rows, num_columns, dtype, order, seed=0):
    random = np.random.default_rng(seed)
    X = np.asarray(random.normal(size=(num_rows, num_columns)) * 3.0 + 10.0, dtype=dtype, order=order)
    rows = CodedRows(X, X.mean(axis=0, dtype=float), X.std(axis=0, dtype=float))
    y = (random.random((num_rows, 1)) < 0.3).astype(float)
    return rows, y, random.normal(size=num_columns + 1).astype(dtype)


def expected(rows, y, p, weights):
    """Sum of losses, gradient and Hessian, written anew."""
    X = np.column_stack([(rows.values.astype(float) - rows.mean) / rows.scale, np.ones(len(y))])
    scores = X @ p.astype(float)
    chances = 1.0 / (1.0 + np.exp(-scores))
    losses = np.logaddexp(0.0, scores) - y[:, 0] * scores
    slopes, bends = weights * (chances - y[:, 0]), weights * chances * (1.0 - chances)
    return weights @ losses, slopes @ X, (X * bends[:, None]).T @ X


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 2e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize(("num_rows", "num_columns"), [(1, 1), (511, 3), (1025, 8), (2000, 31)])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_gradient_and_hessian_are_numpys(order, dtype, near, num_rows, num_columns, weighted):
    """Whatever the blocks and tiles leave over, and rows outside the stretch that is asked for left out."""
    rows, y, p = table(num_rows + 10, num_columns, dtype, order)
    weights = np.random.default_rng(1).uniform(0.0, 3.0, len(y)) if weighted else NONE
    inside = np.arange(10, num_rows + 10)
    part = rows.part(inside)
    value, gradient, hessian = expected(
        part, y[inside], p, weights[inside] if weighted else np.ones(num_rows)
    )
    size = filled_up(num_columns + 1)
    for with_hessian in (False, True):
        found, H = np.zeros(num_columns + 1), np.zeros((size, size)) if with_hessian else NO_HESSIAN
        total = add_logistic(
            rows.values.T, rows.code, y, weights, 10, num_rows + 10, p, with_hessian, found, H
        )
        assert total == pytest.approx(value, rel=near)
        assert np.abs(found - gradient).max() <= near * num_rows
        if with_hessian:
            upper = np.triu(H[: num_columns + 1, : num_columns + 1] - hessian)
            assert np.abs(upper).max() <= 10 * near * num_rows


def test_scores_far_out_have_a_finite_loss():
    """A score of ± 80 costs itself on the wrong side and nothing on the right one."""
    rows = CodedRows(np.array([[80.0], [-80.0]], dtype=np.float32), np.zeros(1), np.ones(1))
    p, gradient = np.array([1.0, 0.0], dtype=np.float32), np.zeros(2)
    for y, loss in (([[0.0], [1.0]], 160.0), ([[1.0], [0.0]], 0.0)):
        total = add_logistic(
            rows.values.T, rows.code, np.array(y), NONE, 0, 2, p, False, gradient, NO_HESSIAN
        )
        assert total == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize(("num_rows", "num_columns", "classes"), [(1, 1, 3), (513, 4, 5), (1500, 17, 26)])
def test_softmaxs_curvature_is_numpys(num_rows, num_columns, classes, dtype, near):
    """Times any direction, whatever rows, columns and classes leave over."""
    random = np.random.default_rng(num_rows)
    X, v = random.normal(size=(num_rows, num_columns)), random.normal(size=(classes, num_columns + 1))
    chances = random.dirichlet(np.ones(classes), num_rows)
    weights = random.random(num_rows)
    rows = np.column_stack([X, np.ones(num_rows)])
    moves = rows @ v.T
    moves -= (chances * moves).sum(axis=1, keepdims=True)
    wanted = (chances * weights[:, None] * moves).T @ rows
    found = np.zeros(v.shape)
    transposed = (np.ascontiguousarray(part.T, dtype=dtype) for part in (X, chances))
    add_curvature_of_columns(*transposed, weights.astype(dtype), v.astype(dtype), found)
    assert np.abs(found - wanted).max() <= near * max(1.0, np.abs(wanted).max())


@kernel
def logarithms(x, out):
    for i in range(x.size):
        out[i] = log_beyond_one(x[i])


@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 2e-9), (np.float64, 1e-15)])
def test_the_logarithm_is_right_from_0_to_1(dtype, near):
    """It differs from NumPy's by less than float32 can tell."""
    x = np.linspace(0.0, 1.0, 10_001).astype(dtype)
    found = np.empty(len(x))
    logarithms(x, found)
    np.testing.assert_allclose(found, np.log1p(x.astype(float)), rtol=0.0, atol=near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_by_columns_are_those_of_decoded_rows(dtype):
    """|x|² + 1 of each row from the one that is asked for on."""
    rows, _, _ = table(3000, 5, dtype, "F")
    norms = np.empty(2500)
    norms_of_columns(rows.values.T, 500, rows.code, norms)
    np.testing.assert_allclose(norms, (rows[500:].astype(float) ** 2).sum(axis=1) + 1.0, rtol=1e-5)
