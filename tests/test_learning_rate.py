"""The closed-form rate: its ends, what lies between, and that steps at the rate do not overshoot."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from descend.learning_rate import SCALE_FREE_LIMIT, automatic_rate, batch_curvature
from descend.updates import OPTIMIZERS

SGD, MOMENTUM, ADAM = OPTIMIZERS["sgd"], OPTIMIZERS["momentum"], OPTIMIZERS["adam"]
CURVATURES = st.tuples(st.floats(1e-6, 1e6), st.floats(1.0, 1e4))


def test_the_full_batch_gets_one_over_the_mean_curvature():
    """At B = n the rate is 1 / L and the bound 2 / L, whatever the single rows weigh."""
    rate = automatic_rate(SGD, 100, 100, 4.0, float("inf"))
    assert (rate.value, rate.bound) == (0.25, 0.5)


def test_single_rows_get_half_of_one_over_the_heaviest():
    """At B = 1 the rate is 1 / (2 L_max) and the bound 2 / L_max."""
    rate = automatic_rate(SGD, 1, 100, 4.0, 50.0)
    assert rate.value == pytest.approx(1 / 100)
    assert rate.bound == pytest.approx(2 / 50)


def test_a_hand_value_between():
    """N = 11, B = 2: A = 11/20, M = 9/20, so L = 4 and L_max = 10 give 1 / (2.2 + 9)."""
    assert batch_curvature(2, 11, 4.0, 10.0) == pytest.approx((2.2, 4.5))
    assert automatic_rate(SGD, 2, 11, 4.0, 10.0).value == pytest.approx(1 / 11.2)


@given(CURVATURES, st.integers(2, 5000), st.integers(1, 5000))
def test_the_rate_grows_with_the_batch(curvatures, num_visits, batch_size):
    """A larger batch never gets a smaller rate, for L ≤ L_max; nor a smaller bound."""
    mean, ratio = curvatures
    assume(batch_size < num_visits)
    for optimizer in (SGD, MOMENTUM, ADAM):
        small = automatic_rate(optimizer, batch_size, num_visits, mean, mean * ratio)
        large = automatic_rate(optimizer, batch_size + 1, num_visits, mean, mean * ratio)
        assert large.value >= small.value * (1 - 1e-12)
        assert large.bound >= small.bound * (1 - 1e-12)
        assert 0 < small.value < small.bound


@given(CURVATURES, st.integers(3, 200), st.data())
def test_batch_curvature_is_a_mixture(curvatures, num_visits, data):
    """The two shares are those of sampling without replacement: A + M = 1 at equal curvatures."""
    batch_size = data.draw(st.integers(1, num_visits))
    assert sum(batch_curvature(batch_size, num_visits, 3.0, 3.0)) == pytest.approx(3.0)


@given(st.integers(2, 12), st.integers(0, 1000), st.data())
def test_batch_curvature_is_the_expected_smoothness(num_rows, seed, data):
    """E‖∇f_B(w) − ∇f_B(w*)‖² ≤ 2 L(B) (f(w) − f(w*)) over all batches, on least squares with equal optima."""
    from itertools import combinations

    batch_size = data.draw(st.integers(1, num_rows))
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(num_rows, 3)) * rng.uniform(0.1, 5, size=(num_rows, 1)), rng.normal(size=3)
    mean = float(np.linalg.eigvalsh(X.T @ X / num_rows).max())
    row = float((X**2).sum(axis=1).max())
    gradients = [
        (X[list(b)].T @ (X[list(b)] @ w)) / batch_size for b in combinations(range(num_rows), batch_size)
    ]
    expected = np.mean([g @ g for g in gradients])
    objective = 0.5 * np.mean((X @ w) ** 2)
    smoothness = sum(batch_curvature(batch_size, num_rows, mean, row))
    assert expected <= 2 * smoothness * objective * (1 + 1e-9)


def test_momentum_multiplies_the_noise_alone():
    """β = 0.9 shrinks the rate of single rows tenfold and leaves the full batch's as it is."""
    one = [automatic_rate(o, 1, 100, 4.0, 50.0, momentum=0.9).value for o in (SGD, MOMENTUM)]
    whole = [automatic_rate(o, 100, 100, 4.0, 50.0, momentum=0.9).value for o in (SGD, MOMENTUM)]
    assert one[0] / one[1] == pytest.approx(10)
    assert whole[0] == whole[1]


def test_adam_follows_the_root_of_the_batch():
    """Adam's rate is 1e-3 · √B, at most 0.1, and does not hang on the curvature."""
    assert automatic_rate(ADAM, 1, 10**6, 4.0, 50.0).value == 1e-3
    assert automatic_rate(ADAM, 100, 10**6, 1e9, 1e12).value == pytest.approx(1e-2)
    assert automatic_rate(ADAM, 10**6, 10**6, 4.0, 50.0).value == SCALE_FREE_LIMIT
