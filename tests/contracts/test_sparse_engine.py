"""The sparse engine takes the dense engine's steps: same rows, same results to rounding."""

import itertools
import time

import numpy as np
import pytest
from scipy.sparse import csr_array
from support import SHAPES, dataset, rule, start

from descend.batches import order
from descend.engines.base import State
from descend.engines.choose import make_engine
from descend.engines.curvature import measure_curvature
from descend.engines.linear import LinearEngine
from descend.engines.sparse import SparseEngine
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from descend.updates import OPTIMIZERS as EVERY
from descend.updates.schedules import SCHEDULES

STEPWISE = [name for name, optimizer in EVERY.items() if optimizer.elementwise]
TOLERANCE = {np.float32: {"rtol": 3e-4, "atol": 3e-5}, np.float64: {"rtol": 1e-9, "atol": 1e-11}}


def thinned(shape, dtype=np.float64, weighted=False, num_columns=9, index=np.int32):
    """Rows two thirds of whose numbers are 0, as they are and as CSR; one row and one column hold nothing."""
    data, loss, k = dataset(shape, dtype=dtype, weighted=weighted, num_columns=num_columns)
    X = data.X.copy()
    X[np.random.default_rng(9).random(X.shape) < 0.67] = 0.0
    X[3], X[:, 2] = 0.0, 0.0
    sparse = csr_array(X)
    sparse.indices, sparse.indptr = sparse.indices.astype(index), sparse.indptr.astype(index)
    return Dataset(X, data.y, data.weights), Dataset(sparse, data.y, data.weights), loss, k


def assert_same(one: State, other: State, dtype) -> None:
    for name in ("parameters", "first", "second", "average", "table", "mean_gradient"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_allclose(b, a, err_msg=name, **TOLERANCE[dtype])
    assert (one.steps, one.num_averaged, one.visits) == (other.steps, other.num_averaged, other.visits)
    assert other.parameters.dtype == dtype


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_stepwise_optimizers_take_the_dense_steps(shape, dtype, index):
    """Every optimizer, batch size, ragged end, schedule, weighting, reduction and average leaves the same state."""
    cases = itertools.product(STEPWISE, (1, 2, 5, 37), SCHEDULES, (False, True))
    for i, (optimizer, batch_size, schedule, sum_rows) in enumerate(cases):
        weighted = i % 3 == 0
        dense, sparse, loss, k = thinned(shape, dtype, weighted, index=index)
        visits = np.random.default_rng(5).uniform(0.3, 1.0, size=37) if weighted else None
        options = {"weights": visits, "average_every": (0, 1, 3)[i % 3]}
        engines = [make_engine(data, loss, Penalty(0.01), **options) for data in (dense, sparse)]
        assert [type(e) for e in engines] == [LinearEngine, SparseEngine]
        how = rule(
            optimizer,
            0.02 / (batch_size if sum_rows and optimizer != "adam" else 1),
            schedule,
            sum_rows=sum_rows,
            num_steps=2 * -(-37 // batch_size),
            fit_intercept=i % 4 != 3,
        )
        states = [start(dense, k), start(dense, k)]
        for epoch in (1, 2):
            rows = order(0, epoch, 37)
            piece = batch_size if epoch == 1 else 37
            for at in range(0, 37, piece):
                for engine, state in zip(engines, states, strict=True):
                    engine.run(state, how, rows[at : at + piece], batch_size)
            assert_same(*states, dtype)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0 / 0.3, 12.0])
def test_a_penalty_that_shrinks_to_nothing_or_past_it_is_still_exact(alpha):
    """The common factor of the weights may fall to 0, turn negative or grow: every step is the dense one."""
    dense, sparse, loss, k = thinned("softmax")
    states = [start(dense, k), start(dense, k)]
    for data, state in zip((dense, sparse), states, strict=True):
        engine = make_engine(data, loss, Penalty(alpha), average_every=1)
        engine.run(state, rule("sgd", 0.3), order(0, 1, 37), 2)
    assert_same(*states, np.float64)


@pytest.mark.parametrize("optimizer", STEPWISE)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_full_batch_takes_the_dense_steps(shape, optimizer):
    """A few steps from every row, weights included, agree."""
    dense, sparse, loss, k = thinned(shape, weighted=True)
    states = [start(dense, k), start(dense, k)]
    for data, state in zip((dense, sparse), states, strict=True):
        engine = make_engine(data, loss, Penalty(0.01))
        for _ in range(5):
            engine.run(state, rule(optimizer, 0.05), None, 37)
    assert_same(*states, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch_size", [1, 5, 37])
@pytest.mark.parametrize("shape", SHAPES)
def test_saga_takes_the_dense_steps(shape, batch_size, dtype):
    """Filling and variance-reduced epochs, cut anywhere, rows visited twice, agree with the dense ones."""
    for weighted, alpha, fit_intercept in itertools.product((False, True), (0.01, 2.0), (False, True)):
        dense, sparse, loss, k = thinned(shape, dtype, weighted)
        states = [start(dense, k), start(dense, k)]
        visits = np.random.default_rng(5).uniform(0.3, 1.0, size=37)
        for data, state in zip((dense, sparse), states, strict=True):
            engine = make_engine(data, loss, Penalty(alpha), weights=visits)
            for epoch, filling in ((1, True), (2, False), (3, False)):
                how = rule(
                    "saga",
                    filling=filling,
                    num_steps=-(-40 // batch_size),
                    full_term=1.0,
                    single_term=4.0,
                    fit_intercept=fit_intercept,
                )
                rows = np.append(order(0, epoch, 37), [3, 8, 8])
                for part in (rows[: 2 * batch_size], rows[2 * batch_size :]):
                    engine.run(state, how, part, batch_size)
        assert_same(*states, dtype)
        assert states[0].share == pytest.approx(states[1].share, rel=1e-4 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_measured_on_the_rows_is_the_same(shape, weighted):
    """Sums, mean loss, objective, gap, curvature, heavy rows: the dense figures."""
    dense, sparse, loss, k = thinned(shape, weighted=weighted)
    one, other = (make_engine(data, loss, Penalty(0.1), mean_curvature=1.0) for data in (dense, sparse))
    state = start(dense, k)
    for rows in (slice(4, 30), slice(5, 5), np.array([3, 3, 20])):
        expected, found = (
            one.loss_and_gradient(state.parameters, rows),
            other.loss_and_gradient(state.parameters, rows),
        )
        assert found.loss == pytest.approx(expected.loss, rel=1e-12)
        assert found.weight == pytest.approx(expected.weight, rel=1e-12)
        np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-12)
    for num_rows in (None, 11):
        assert other.mean_loss(state.parameters, num_rows) == pytest.approx(
            one.mean_loss(state.parameters, num_rows), rel=1e-12
        )
    value, gradient = one.objective(state.parameters)
    assert other.objective(state.parameters)[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(other.objective(state.parameters)[1], gradient, atol=1e-12)
    # Both end at ½ g · H⁻¹ g; the sparse one takes other steps there, for it starts from the diagonal.
    assert other.estimate_gap(state, 1e-9) == pytest.approx(one.estimate_gap(state, 1e-9), rel=0.02)
    a, b = (measure_curvature(data, loss, seed=0) for data in (dense, sparse))
    assert (b.mean, b.row) == pytest.approx((a.mean, a.row), rel=1e-9)
    assert b.visits.num_visits == a.visits.num_visits


@pytest.mark.parametrize("l1", [0.0, 1e-4])
@pytest.mark.parametrize("optimizer", ["sgd", "saga"])
def test_a_step_does_not_touch_what_its_rows_do_not_hold(optimizer, l1):
    """The work of an epoch follows the stored numbers and not the columns, penalties and average included."""
    seconds = []
    for columns in (1_000, 1_000_000):
        rng = np.random.default_rng(0)
        indices = np.sort(rng.integers(columns, size=(4000, 10)), axis=1).ravel()
        X = csr_array((np.ones(40_000), indices, np.arange(0, 40_001, 10)), shape=(4000, columns))
        data = Dataset(X, rng.integers(2, size=(4000, 1)).astype(float))
        engine = make_engine(
            data, SHAPES["log_loss"][0], Penalty(0.01, l1), average_every=int(optimizer == "sgd")
        )
        state = State(np.zeros((1, columns + 1)))
        how = rule(optimizer, 0.1, full_term=1.0, single_term=10.0)
        engine.run(state, how, order(0, 1, 4000)[:2], 1)
        began = time.thread_time()  # of this thread alone: how busy the machine is does not count
        engine.run(state, how, order(0, 1, 4000), 1)
        seconds.append(time.thread_time() - began)
    assert seconds[1] < 1.0, seconds  # 4,000 dense steps of a million columns would be 4 billion updates
