"""Squared error that is solved from its products: the answer, what is told of it, and where it has to be trained."""

import numpy as np
import pytest

from descend import LinearRegressor


def table(num_rows=3000, num_columns=6, seed=0, noise=1.0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(num_rows, num_columns)) * 10.0 ** random.integers(-3, 4, num_columns)
    return X, X @ (1.0 / X.std(axis=0)) + noise * random.normal(size=num_rows) + 100.0


def lowest(X, y, alpha, fit_intercept=True):
    """Weights and intercept of mean squared error + alpha · ½|w|² over standardised columns, by NumPy."""
    mean = X.mean(axis=0) if fit_intercept else np.zeros(X.shape[1])
    scale = X.std(axis=0)
    Z, goal = (X - mean) / scale, y - (y.mean() if fit_intercept else 0.0)
    w = np.linalg.solve(Z.T @ Z / len(X) + alpha * np.eye(len(scale)), Z.T @ goal / len(X)) / scale
    return w, (y.mean() - w @ mean) if fit_intercept else 0.0


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("num_rows", [5, 200, 3000])
@pytest.mark.parametrize("order", ["C", "F"])
def test_it_is_the_solution_of_the_normal_equations(order, num_rows, fit_intercept):
    """To the last digits, whatever the rows and however they lie, in one step."""
    X, y = table(num_rows)
    model = LinearRegressor(alpha=1e-2, fit_intercept=fit_intercept).fit(np.asarray(X, order=order), y)
    w, b = lowest(X, y, 1e-2, fit_intercept)
    np.testing.assert_allclose(model.coef_, w, rtol=1e-9, atol=1e-12 * np.abs(w).max())
    assert model.intercept_ == pytest.approx(b, rel=1e-9, abs=1e-9)
    assert model.history_["updates"] == [0, 1]
    assert model.history_.rule == "certified"


def test_several_targets_are_solved_together():
    """Each has the weights that it has alone, where their scale is the same."""
    X, y = table()
    model = LinearRegressor(alpha=1e-2).fit(X, np.column_stack([y, -y]))
    np.testing.assert_allclose(model.coef_[0], LinearRegressor(alpha=1e-2).fit(X, y).coef_, rtol=1e-9)
    np.testing.assert_allclose(model.coef_[1], -model.coef_[0], rtol=1e-9)


def test_the_loss_told_is_that_of_the_model():
    """First of the best constant, last of the model, penalty and all, in the target's units."""
    X, y = table()
    model = LinearRegressor(alpha=1e-2).fit(X, y)
    first, last = model.history_["loss"]
    penalty = 0.5e-2 * np.sum(np.square(model.standardized_coef_))
    assert first == pytest.approx(0.5 * np.var(y))
    assert last == pytest.approx(0.5 * np.mean(np.square(model.predict(X) - y)) + penalty)


def test_callbacks_hear_of_the_beginning_and_of_the_end():
    """And one that asks for the end is not asked again; the model is the same."""
    X, y = table()
    seen, asked = [], []
    told = LinearRegressor(callbacks=[lambda o: seen.append((o.rows, o.updates))]).fit(X, y)
    ended = LinearRegressor(callbacks=[lambda o: asked.append(o.rows) or True]).fit(X, y)
    assert seen == [(0, 0), (3000, 1)]
    assert asked == [0]
    assert ended.history_.stopped_by_callback
    np.testing.assert_array_equal(told.coef_, ended.coef_)


@pytest.mark.parametrize("settings", [{"penalty": None}, {"alpha": 1e-14}])
def test_without_a_bound_it_is_trained(settings):
    """Next to no penalty bounds nothing, and the run ends where NumPy's solution is all the same."""
    X, y = table()
    model = LinearRegressor(**settings).fit(X, y)
    w, _ = lowest(X, y, 0.0)
    np.testing.assert_allclose(model.coef_, w, rtol=1e-3)
    assert model.history_.stopped == "converged"


def test_rounding_that_hides_what_is_left_leads_to_the_rows():
    """Columns that tell all of the target in float32 leave a loss that sums of products cannot tell."""
    X, y = table(noise=1e-6)
    model = LinearRegressor(alpha=1e-9).fit(X.astype(np.float32), y.astype(np.float32))
    assert model.history_.stopped == "converged"
    assert model.history_["updates"][-1] > 1 or model.history_.gap_bound < 1e-3 * np.var(y)
    assert model.score(X, y) > 0.999999


def test_weights_and_rows_held_out_are_trained():
    """Neither has products of its rows; both end near the solution."""
    X, y = table()
    weighted = LinearRegressor(alpha=1e-2).fit(X, y, np.full(len(y), 2.0))
    held_out = LinearRegressor(alpha=1e-2, early_stopping=True, random_state=0).fit(X, y)
    np.testing.assert_allclose(
        weighted.predict(X), LinearRegressor(alpha=1e-2).fit(X, y).predict(X), rtol=1e-2
    )
    assert held_out.history_["validation_loss"][-1] is not None
