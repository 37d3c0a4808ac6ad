"""Blocks of rows against NumPy, with the processor's masks and without."""

import numba
import numpy as np
import pytest

from descend.engines import row_blocks
from descend.engines.compiled import OPTIONS, kernel
from descend.engines.row_kernels import BLOCK, NEAR_BYTES, rows_in_block, write_rows_to_come

COLUMNS = [0, 1, 3, 4, 15, 16, 17, 20, 31, 32, 33, 48, 50, 63, 64, 65, 101, 128]


def _scores(X, rows, n, W, room, soon):
    row_blocks.write_scores(X, rows, n, W, 1, room, soon)


def _sums(G, X, rows, at, n, factors, soon):
    row_blocks.add_rows(G, 1, X, rows, at, n, factors, soon)


@pytest.fixture(params=["masks", "no masks"])
def block(request, monkeypatch):
    """Both kernels, compiled for a processor that has masks, or none."""
    if request.param == "no masks":
        monkeypatch.setattr(row_blocks, "WIDE", False)
    elif not row_blocks.WIDE:
        pytest.skip("this processor has none")
    return numba.njit(**OPTIONS)(_scores), numba.njit(**OPTIONS)(_sums)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_rows_are_numpys(block, dtype):
    """Any number of rows and columns, in any order: scores and sums are NumPy's, and nothing else is touched."""
    write_scores, add_rows = block
    for d in COLUMNS:
        rng = np.random.default_rng(d)
        X, W, G = (rng.normal(size=(m, d + c)).astype(dtype) for m, c in ((9, 0), (3, 1), (3, 1)))
        factors = rng.normal(size=(2, BLOCK)).astype(dtype)
        for n in (0, 1, 2, 3, 4, 7, 10, 64):
            rows = rng.integers(0, 9, size=2 * BLOCK)
            near = {"rtol": 0, "atol": 5e-5 if dtype == np.float32 else 1e-12}
            room = np.zeros((3, BLOCK), dtype=dtype)
            write_scores(X, rows, n, W, room, BLOCK if n % 2 else 0)
            expected = X[rows[:n]].astype(np.float64) @ W[1, :-1] + W[1, -1]
            np.testing.assert_allclose(room[1, :n], expected, **near)
            assert not room[[0, 2]].any()
            assert not room[1, n:].any()
            for at in (0, n // 3):
                got = G.copy()
                add_rows(got, X, rows, at, n - at, factors, BLOCK if n % 2 else 0)
                some = np.c_[X[rows[at:n]], np.ones(n - at)]
                sums = factors[1, at:n].astype(np.float64) @ some
                np.testing.assert_allclose(got[1], G[1] + sums, **near)
                np.testing.assert_array_equal(got[[0, 2]], G[[0, 2]])


@kernel
def rows_to_come(order, start, n, num_rows, rows):
    write_rows_to_come(order, start, n, num_rows, rows)


@kernel
def block_of(X):
    return rows_in_block(X)


def test_rows_to_come_are_rows_that_there_are():
    """Behind the last row the last is asked for again, whether rows have an order or not."""
    rows = np.full(2 * BLOCK, -1)
    rows_to_come(np.array([4, 0, 3, 1, 2], dtype=np.int32), 3, 4, 5, rows)
    assert rows[BLOCK : BLOCK + 5].tolist() == [1, 2, 2, 2, -1]
    rows_to_come(np.empty(0, dtype=np.int32), 3, 4, 5, rows)
    assert rows[BLOCK : BLOCK + 5].tolist() == [3, 4, 4, 4, -1]
    assert (rows[:BLOCK] == -1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_block_stays_near(dtype):
    """A block has 16, 32 or 64 rows, more than 16 only where they stay in the nearest cache."""
    for d in (0, 1, 20, 101, 400, 10_000):
        n = block_of(np.empty((1, d), dtype=dtype))
        assert n in (16, 32, BLOCK)
        assert n == 16 or n * d * np.dtype(dtype).itemsize <= NEAR_BYTES
