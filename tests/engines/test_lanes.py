"""Vector instructions against NumPy, for every way in which a number of columns can be cut into pieces."""

import numpy as np
import pytest
from numba.core.errors import TypingError

from descend.engines import fast_math, lanes
from descend.engines.compiled import kernel

COLUMNS = [0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 15, 16, 17, 20, 23, 27, 31, 32, 33, 63, 64, 65, 100]


@kernel
def score(X, W):
    return lanes.score(X, 2, W, 1)


@kernel
def move(W, X, keep, factor):
    lanes.move(W, 1, keep, X, 2, factor)


@kernel
def move_and_look(W, X, keep, factor):
    d = X.shape[1]
    return lanes.move_and_look(W, keep, factor, X, 2 * d, 4 * d, 0 * d)


@kernel
def saga_move(W, M, X, keep, rate, factor, kept):
    lanes.saga_move(W, M, 1, keep, rate, X, 2, factor, kept)


@kernel
def logistic(x, out):
    for i in range(x.size):
        out[i] = fast_math.logistic(x[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", COLUMNS)
def test_lanes_compute_what_numpy_does(d, dtype):
    """Scores, products of pairs and steps are NumPy's for any number of columns, and touch nothing else."""
    rng = np.random.default_rng(d)
    X, W = rng.normal(size=(5, d)).astype(dtype), rng.normal(size=(3, d + 1)).astype(dtype)
    f = rng.normal(size=1).astype(dtype)
    near = {"rtol": 0, "atol": 3e-5 if dtype == np.float32 else 1e-12}

    np.testing.assert_allclose(score(X, W), X[2] @ W[1, :-1], **near)

    got = W.copy()
    move(got, X, dtype(0.5), f[0])
    np.testing.assert_allclose(got[1], np.r_[0.5 * W[1, :-1] + f[0] * X[2], W[1, -1]], **near)
    np.testing.assert_array_equal(got[[0, 2]], W[[0, 2]])

    got = W.copy()
    products = move_and_look(got, X, dtype(0.5), f[0])
    moved = 0.5 * W[0, :-1] + f[0] * X[2]
    np.testing.assert_allclose(got[0], np.r_[moved, W[0, -1]], **near)
    np.testing.assert_array_equal(got[1:], W[1:])
    np.testing.assert_allclose(products, [X[0] @ moved, X[0] @ X[4]], **near)

    got, M = W.copy(), rng.normal(size=(3, d + 1))
    mean = M.copy()
    saga_move(got, mean, X, dtype(0.5), dtype(0.25), f[0], 0.125)
    np.testing.assert_allclose(got[1, :-1], 0.5 * W[1, :-1] - 0.25 * M[1, :-1] - f[0] * X[2], **near)
    np.testing.assert_allclose(mean[1, :-1], M[1, :-1] + 0.125 * X[2].astype(np.float64), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(mean[:, -1], M[:, -1])


def test_other_arrays_are_refused_when_compiled():
    """Rows that do not lie one after another would be read wrongly: they do not compile."""
    with pytest.raises(TypingError, match="C-contiguous"):
        score(np.zeros((4, 6))[:, ::2], np.zeros((2, 4)))
    with pytest.raises(TypingError, match="C-contiguous"):
        score(np.zeros((4, 3), dtype=np.int64), np.zeros((2, 4)))


def test_the_table_of_the_logistic_function_is_right_to_rounding():
    """Within 1.2e-7 from −40 to 40, 0 and 1 far out, and NaN and infinity are not hidden."""
    x = np.linspace(-40, 40, 1_000_001).astype(np.float32)
    out = np.empty_like(x)
    logistic(x, out)
    assert np.abs(out - 1 / (1 + np.exp(-x.astype(np.float64)))).max() < 1.2e-7
    far = np.array([1e30, -1e30, np.nan, np.inf, -np.inf], dtype=np.float32)
    out = np.empty_like(far)
    logistic(far, out)
    assert out[:2].tolist() == [1.0, 0.0]
    assert np.isnan(out[2:]).all()


def test_float64_takes_the_library():
    """For float64 the logistic function is right to 1e-15."""
    x = np.linspace(-40, 40, 1001)
    out = np.empty_like(x)
    logistic(x, out)
    np.testing.assert_allclose(out, 1 / (1 + np.exp(-x)), rtol=1e-14)
