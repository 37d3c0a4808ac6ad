"""Products in register tiles equal NumPy's, for every number of rows that is cut into tiles in another way."""

import numpy as np
import pytest

from descend.engines import tiles
from descend.engines.compiled import kernel


@kernel
def write_products(A, places, n, depth, P, weights, bias, width, out, at):
    tiles.write_products(A, places, n, depth, P, weights, bias, width, out, at)


@kernel
def add_outer(A, places, n, depth, D, D_at, G, weights, width, keep, factor):
    tiles.add_outer(A, places, n, depth, D, D_at, G, weights, width, keep, factor)


@kernel
def write_back(D, D_at, n, P, weights, depth, width, out, out_at, out_width):
    tiles.write_back(D, D_at, n, P, weights, depth, width, out, out_at, out_width)


NUMBERS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 17]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [16, 32, 48, 80, 144])
def test_products_are_numpys(dtype, width):
    """Scores, outer products and products with the transpose, at offsets that are no multiple of anything."""
    rng = np.random.default_rng(width)
    tolerance = {"rtol": 0, "atol": 1e-4 if dtype == np.float32 else 1e-12}
    for n in NUMBERS:
        for depth in NUMBERS:
            X = rng.normal(size=(40, depth)).astype(dtype)
            rows = rng.permutation(40)[:n]
            P = rng.normal(size=3 + depth * width + width).astype(dtype)
            W, bias = P[3 : 3 + depth * width].reshape(depth, width), P[-width:]
            out = np.full(5 + n * width + 1, 7.0, dtype=dtype)
            write_products(X, rows * depth, n, depth, P, 3, 3 + depth * width, width, out, 5)
            np.testing.assert_allclose(out[5:-1].reshape(n, width), X[rows] @ W + bias, **tolerance)
            assert (out[:5] == 7).all()
            assert out[-1] == 7

            D = rng.normal(size=2 + n * width).astype(dtype)
            d = D[2:].reshape(n, width)
            G = P.copy()
            add_outer(X, rows * depth, n, depth, D, 2, G, 3, width, 0.5, -2.0)
            expected = P.copy()
            expected[3 : 3 + depth * width] = (0.5 * W - 2.0 * X[rows].T @ d).ravel()
            np.testing.assert_allclose(G, expected, **tolerance)

            back = np.full(1 + n * (depth + 3), 7.0, dtype=dtype)
            write_back(D, 2, n, P, 3, depth, width, back, 1, depth + 3)
            found = back[1:].reshape(n, depth + 3)
            np.testing.assert_allclose(found[:, :depth], d @ W.T, **tolerance)
            assert (found[:, depth:] == 7).all()


def test_a_sum_does_not_depend_on_the_tile():
    """A row's scores are the same bits in a tile of eight rows, of four, and alone."""
    rng = np.random.default_rng(0)
    X, P = rng.normal(size=(13, 50)).astype(np.float32), rng.normal(size=50 * 48 + 48).astype(np.float32)
    whole = np.empty(13 * 48, dtype=np.float32)
    write_products(X, np.arange(13) * 50, 13, 50, P, 0, 2400, 48, whole, 0)
    for row in range(13):
        alone = np.empty(48, dtype=np.float32)
        write_products(X, np.array([row * 50]), 1, 50, P, 0, 2400, 48, alone, 0)
        np.testing.assert_array_equal(alone, whole[row * 48 : (row + 1) * 48])
