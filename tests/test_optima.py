"""What training with nothing set ends at, for each loss and penalty, against other people's solvers."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, PoissonRegressor, QuantileRegressor
from sklearn.svm import SVC, SVR

from descend import LinearClassifier, LinearRegressor
from descend.objectives.losses import LOSSES, row_losses

N, D = 200, 5
TIGHT = {"tol": 1e-10, "random_state": 0}
CORNERS = {"tol": 1e-6, "random_state": 0}
"""With corners the last width that they are rounded over bounds what can be certified."""


def table(seed=0):
    """Standardised columns, and scores that depend on half of them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, D)) @ (np.eye(D) + 0.3)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return X, X @ [1.0, -2.0, 0.5, 0.0, 0.0] + rng.normal(size=N), rng


X, SCORE, RNG = table()
SIDES = (SCORE > 0.3).astype(int)
NUMBERS = 40.0 * SCORE + 300.0
COUNTS = np.random.default_rng(1).poisson(np.exp(0.3 * SCORE + 1.0)).astype(float)
THREE = np.digitize(SCORE, [-1.0, 1.0])


def by_scipy(name, y, alpha, setting=0.0, outputs=1):
    """Weights (k, d) and intercepts of the plain objective in the target's own units."""
    code = LOSSES[name].code

    def objective(flat):
        p = flat.reshape(outputs, D + 1)
        scores = X @ p[:, :-1].T + p[:, -1]
        return row_losses(code, scores, y[:, None], (setting, 0.0)).mean() + 0.5 * alpha * np.sum(
            p[:, :-1] ** 2
        )

    at = np.zeros(outputs * (D + 1))
    at[D :: D + 1] = y.mean() if LOSSES[name].task == "regression" else 0.0
    for _ in range(3):
        at = minimize(objective, at, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}).x
    p = at.reshape(outputs, D + 1)
    return p[:, :-1], p[:, -1]


def assert_optimum(model, weights, intercept, scale=1.0):
    np.testing.assert_allclose(np.ravel(model.coef_) / scale, np.ravel(weights) / scale, atol=1e-4)
    np.testing.assert_allclose(np.ravel(model.intercept_) / scale, np.ravel(intercept) / scale, atol=1e-4)


@pytest.mark.parametrize("batch_size", ["auto", 1, 7, "full"])
@pytest.mark.parametrize("loss", ["squared_hinge", "modified_huber"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_smooth_margins(loss, outputs, batch_size):
    """Squared hinge and modified Huber end at SciPy's optimum, with three classes each against the rest."""
    y = SIDES if outputs == 1 else THREE
    model = LinearClassifier(loss=loss, alpha=0.02, batch_size=batch_size, **TIGHT).fit(X, y)
    assert_optimum(model, *by_scipy(loss, y.astype(float), 0.02, outputs=outputs))
    assert model.history_.stopped == "converged"


@pytest.mark.parametrize("batch_size", ["auto", 7])
def test_huber_takes_epsilon_in_the_targets_units(batch_size):
    """Huber's epsilon counts in units of y, whatever the target is scaled by inside."""
    model = LinearRegressor(loss="huber", epsilon=25.0, alpha=0.02, batch_size=batch_size, **TIGHT).fit(
        X, NUMBERS
    )
    assert_optimum(model, *by_scipy("huber", NUMBERS, 0.02, 25.0), scale=40.0)


@pytest.mark.parametrize("alpha", [0.001, 0.1])
def test_hinge_is_the_support_vector_machine(alpha):
    """Hinge with L2 ends at libsvm's separating plane."""
    model = LinearClassifier(loss="hinge", alpha=alpha, **CORNERS).fit(X, SIDES)
    oracle = SVC(kernel="linear", C=1.0 / (N * alpha), tol=1e-9).fit(X, SIDES)
    np.testing.assert_allclose(model.coef_, oracle.coef_, atol=3e-4)
    np.testing.assert_allclose(model.intercept_, oracle.intercept_, atol=3e-3)
    assert (model.predict(X) == oracle.predict(X)).mean() > 0.99


@pytest.mark.parametrize("alpha", [0.0001, 0.01])
def test_epsilon_insensitive_is_the_support_vector_regression(alpha):
    """The epsilon-insensitive loss ends as low as libsvm's regression, in the target's units."""
    model = LinearRegressor(loss="epsilon_insensitive", epsilon=20.0, alpha=alpha, **CORNERS).fit(X, NUMBERS)
    oracle = SVR(kernel="linear", C=1.0 / (N * alpha), epsilon=20.0, tol=1e-8).fit(X, NUMBERS)

    def objective(weights, intercept):
        errors = np.maximum(np.abs(X @ np.ravel(weights) + intercept - NUMBERS) - 20.0, 0.0)
        return errors.mean() + 0.5 * alpha * np.sum(np.square(weights))

    best = objective(oracle.coef_, oracle.intercept_)
    assert objective(model.coef_, model.intercept_) == pytest.approx(best, rel=1e-4)
    assert model.history_.last["loss"] == pytest.approx(objective(model.coef_, model.intercept_), rel=1e-9)
    np.testing.assert_allclose(np.ravel(model.coef_) / 40.0, np.ravel(oracle.coef_) / 40.0, atol=2e-3)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_quantile_is_the_linear_programme(quantile):
    """Without a penalty the quantile's plane is that of the linear programme."""
    model = LinearRegressor(loss="quantile", quantile=quantile, penalty=None, **CORNERS).fit(X, NUMBERS)
    oracle = QuantileRegressor(quantile=quantile, alpha=0.0).fit(X, NUMBERS)
    assert_optimum(model, oracle.coef_, oracle.intercept_, scale=40.0)
    assert np.mean(model.predict(X) + 1e-3 >= NUMBERS) == pytest.approx(quantile, abs=0.04)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_poisson_is_scikit_learns(alpha):
    """Poisson's weights are PoissonRegressor's, and the prediction is the expected count."""
    model = LinearRegressor(loss="poisson", alpha=alpha, **TIGHT).fit(X, COUNTS)
    oracle = PoissonRegressor(alpha=alpha, tol=1e-10, max_iter=10_000).fit(X, COUNTS)
    assert_optimum(model, oracle.coef_, oracle.intercept_)
    np.testing.assert_allclose(model.predict(X), oracle.predict(X), rtol=1e-3)


@pytest.mark.parametrize("batch_size", ["auto", 1, 7, "full"])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_l1_of_squared_error_is_the_lasso(ratio, batch_size):
    """Lasso and elastic net: the same weights, and the same zeros."""
    how = {"penalty": "elasticnet", "l1_ratio": ratio, "alpha": 8.0, "batch_size": batch_size}
    model = LinearRegressor(**how, **TIGHT).fit(X, NUMBERS)
    oracle = (
        Lasso(alpha=8.0, tol=1e-12) if ratio == 1 else ElasticNet(alpha=8.0, l1_ratio=ratio, tol=1e-12)
    ).fit(X, NUMBERS)
    assert_optimum(model, oracle.coef_, oracle.intercept_, scale=40.0)
    np.testing.assert_array_equal(model.coef_ == 0.0, oracle.coef_ == 0.0)
    assert (model.coef_ == 0.0).sum() > 0 or ratio < 1


@pytest.mark.parametrize("y", [SIDES, THREE], ids=["two", "three"])
@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_l1_of_log_loss_has_scikit_learns_support(y, batch_size):
    """Logistic and softmax regression with L1: scikit-learn's saga has the same weights and the same zeros."""
    model = LinearClassifier(penalty="l1", alpha=0.05, batch_size=batch_size, **TIGHT).fit(X, y)
    oracle = LogisticRegression(
        l1_ratio=1.0, C=1 / (N * 0.05), solver="saga", tol=1e-10, max_iter=50_000
    ).fit(X, y)
    np.testing.assert_allclose(model.coef_, oracle.coef_, atol=1e-4)
    np.testing.assert_array_equal(model.coef_ == 0.0, oracle.coef_ == 0.0)
    assert (model.coef_ == 0.0).any()


def test_the_scale_of_the_target_moves_no_optimum():
    """A target in thousandths, alpha turned accordingly, has the same plane for every loss of numbers."""
    for loss, degree in (("squared_error", 2), ("huber", 2), ("epsilon_insensitive", 1), ("quantile", 1)):
        one = LinearRegressor(loss=loss, epsilon=20.0, alpha=0.01, **CORNERS).fit(X, NUMBERS)
        turned = 0.01 * 1000.0 ** (2 - degree)
        other = LinearRegressor(loss=loss, epsilon=0.02, alpha=turned, **CORNERS).fit(X, NUMBERS / 1000)
        np.testing.assert_allclose(1000 * other.coef_, one.coef_, rtol=1e-6, atol=1e-6)


def test_what_is_not_certified_is_said():
    """A run with L1 that ends because nothing was gained says that it has no certificate; one with L2 has one."""
    with_l1 = LinearClassifier(penalty="l1", alpha=0.01, random_state=0).fit(X, SIDES)
    assert any(note.startswith("not certified") for note in with_l1.history_.notes)
    assert with_l1.model_.summary["gap_estimate"] is None
    hinge = LinearClassifier(loss="hinge", alpha=0.01, random_state=0).fit(X, SIDES)
    assert not hinge.history_.notes
    assert hinge.model_.summary["gap_estimate"] > 0


def test_the_certificate_of_hinge_is_above_the_gap():
    """What is said to be left covers the true gap to the support vector machine, rounding of corners included."""
    for alpha in (1e-3, 1e-2, 1e-1):
        model = LinearClassifier(loss="hinge", alpha=alpha, random_state=0).fit(X, SIDES)
        tight = LinearClassifier(loss="hinge", alpha=alpha, tol=1e-6, random_state=0).fit(X, SIDES)
        gap = model.history_.last["loss"] - tight.history_.last["loss"]
        assert gap <= 2 * model.model_.summary["gap_estimate"]
