"""A network's Hessian times a vector: against differences, on every loss and activation."""

import numpy as np
import pytest
from scipy import sparse

from descend.comparing.network_hessian import NetworkHessian
from descend.comparing.sharpness import product_by_differences, sharpness
from descend.engines.reference_mlp import ReferenceNetworkEngine, weights_of
from descend.models.network import Network, initialise
from descend.objectives.activations import ACTIVATIONS
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from tests.support import OTHERS, SHAPES, dataset

ALPHA = 0.1


def tiny(shape, activation, hidden=(4, 3), **options):
    """Data, loss, a network and a place in it; what fills the vector of parameters up is 0."""
    data, loss, outputs = dataset(shape, weighted=True, **options)
    network = Network((data.num_columns, *hidden, outputs), ACTIVATIONS[activation])
    at = initialise(network, 3, np.float64)
    for _, intercepts in network.parts(at):
        intercepts[:] = 0.1 * np.random.default_rng(2).normal(size=intercepts.shape)
    return data, loss, network, at


def used(network):
    """The places of the vector that are parameters."""
    real = np.zeros(network.size)
    for weights, intercepts in network.parts(real):
        weights[:], intercepts[:] = 1.0, 1.0
    return np.flatnonzero(real)


def by_columns(product, network):
    places = used(network)
    return np.array([product(np.eye(network.size)[i])[places] for i in places])


def gradient_of(engine, network):
    def gradient(parameters):
        sums = engine.loss_and_gradient(parameters, slice(None))
        return sums.gradient / sums.weight + ALPHA * weights_of(network) * parameters

    return gradient


@pytest.mark.parametrize("hidden", [(), (5,), (4, 3)])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("shape", list(SHAPES | OTHERS))
def test_products_are_differences_of_gradients(shape, activation, hidden):
    """For every loss, activation and depth the columns of the Hessian are what the textbook's gradient changes by."""
    data, loss, network, at = tiny(shape, activation, hidden)
    hessian = NetworkHessian(data, loss, Penalty(ALPHA), network, at)
    engine = ReferenceNetworkEngine(data, loss, Penalty(ALPHA), network)
    exact = by_columns(hessian.times, network)
    differences = by_columns(product_by_differences(gradient_of(engine, network), at), network)
    np.testing.assert_allclose(exact, differences, atol=1e-6 * np.abs(differences).max())
    np.testing.assert_allclose(exact, exact.T, atol=1e-7 * np.abs(exact).max())
    largest = np.linalg.eigvalsh((exact + exact.T) / 2)[-1]
    assert sharpness(hessian.times, network.size).value == pytest.approx(largest, rel=2e-3)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "logistic"])
def test_the_largest_eigenvalue_is_that_of_the_dense_hessian(activation):
    """Against second differences of the loss alone, which share no formula with the products."""
    data, loss, network, at = tiny("softmax", activation, hidden=(3,), num_columns=3)
    engine = ReferenceNetworkEngine(data, loss, Penalty(ALPHA), network)
    places, step = used(network), 1e-4

    def shifted(*shifts):
        moved = at.copy()
        for place, by in shifts:
            moved[place] += by
        return engine.mean_loss(moved)

    dense = np.array(
        [
            [
                sum(a * b * shifted((i, a * step), (j, b * step)) for a in (1, -1) for b in (1, -1))
                for j in places
            ]
            for i in places
        ]
    ) / (4 * step**2)
    hessian = NetworkHessian(data, loss, Penalty(ALPHA), network, at)
    found = sharpness(hessian.times, network.size)
    assert found.value == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=2e-3)


def test_a_row_on_relus_corner_makes_no_curvature():
    """A row whose score is all but 0 turns a unit off between two gradients, and their difference explodes."""
    data, loss, network, at = tiny("squared_error", "relu", hidden=(4,))
    weights, intercepts = network.parts(at)[0]
    intercepts[0] = -(data.X[0] @ weights[:, 0]) + 1e-12
    hessian = NetworkHessian(data, loss, Penalty(ALPHA), network, at)
    engine = ReferenceNetworkEngine(data, loss, Penalty(ALPHA), network)
    deceived = sharpness(product_by_differences(gradient_of(engine, network), at), network.size)
    found = sharpness(hessian.times, network.size)
    intercepts[0] += 1e-3
    beside = sharpness(NetworkHessian(data, loss, Penalty(ALPHA), network, at).times, network.size)
    assert found.value == pytest.approx(beside.value, rel=0.05)
    assert deceived.value > 100 * found.value


def test_a_row_on_the_losss_corner_makes_no_curvature():
    """A row that stands on the corner of the hinge loss has no part in the curvature, as it has none beside it."""
    data, loss, network, at = tiny("hinge", "tanh", hidden=(4,))
    _, intercepts = network.parts(at)[-1]
    score = network.scores(at, data.X)[0, 0]
    intercepts[0] += (1.0 if data.y[0, 0] else -1.0) - score
    on, beside = (
        sharpness(NetworkHessian(data, loss, Penalty(ALPHA), network, place).times, network.size)
        for place in (at, at + 1e-4 * (np.arange(network.size) == network.layers[-1].bias))
    )
    assert on.value == pytest.approx(beside.value, rel=0.05)


def test_sparse_rows_have_the_same_hessian():
    """CSR rows and dense ones give the same products."""
    data, loss, network, at = tiny("log_loss", "gelu")
    data.X[np.abs(data.X) < 0.5] = 0.0
    thin = Dataset(sparse.csr_array(data.X), data.y, data.weights)
    direction = np.random.default_rng(1).normal(size=network.size)
    one, other = (
        NetworkHessian(rows, loss, Penalty(ALPHA), network, at).times(direction) for rows in (data, thin)
    )
    np.testing.assert_allclose(one[used(network)], other[used(network)], rtol=1e-9, atol=1e-12)
