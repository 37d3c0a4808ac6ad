"""Sharpness: the largest eigenvalue of maps whose eigenvalues are known."""

import numpy as np
import pytest

from descend.comparing.sharpness import FEWEST_ITERATIONS, product_by_differences, sharpness


def symmetric(eigenvalues, seed=0):
    """A matrix with these eigenvalues and random directions."""
    rng = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(rng.normal(size=(len(eigenvalues), len(eigenvalues))))
    return turned @ np.diag(eigenvalues) @ turned.T


@pytest.mark.parametrize(
    "eigenvalues",
    [
        [3.0],
        [5.0, 4.9, 1.0],
        np.linspace(0.0, 1.0, 200),
        np.r_[100.0, np.linspace(0.0, 1.0, 300)],
        np.r_[1e-4, np.zeros(40)],
        np.r_[2.0, -7.0, np.linspace(-1.0, 1.0, 60)],
        np.logspace(-8, 3, 150),
    ],
    ids=["one", "close", "dense", "outlier", "nearly flat", "saddle", "spread"],
)
def test_the_largest_eigenvalue_is_found(eigenvalues):
    """The largest, not the largest in size, to a per cent; and it says itself how near an eigenvalue lies."""
    matrix = symmetric(np.asarray(eigenvalues))
    found = sharpness(lambda v: matrix @ v, len(eigenvalues))
    assert found.value == pytest.approx(max(eigenvalues), rel=0.01)
    assert min(abs(np.asarray(eigenvalues) - found.value)) <= found.within + 1e-9
    assert found.arrived
    assert found.within <= 1e-3 * abs(found.value) + 1e-12


def test_a_flat_place_is_not_sharp():
    """Where every product is 0 the sharpness is 0, told at once."""
    found = sharpness(np.zeros_like, 5)
    assert (found.value, found.iterations, found.arrived) == (0.0, 0, True)


def test_iterations_that_run_out_are_told():
    """With a single product the number is not passed off as one that has settled."""
    matrix = symmetric(np.linspace(0.0, 1.0, 50))
    found = sharpness(lambda v: matrix @ v, 50, most=1)
    assert found.iterations == 1
    assert not found.arrived


def test_what_is_not_a_number_has_no_sharpness():
    """A product that is not finite gives None."""
    assert sharpness(lambda v: v * np.nan, 5) is None
    assert sharpness(lambda v: v * np.inf, 5) is None


def test_the_same_seed_is_the_same_number():
    """Two calls agree to the last bit, and a seed changes the way there alone."""
    matrix = symmetric(np.linspace(0.0, 1.0, 80))
    one, same, other = (sharpness(lambda v: matrix @ v, 80, seed=s) for s in (0, 0, 1))
    assert one == same
    assert other.value == pytest.approx(one.value, rel=0.01)
    assert one.iterations >= FEWEST_ITERATIONS


def test_products_come_from_gradients_alone():
    """Differences of the gradient of a quartic are its Hessian times a vector, which is known in closed form."""
    at = np.array([1.0, -2.0, 0.5])
    matrix = symmetric(np.array([1.0, 2.0, 3.0]))
    product = product_by_differences(lambda w: w**3 + matrix @ w, at)
    direction = np.array([0.3, 1.0, -4.0])
    np.testing.assert_allclose(product(direction), 3 * at**2 * direction + matrix @ direction, rtol=1e-7)
    assert not product(np.zeros(3)).any()
