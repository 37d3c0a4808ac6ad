"""A sample of rows as the beginning of a run: what it knows, when it is asked, and where the run ends."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from descend import LinearClassifier
from descend.engines.certificate import sample
from descend.engines.gap_bound import bound_beside
from descend.engines.sampled import SampledCurvature, goes_by_sample
from descend.objectives.losses import find_loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset

LOG_LOSS = find_loss("log_loss", "classification", 1)
ALPHA = 1e-3


def rows_of(kind, n, d=6):
    rng = np.random.default_rng([n, d])
    X = rng.normal(size=(n, d))
    if kind == "heavy tails":
        X = rng.standard_t(2, size=(n, d))
    elif kind == "rare levels":
        X = (rng.random((n, d)) < 0.005).astype(float)
    elif kind == "collinear":
        X[:, 1] = X[:, 0] + 1e-3 * X[:, 1]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(0.5 - X @ rng.normal(size=d)))).astype(float)
    return X, y


def objective(X, y, p, alpha=ALPHA, weights=None):
    """Mean loss + ½ alpha |w|², written anew."""
    scores = X @ p[0, :-1] + p[0, -1]
    losses = np.logaddexp(0.0, scores) - y * scores
    return np.average(losses, weights=weights) + 0.5 * alpha * np.sum(p[0, :-1] ** 2)


def lowest(X, y, alpha=ALPHA, weights=None, fit_intercept=True):
    model = LogisticRegression(
        C=1.0 / (alpha * len(X)),
        solver="newton-cholesky",
        tol=1e-12,
        max_iter=200,
        fit_intercept=fit_intercept,
    ).fit(X, y, weights)
    return np.c_[model.coef_, model.intercept_ if fit_intercept else 0.0]


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_samples_lowest_place_is_scikit_learns(fit_intercept):
    """From nothing, on all rows as the sample, it ends within a tenth of what so many rows leave uncertain."""
    X, y = rows_of("plain", 3000)
    known = SampledCurvature(
        Dataset(X, y[:, None]), ALPHA, fit_intercept, (slice(3000), np.full(3000, 1 / 3000))
    )
    place, before, read = known.lowest(np.zeros((1, 7)))
    gap = objective(X, y, place) - objective(X, y, lowest(X, y, fit_intercept=fit_intercept))
    assert -1e-12 <= gap <= 0.1 * 7 / (2 * 3000)
    assert before == pytest.approx(np.log(2.0))
    assert read >= 3000
    assert fit_intercept or place[0, -1] == 0.0


def test_the_product_is_the_inverse_of_the_hessian():
    """H · (H⁻¹ v) is v, with H from differences of the objective's gradient."""
    X, y = rows_of("heavy tails", 2000)
    known = SampledCurvature(Dataset(X, y[:, None]), ALPHA, True, (slice(2000), np.full(2000, 1 / 2000)))
    rng = np.random.default_rng(0)
    p, v = 0.3 * rng.normal(size=(1, 7)), rng.normal(size=(1, 7))
    known.look(p)
    step, h = known.product(v), 1e-5

    def slope(at):
        return np.array(
            [
                (objective(X, y, at + h * e) - objective(X, y, at - h * e)) / (2 * h)
                for e in np.eye(7)[:, None]
            ]
        )

    back = (slope(p + 1e-4 * step) - slope(p - 1e-4 * step)) / 2e-4
    np.testing.assert_allclose(back, v[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["plain", "heavy tails", "rare levels", "collinear"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_from_a_sample_ends_where_it_says(kind, dtype):
    """Certified, below tol of what can be gained, and below its own bound; whatever the rows are like."""
    X, y = rows_of(kind, 25_000)
    model = LinearClassifier(alpha=ALPHA, random_state=0).fit(X.astype(dtype), y)
    p = np.c_[model.standardized_coef_, (model.decision_function(X) - X @ model.standardized_coef_[0]).mean()]
    gap = objective(X, y, p) - objective(X, y, lowest(X, y))
    share = y.mean()
    gain = -share * np.log(share) - (1 - share) * np.log(1 - share) - objective(X, y, lowest(X, y))
    history = model.history_
    assert history.rule == "certified"
    assert model.plan_.optimizer == "lbfgs"
    assert gap <= 1e-3 * gain
    assert gap <= history.gap_bound + 1e-7


def test_weights_count_in_the_sample():
    """Weights of 0 to 3 give the optimum of the weighted rows, as scikit-learn has it."""
    X, y = rows_of("plain", 15_000)
    weights = np.random.default_rng(1).integers(0, 4, size=len(X)).astype(float)
    model = LinearClassifier(alpha=ALPHA, standardize=False, random_state=0).fit(X, y, sample_weight=weights)
    p = np.c_[model.coef_, model.intercept_]
    used = weights > 0
    best = lowest(X[used], y[used], ALPHA * weights.sum() / used.sum(), weights[used])
    assert objective(X, y, p, weights=weights) - objective(X, y, best, weights=weights) < 5e-4


def test_a_sample_is_asked_only_where_it_knows_enough():
    """Not with a rare class, many columns, sparse rows, L1, or a loss whose curvature is another."""
    X, y = rows_of("plain", 8000)
    data = Dataset(X, y[:, None])
    assert goes_by_sample(data, LOG_LOSS, Penalty(ALPHA), 0.4)
    assert not goes_by_sample(data, LOG_LOSS, Penalty(ALPHA), 0.01)
    assert not goes_by_sample(data, LOG_LOSS, Penalty(ALPHA, l1=ALPHA), 0.4)
    assert not goes_by_sample(data, find_loss("squared_hinge", "classification", 1), Penalty(ALPHA), 0.4)
    assert not goes_by_sample(Dataset(csr_array(X), y[:, None]), LOG_LOSS, Penalty(ALPHA), 0.4)
    wide = Dataset(np.zeros((8000, 80)), y[:, None])
    assert not goes_by_sample(wide, LOG_LOSS, Penalty(ALPHA), 0.4)


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path):
    """Ended by a callback at its first place, and gone on with from its checkpoint, it ends as the uninterrupted."""
    X, y = rows_of("heavy tails", 20_000, d=12)
    how = {"alpha": 1e-4, "tol": 1e-9, "random_state": 0}
    whole = LinearClassifier(**how).fit(X, y)
    seen = []
    stopped = LinearClassifier(
        **how, checkpoint=tmp_path / "run", callbacks=[lambda o: seen.append(o) or len(seen) == 2]
    ).fit(X, y)
    assert stopped.history_.stopped == "interrupted"
    went_on = LinearClassifier(**how, checkpoint=tmp_path / "run").fit(X, y)
    np.testing.assert_array_equal(went_on.coef_, whole.coef_)


@pytest.mark.parametrize("kind", ["plain", "heavy tails", "rare levels"])
def test_the_bound_beside_the_intercept_holds_whatever_the_intercept(kind):
    """At places with intercepts that are off by 0 to 0.3 the bound is no less than the gap."""
    X, y = rows_of(kind, 4000)
    best = lowest(X, y)
    n, Z = len(X), np.c_[X, np.ones(len(X))]
    for seed, off in enumerate((0.0, 1e-4, 1e-2, 0.3)):
        p = best + 0.01 * np.random.default_rng(seed).normal(size=best.shape)
        p[0, -1] += off
        q = 1.0 / (1.0 + np.exp(-(Z @ p[0])))
        gradient = ((q - y) @ Z / n + ALPHA * np.r_[p[0, :-1], 0.0])[None, :]
        top = 0.25 * np.linalg.eigvalsh(Z.T @ Z / n)[-1] + ALPHA
        above = bound_beside(gradient, np.array([[np.mean(q * (1 - q))]]), ALPHA, top)
        assert above >= objective(X, y, p) - objective(X, y, best) - 1e-12


def test_the_most_bend_is_no_less_than_the_largest_eigenvalue():
    """Of all rows, where the sample is some of them and heavy rows are among these."""
    X, _ = rows_of("heavy tails", 20_000)
    data = Dataset(X, np.zeros((20_000, 1)))
    known = SampledCurvature(data, ALPHA, True, sample(data))
    Z = np.c_[X, np.ones(len(X))]
    assert 2.0 * known.most_bend >= 0.25 * np.linalg.eigvalsh(Z.T @ Z / len(X))[-1] + ALPHA


@pytest.mark.parametrize("standardize", [True, False])
def test_rows_sorted_by_label_are_sampled_from_end_to_end(standardize):
    """Used in the order they came, all of one class first, they are certified at scikit-learn's optimum."""
    X, y = rows_of("plain", 30_000)
    by_label = np.argsort(y, kind="stable")
    X, y = np.ascontiguousarray(X[by_label]), y[by_label]
    model = LinearClassifier(alpha=ALPHA, shuffle=False, standardize=standardize, random_state=0).fit(X, y)
    p = np.c_[model.coef_, model.intercept_]
    assert model.history_.rule == "certified"
    assert model.history_.last["epoch"] < 8
    assert objective(X, y, p) - objective(X, y, lowest(X, y)) < 1e-4


def test_a_sample_in_order_has_no_row_twice():
    """Heavy rows are in it once, the shares of all its rows add up to 1, and its last quarter is from everywhere."""
    X, _ = rows_of("heavy tails", 30_000)
    for num_rows in (9000, 30_000):  # of the fewer rows it has all
        rows, shares = sample(Dataset(X[:num_rows], np.zeros((num_rows, 1))), in_order=True)
        assert len(np.unique(rows)) == len(rows)
        assert shares.sum() == pytest.approx(1.0)
        last = np.bincount(rows[-1500:] * 10 // num_rows, minlength=10)
        assert last.min() > 100
