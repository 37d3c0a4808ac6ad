"""Default linear fits that leave the caller's rows where they are, and certificates told without reading them."""

import warnings

import numpy as np
import pytest

from descend import LinearClassifier, LinearRegressor
from descend.engines.full_batch import FullBatch

SETTINGS = {"random_state": 0, "alpha": 1e-3}


def numbers(num_rows=6000, num_columns=6, dtype=np.float32, noise=1.0, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(num_rows, num_columns)) * 10.0 ** np.arange(num_columns) + 5.0
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    return X.astype(dtype), Z @ np.arange(1.0, num_columns + 1) + noise * random.normal(size=num_rows) + 100.0


def ridge(X, y, alpha):
    """Weights of standardised columns at the optimum of half the mean square + alpha · half the squared weights."""
    Z = (X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)
    return np.linalg.solve(Z.T @ Z / len(y) + alpha * np.eye(Z.shape[1]), Z.T @ (y - y.mean()) / len(y))


def count_passes(monkeypatch):
    """The numbers of rows read for the objective, pass after pass; the two that kernels are tried on apart."""
    passes = []
    read = FullBatch._read_objective

    def counted(self, own):
        if self.num_rows > 2:
            passes.append(self.num_rows)
        return read(self, own)

    monkeypatch.setattr(FullBatch, "_read_objective", counted)
    return passes


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_least_squares_ends_at_the_optimum_without_another_pass(dtype, near, order, monkeypatch):
    """Rows in either order are read once, for their covariance, and the weights are those of the normal equations."""
    passes = count_passes(monkeypatch)
    X, y = numbers(dtype=dtype, noise=5.0)
    model = LinearRegressor(**SETTINGS).fit(np.asarray(X, order=order), y)
    np.testing.assert_allclose(model.standardized_coef_, ridge(X, y, 1e-3), atol=near * 10)
    assert passes == []
    assert model.history_.rule == "certified"
    assert model.history_.gap_bound < 1e-3


@pytest.mark.parametrize(
    ("what", "settings"), [("nothing is left over", {"noise": 1e-5}), ("no penalty", {}), ("a tiny tol", {})]
)
def test_rows_are_read_where_rounding_could_hide_something(what, settings, monkeypatch):
    """A loss that sums of float32 do not tell, and a bound that they do not give, are told by the rows."""
    passes = count_passes(monkeypatch)
    X, y = numbers(**settings)
    changed = {"no penalty": {"alpha": 0.0}, "a tiny tol": {"tol": 1e-9}}.get(what, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LinearRegressor(**(SETTINGS | changed)).fit(X, y)
    assert passes
    wanted = ridge(X, y, changed.get("alpha", 1e-3))
    np.testing.assert_allclose(model.standardized_coef_, wanted, rtol=1e-3, atol=1e-4)


def test_the_loss_told_is_that_of_the_rows():
    """The last loss of the history is what its weights come to on the rows, penalty included, to 1e-4."""
    X, y = numbers()
    model = LinearRegressor(**SETTINGS).fit(X, y)
    weights = model.standardized_coef_ / y.std()
    value = 0.5 * np.mean((model.predict(X) - y) ** 2) + y.var() * 0.5e-3 * np.sum(weights**2)
    assert model.history_.last["loss"] == pytest.approx(value, rel=1e-4)


def classes(num_rows=20_000, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(num_rows, 5)).astype(np.float32) + 3.0
    y = (X @ [1.0, -1.0, 0.5, 0.0, 0.0] + random.logistic(size=num_rows) > 1.5).astype(int)
    return X, y


@pytest.mark.parametrize("num_rows", [9000, 13_000])
def test_the_order_of_rows_does_not_matter(num_rows):
    """Rows sorted by label, or by a column, end where shuffled ones do: the sample comes from everywhere."""
    X, y = classes(num_rows)
    mixed = LinearClassifier(**SETTINGS).fit(X, y)
    for by in (y, X[:, 0]):
        rows = np.argsort(by, kind="stable")
        model = LinearClassifier(**SETTINGS).fit(X[rows], y[rows])
        assert model.history_.rule == "certified"
        assert model.history_.last["epoch"] < 12
        np.testing.assert_allclose(model.coef_, mixed.coef_, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("order", ["C", "F"])
def test_columns_that_lie_apart_make_no_difference(order):
    """An array that lies a column after the other is trained on as one that lies row by row."""
    X, y = classes()
    one = LinearClassifier(**SETTINGS).fit(X, y)
    other = LinearClassifier(**SETTINGS).fit(np.asarray(X, order=order), y)
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-4, atol=1e-5)


def test_rows_that_cannot_be_written_are_read():
    """An array without leave to write is trained on like any other, and the caller's stays as it was."""
    for fit, (X, y) in ((LinearRegressor, numbers()), (LinearClassifier, classes())):
        before = X.copy()
        X.flags.writeable = False
        one, other = fit(**SETTINGS).fit(X, y), fit(**SETTINGS).fit(before, y)
        np.testing.assert_array_equal(one.coef_, other.coef_)
        np.testing.assert_array_equal(X, before)


def test_weights_classes_and_rare_ones_go_as_before():
    """Weights, class weights, a class too rare for a sample, and three classes end certified."""
    X, y = classes()
    rare = np.where(np.arange(len(y)) % 900 == 0, 1 - y, 0)
    several = y + (X[:, 4] > 4.0)
    for labels, more in ((y, {"class_weight": {1: 5.0}}), (rare, {}), (several, {})):
        model = LinearClassifier(**SETTINGS, **more).fit(X, labels)
        assert model.history_.rule == "certified"
    weights = np.linspace(0.1, 2.0, len(y))
    model = LinearClassifier(**SETTINGS).fit(X, y, sample_weight=weights)
    twice = LinearClassifier(**SETTINGS).fit(X, y, sample_weight=2.0 * weights)
    np.testing.assert_allclose(model.coef_, twice.coef_, rtol=1e-5)
    assert model.history_.rule == "certified"


def test_infinite_and_missing_numbers_are_refused_by_name():
    """A glance at all numbers finds the one that is none, in float32 and where squares overflow."""
    X, y = numbers()
    for bad in (np.nan, np.inf):
        wrong = X.copy()
        wrong[77, 2] = bad
        with pytest.raises(ValueError, match=r"row 77 of column number 2"):
            LinearRegressor().fit(wrong, y)
    large = X.copy()
    large[:, 0] *= 1e25  # squares are beyond float32, the numbers are not
    model = LinearRegressor(**SETTINGS).fit(large, y)
    np.testing.assert_allclose(model.standardized_coef_, ridge(X, y, 1e-3), rtol=1e-4, atol=1e-4)
