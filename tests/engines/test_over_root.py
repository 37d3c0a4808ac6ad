"""A number over a root, as kernels work it out in loops, is NumPy's to float32's rounding or nearly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.engines import fast_math  # noqa: F401  the kernel's side of over_root
from descend.engines.compiled import kernel
from descend.engines.tiles import use_wide_vectors
from descend.updates.over_root import over_root

EPSILON = 1e-8


@kernel
def narrow(numbers, squares, epsilon, found):
    for i in range(numbers.size):
        found[i] = over_root(numbers[i], squares[i], epsilon)


@kernel
def wide(numbers, squares, epsilon, found):
    use_wide_vectors()
    for i in range(numbers.size):
        found[i] = over_root(numbers[i], squares[i], epsilon)


def both(numbers, squares, dtype, walk):
    numbers, squares = np.array(numbers, dtype), np.array(squares, dtype)
    found = np.empty_like(numbers)
    walk(numbers, squares, dtype(EPSILON), found)
    exact = numbers.astype(float) / (np.sqrt(squares.astype(float)) + float(dtype(EPSILON)))
    return found, exact


@pytest.mark.parametrize("walk", [narrow, wide])
@given(size=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_it_is_right_for_squares_of_every_size(walk, size, seed):
    """From 1e-36 to 3e38, in whole vectors and in what is left over, the relative error is below 3e-7."""
    rng = np.random.default_rng(seed)
    squares = np.exp(rng.uniform(np.log(1e-36), np.log(3e38), size=size))
    found, exact = both(rng.normal(size=size), squares, np.float32, walk)
    np.testing.assert_allclose(found, exact, rtol=3e-7, atol=1e-37)


@pytest.mark.parametrize("walk", [narrow, wide])
def test_edges_are_numpys(walk):
    """Squares of 0, denormal, huge, infinite and no number, and a number of 0, come out as NumPy has them."""
    squares = np.repeat([0.0, 1e-45, 1e-39, 1.2e-38, 3.4e38, np.inf, np.nan, 1.0], 32)
    for number in (1.0, -1.0, 0.0):
        found, exact = both(np.full(squares.size, number), squares, np.float32, walk)
        np.testing.assert_allclose(found, exact, rtol=3e-7, atol=1e-37)


def test_float64_keeps_the_root():
    """In float64 nothing is estimated: the last bit but one is right."""
    rng = np.random.default_rng(0)
    found, exact = both(rng.normal(size=1000), rng.uniform(0.0, 2.0, size=1000) ** 8, np.float64, narrow)
    np.testing.assert_allclose(found, exact, rtol=4e-16)
