"""The matrix that bounds every Hessian, and what else is told by the sums it is made of."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from descend.engines import preconditioner
from descend.engines.choose import make_engine
from descend.engines.preconditioner import FEWEST_ROWS, precondition
from descend.engines.sparse_curvature import goes_by_numbers, products_of_sparse
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.products import products_of
from descend.types import Dataset


def table(num_rows: int, weighted: bool, outputs: int = 2) -> Dataset:
    random = np.random.default_rng(num_rows)
    X = (random.normal(size=(num_rows, 5)) + 1.0).astype(np.float32)
    y = X[:, :1] + random.normal(size=(num_rows, outputs)) + 0.3
    weights = random.random(num_rows) + 0.5 if weighted else None
    return Dataset(X, y, None if weights is None else weights / weights.mean())


@pytest.mark.parametrize("weighted", [False, True])
def test_threads_do_not_tell(weighted: bool) -> None:
    """Several chunks of rows give one matrix to the last bit with one thread or three, and that of NumPy's sums."""
    data = table(2 * FEWEST_ROWS + 1001, weighted)
    one, three = (precondition(data, 1.0, 0.01, norms=False, threads=threads) for threads in (1, 3))
    assert np.array_equal(one.inverse, three.inverse)
    rows = np.column_stack([data.X, np.ones(data.num_rows)]).astype(np.float64)
    weights = np.ones(data.num_rows) if data.weights is None else data.weights
    expected = (rows * weights[:, None]).T @ rows / data.num_rows + np.diag([0.01] * 5 + [0.0])
    np.testing.assert_allclose(one.matrix, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("columns", [12, 40])
def test_threads_do_not_tell_how_heavy_rows_are(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared by three threads, each row weighs to the last bit what it does with one, and what NumPy says."""
    monkeypatch.setattr(preconditioner, "SMALLEST_SHARED", 1)
    random = np.random.default_rng(0)
    X = (random.normal(size=(40_011, columns)) * random.uniform(0.1, 3.0, columns)).astype(np.float32)
    data = Dataset(X, X[:, :1].astype(np.float64), random.random(len(X)) + 0.5)
    one, three = (precondition(data, 0.25, 0.01, norms=True, threads=threads) for threads in (1, 3))
    assert one.norms is not None
    assert three.norms is not None
    assert np.array_equal(one.norms, three.norms)
    rows, weights = np.column_stack([X, np.ones(len(X))]).astype(np.float64), data.weights
    assert weights is not None
    expected = 0.25 * weights * np.einsum("ij,jk,ik->i", rows, one.inverse, rows, optimize=True)
    np.testing.assert_allclose(one.norms, expected, rtol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_products_of_stored_numbers_are_those_of_dense_rows(weighted: bool) -> None:
    """Sparse rows have the products of the same rows kept dense, in whatever order each stores its numbers."""
    random = np.random.default_rng(0)
    X = np.where(random.random((900, 30)) < 0.1, random.normal(size=(900, 30)), 0.0)
    sparse = scipy.sparse.csr_array(X)
    low, high = sparse.indptr[0:2]
    sparse.indices[low:high], sparse.data[low:high] = (
        sparse.indices[low:high][::-1],
        sparse.data[low:high][::-1],
    )
    data = Dataset(sparse, random.normal(size=(900, 2)), random.random(900) if weighted else None)
    assert goes_by_numbers(sparse)
    assert high - low > 1
    found = products_of_sparse(data, slice(100, 900))
    expected = products_of([(X[100:], data.y[100:], None if data.weights is None else data.weights[100:])])
    whole, rest = products_of_sparse(data, slice(0, 900)), products_of_sparse(data, slice(0, 100))
    rest.add(found)
    for one, other, both, all_rows in zip(found[:3], expected[:3], rest[:3], whole[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-10)
        np.testing.assert_allclose(both, all_rows, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_squared_error_at_the_start_needs_no_pass(weighted: bool, fit_intercept: bool) -> None:
    """What the matrix's sums say of the objective at weights of 0 is what a pass over the rows says."""
    data = table(3000, weighted)
    matrix = precondition(data, 1.0, 0.01, norms=False, fit_intercept=fit_intercept)
    engine = make_engine(
        data, LOSSES["squared_error"], Penalty(0.01), preconditioner=matrix, fit_intercept=fit_intercept
    )
    start = np.zeros((2, 6), dtype=np.float32)
    start[:, -1] = [0.5, -0.2] if fit_intercept else 0.0
    value, gradient = engine.objective(start)
    engine.last = None
    engine.know_start(start)
    assert engine.last is not None
    assert engine.last.value == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(engine.last.gradient, gradient, rtol=1e-5, atol=1e-6)


def test_nothing_is_claimed_to_be_known_elsewhere() -> None:
    """Weights that are not 0, and other losses, are left to a pass over the rows."""
    data = table(500, weighted=False, outputs=1)
    data = Dataset(data.X, (data.y > 1.0).astype(np.float64))
    for name, at in (("squared_error", 1.0), ("log_loss", 0.0)):
        matrix = precondition(data, LOSSES[name].curvature, 0.01, norms=False)
        engine = make_engine(data, LOSSES[name], Penalty(0.01), preconditioner=matrix)
        engine.know_start(np.full((1, 6), at, dtype=np.float32))
        assert engine.last is None
