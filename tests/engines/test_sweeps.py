"""The pass that moves weights and scores the next row: the optimizers' formulas, and the tiles' own sums."""

import numpy as np
import pytest

from descend.engines import sweeps, tiles
from descend.engines.compiled import kernel
from descend.updates import ADAGRAD, ADAM, MOMENTUM, NESTEROV, RMSPROP, update

RATE, BETA1, BETA2, ONE, TWO = 0.03, 0.9, 0.99, 0.4, 0.2


@kernel
def move_and_score(
    X, at, after, D, d, Z, z, P, first, second, weights, depth, width, how, scale, keep, ridge
):
    sweeps.move_and_score(
        X, at, after, D, d, Z, z, P, first, second, weights, depth, width, how, scale, keep, ridge,
        RATE, BETA1, BETA2, ONE, TWO,
    )  # fmt: skip


@kernel
def write_products(A, places, n, depth, P, weights, bias, width, out, at):
    tiles.write_products(A, places, n, depth, P, weights, bias, width, out, at)


class Layer:
    """A layer of random weights with some numbers before and behind them, and two rows it is trained on."""

    def __init__(self, depth, width, dtype):
        rng = np.random.default_rng(100 * depth + width)
        self.depth, self.width, self.dtype = depth, width, dtype
        self.X = rng.normal(size=(5, depth)).astype(dtype)
        self.D = rng.normal(size=3 + width + 1).astype(dtype)
        self.Z = rng.normal(size=2 + width + 1).astype(dtype)
        self.P, self.first, self.second = (
            rng.uniform(0.1, 1.0, size=7 + depth * width + 4).astype(dtype) for _ in range(3)
        )

    def copies(self):
        return [array.copy() for array in (self.Z, self.P, self.first, self.second)]

    def moved(self, how, keep, ridge):
        Z, P, first, second = self.copies()
        move_and_score(
            self.X, 3 * self.depth, self.depth, self.D, 3, Z, 2, P, first, second, 7, self.depth, self.width,
            how, 0.5, keep, ridge,
        )  # fmt: skip
        return Z, P, first, second

    def expected(self, how, keep, ridge):
        """The same in NumPy and float64."""
        Z, P, first, second = (array.astype(float) for array in self.copies())
        W, m, v = (a[7 : 7 + self.depth * self.width].reshape(self.depth, -1) for a in (P, first, second))
        x, following = self.X[3].astype(float), self.X[1].astype(float)
        gradient = 0.5 * np.outer(x, self.D[3:-1]) + ridge * W
        W[:], m[:], v[:] = update(how, keep * W, gradient, m, v, RATE, BETA1, BETA2, ONE, TWO)
        Z[2:-1] += following @ W
        return Z, P, first, second


@pytest.mark.parametrize(("keep", "ridge"), [(1.0, 0.0), (0.9, 0.0), (1.0, 0.3), (0.8, 0.2)])
@pytest.mark.parametrize("how", [ADAM, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pass_is_the_update_and_the_product_with_the_next_row(dtype, how, keep, ridge):
    """For any optimizer, pull and size, weights, memories and scores are NumPy's, and nothing beside them changes."""
    tolerance = 2e-5 if dtype == np.float32 else 1e-13
    for depth in (1, 2, 9):
        for width in (16, 32, 48, 144):
            layer = Layer(depth, width, dtype)
            found = layer.moved(how, keep, ridge)
            for one, other in zip(found, layer.expected(how, keep, ridge), strict=True):
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
            for one, before, start in zip(found, layer.copies(), (2, 7, 7, 7), strict=True):
                end = start + width if start == 2 else start + depth * width
                np.testing.assert_array_equal(one[:start], before[:start])
                np.testing.assert_array_equal(one[end:], before[end:])


@pytest.mark.parametrize("how", [ADAM, MOMENTUM])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_scores_are_those_of_the_tiles_to_the_last_bit(dtype, how):
    """The next row's scores are what a product of its own makes of the moved weights: a run may be cut anywhere."""
    for depth, width in ((1, 16), (37, 48), (200, 144)):
        layer = Layer(depth, width, dtype)
        Z, P, _, _ = layer.moved(how, 1.0, 0.0)
        started = np.concatenate([P, layer.Z[2:-1]])  # where sums begin stands among the parameters
        alone = np.empty(width, dtype=dtype)
        place = np.array([depth])
        write_products(layer.X, place, 1, depth, started, 7, P.size, width, alone, 0)
        np.testing.assert_array_equal(alone, Z[2:-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_that_overflow_or_vanish_take_numpys_step(dtype):
    """A second moment that is infinite, next to it, 0 or no number moves a weight as NumPy would."""
    layer = Layer(4, 16, dtype)
    most = np.finfo(dtype).max
    layer.second[7:-4].reshape(4, 16)[:, :4] = 0.0, most, np.inf, np.nan
    layer.D[3:7] = 0.0
    with np.errstate(over="ignore"):
        expected = layer.expected(ADAM, 1.0, 0.0)
    found = layer.moved(ADAM, 1.0, 0.0)
    for one, other in zip(found[1:3], expected[1:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=3e-6, atol=1e-6)
    assert np.isnan(found[1][7:-4].reshape(4, 16)[:, 3]).all()
