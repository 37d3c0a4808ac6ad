"""What training with nothing set ends at, for each loss and penalty, against other people's solvers."""

import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from scipy.sparse import csr_array
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, PoissonRegressor, QuantileRegressor
from sklearn.metrics import mean_poisson_deviance
from sklearn.svm import SVC, SVR

from descend import LinearClassifier, LinearRegressor, load
from descend.objectives.losses import LOSSES, row_derivatives, row_losses

N, D = 200, 5
TIGHT = {"tol": 1e-10, "random_state": 0}
CORNERS = {"tol": 1e-9, "random_state": 0}
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


@pytest.mark.parametrize("batch_size", ["auto", 1, 7, "full"])
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.1])
def test_hinge_is_the_support_vector_machine(alpha, batch_size):
    """Hinge with L2 ends at libsvm's separating plane, certified, whatever the batch size."""
    model = LinearClassifier(loss="hinge", alpha=alpha, batch_size=batch_size, **CORNERS).fit(X, SIDES)
    oracle = SVC(kernel="linear", C=1.0 / (N * alpha), tol=1e-10).fit(X, SIDES)
    assert_optimum(model, oracle.coef_, oracle.intercept_)
    assert model.history_.stopped == "converged"


@pytest.mark.parametrize("batch_size", ["auto", 7])
@pytest.mark.parametrize("alpha", [0.0001, 0.01])
def test_epsilon_insensitive_is_the_support_vector_regression(alpha, batch_size):
    """The epsilon-insensitive loss ends at libsvm's regression, in the target's units."""
    model = LinearRegressor(
        loss="epsilon_insensitive", epsilon=20.0, alpha=alpha, batch_size=batch_size, **CORNERS
    ).fit(X, NUMBERS)
    oracle = SVR(kernel="linear", C=1.0 / (N * alpha), epsilon=20.0, tol=1e-10).fit(X, NUMBERS)
    assert_optimum(model, oracle.coef_, oracle.intercept_, scale=40.0)
    errors = np.maximum(np.abs(model.predict(X) - NUMBERS) - 20.0, 0.0)
    objective = errors.mean() + 0.5 * alpha * np.sum(np.square(model.coef_))
    assert model.history_.last["loss"] == pytest.approx(objective, rel=1e-9)
    assert model.history_.stopped == "converged"


@pytest.mark.parametrize("batch_size", ["auto", 7])
@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_quantile_is_the_linear_programme(quantile, batch_size):
    """Without a penalty the quantile's plane is that of the linear programme."""
    model = LinearRegressor(
        loss="quantile", quantile=quantile, penalty=None, batch_size=batch_size, **CORNERS
    ).fit(X, NUMBERS)
    oracle = QuantileRegressor(quantile=quantile, alpha=0.0).fit(X, NUMBERS)
    assert_optimum(model, oracle.coef_, oracle.intercept_, scale=40.0)
    assert np.mean(model.predict(X) + 1e-3 >= NUMBERS) == pytest.approx(quantile, abs=0.04)
    assert model.history_.stopped == "converged"


def by_linear_programme(y, l1, low, high, insensitive=0.0):
    """Weights and intercept of loss with corners + L1: ``low`` and ``high`` are the slopes on the two sides."""
    if low is None:  # hinge
        sign = (2 * y - 1)[:, None]
        rows = -np.c_[sign * X, -sign * X, sign, -sign, np.eye(N)]
        limits, prices = -np.ones(N), np.full(N, 1 / N)
    else:
        one, nothing = np.ones((N, 1)), np.zeros((N, N))
        rows = np.r_[
            np.c_[X, -X, one, -one, -np.eye(N), nothing], np.c_[-X, X, -one, one, nothing, -np.eye(N)]
        ]
        limits = np.r_[y + insensitive, insensitive - y]
        prices = np.r_[np.full(N, high / N), np.full(N, low / N)]
    found = linprog(np.r_[np.full(2 * D, l1), 0.0, 0.0, prices], A_ub=rows, b_ub=limits, method="highs")
    at = found.x
    return at[:D] - at[D : 2 * D], at[2 * D] - at[2 * D + 1]


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
@pytest.mark.parametrize(
    ("name", "y", "l1", "how"),
    [
        ("hinge", SIDES, 0.03, (None, None)),
        ("quantile", NUMBERS, 0.1, (0.3, 0.7)),
        ("epsilon_insensitive", NUMBERS, 0.1, (1.0, 1.0, 20.0)),
    ],
)
def test_corners_of_loss_and_l1_together_are_the_linear_programme(name, y, l1, how, batch_size):
    """Losses with corners and L1 end where the simplex ends: the same weights, the same zeros, certified."""
    make = LinearClassifier if name == "hinge" else LinearRegressor
    setting = {} if name == "hinge" else {"epsilon": 20.0, "quantile": 0.3}
    model = make(loss=name, penalty="l1", alpha=l1, batch_size=batch_size, **setting, **CORNERS).fit(X, y)
    weights, intercept = by_linear_programme(y, l1, *how)
    assert_optimum(model, weights, intercept, scale=1.0 if name == "hinge" else 40.0)
    np.testing.assert_array_equal(model.coef_.ravel() == 0.0, weights == 0.0)
    assert (weights == 0.0).any()
    assert model.history_.stopped == "converged"


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_poisson_is_scikit_learns(alpha, batch_size):
    """Poisson's weights are PoissonRegressor's, the prediction is the count, the loss is half the deviance."""
    model = LinearRegressor(loss="poisson", alpha=alpha, batch_size=batch_size, **TIGHT).fit(X, COUNTS)
    oracle = PoissonRegressor(alpha=alpha, tol=1e-10, max_iter=10_000).fit(X, COUNTS)
    assert_optimum(model, oracle.coef_, oracle.intercept_)
    np.testing.assert_allclose(model.predict(X), oracle.predict(X), rtol=1e-3)
    deviance = mean_poisson_deviance(COUNTS, model.predict(X))
    expected = 0.5 * deviance + 0.5 * alpha * np.sum(np.square(model.coef_))
    assert model.history_.last["loss"] == pytest.approx(expected, rel=1e-9)
    assert model.history_.stopped == "converged"


@pytest.mark.parametrize("batch_size", [1, 7])
def test_an_epoch_that_blew_up_is_taken_back(batch_size):
    """Poisson's first epoch over wild rows leaves all bounds, and the optimum is found all the same."""
    heavy = np.arange(N) % 50 == 0
    wild, counts = X * np.where(heavy, 30.0, 1.0)[:, None], np.where(heavy, 400.0, COUNTS)
    how = {"loss": "poisson", "alpha": 0.1, "standardize": False, **TIGHT}
    model = LinearRegressor(batch_size=batch_size, **how).fit(wild, counts)
    whole = LinearRegressor(batch_size="full", **how).fit(wild, counts)
    after = model.history_["last_loss"][1]
    assert after is None or after > model.history_["last_loss"][0]
    np.testing.assert_allclose(model.coef_, whole.coef_, atol=1e-6)
    assert model.history_.stopped == "converged"


@pytest.mark.parametrize("optimizer", ["newton", "lbfgs", "saga"])
@pytest.mark.parametrize("loss", ["squared_hinge", "modified_huber", "log_loss"])
@pytest.mark.parametrize("y", [SIDES, THREE], ids=["two", "three"])
def test_named_optimizers_meet_with_l1(optimizer, loss, y):
    """Proximal Newton, proximal L-BFGS and proximal SAGA end at one place, which the dual certifies."""
    how = {"loss": loss, "penalty": "elasticnet", "l1_ratio": 0.7, "alpha": 0.05}
    best = LinearClassifier(**how, **TIGHT).fit(X, y)
    size = 7 if optimizer == "saga" else "auto"
    model = LinearClassifier(**how, optimizer=optimizer, batch_size=size, **TIGHT).fit(X, y)
    np.testing.assert_allclose(model.coef_, best.coef_, atol=1e-4)
    np.testing.assert_array_equal(model.coef_ == 0.0, best.coef_ == 0.0)
    assert best.model_.summary["gap_bound"] <= 1e-6


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


def wide(seed=0, rows=60, columns=300):
    """Columns that outnumber the rows, some nearly the same."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(rows, columns))
    Z[:, 1] = Z[:, 0] + 0.01 * rng.normal(size=rows)
    return (Z - Z.mean(axis=0)) / Z.std(axis=0), Z[:, :5].sum(axis=1) + rng.normal(size=rows)


@pytest.mark.parametrize("batch_size", ["auto", 7])
def test_l1_on_more_columns_than_rows(batch_size):
    """With 300 columns and 60 rows Lasso and L1 logistic regression have scikit-learn's weights and zeros."""
    Z, z = wide()
    how = {"penalty": "l1", "batch_size": batch_size, **TIGHT}
    model = LinearRegressor(alpha=0.3, **how).fit(Z, z)
    oracle = Lasso(alpha=0.3, tol=1e-9, max_iter=100_000).fit(Z, z)
    np.testing.assert_allclose(model.coef_, oracle.coef_, atol=1e-4)
    np.testing.assert_array_equal(model.coef_ == 0.0, oracle.coef_ == 0.0)
    model = LinearClassifier(alpha=0.05, **how).fit(Z, z > 0)
    sides = LogisticRegression(l1_ratio=1.0, C=1 / (60 * 0.05), solver="saga", tol=1e-11, max_iter=100_000)
    sides.fit(Z, z > 0)
    np.testing.assert_allclose(model.coef_, sides.coef_, atol=1e-4)
    np.testing.assert_array_equal(model.coef_ == 0.0, sides.coef_ == 0.0)


@pytest.mark.parametrize("batch_size", ["auto", 7, "full"])
@pytest.mark.parametrize("loss", ["log_loss", "squared_hinge", "hinge"])
def test_l1_on_sparse_rows_ends_where_dense_rows_end(loss, batch_size):
    """Sparse rows have the dense rows' weights and zeros with L1, three classes and corners included."""
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(300, 12)) * (rng.random((300, 12)) < 0.4)
    y = np.digitize(Z[:, :3].sum(axis=1) + 0.5 * rng.normal(size=300), [-0.5, 0.5])
    how = {"loss": loss, "penalty": "l1", "alpha": 0.01, "standardize": False, "batch_size": batch_size}
    tol = 1e-7 if loss == "hinge" else 1e-9  # what three rounded scores a row hide
    dense = LinearClassifier(**how, tol=tol, random_state=0).fit(Z, y)
    sparse = LinearClassifier(**how, tol=tol, random_state=0).fit(csr_array(Z), y)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, atol=1e-4)
    np.testing.assert_array_equal(sparse.coef_ == 0.0, dense.coef_ == 0.0)
    assert sparse.history_.stopped == dense.history_.stopped == "converged"


def test_float32_rows_end_at_float64s_optimum():
    """A small tol on float32 rows: steps that rounding stops go on in float64, to the same weights and zeros.

    On float32 rows no gap below 1e-7 of the first loss is asked for: with alpha 0.01 a weight may be off by the
    root of 2e-7 / 0.01, 4e-3, and is by 2e-4 at the most.
    """
    rng = np.random.default_rng(3)
    Z = rng.normal(size=(3000, 8)).astype(np.float32)
    y = (Z[:, :3].sum(axis=1) + rng.logistic(size=3000) > 0).astype(int)
    for how in ({"penalty": "l2"}, {"penalty": "l1"}, {"penalty": "l2", "loss": "hinge"}):
        exact = LinearClassifier(alpha=0.01, **how, **CORNERS).fit(Z.astype(np.float64), y)
        for optimizer in ("auto", "lbfgs"):
            model = LinearClassifier(alpha=0.01, optimizer=optimizer, **how, **CORNERS).fit(Z, y)
            np.testing.assert_allclose(model.coef_, exact.coef_, atol=5e-4)
            np.testing.assert_array_equal(model.coef_ == 0.0, exact.coef_ == 0.0)


@pytest.mark.parametrize("how", [{"loss": "hinge"}, {"penalty": "l1"}, {"loss": "hinge", "penalty": "l1"}])
def test_sparse_float32_rows_are_certified_too(how):
    """On CSR rows of float32 hinge and L1 end certified, within 1e-3 of dense float64 rows."""
    rng = np.random.default_rng(5)
    Z = rng.normal(size=(1500, 30)) * (rng.random((1500, 30)) < 0.3)
    y = (Z[:, :3].sum(axis=1) + rng.logistic(size=1500) > 0).astype(int)
    how = {"alpha": 0.003, "standardize": False, "random_state": 0, **how}
    best = LinearClassifier(**how, tol=1e-7).fit(Z, y).history_.last["loss"]
    model = LinearClassifier(**how).fit(csr_array(Z.astype(np.float32)), y)
    assert model.history_.stopped == "converged"
    assert model.history_.last["loss"] - best <= 1e-3 * (model.history_["loss"][0] - best)


@pytest.mark.parametrize("batch_size", ["auto", 1, 32, "full"])
@pytest.mark.parametrize("how", [
    {"loss": "log_loss", "penalty": "l1"}, {"loss": "hinge", "penalty": "l2"}, {"loss": "hinge", "penalty": "l1"}
])  # fmt: skip
def test_the_estimate_covers_the_true_gap(how, batch_size):
    """At the default tol the gap is below 1e-3 of the gain, and twice the estimate and the dual's bound are not."""
    rng = np.random.default_rng(4)
    Z = rng.normal(size=(3000, 20)) @ (np.eye(20) + 0.3)
    y = (Z[:, 0] - Z[:, 1] + 2 * rng.logistic(size=3000) > 0).astype(int)
    model = LinearClassifier(alpha=0.003, batch_size=batch_size, random_state=0, **how).fit(Z, y)
    tight = LinearClassifier(alpha=0.003, **how, **CORNERS).fit(Z, y)
    lowest = tight.history_.last["loss"]
    gap, gain = model.history_.last["loss"] - lowest, model.history_["loss"][0] - lowest
    summary = model.model_.summary
    assert model.history_.stopped == "converged"
    assert not model.history_.notes
    assert gap <= 1e-3 * gain
    assert gap <= 2 * summary["gap_estimate"] + 1e-9
    if how["penalty"] == "l1":
        assert gap <= summary["gap_bound"]


def test_the_certificate_of_hinge_is_above_the_gap():
    """What is said to be left covers the true gap to the support vector machine, rounding of corners included."""
    for alpha in (1e-3, 1e-2, 1e-1):
        model = LinearClassifier(loss="hinge", alpha=alpha, random_state=0).fit(X, SIDES)
        tight = LinearClassifier(loss="hinge", alpha=alpha, tol=1e-6, random_state=0).fit(X, SIDES)
        gap = model.history_.last["loss"] - tight.history_.last["loss"]
        assert gap <= 2 * model.model_.summary["gap_estimate"]


@pytest.mark.parametrize("how", [
    {}, {"batch_size": 1}, {"batch_size": 32}, {"batch_size": "full"}, {"optimizer": "lbfgs"},
    {"optimizer": "newton"}, {"optimizer": "saga", "batch_size": 32},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("store", [np.asarray, csr_array], ids=["dense", "sparse"])
def test_a_model_without_an_intercept(store, how):
    """On columns far from 0, with too many rows for Newton, the optimum is the plane through 0: no intercept."""
    rng = np.random.default_rng(5)
    rows = rng.normal(1.0, 1.0, size=(20_000, 12)) * (rng.random((20_000, 12)) < 0.6)
    sides = (rows @ rng.normal(size=12) + rng.logistic(size=20_000) > 1.0).astype(int)
    best = LogisticRegression(fit_intercept=False, C=1 / (20_000 * 1e-3), tol=1e-10).fit(rows, sides)
    model = LinearClassifier(
        fit_intercept=False, standardize=False, alpha=1e-3, tol=1e-7, random_state=0, **how
    ).fit(store(rows), sides)
    assert model.intercept_ == 0.0
    assert model.history_.stopped == "converged"
    np.testing.assert_allclose(model.coef_, best.coef_, atol=2e-3)


@pytest.mark.parametrize("store", [np.asarray, csr_array], ids=["dense", "sparse"])
def test_without_an_intercept_nothing_is_shifted(store, tmp_path):
    """Columns and target are divided only: the plane goes through 0, and a column of ones is one like others."""
    rng = np.random.default_rng(6)
    rows = np.hstack([rng.normal(4.0, 2.0, size=(300, 3)), np.ones((300, 1))])
    y = rows @ [1.0, 2.0, 3.0, 4.0] + rng.normal(size=300)
    for columns in (rows, rows[:, :3]):
        model = LinearRegressor(fit_intercept=False, penalty=None, **TIGHT).fit(store(columns), y)
        assert model.intercept_ == 0.0
        np.testing.assert_allclose(model.coef_, np.linalg.lstsq(columns, y)[0], rtol=1e-5)
        again = load(model.save(tmp_path / f"{columns.shape[1]}.descend"))
        np.testing.assert_array_equal(again.predict(columns), model.predict(columns))
    sides = LinearClassifier(fit_intercept=False, penalty=None, **TIGHT).fit(store(rows), y > y.mean())
    best = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=5000).fit(rows, y > y.mean())
    assert sides.intercept_ == 0.0
    np.testing.assert_allclose(sides.coef_, best.coef_, rtol=1e-3)


def test_blocks_without_an_intercept_keep_none():
    """Learning block by block leaves the intercept at 0 while the scaling changes under it."""
    rng = np.random.default_rng(7)
    rows = rng.normal(4.0, 2.0, size=(600, 3))
    model = LinearRegressor(fit_intercept=False, random_state=0)
    for block in 10 * np.array_split(rows, 6):
        model.partial_fit(block, block @ [1.0, 2.0, 3.0])
        assert model.intercept_ == 0.0
    np.testing.assert_allclose(model.coef_, [1.0, 2.0, 3.0], rtol=0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("penalty", ["l1", "elasticnet", "l2"])
@pytest.mark.parametrize(("name", "setting"), [("huber", 0.001), ("modified_huber", 0.0)])
def test_straights_do_not_pass_for_the_bottom(name, setting, penalty, dtype):
    """Where nearly every row lies where its loss no longer bends, Newton's steps go on to SciPy's optimum."""
    rng = np.random.default_rng(8)
    rows = rng.standard_t(2.0, size=(400, 6))
    score = rows @ [3.0, -2.0, 1.0, 0.0, 0.0, 0.0] + rng.standard_t(1.5, size=400)
    y = score if name == "huber" else (score > 0).astype(float)
    estimator = LinearRegressor if name == "huber" else LinearClassifier
    settings = {"epsilon": setting} if name == "huber" else {}
    alpha = {"huber": 1e-5, "modified_huber": 1e-2}[name]
    model = estimator(
        loss=name, penalty=penalty, alpha=alpha, l1_ratio=0.5, standardize=False, random_state=0, **settings
    ).fit(rows.astype(dtype), y)
    code, columns = LOSSES[name].code, rows.astype(dtype).astype(float)
    share = {"l1": 1.0, "elasticnet": 0.5, "l2": 0.0}[penalty]

    def objective(parts):  # weights as the difference of two that are not negative
        w, b = parts[:6] - parts[6:12], parts[12]
        scores, target = (columns @ w + b)[:, None], y[:, None]
        value = row_losses(code, scores, target, (setting, 0.0)).mean()
        slopes = row_derivatives(code, scores, target, (setting, 0.0))[:, 0] / len(y)
        along = columns.T @ slopes + alpha * (1.0 - share) * w
        value += alpha * (share * parts[:12].sum() + 0.5 * (1.0 - share) * float(w @ w))
        return 1e3 * value, 1e3 * np.r_[along + alpha * share, alpha * share - along, slopes.sum()]

    def lowest(at, most):
        bounds = [(0.0, most)] * 12 + [(None, None)]
        how = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15}
        return minimize(objective, at, jac=True, method="L-BFGS-B", bounds=bounds, options=how)

    at = np.zeros(13)
    for _ in range(3):
        at = lowest(at, None).x
    best, constant = objective(at)[0], lowest(np.zeros(13), 0.0).fun
    mine = np.r_[np.maximum(model.coef_.ravel(), 0), np.maximum(-model.coef_.ravel(), 0), model.intercept_]
    assert objective(mine)[0] - best < 1e-3 * (constant - best)
    assert model.history_.rule == "certified"
