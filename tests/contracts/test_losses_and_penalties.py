"""Every loss with every penalty: gradients are the losses', and the engines take the same steps."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array
from support import OTHERS, SHAPES, dataset, engines, rule, start

from descend.batches import order
from descend.engines.base import Rule
from descend.engines.choose import make_engine
from descend.objectives.losses import row_derivatives
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from descend.updates import OPTIMIZERS

TOLERANCE = {np.float32: {"rtol": 1e-3, "atol": 3e-5}, np.float64: {"rtol": 1e-9, "atol": 1e-12}}
PENALTIES = {"none": (0.0, 0.0), "l2": (0.05, 0.0), "l1": (0.0, 0.02), "elasticnet": (0.03, 0.01)}
EVERY = SHAPES | OTHERS


def difference(function, at, step=1e-5):
    """Central differences: exact to rounding where the function is straight, as most of these are in places."""
    gradient = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return gradient


@pytest.mark.parametrize("batch_size", [1, 7, 37])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", OTHERS)
def test_the_gradient_is_the_losss(shape, weighted, batch_size):
    """Central differences of a batch's summed loss are its gradient: to 1e-6, in float32 to 1e-3."""
    data, loss, k = dataset(shape, weighted=weighted)
    parameters = start(data, k, spread=0.5).parameters
    for rows in (slice(0, batch_size), slice(37 - batch_size, 37)):
        for engine in engines(data, loss):
            expected = difference(lambda p, e=engine, r=rows: e.loss_and_gradient(p, r).loss, parameters)
            got = engine.loss_and_gradient(parameters, rows).gradient
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    single, _, _ = dataset(shape, weighted=weighted, dtype=np.float32)
    got = engines(single, loss)[1].loss_and_gradient(parameters.astype(np.float32), rows).gradient
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("width", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("shape", OTHERS)
def test_the_whole_objective_is_the_references(shape, width):
    """Value and gradient of the whole objective, corners rounded or not, are those of plain NumPy."""
    data, loss, k = dataset(shape, weighted=True)
    loss = loss.rounded(width) if width else loss
    reference, compiled = engines(data, loss, 0.05)
    parameters = start(data, k, spread=0.5).parameters
    value, gradient = compiled.objective(parameters)
    assert value == pytest.approx(reference.mean_loss(parameters), rel=1e-12)
    expected = difference(reference.mean_loss, parameters)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("shape", EVERY)
def test_the_engines_take_the_same_steps(shape, penalty, dtype):
    """Two epochs with each optimizer at B = 1, 7, n and in place end where the reference ends, clipped or not."""
    if shape in SHAPES and penalty in ("none", "l2"):
        pytest.skip("held in test_engines.py")
    alpha, l1 = PENALTIES[penalty]
    data, loss, k = dataset(shape, dtype=dtype, weighted=dtype == np.float64)
    for name, batch_size, clip in itertools.product(
        ("sgd", "momentum", "adam", "adamw", "adagrad"), (1, 7, 37, 0), (0.0, 0.5)
    ):
        how = rule(name, 0.01, clip=clip)
        states = [start(data, k), start(data, k)]
        for engine, state in zip(engines(data, loss, alpha, l1=l1), states, strict=True):
            for epoch in (1, 2):
                rows = None if batch_size == 0 else order(0, epoch, 37)
                engine.run(state, how, rows, batch_size or 37)
        np.testing.assert_allclose(
            states[1].parameters,
            states[0].parameters,
            err_msg=f"{name} {batch_size} {clip}",
            **TOLERANCE[dtype],
        )


@pytest.mark.parametrize("l1", [0.0, 0.02])
@pytest.mark.parametrize("batch_size", [1, 7, 37])
@pytest.mark.parametrize(
    "shape", [name for name in EVERY if not EVERY[name][0].has_corners and "poisson" not in name]
)
def test_saga_takes_the_references_steps(shape, batch_size, l1):
    """Three epochs of SAGA, the first of which fills the table, end in the reference's state."""
    data, loss, k = dataset(shape, weighted=True)
    states = [start(data, k), start(data, k)]
    for epoch in (1, 2, 3):
        how = Rule(OPTIMIZERS["saga"], 0.0, num_steps=-(-37 // batch_size), filling=epoch == 1, full_term=3.0,
                   single_term=4.0)  # fmt: skip
        for engine, state in zip(engines(data, loss, 0.01, l1=l1), states, strict=True):
            engine.run(state, how, order(0, epoch, 37), batch_size)
    one, other = states
    np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.table, one.table, rtol=1e-9, atol=1e-12)
    assert other.share == pytest.approx(one.share, rel=1e-9)


def test_a_strong_l1_leaves_exact_zeros():
    """With L1 above every slope all weights are 0 to the last bit, and the intercept is not."""
    data, loss, k = dataset("log_loss")
    for name, batch_size in itertools.product(("sgd", "nesterov", "adam"), (1, 7)):
        _, engine = engines(data, loss, 0.0, l1=5.0)
        state = start(data, k)
        for epoch in range(1, 30):
            engine.run(state, rule(name, 0.05), order(0, epoch, 37), batch_size)
        assert (state.parameters[:, :-1] == 0.0).all()
        assert state.parameters[0, -1] != 0.0


@pytest.mark.parametrize("penalty", ["l2", "elasticnet"])
@pytest.mark.parametrize("shape", OTHERS)
def test_sparse_rows_give_what_dense_rows_give(shape, penalty):
    """The objective and two epochs of SGD and Adam, clipped or not, are the same on CSR as on the dense rows."""
    alpha, l1 = PENALTIES[penalty]
    data, loss, k = dataset(shape, weighted=True)
    X = data.X * (np.abs(data.X) > 0.5)
    dense = make_engine(Dataset(X, data.y, data.weights), loss, Penalty(alpha, l1))
    sparse = make_engine(Dataset(csr_array(X), data.y, data.weights), loss, Penalty(alpha, l1))
    at = start(data, k, spread=0.5).parameters
    for one, other in zip(dense.objective(at), sparse.objective(at), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-13)
    for name, batch_size, clip in itertools.product(("sgd", "adam"), (1, 7, 0), (0.0, 0.5)):
        states = [start(data, k), start(data, k)]
        for engine, state in zip((dense, sparse), states, strict=True):
            for epoch in (1, 2):
                rows = None if batch_size == 0 else order(0, epoch, 37)
                engine.run(state, rule(name, 0.01, clip=clip), rows, batch_size or 37)
        np.testing.assert_allclose(states[1].parameters, states[0].parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 37])
@pytest.mark.parametrize("shape", EVERY)
def test_float32_gradients_are_right_to_rounding(shape, batch_size):
    """At a float32 point the kernels' gradient is the float64 formula's to 1e-6 of its terms' sizes, CSR rows too."""
    data, loss, k = dataset(shape, weighted=True, dtype=np.float32)
    at = start(data, k, spread=0.5).parameters
    wide = Dataset(data.X.astype(np.float64), data.y, data.weights)
    exact = engines(wide, loss)[0]
    for rows in (slice(0, batch_size), slice(37 - batch_size, 37)):
        expected = exact.loss_and_gradient(at.astype(np.float64), rows).gradient
        ones = np.c_[np.abs(wide.X[rows]), np.ones(batch_size)]
        scores = wide.X[rows] @ at[:, :-1].T + at[:, -1]
        slopes = np.abs(row_derivatives(loss.code, scores.astype(np.float64), data.y[rows], loss.shape))
        sizes = (data.weights[rows, None] * (slopes + np.abs(scores))).T @ ones
        for X in (data.X, csr_array(data.X)):
            got = make_engine(Dataset(X, data.y, data.weights), loss, Penalty(0.0)).loss_and_gradient(
                at, rows
            )
            assert (np.abs(got.gradient - expected) <= 1e-6 * sizes).all()
