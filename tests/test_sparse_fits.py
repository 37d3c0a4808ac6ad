"""Sparse rows end to end: the optimum of dense rows, scikit-learn's checks, the command line."""

import json
import sys
from itertools import product

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_array, csr_matrix
from sklearn.datasets import dump_svmlight_file
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

import descend
from descend import LinearClassifier, LinearRegressor
from descend.cli import main
from descend.errors import InputError


def rows(n=600, d=40, seed=0, classes=2, spread=10.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(1.0, 1.0, size=(n, d)) * (rng.random((n, d)) < 0.2) * np.geomspace(1 / spread, spread, d)
    scores = X @ (rng.normal(size=(d, classes)) / np.geomspace(1 / spread, spread, d)[:, None])
    return X, (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [*product(["auto", 1, 32, "full"], ["auto", "saga"]), ("auto", "lbfgs"), ("full", "lbfgs")],
)
def test_the_optimum_is_scikit_learns(batch_size, classes, optimizer):
    """Left to itself a fit on sparse rows ends certified, within 1e-3 of the gain from the optimum."""
    # SAGA by name has steps on batches alone: no matrix evens out columns of different scale on sparse rows.
    X, y = rows(classes=classes, spread=1.5 if optimizer == "saga" else 10.0)
    alpha = 1e-3
    model = LinearClassifier(
        alpha=alpha, standardize=False, batch_size=batch_size, optimizer=optimizer, random_state=0
    ).fit(csr_matrix(X), y)
    assert model.history_.stopped == "converged"
    best = LogisticRegression(C=1 / (len(y) * alpha), tol=1e-10, max_iter=10_000).fit(X, y)

    def objective(m):
        p = m.predict_proba(X)[np.arange(len(y)), y]
        return -np.log(p).mean() + 0.5 * alpha * (m.coef_**2).sum()

    gained = np.log(classes) - objective(best)
    assert objective(model) - objective(best) < 1e-3 * gained


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_small_least_squares_is_ridge_to_many_digits(fit_intercept):
    """Up to 256 rows the optimum is solved for: coefficients equal scikit-learn's."""
    X, _ = rows(n=200, d=10)
    y = X @ np.arange(10.0) + 5.0 * fit_intercept + np.random.default_rng(1).normal(size=200)
    model = LinearRegressor(alpha=0.01, standardize=False, fit_intercept=fit_intercept).fit(csr_array(X), y)
    ridge = Ridge(alpha=0.01 * 200, fit_intercept=fit_intercept, tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.coef_, ridge.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, ridge.intercept_, rtol=1e-6)


def test_standardised_sparse_rows_have_the_optimum_of_standardised_dense_rows():
    """The shift of the columns goes into the intercept, so leaving it out changes no weight."""
    X, y = rows(n=250, d=6)
    dense, sparse = LinearClassifier(alpha=0.01).fit(X, y), LinearClassifier(alpha=0.01).fit(csr_array(X), y)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-5)
    np.testing.assert_allclose(sparse.intercept_, dense.intercept_, rtol=1e-5)
    np.testing.assert_allclose(sparse.predict_proba(X), sparse.predict_proba(csr_array(X)), rtol=1e-12)


@pytest.mark.parametrize("penalty", ["l2", "elasticnet"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "saga"])
@pytest.mark.parametrize("batch_size", [1, 32, "full"])
def test_named_optimizers_take_the_same_path_on_dense_and_sparse_rows(batch_size, optimizer, penalty):
    """The whole way from array to coefficients: same order of rows, rate, average and stop."""
    if optimizer == "saga" and penalty == "l2":
        pytest.skip("dense rows have a matrix that evens out their columns, sparse ones have not")
    X, y = rows()
    how = {"penalty": penalty, "average": optimizer == "sgd", "alpha": 1e-3, "standardize": False}
    dense, sparse = (
        LinearClassifier(optimizer=optimizer, batch_size=batch_size, epochs=4, random_state=3, **how).fit(
            data, y
        )
        for data in (X, csc_matrix(X))
    )
    np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-6, atol=1e-9)
    assert sparse.history_["rows"][-1] == dense.history_["rows"][-1]


@pytest.mark.parametrize("optimizer", ["auto", "saga"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_l1_has_scikit_learns_support(batch_size, classes, optimizer):
    """On sparse rows L1 ends at the weights of scikit-learn's saga, with the same zeros.

    Classes are odd in number: softmax takes any number added to a column's weights, and L1 their median, whatever
    lies between the two in the middle.
    """
    X, y = rows(n=400, classes=classes, spread=1.5)
    how = {"penalty": "l1", "alpha": 0.01, "standardize": False, "tol": 1e-10, "random_state": 0}
    model = LinearClassifier(batch_size=batch_size, optimizer=optimizer, **how).fit(csr_array(X), y)
    # Nothing asked for goes from one epoch of single rows straight to the finish.
    assert "saga" in model.model_.summary["optimizer"] or batch_size == optimizer == "auto"
    best = LogisticRegression(
        l1_ratio=1.0, C=1 / (len(y) * 0.01), solver="saga", tol=1e-10, max_iter=50_000
    ).fit(X, y)
    np.testing.assert_allclose(model.coef_, best.coef_, atol=1e-4)
    np.testing.assert_array_equal(model.coef_ == 0.0, best.coef_ == 0.0)
    assert 0 < (best.coef_ == 0.0).mean() < 1


def test_elastic_net_of_sparse_rows_is_scikit_learns():
    """Squared error with both penalties: the weights and zeros of ElasticNet."""
    X, _ = rows(n=400, spread=1.5)
    y = X @ np.where(np.arange(40) % 4 == 0, 1.0, 0.0) + np.random.default_rng(1).normal(size=400)
    how = {"penalty": "elasticnet", "l1_ratio": 0.5, "alpha": 0.1, "standardize": False}
    model = LinearRegressor(tol=1e-10, random_state=0, **how).fit(csr_array(X), y)
    best = ElasticNet(alpha=0.1, l1_ratio=0.5, tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.coef_, best.coef_, atol=1e-4)
    np.testing.assert_array_equal(model.coef_ == 0.0, best.coef_ == 0.0)
    assert (best.coef_ == 0.0).any()


def test_threads_change_nothing():
    """One, two and three threads give the same bits."""
    X, y = rows(n=30_000, d=60)
    X = csr_array(X.astype(np.float32))
    fits = [
        LinearClassifier(batch_size="full", optimizer="nesterov", epochs=5, n_jobs=j, random_state=0).fit(
            X, y
        )
        for j in (1, 2, 3)
    ]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.coef_, fits[0].coef_)


def test_both_widths_of_indices_give_the_same_model():
    """64-bit indices are taken as they are."""
    X, y = rows()
    narrow, wide = csr_matrix(X), csr_matrix(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    fits = [LinearClassifier(random_state=0).fit(data, y) for data in (narrow, wide)]
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)


def test_wide_rows_are_refused_by_newton_alone():
    """Newton would need a matrix as wide as the data, squared; everything else takes wide rows."""
    rng = np.random.default_rng(0)
    X = csr_array(
        (
            np.ones(4000),
            np.sort(rng.integers(30_000, size=(400, 10)), axis=1).ravel(),
            np.arange(0, 4001, 10),
        ),
        shape=(400, 30_000),
    )
    y = rng.integers(2, size=400)
    assert LinearClassifier(alpha=0.1).fit(X, y).history_.stopped == "converged"
    with pytest.raises(InputError, match="newton"):
        LinearClassifier(optimizer="newton").fit(X, y)


def test_a_model_of_sparse_rows_is_saved_and_loaded(tmp_path):
    """Equal predictions, and no complaint about names of columns."""
    X, y = rows(classes=3)
    model = LinearClassifier(random_state=0).fit(csr_array(X), y)
    loaded = descend.load(model.save(tmp_path / "m.descend"))
    np.testing.assert_array_equal(loaded.predict_proba(csr_array(X)), model.predict_proba(csr_array(X)))


def run(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["descend", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code


@pytest.fixture
def files(tmp_path):
    X, y = rows(classes=3)
    X[:, -1] = 0.0
    X[0, -1] = 1.0
    for name, part in (("train", slice(0, 400)), ("test", slice(400, 600))):
        dump_svmlight_file(X[part], y[part], str(tmp_path / f"{name}.svm"), zero_based=False)
    return tmp_path, X, y


@pytest.mark.parametrize("validation", ["0.1", "test"])
def test_the_command_line_trains_and_predicts_from_svmlight(files, capsys, validation):
    """fit, evaluate and predict; rows that lack the last columns take the model's width."""
    folder, X, y = files
    model = folder / "m.descend"
    if validation == "test":
        validation = folder / "test.svm"
    assert not run(
        "fit", folder / "train.svm", "--output", model, "--validation", validation, "--no-report", "--quiet"
    )
    capsys.readouterr()
    assert not run("predict", model, folder / "test.svm", "--json")
    found = json.loads(capsys.readouterr().out)
    loaded = descend.load(model)
    assert found["predictions"] == loaded.predict(csr_array(X[400:])).tolist()
    assert not run("evaluate", model, folder / "test.svm", "--json")
    figures = json.loads(capsys.readouterr().out)
    assert (figures.get("metrics") or figures)["accuracy"] == pytest.approx(loaded.score(X[400:], y[400:]))


def test_the_command_line_compares_on_svmlight(files, capsys):
    """The three kinds run side by side on sparse rows."""
    folder, _, _ = files
    assert not run(
        "compare",
        folder / "train.svm",
        "--epochs",
        "2",
        "--json",
        "--no-report",
        "--quiet",
        "--output",
        folder / "run.json",
    )
    assert json.loads(capsys.readouterr().out)
