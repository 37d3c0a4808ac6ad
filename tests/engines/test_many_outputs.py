"""Many outputs: what goes by tiles of 16 of them is what the plain twin does output by output."""

import numpy as np
import pytest
from support import MANY, dataset, engines, rule, start

from descend.batches import order
from descend.engines import row_kernels
from descend.engines.base import Rule
from descend.engines.compiled import kernel
from descend.engines.linear import LinearEngine
from descend.engines.many_outputs import FEWEST, add_softmax_curvature_of_many
from descend.engines.preconditioner import precondition
from descend.engines.reference import ReferenceEngine
from descend.engines.squares import turn_square
from descend.objectives.penalties import Penalty
from descend.updates import OPTIMIZERS

STEPS = [name for name, optimizer in OPTIMIZERS.items() if optimizer.elementwise]
TOLERANCE = {np.float32: {"rtol": 3e-4, "atol": 3e-5}, np.float64: {"rtol": 1e-10, "atol": 1e-12}}
ROWS = 150
"""Two blocks of 64 and a piece of one."""


@kernel
def turn(A, a, a_step, B, b, b_step):
    turn_square(A, a, a_step, B, b, b_step)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_square_is_turned(dtype):
    """Rows become columns, wherever the square lies in both arrays, and nothing around it is touched."""
    A, B = np.arange(2000, dtype=dtype), np.full(2000, -1, dtype=dtype)
    turn(A, 7, 33, B, 19, 50)
    expected = B.copy()
    expected[:] = -1
    for r in range(16):
        for c in range(16):
            expected[19 + c * 50 + r] = A[7 + r * 33 + c]
    np.testing.assert_array_equal(B, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize("optimizer", STEPS)
def test_steps_are_the_twins(shape, optimizer, dtype):
    """Batches in one block and in several, weighted, averaged, clipped, without intercepts: the same states."""
    data, loss, k = dataset(shape, ROWS, 9, dtype=dtype, weighted=True)
    assert k >= FEWEST
    for batch_size, l1, options in (
        (2, 0.0, {"fit_intercept": False}),
        (32, 0.0, {"sum_rows": True}),
        (33, 0.02, {}),
        (64, 0.0, {"clip": 0.5}),
        (100, 0.0, {}),
    ):
        rate = 0.01 / (batch_size if "sum_rows" in options and optimizer != "adam" else 1)
        how = rule(optimizer, rate, "linear", num_steps=2 * -(-ROWS // batch_size), momentum=0.8, **options)
        both = engines(data, loss, 0.05, l1=l1, average_every=2)
        states = [start(data, k), start(data, k)]
        for epoch in (1, 2):
            for engine, state in zip(both, states, strict=True):
                with np.errstate(over="ignore", invalid="ignore"):
                    engine.run(state, how, order(0, epoch, ROWS), batch_size)
        for name in ("parameters", "first", "second", "average"):
            one, other = (getattr(state, name) for state in states)
            np.testing.assert_allclose(other, one, err_msg=f"{name} at {batch_size}", **TOLERANCE[dtype])
        assert states[0].steps == states[1].steps
        assert states[0].num_averaged == states[1].num_averaged > 0
        assert states[1].parameters.dtype == dtype


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_may_be_cut_anywhere(optimizer):
    """Two calls on halves of an order end with the bits of one on the whole."""
    data, loss, k = dataset("many classes", ROWS, 9, dtype=np.float32)
    engine = engines(data, loss, average_every=3)[1]
    how, rows = rule(optimizer, 0.01, "linear", num_steps=19), order(0, 1, ROWS)
    whole, cut = start(data, k), start(data, k)
    engine.run(whole, how, rows, 8)
    engine.run(cut, how, rows[:48], 8)
    engine.run(cut, how, rows[48:], 8)
    for name in ("parameters", "first", "second", "average"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name), err_msg=name)


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_rows", [1, 15, 64, 65, ROWS])
def test_sums_are_the_twins(shape, weighted, num_rows):
    """Loss, gradient and weight of any number of rows are the reference's."""
    data, loss, k = dataset(shape, num_rows, 9, weighted=weighted)
    parameters = start(data, k, spread=1.0).parameters
    expected, found = (engine.loss_and_gradient(parameters, slice(None)) for engine in engines(data, loss))
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.weight == pytest.approx(expected.weight, rel=1e-12)
    np.testing.assert_allclose(found.gradient, expected.gradient, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_objective_and_its_gradient_go_together(shape, weighted):
    """What L-BFGS reads is the reference's mean loss with its penalty, and the gradient of that."""
    data, loss, k = dataset(shape, ROWS, 5, weighted=weighted)
    parameters = start(data, k, spread=0.7).parameters
    reference, compiled = engines(data, loss, alpha=0.3)
    value, gradient = compiled.objective(parameters)
    assert value == pytest.approx(reference.mean_loss(parameters), rel=1e-12)
    assert compiled.mean_loss(parameters) == pytest.approx(value, rel=1e-12)
    sums = reference.loss_and_gradient(parameters, slice(None))
    expected = sums.gradient / sums.weight
    expected[:, :-1] += 0.3 * parameters[:, :-1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("num_rows", [1, 64, ROWS])
def test_curvature_is_that_of_few_outputs(num_rows):
    """Softmax's curvature times a direction is what the kernel for few outputs makes of the same numbers."""
    rng = np.random.default_rng(0)
    X, p = rng.normal(size=(num_rows, 9)), rng.dirichlet(np.ones(18), size=num_rows)
    weights, direction = rng.uniform(0.1, 2.0, size=num_rows), rng.normal(size=(18, 10))
    expected, found = np.ones((18, 10)), np.ones((18, 10))
    row_kernels.add_softmax_curvature(X, p, weights, direction, expected)
    add_softmax_curvature_of_many(X, p, weights, direction, found)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def saga(filling, batch_size, fit_intercept):
    return Rule(
        OPTIMIZERS["saga"],
        rate=0.0,
        num_steps=-(-ROWS // batch_size),
        fit_intercept=fit_intercept,
        filling=filling,
        full_term=2.0,
        single_term=3.0,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_columns", [9, 70])
@pytest.mark.parametrize("shape", MANY)
def test_saga_is_the_twins(shape, num_columns, dtype):
    """With and without a matrix, L1, intercepts, 70 columns in two blocks: the same states; cut, the same bits."""
    data, loss, k = dataset(shape, ROWS, num_columns, dtype=dtype, weighted=True)
    visits = np.random.default_rng(1).uniform(0.3, 1.0, size=ROWS)
    matrix = precondition(data, loss.curvature, 0.05, norms=False)
    for batch_size, through, l1, fit_intercept in (
        (32, True, 0.0, True),
        (100, True, 0.0, False),
        (5, False, 0.02, True),
        (33, False, 0.0, False),
    ):
        penalty, inverse = Penalty(0.05, l1), matrix.inverse if through else None
        twin = ReferenceEngine(data, loss, penalty, weights=visits, preconditioner=inverse)
        engine = LinearEngine(
            data,
            loss,
            penalty,
            weights=visits,
            preconditioner=matrix,
            precondition_steps=through,
            fit_intercept=fit_intercept,
        )
        one, other, cut = (start(data, k) for _ in range(3))
        for epoch in (1, 2):
            how, rows = saga(epoch == 1, batch_size, fit_intercept), order(0, epoch, ROWS)
            twin.run(one, how, rows, batch_size)
            engine.run(other, how, rows, batch_size)
            for part in (rows[: 40 // batch_size * batch_size], rows[40 // batch_size * batch_size :]):
                engine.run(cut, how, part, batch_size)
        for name in ("parameters", "table", "mean_gradient"):
            expected, found, in_parts = (getattr(state, name) for state in (one, other, cut))
            np.testing.assert_allclose(found, expected, err_msg=f"{name} at {batch_size}", **TOLERANCE[dtype])
            np.testing.assert_array_equal(in_parts, found)
        assert other.share == pytest.approx(one.share, rel=1e-4)
        assert other.steps == one.steps
