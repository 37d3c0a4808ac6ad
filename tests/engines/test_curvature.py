"""Curvature against NumPy's eigenvalues, and what splitting heavy rows may and may not change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import dataset

from descend.engines.curvature import HEAVY, measure_curvature, split_heavy_rows
from descend.learning_rate import automatic_rate
from descend.objectives.losses import LOSSES
from descend.types import Dataset
from descend.updates import OPTIMIZERS

NORMS = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=200).map(np.array)
HEAVY_TAILED = st.integers(0, 1000).map(lambda s: np.random.default_rng(s).pareto(1.1, size=500) + 1.0)


def gram(data):
    extended = np.hstack([data.X.astype(np.float64), np.ones((data.num_rows, 1))])
    weights = np.ones(data.num_rows) if data.weights is None else data.weights
    return (extended * weights[:, None]).T @ extended / data.num_rows


@pytest.mark.parametrize("shape", ["log_loss", "softmax", "squared_error"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_curvature_is_the_largest_eigenvalue(shape, dtype, weighted):
    """L is the loss's curvature times NumPy's largest eigenvalue, to 1 % and never above; with its vector."""
    data, loss, _ = dataset(shape, num_rows=300, num_columns=12, dtype=dtype, weighted=weighted)
    data.X[:, 4] *= 3
    found = measure_curvature(data, loss, seed=0)
    values, vectors = np.linalg.eigh(gram(data))
    exact = loss.curvature * values[-1]
    assert 0.99 * exact <= found.mean <= exact * (1 + 1e-5)
    assert abs(found.direction @ vectors[:, -1]) > 0.98
    assert np.linalg.norm(found.direction) == pytest.approx(1, rel=1e-5)
    assert found.steepest_column[0] == 4


def test_curvature_is_found_without_a_dominant_column():
    """Where no direction stands out, what is found is within 5 % of the largest eigenvalue all the same."""
    for seed in range(5):
        data, loss, _ = dataset("squared_error", num_rows=400, num_columns=60, seed=seed)
        exact = np.linalg.eigvalsh(gram(data))[-1]
        assert 0.95 * exact <= measure_curvature(data, loss, seed=0).mean <= exact * (1 + 1e-9)


def test_the_intercept_may_be_the_steepest_column():
    """Where all columns are small the intercept, column d, bends the objective most."""
    data, loss, _ = dataset("squared_error")
    small = Dataset(data.X * 1e-3, data.y)
    column, share = measure_curvature(small, loss, seed=0).steepest_column
    assert column == data.num_columns
    assert share > 0.99
    assert measure_curvature(small, loss, seed=0).mean == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_row_curvature_is_that_of_the_heaviest_visit(weighted):
    """L_max is curvature · max weight · (|x|² + 1) over the visits, splitting counted."""
    data, loss, _ = dataset("log_loss", num_rows=200, weighted=weighted)
    data.X[7] *= 15
    found = measure_curvature(data, loss, seed=0)
    norms = (data.X**2).sum(axis=1) + 1
    if weighted:
        norms *= data.weights
    assert found.visits.weights is not None
    expected = 0.25 * (norms * found.visits.weights).max()
    assert found.row == pytest.approx(expected, rel=1e-12)
    assert found.row < 0.25 * norms.max() / 2


def test_without_splitting_rows_are_left_whole():
    """``split=False`` visits every row once."""
    data, loss, _ = dataset("log_loss")
    data.X[7] *= 15
    found = measure_curvature(data, loss, seed=0, split=False)
    assert found.visits.rows is None
    assert found.visits.num_visits == data.num_rows


@given(NORMS | HEAVY_TAILED, st.integers(0, 100))
def test_splitting_leaves_the_expected_objective_as_it_is(norms, seed):
    """For every row, weight × visits is N / n: the mean over an epoch's visits is the mean over the rows."""
    visits = split_heavy_rows(norms, seed)
    n, total = len(norms), visits.num_visits
    if visits.rows is None:
        assert norms.max() <= HEAVY * norms.mean() * (1 + 1e-12)
        return
    copies = np.bincount(visits.rows, minlength=n)
    assert copies.min() >= 1
    np.testing.assert_allclose(copies * visits.weights, total / n, rtol=1e-14)
    assert total == copies.sum()


@given(NORMS | HEAVY_TAILED, st.integers(0, 100))
def test_splitting_bounds_the_heaviest_visit_and_the_epoch(norms, seed):
    """No visit weighs more than three times the mean, and an epoch grows by half at the most."""
    visits = split_heavy_rows(norms, seed)
    heaviest = norms if visits.weights is None else norms * visits.weights
    assert heaviest.max() <= 3 * norms.mean() * (1 + 1e-12)
    assert visits.num_visits <= 1.5 * len(norms)


@given(HEAVY_TAILED, st.integers(0, 100))
def test_light_rows_come_once(norms, seed):
    """Rows up to twice the mean are visited once."""
    visits = split_heavy_rows(norms, seed)
    if visits.rows is not None:
        light = norms <= HEAVY * norms.mean()
        assert (np.bincount(visits.rows, minlength=len(norms))[light] == 1).all()


def test_visits_follow_the_rows_places_and_the_seed():
    """The first visits lie in the rows' own order; another seed puts the extra ones elsewhere, the same does not."""
    norms = np.random.default_rng(0).pareto(1.1, size=500) + 1.0
    one, same, other = (split_heavy_rows(norms, seed).rows for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    np.testing.assert_array_equal(np.sort(one), np.sort(other))
    firsts = one[np.sort(np.unique(one, return_index=True)[1])]
    in_place = np.isin(np.arange(500), firsts)
    assert in_place.all()
    light = norms <= HEAVY * norms.mean()
    lying = one[light[one]]
    np.testing.assert_array_equal(lying, np.flatnonzero(light))


def test_zero_curvature_is_told_as_zero():
    """Rows of weight zero bend nothing: L is 0 and no direction is NaN."""
    data = Dataset(np.ones((5, 2)), np.zeros((5, 1)), np.zeros(5))
    found = measure_curvature(data, LOSSES["squared_error"], seed=0, split=False)
    assert found.mean == 0.0
    assert np.isfinite(found.direction).all()


@pytest.mark.parametrize("batch_size", [1, 4, 16, 64])
def test_steps_at_the_automatic_rate_do_not_overshoot(batch_size):
    """On noiseless least squares every epoch at the automatic rate comes nearer to the solution."""
    from descend.batches import shuffle
    from descend.engines.base import Rule, State
    from descend.engines.linear import LinearEngine
    from descend.objectives.penalties import Penalty

    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 6)) * rng.pareto(1.5, size=(64, 1))
    solution = rng.normal(size=6)
    data = Dataset(X, (X @ solution)[:, None])
    found = measure_curvature(data, LOSSES["squared_error"], seed=0, split=batch_size < 64)
    rate = automatic_rate(OPTIMIZERS["sgd"], batch_size, found.visits.num_visits, found.mean, found.row)
    engine = LinearEngine(data, LOSSES["squared_error"], Penalty(0.0), weights=found.visits.weights)
    state = State(np.zeros((1, 7)))
    distances = [np.linalg.norm(solution)]
    for epoch in range(1, 31):
        rows = None if batch_size == 64 else shuffle(found.visits, 0, epoch)
        engine.run(state, Rule(OPTIMIZERS["sgd"], rate.value), rows, batch_size)
        distances.append(np.linalg.norm(state.parameters[0] - np.append(solution, 0.0)))
    assert (np.diff(distances) < 0).all()
    assert distances[-1] < 0.8 * distances[0]
