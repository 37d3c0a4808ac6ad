"""Penalties on sparse rows are put off until a column is next read, and every step is the dense step all the same."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array
from support import OTHERS, SHAPES, dataset, rule, start
from test_sparse_engine import assert_same

from descend.batches import order
from descend.engines.choose import make_engine
from descend.engines.compiled import kernel
from descend.engines.sparse_proximal import last_before
from descend.engines.sparse_saga import moved
from descend.objectives.penalties import Penalty, shrunk
from descend.types import Dataset
from descend.updates.schedules import SCHEDULES

PENALTIES = {"l2": (0.3, 0.0), "l1": (0.0, 0.08), "elasticnet": (0.3, 0.05), "overshooting": (60.0, 0.3)}
"""alpha and l1: strong, so that weights come to zero, stay there, and leave again within 37 rows."""
EVERY = SHAPES | OTHERS
SMOOTH = [name for name, (loss, _) in EVERY.items() if loss.has_bound and not loss.has_corners]


def rare(shape, dtype=np.float64, weighted=False, num_columns=23):
    """Rows that hold few numbers, so that most columns are put off for long: dense, CSR, loss, outputs.

    A row and a column hold nothing, a zero is stored, and where there are weights one is 0.
    """
    data, loss, k = dataset(shape, dtype=dtype, weighted=weighted, num_columns=num_columns)
    X = data.X.copy()
    X[np.random.default_rng(9).random(X.shape) < 0.85] = 0.0
    X[3], X[:, 2] = 0.0, 0.0
    X[7, 1] = 1.0
    sparse = csr_array(X)
    sparse.data[sparse.indptr[7] + int(np.searchsorted(sparse[[7]].indices, 1))] = 0.0
    X[7, 1] = 0.0
    assert (sparse.data == 0.0).sum() == 1
    if weighted:
        data.weights[11] = 0.0
    return Dataset(X, data.y, data.weights), Dataset(sparse, data.y, data.weights), loss, k


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("shape", EVERY)
def test_sgd_takes_the_dense_steps(shape, penalty, dtype):
    """Every loss at B = 1, 7 and n, averaged or not, any schedule, weights and reduction: the same state."""
    alpha, l1 = PENALTIES[penalty]
    schedules = itertools.cycle(SCHEDULES)
    for i, (batch_size, average_every) in enumerate(itertools.product((1, 7, 37), (0, 1, 3))):
        dense, sparse, loss, k = rare(shape, dtype, weighted=i % 2 == 0)
        visits = np.random.default_rng(5).uniform(0.3, 1.0, size=37) if i % 4 == 0 else None
        sum_rows = i % 5 == 4
        how = rule(
            "sgd",
            0.03 / (batch_size if sum_rows else 1),
            next(schedules),
            sum_rows=sum_rows,
            num_steps=3 * -(-37 // batch_size),
            fit_intercept=i % 3 != 2,
        )
        states = [start(dense, k, spread=0.3), start(dense, k, spread=0.3)]
        for data, state in zip((dense, sparse), states, strict=True):
            engine = make_engine(data, loss, Penalty(alpha, l1), weights=visits, average_every=average_every)
            for epoch in (1, 2, 3):
                rows = np.append(order(0, epoch, 37), [3, 8, 8])
                for part in (rows[: 2 * batch_size], rows[2 * batch_size :]):
                    engine.run(state, how, part, batch_size)
        assert_same(*states, dtype)
        if l1 and dtype == np.float64:
            zeros = [state.parameters == 0.0 for state in states]
            np.testing.assert_array_equal(*zeros)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("l1", [0.0, 0.02])
@pytest.mark.parametrize(
    ("rate", "alpha"), [(1.0, 1.0), (0.5, 2.0), (1.0, 1.5), (1e-3, 1e3), (0.5, 4.0), (0.5, 7.0)]
)
@pytest.mark.parametrize("shape", ["log_loss", "softmax"])
def test_steps_that_l2_makes_overshoot_are_the_dense_ones(shape, rate, alpha, l1, narrow):
    """Where rate · alpha ≥ 1, weights are wiped out, change sign or grow at every step: as on dense rows."""
    for batch_size, dtype in itertools.product((1, 5), (np.float32, np.float64)):
        dense, sparse, loss, k = rare(shape, dtype, num_columns=3 if narrow else 23)
        states = [start(dense, k), start(dense, k)]
        for data, state in zip((dense, sparse), states, strict=True):
            engine = make_engine(data, loss, Penalty(alpha, l1), average_every=2)
            for epoch in (1, 2, 3) if rate * alpha <= 2.0 else (1,):  # beyond, weights grow without end
                engine.run(state, rule("sgd", rate), order(0, epoch, 37), batch_size)
        assert np.isfinite(states[0].parameters).all()
        assert_same(*states, dtype)


@pytest.mark.parametrize("l1", [0.0, 1e-6])
@pytest.mark.parametrize("shape", ["log_loss", "softmax"])
def test_the_common_factor_neither_runs_out_nor_over(shape, l1):
    """Over 100,000 steps it would fall to e^-1000, or grow to 2.6^100,000 where every row is empty: dense weights."""
    dense, _, loss, k = rare(shape, np.float32)
    empty = np.zeros_like(dense.X)
    rows = np.tile(order(0, 1, 37), 2800)
    for batch_size, average_every in ((1, 0), (5, 16)):
        for X, rate, alpha in ((dense.X, 0.1, 0.1), (empty, 1e-3, 3.6e3)):
            states = [start(dense, k), start(dense, k)]
            for at, state in zip((X, csr_array(X)), states, strict=True):
                state.parameters *= X.any()
                engine = make_engine(
                    Dataset(at, dense.y), loss, Penalty(alpha, l1), average_every=average_every
                )
                # Free intercepts of softmax wander together, by rounding alone.
                engine.run(state, rule("sgd", rate, fit_intercept=False), rows, batch_size)
            assert_same(*states, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("shape", SMOOTH)
def test_saga_takes_the_dense_steps(shape, penalty, dtype):
    """Filling and variance-reduced epochs, cut anywhere, rows visited twice or without weight: the same state."""
    alpha, l1 = PENALTIES[penalty]
    # Most of Huber's rows are on its straight part here, so that its rate is six times that of the others.
    alpha = min(alpha, 4.6 if shape.startswith("huber") else 15.0)
    visits = np.random.default_rng(5).uniform(0.3, 1.0, size=37)
    for batch_size, weighted in itertools.product((1, 7, 37), (False, True)):
        dense, sparse, loss, k = rare(shape, dtype, weighted)
        states = [start(dense, k, spread=0.3), start(dense, k, spread=0.3)]
        for data, state in zip((dense, sparse), states, strict=True):
            engine = make_engine(data, loss, Penalty(alpha, l1), weights=visits)
            for epoch in range(1, 6):
                how = rule(
                    "saga",
                    filling=epoch == 1,
                    num_steps=-(-40 // batch_size),
                    full_term=1.0,
                    single_term=4.0,
                    fit_intercept=weighted,
                )
                rows = np.append(order(0, epoch, 37), [3, 8, 8])
                for part in (rows[: 2 * batch_size], rows[2 * batch_size :]):
                    engine.run(state, how, part, batch_size)
        assert_same(*states, dtype)
        assert states[0].share == pytest.approx(states[1].share, rel=1e-4 if dtype == np.float32 else 1e-9)
        if l1 and dtype == np.float64:
            np.testing.assert_array_equal(states[0].parameters == 0.0, states[1].parameters == 0.0)


@kernel
def put_off(weight, g, l1, course, num, paid):
    return moved(weight, g, l1, course, num, paid)


def test_a_weight_that_is_put_off_goes_where_single_steps_take_it():
    """From either side of zero or from it, along any gradient, over steps of any length: the steps' own end."""
    rng = np.random.default_rng(0)
    ends = set()
    for _ in range(3000):
        num = int(rng.integers(0, 12))
        course = np.concatenate([[0.0], np.cumsum(rng.uniform(0.0, 0.4, size=num + 2))])
        weight = float(rng.choice([0.0, rng.normal()]))
        g, l1 = float(rng.choice([0.0, rng.normal()])), float(rng.uniform(0.0, 1.0))
        first = int(rng.integers(0, num + 1))
        at = weight
        for s in range(first, num):
            at = shrunk(at - (course[s + 1] - course[s]) * g, (course[s + 1] - course[s]) * l1)
        got = put_off(weight, g, l1, course, num, course[first])
        assert got == pytest.approx(at, abs=1e-13)
        ends.add((np.sign(weight), np.sign(at)))
    assert len(ends) == 9


@kernel
def last_there(course, num, column, bound):
    return last_before(course, num, column, bound)


def test_the_last_line_below_a_bound_is_found():
    """Bisection agrees with counting, ties and empty courses included."""
    course = np.array([[0.0], [0.5], [0.5], [2.0]])
    for num, bound in itertools.product(range(5), (-1.0, 0.0, 0.1, 0.5, 0.6, 2.0, 3.0)):
        assert last_there(course, num, 0, bound) == int((course[:num, 0] < bound).sum()) - 1
