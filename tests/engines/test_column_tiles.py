"""Moments and products of columns in one compiled pass, against NumPy in float64."""

import itertools

import numpy as np
import pytest

from descend.engines.columns import add_rows, filled_up


def added(X, Y, room_rows, parts=1, by_tiles=True):
    """What ``add_rows`` comes to, rows given in ``parts``; products as the caller of BLAS would have them."""
    n, size = len(X), X.shape[1] + Y.shape[1]
    wide = filled_up(size)
    moments = np.array([[0.0], [0.0], [np.inf], [-np.inf]]).repeat(size, axis=1)
    units, products = np.ones(size), np.zeros((wide, wide))
    room = np.empty((wide, room_rows), dtype=X.dtype)
    room[size:] = 0
    columns, targets = np.ascontiguousarray(X.T), np.ascontiguousarray(Y.T, dtype=float)
    ends = np.linspace(0, n, parts + 1).astype(int)
    for start, stop in itertools.pairwise(ends.tolist()):
        steps = (
            [(start, stop)]
            if by_tiles
            else [(s, min(s + room_rows, stop)) for s in range(start, stop, room_rows)]
        )
        for low, high in steps:
            add_rows(columns, low, targets, low, high - low, low, by_tiles, room, moments, units, products)
            if not by_tiles:
                products += room[:, : high - low] @ room[:, : high - low].T
    return moments, units, products[:size, :size]


@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize(
    ("num_rows", "num_columns", "outputs"), [(1, 1, 1), (50, 3, 0), (1000, 7, 2), (3000, 33, 1)]
)
@pytest.mark.parametrize("how", [{}, {"parts": 3}, {"by_tiles": False}])
def test_moments_and_products_are_numpys(dtype, near, num_rows, num_columns, outputs, how):
    """However many rows, columns and targets there are, and in however many parts they come."""
    random = np.random.default_rng(num_rows)
    scale = 10.0 ** random.integers(-3, 4, num_columns)
    X = (random.normal(size=(num_rows, num_columns)) * scale + 5.0 * scale).astype(dtype)
    Y = random.normal(size=(num_rows, outputs)) + X[:, :1]
    both = np.column_stack([X.astype(float), Y])
    moments, units, products = added(X, Y, 64, **how)
    spread = np.maximum(both.std(axis=0), 1e-3 * np.abs(both).max(axis=0))
    assert np.abs((moments[0] - both.mean(axis=0)) / spread).max() < 1e-10
    np.testing.assert_allclose(moments[1], num_rows * both.var(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(moments[2], both.min(axis=0))
    np.testing.assert_array_equal(moments[3], both.max(axis=0))
    away = both - both.mean(axis=0)
    wanted = away.T @ away * np.outer(units, units)
    assert np.abs(products - wanted).max() <= near * num_rows * max(1.0, np.abs(away * units).max() ** 2)
    assert (np.log2(units) % 1.0 == 0.0).all()


@pytest.mark.parametrize("place", [0, 17, 99])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_shows_in_its_columns_mean(number, place):
    """Whichever row it is in, and no other column's mean is touched."""
    X = np.random.default_rng(0).normal(size=(100, 3))
    X[place, 1] = number
    moments, _, _ = added(X, X[:, :1], 32)
    assert np.isfinite(moments[0]).tolist() == [True, False, True, True]
