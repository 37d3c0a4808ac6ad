"""SAGA, L-BFGS, Newton and the certificate: the compiled engine against plain NumPy, and against the optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_array
from support import SHAPES, dataset, start

from descend.batches import order
from descend.engines.base import Rule
from descend.engines.linear import LinearEngine
from descend.engines.preconditioner import precondition
from descend.engines.reference import ReferenceEngine
from descend.engines.restart import restart_saga
from descend.engines.sparse import SparseEngine
from descend.objectives.losses import row_derivatives
from descend.objectives.penalties import Penalty
from descend.updates import OPTIMIZERS

ALPHA = 0.01


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 37])
@pytest.mark.parametrize("shape", SHAPES)
def test_saga_takes_the_reference_steps(shape, batch_size, preconditioned, fit_intercept):
    """Three epochs of SAGA, the first filling the table and the last slowed down, end in the reference's state."""
    data, loss, k = dataset(shape, weighted=True)
    visits = np.random.default_rng(1).uniform(0.3, 1.0, size=data.num_rows)
    matrix = precondition(data, loss.curvature, ALPHA, norms=False)
    reference = ReferenceEngine(
        data, loss, Penalty(ALPHA), weights=visits, preconditioner=matrix.inverse if preconditioned else None
    )
    compiled = LinearEngine(
        data,
        loss,
        Penalty(ALPHA),
        weights=visits,
        preconditioner=matrix,
        precondition_steps=preconditioned,
        fit_intercept=fit_intercept,
    )
    states = [start(data, k), start(data, k)]
    steps = -(-data.num_rows // batch_size)
    for epoch in (1, 2, 3):
        how = Rule(
            OPTIMIZERS["saga"],
            rate=0.0,
            num_steps=steps,
            fit_intercept=fit_intercept,
            filling=epoch == 1,
            full_term=2.0,
            single_term=3.0,
        )
        rows = order(0, epoch, data.num_rows)
        for engine, state in zip((reference, compiled), states, strict=True):
            state.pace = 0.5 if epoch == 3 else 1.0
            engine.run(state, how, rows, batch_size)
    one, other = states
    np.testing.assert_allclose(other.parameters, one.parameters, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.table, one.table, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.mean_gradient, one.mean_gradient, rtol=1e-9, atol=1e-12)
    assert other.share == pytest.approx(one.share, rel=1e-9)
    assert other.steps == one.steps


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_saga_begun_anew_has_the_table_of_where_it_stands(shape, batch_size, is_sparse):
    """Whatever stood in the table, it holds the derivatives at the parameters, and these keep their bits."""
    data, loss, k = dataset(shape)
    rows = type(data)(csr_array(data.X), data.y) if is_sparse else data
    engine = (SparseEngine if is_sparse else LinearEngine)(rows, loss, Penalty(ALPHA))
    state = start(data, k)
    state.parameters[:] = np.random.default_rng(2).normal(size=state.parameters.shape)
    state.table, state.mean_gradient = (
        np.full((data.num_rows, k), np.nan),
        np.full(state.parameters.shape, np.inf),
    )
    before = state.parameters.copy()
    how = Rule(OPTIMIZERS["saga"], 0.0, num_steps=8, full_term=2.0, single_term=3.0)
    restart_saga(engine, state, how, batch_size)
    X = np.hstack([data.X, np.ones((data.num_rows, 1))])
    derivatives = row_derivatives(loss.code, X @ before.T, data.y, loss.shape)
    assert np.array_equal(state.parameters, before)
    np.testing.assert_allclose(state.table, derivatives, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.mean_gradient, derivatives.T @ X / data.num_rows, rtol=1e-9, atol=1e-12)
    assert (state.steps, state.share) == (0, 1.0)


def solved(engine, data, k):
    """The optimum by SciPy, from the same objective."""
    shape = (k, data.num_columns + 1)

    def objective(flat):
        value, gradient = engine.objective(flat.reshape(shape))
        return value, gradient.ravel()

    options = {"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-10}
    return minimize(objective, np.zeros(np.prod(shape)), jac=True, method="L-BFGS-B", options=options).fun


@pytest.mark.parametrize("optimizer", ["lbfgs", "newton"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_whole_batch_methods_find_the_optimum(shape, weighted, optimizer):
    """Forty steps of L-BFGS or Newton end at SciPy's optimum, and none goes up."""
    data, loss, k = dataset(shape, num_rows=120, weighted=weighted)
    engine = LinearEngine(
        data, loss, Penalty(ALPHA), preconditioner=precondition(data, loss.curvature, ALPHA, norms=False)
    )
    state = start(data, k)
    values = [engine.mean_loss(state.parameters)]
    for _ in range(40):
        engine.run(state, Rule(OPTIMIZERS[optimizer], 1.0), None, data.num_rows)
        values.append(engine.mean_loss(state.parameters))
    assert max(np.diff(values)) <= 1e-14
    assert values[-1] == pytest.approx(solved(engine, data, k), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_certificate_tells_the_gap(shape):
    """After 100 steps, estimate and true gap agree within a fifth; far from it the estimate is not below a tenth."""
    data, loss, k = dataset(shape, num_rows=400)
    engine = LinearEngine(
        data, loss, Penalty(ALPHA), preconditioner=precondition(data, loss.curvature, ALPHA, norms=False)
    )
    best = solved(engine, data, k)
    state = start(data, k)
    for step in range(120):
        engine.run(state, Rule(OPTIMIZERS["sgd"], 0.5), None, data.num_rows)
        gap = engine.mean_loss(state.parameters) - best
        estimate = engine.estimate_gap(state, enough=np.inf)
        if gap > 1e-12:  # below, the difference of two losses is rounding
            assert estimate > 0.1 * gap
            assert step <= 100 or estimate == pytest.approx(gap, rel=0.2)


def test_a_singular_table_has_a_preconditioner():
    """Columns that say the same, and a constant one, give a finite positive matrix that solves what can be solved."""
    data, _, _ = dataset("squared_error", num_rows=50, num_columns=3)
    X = np.hstack([data.X, data.X[:, :1], np.ones((50, 1))])
    matrix = precondition(type(data)(X, data.y), 1.0, 0.0, norms=True)
    assert np.isfinite(matrix.inverse).all()
    assert np.linalg.eigvalsh(matrix.inverse).min() > 0
    rows = np.hstack([X, np.ones((50, 1))])
    assert np.trace(rows @ matrix.inverse @ rows.T) / 50 == pytest.approx(matrix.norms.mean())
    assert matrix.norms.mean() == pytest.approx(4.0, rel=1e-3)  # the rank: three columns and the intercept


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_gradient_is_the_tables_when_rows_come_again(shape, batch_size):
    """While the table is filled a row may come twice, and the mean gradient counts it once."""
    data, loss, k = dataset(shape)
    rows = np.concatenate([order(0, 1, data.num_rows), order(0, 2, data.num_rows)])
    state = start(data, k)
    how = Rule(OPTIMIZERS["saga"], 0.0, num_steps=len(rows), filling=True, full_term=2.0, single_term=3.0)
    LinearEngine(data, loss, Penalty(ALPHA)).run(state, how, rows, batch_size)
    X = np.hstack([data.X, np.ones((data.num_rows, 1))])
    np.testing.assert_allclose(state.mean_gradient, state.table.T @ X / data.num_rows, rtol=1e-9, atol=1e-12)


def test_without_an_intercept_the_matrix_leaves_it_alone():
    """H⁻¹ of columns that are not centred is that of the columns alone, and mixes nothing into the intercept."""
    data, loss, _ = dataset()
    shifted = type(data)(data.X + 3.0, data.y)
    inverse = precondition(shifted, loss.curvature, ALPHA, norms=False, fit_intercept=False).inverse
    H = loss.curvature * shifted.X.T @ shifted.X / shifted.num_rows + ALPHA * np.eye(shifted.X.shape[1])
    np.testing.assert_allclose(inverse[:-1, :-1], np.linalg.inv(H), rtol=1e-8)
    assert not inverse[-1, :-1].any()
    assert inverse[-1, -1] > 0.0
