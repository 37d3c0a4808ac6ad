"""The covariance of columns and target that is found beside the means, and the products that follow from it."""

import numpy as np
import pytest

from descend.features import prepare
from descend.features.covariance import Covariance
from descend.sources import array_source


def table(dtype, outputs=1, num_rows=9000, seed=0):
    """Columns far from 0 and of unlike scales, more of them than fill whole tiles."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(num_rows, 7)) * 10.0 ** np.arange(-2, 5) + 10.0 ** np.arange(0, 7)
    X[:, 3] += X[:, 2]
    y = X[:, :2] @ [1.0, 0.1] + random.normal(size=num_rows) + 1e4
    return X.astype(dtype), y if outputs == 1 else np.column_stack([y, X[:, 4] - y])


def expected(ready, X, y):
    """The products of encoded rows, by NumPy in float64."""
    rows = ready.features.encode(X, dtype=np.float64)
    rows = np.column_stack([rows, np.ones(len(rows))])
    goals = ready.target.encode(y)
    return rows.T @ rows, goals.T @ rows, (goals**2).sum(axis=0)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-6), (np.float64, 1e-10)])
@pytest.mark.parametrize("settings", [{}, {"standardize": False}, {"centre": False}])
def test_products_are_those_of_encoded_rows(dtype, near, outputs, order, settings):
    """Each differs from NumPy's, relative to the two columns' sizes, by rounding alone."""
    X, y = table(dtype, outputs)
    X = np.asarray(X, order=order)
    ready = prepare(array_source(X, y), task="regression", validation=0.0, covariance=True, **settings)
    columns, targets, squares = expected(ready, X, y)
    sizes, goals = np.sqrt(np.diagonal(columns)), np.sqrt(squares)
    assert np.abs((ready.train.known.products.columns - columns) / np.outer(sizes, sizes)).max() < near
    assert np.abs((ready.train.known.products.targets - targets) / np.outer(goals, sizes)).max() < near
    np.testing.assert_allclose(ready.train.known.products.squares, squares, rtol=near)


@pytest.mark.parametrize("num_columns", [1, 4, 255, 270])
def test_any_number_of_columns(num_columns):
    """Tiles of a loop of our own and BLAS's product say the same as NumPy, wherever one takes over from the other."""
    random = np.random.default_rng(num_columns)
    X, y = random.normal(size=(700, num_columns)) + 2.0, random.normal(size=700)
    ready = prepare(array_source(X, y), task="regression", validation=0.0, covariance=True)
    for found, wanted in zip(ready.train.known.products, expected(ready, X, y), strict=False):
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-9)


def test_doubt_covers_what_rounding_did():
    """Value and gradient from sums of float32 differ from those of float64 rows by no more than is admitted."""
    for seed in range(5):
        X, y = table(np.float32, seed=seed)
        X[:, 5] = np.where(np.arange(len(X)) % 2000 == 0, 1.0, 0.0)  # rare: its squares lose most
        ready = prepare(array_source(X, y), task="regression", validation=0.0, covariance=True)
        w = np.random.default_rng(seed).normal(size=(1, 8))
        value, gradient = ready.train.known.products.squared_error(w, len(X))
        rows = np.column_stack([ready.features.encode(X, dtype=np.float64), np.ones(len(X))])
        away = rows @ w[0] - ready.target.encode(y)[:, 0]
        of_value, of_gradient = ready.train.known.products.doubt(w, len(X))
        assert abs(value - 0.5 * np.mean(away**2)) <= of_value < 1e-4 * value
        assert np.linalg.norm(gradient - away @ rows / len(X)) <= of_gradient


def test_numbers_beyond_their_type_have_no_covariance():
    """Squares that overflow or vanish in float32 leave the products to a pass over scaled rows."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(9000, 3)).astype(np.float32), random.normal(size=9000)
    for factor in (1e25, 1e-25):  # beyond the scale that the first rows had
        far = X.copy()
        far[8500:, 1] *= np.float32(factor)
        far[:8500, 1] *= np.float32(1.0 / factor)
        ready = prepare(array_source(far, y), task="regression", validation=0.0, covariance=True)
        if ready.train.known is not None:
            columns, _, _ = expected(ready, far, y)
            np.testing.assert_allclose(ready.train.known.products.columns, columns, atol=1e-4 * len(y))


@pytest.mark.parametrize(
    "change",
    [
        lambda X, y: (X, y, np.linspace(0.5, 2.0, len(y))),
        lambda X, y: (X.astype(np.int16), y, None),
        lambda X, y: (np.where(np.arange(len(y))[:, None] % 50, X, np.nan), y, None),
    ],
)
def test_weights_small_numbers_and_gaps_have_none(change):
    """Such rows are learnt as without a covariance, and have no products."""
    X, y, weights = change(*table(np.float64))
    ready = prepare(array_source(X, y, weights), task="regression", validation=0.0, covariance=True)
    plain = prepare(array_source(X, y, weights), task="regression", validation=0.0)
    assert ready.train.known is None
    np.testing.assert_array_equal(ready.features.mean, plain.features.mean)
    np.testing.assert_array_equal(ready.features.scale, plain.features.scale)


def test_blocks_do_not_matter():
    """Rows that come in several blocks have the products of rows that come in one."""
    X, y = table(np.float64)
    whole, parts = Covariance(), Covariance()
    whole.add(X, y)
    for start in range(0, len(X), 2000):
        parts.add(X[start : start + 2000], y[start : start + 2000])
    ready = prepare(array_source(X, y), task="regression", validation=0.0)
    one, other = (record.encoded(ready.features, ready.target) for record in (whole, parts))
    np.testing.assert_allclose(one.columns, other.columns, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(one.targets, other.targets, rtol=1e-9, atol=1e-7)
