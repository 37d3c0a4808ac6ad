"""What a run says of the gap that is left: the bound holds always, the estimate is near, and both are kept."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from support import dataset

from descend import LinearClassifier, LinearRegressor, load
from descend.engines.certificate import block_inverse, estimate_gap, hessian_product, sample
from descend.engines.gap_bound import settle
from descend.engines.gaps import LEAST_BY_CLASS
from descend.engines.linear import LinearEngine
from descend.features import prepare
from descend.fitting import fit
from descend.history import History
from descend.objectives.losses import LOSSES, SOFTMAX_LOSS, find_loss
from descend.objectives.penalties import Penalty
from descend.planning import resolve
from descend.report.left import left_sentence
from descend.settings import Settings
from descend.sources import array_source
from descend.types import Dataset


def rows_of(kind, rng, n=300, d=6):
    """Columns of different troubles."""
    X = rng.normal(size=(n, d))
    if kind == "collinear":
        X[:, 1] = X[:, 0] + 1e-3 * X[:, 1]
    elif kind == "heavy tails":
        X = rng.standard_t(2, size=(n, d))
    elif kind == "few levels":
        X = (rng.random((n, d)) < 0.05).astype(float)
    elif kind == "more columns than rows":
        X = rng.normal(size=(40, 80))
    return (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-12)


KINDS = ("plain", "collinear", "heavy tails", "few levels", "more columns than rows")


def objective_of(loss, X, y, alpha):
    """Mean loss + ½ alpha |w|² of flat parameters, and its gradient; written anew."""
    n, d = X.shape
    k = 1 if loss != "softmax" else int(y.max()) + 1

    def look(flat):
        p = flat.reshape(k, d + 1)
        s = X @ p[:, :-1].T + p[:, -1]
        if loss == "squared_error":
            each, slope, bend = 0.5 * (s[:, 0] - y) ** 2, s - y[:, None], np.ones_like(s)
        elif loss == "log_loss":
            q = np.exp(-np.logaddexp(0, -s))
            each, slope, bend = np.logaddexp(0, s[:, 0]) - y * s[:, 0], q - y[:, None], q * (1 - q)
        else:
            q = np.exp(s - s.max(axis=1, keepdims=True))
            q /= q.sum(axis=1, keepdims=True)
            each, slope, bend = -np.log(q[np.arange(n), y.astype(int)]), q - np.eye(k)[y.astype(int)], q
        ridge = np.r_[np.full(d, alpha), 0.0]
        g = slope.T @ np.c_[X, np.ones(n)] / n + ridge * p
        Z = np.c_[X, np.ones(n)]
        H = np.zeros((k, d + 1, k, d + 1))
        for a in range(k):
            for b in range(k):
                share = bend[:, a] * ((a == b) - (bend[:, b] if k > 1 else 0.0))
                H[a, :, b] = (Z * share[:, None]).T @ Z / n + (a == b) * np.diag(ridge)
        return each.mean() + 0.5 * alpha * np.sum(p[:, :-1] ** 2), g.ravel(), H.reshape(k * (d + 1), -1)

    return look, k * (d + 1)


def optimum(loss, X, y, alpha):
    """The lowest value, by Newton's steps to the last digit."""
    look, size = objective_of(loss, X, y, alpha)
    at = np.zeros(size)
    for _ in range(200):
        value, g, H = look(at)
        step = np.linalg.lstsq(H, g)[0]
        if g @ step < 1e-15:
            break
        length = 1.0
        while look(at - length * step)[0] > value - 1e-4 * length * (g @ step) and length > 1e-9:
            length *= 0.5
        at -= length * step
    return look(at)[0], look


def targets(loss, X, rng):
    side = X @ rng.normal(size=X.shape[1])
    if loss == "squared_error":
        y = side + rng.normal(size=len(X))
        return (y - y.mean()) / y.std()
    if loss == "log_loss":
        return (rng.random(len(X)) < 1 / (1 + np.exp(-side - 1))).astype(float)
    return np.digitize(side + rng.logistic(size=len(X)), [-1.0, 1.5]).astype(float)


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "softmax"])
def test_the_bound_is_never_below_the_gap(loss, kind, alpha):
    """At random parameters, near and far, the bound is at least the true gap; dense and sparse rows agree."""
    rng = np.random.default_rng([len(loss), KINDS.index(kind)])
    X = rows_of(kind, rng)
    y = targets(loss, X, rng)
    lowest, look = optimum(loss, X, y, alpha)
    found = SOFTMAX_LOSS if loss == "softmax" else find_loss(loss, LOSSES[loss].task, 1)
    k = 3 if loss == "softmax" else 1
    for size in (0.0, 1e-3, 0.1, 3.0):
        p = size * rng.normal(size=(k, X.shape[1] + 1))
        gap = look(p.ravel())[0] - lowest
        engine = LinearEngine(Dataset(X, y[:, None]), found, Penalty(alpha))
        assert engine.gap_bound(p) >= gap * (1 - 1e-9) - 1e-13
        place = settle(Dataset(X, y[:, None]), found, alpha, p, True)
        thin = settle(Dataset(csr_array(X), y[:, None]), found, alpha, p, True)
        assert place.value <= look(p.ravel())[0] + 1e-12
        assert np.abs(place.gradient[:, -1]).max() < 1e-9
        np.testing.assert_allclose(thin.above, place.above, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("batch_size", [1, 32, "full", "auto"])
@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "softmax"])
def test_a_finished_run_tells_its_gap(loss, kind, batch_size):
    """The true gap is below the bound, and within five times the estimate (to rounding) where a run was certified."""
    rng = np.random.default_rng(KINDS.index(kind))
    X = rows_of(kind, rng, n=900)
    y = targets(loss, X, rng)
    Model = LinearRegressor if loss == "squared_error" else LinearClassifier
    model = Model(alpha=1e-3, batch_size=batch_size, random_state=0).fit(X, y)
    lowest, look = optimum(loss, X, y, 1e-3)
    w = np.atleast_2d(model.standardized_coef_)
    scores = X @ np.atleast_2d(model.coef_).T + model.intercept_
    p = np.c_[w, (scores - X @ w.T).mean(axis=0)]
    gap = look(p.ravel())[0] - lowest
    history = model.history_
    assert history.rule == "certified"
    assert history.gap_bound >= gap - 1e-12
    assert gap <= 5 * history.gap_estimate + 1e-12
    assert history.gap_estimate <= 5 * gap + 1e-8
    assert history.gap_estimate <= history.gap_bound + 1e-15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS[:4])
def test_squared_error_reads_its_rows_once_and_is_certified(kind, dtype):
    """The pass that learns the columns tells the optimum and its certificate; the bound holds, too."""
    rng = np.random.default_rng(KINDS.index(kind))
    X = rows_of(kind, rng, n=5000).astype(dtype)
    y = targets("squared_error", X, rng)
    model = LinearRegressor(alpha=1e-3, random_state=0).fit(X, y)
    lowest, look = optimum("squared_error", X.astype(float), y, 1e-3)
    p = np.c_[model.coef_[None, :], model.intercept_]
    assert model.history_.rule == "certified"
    assert model.history_.last["epoch"] == 1.0
    assert look(p.ravel())[0] - lowest <= model.history_.gap_bound + 1e-9


def test_single_rows_take_no_matrix_and_batches_do():
    """At batch size 1 the loop of single rows is kept, however few columns; from 2 on there is a matrix."""
    X, y = np.random.default_rng(0).normal(size=(2000, 4)), np.arange(2000) % 2
    ready = prepare(array_source(X, y), validation=0.0)
    plans = [resolve(ready, Settings(batch_size=size).checked(), 100) for size in (1, 2)]
    assert [plan.precondition_steps for plan in plans] == [False, True]


def test_weights_and_no_intercept_are_in_the_bound():
    """With weights, and with the intercept held at 0, the bound is that of the same objective."""
    rng = np.random.default_rng(0)
    X, times = rng.normal(size=(200, 4)) + 0.5, rng.integers(0, 4, size=200)
    y = targets("log_loss", X, rng)
    p = 0.3 * rng.normal(size=(1, 5))
    p[:, -1] = 0.0
    weights = times / times.mean()
    loss = find_loss("log_loss", "classification", 1)
    one = settle(Dataset(X, y[:, None], weights), loss, 0.01, p, False)
    repeated = np.repeat(np.arange(200), times)
    other = settle(Dataset(X[repeated], y[repeated, None]), loss, 0.01, p, False)
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert one.above == pytest.approx(other.above, rel=1e-9)
    assert one.parameters[0, -1] == 0.0


def test_there_is_no_bound_without_a_penalty():
    """With alpha 0 the bound is None, and the estimate is there all the same."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(600, 4))
    y = targets("log_loss", X, rng)
    history = LinearClassifier(penalty=None, random_state=0).fit(X, y).history_
    assert history.gap_bound is None
    assert history.gap_estimate is not None
    assert history.rule == "certified"


def test_twenty_rows_a_thousand_times_too_large_are_not_certified_too_soon():
    """Where the loss is no parabola the estimate is not believed until it shrinks."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 30))
    y = targets("log_loss", X, rng)
    X[rng.permutation(4000)[:20]] *= 1000.0
    lowest, look = optimum("log_loss", X, y, 1e-4)
    first = look(np.zeros(31))[0]
    for batch_size in (1, 32, "auto"):
        model = LinearClassifier(standardize=False, batch_size=batch_size, random_state=0).fit(X, y)
        gap = look(np.r_[model.coef_[0], model.intercept_])[0] - lowest
        assert gap <= 1e-3 * (first - lowest)


def test_gains_are_counted_from_the_best_constant_model():
    """One row in two hundred is of the class: the intercept's part of the gain does not make the rest look small."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(20_000, 8))
    y = (rng.random(20_000) < 1 / (1 + np.exp(6.0 - 1.2 * X[:, 0]))).astype(float)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    lowest, look = optimum("log_loss", X, y, 1e-4)
    share = y.mean()
    constant = look(np.r_[np.zeros(8), np.log(share / (1 - share))])[0]
    for batch_size in (32, "full", "auto"):
        model = LinearClassifier(batch_size=batch_size, random_state=0).fit(X, y)
        assert model.history_.last["loss"] - lowest <= 1e-3 * (constant - lowest)
        assert model.history_["loss"][0] == pytest.approx(constant, rel=1e-5)


def test_steps_that_go_astray_are_taken_back(monkeypatch):
    """Redundant columns and a rare class make SAGA's steps too long: L-BFGS goes on from the best."""
    from sklearn.datasets import make_classification

    monkeypatch.setattr("descend.watching.certificate.CLOSE_SOON", 8.0)  # else its step comes before SAGA's

    X, y = make_classification(
        30_000,
        100,
        n_informative=30,
        n_redundant=40,
        n_repeated=10,
        weights=[0.97],
        flip_y=0.01,
        class_sep=2.0,
        random_state=850,
    )
    X = X.astype(np.float32)
    model = LinearClassifier(batch_size=512, random_state=0).fit(X, y)
    losses = model.history_["loss"]
    astray = int(np.argmax(losses))
    assert losses[astray] > losses[0]
    assert max(losses[astray + 1 :]) <= min(losses[:astray])
    assert model.history_.rule == "certified"
    lowest = LinearClassifier(batch_size="full", tol=1e-8, random_state=0).fit(X, y).history_.last["loss"]
    assert losses[-1] - lowest <= 1e-3 * (losses[0] - lowest)


def test_estimate_bound_and_rule_are_kept(tmp_path):
    """They stand in the saved history and in the model file, and a history without them still loads."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 3))
    model = LinearClassifier(random_state=0).fit(X, targets("log_loss", X, rng))
    history = model.history_
    again = History.from_json(history.to_json())
    assert (again.rule, again.gap_estimate, again.gap_bound) == (
        "certified",
        history.gap_estimate,
        history.gap_bound,
    )
    loaded = load(model.save(tmp_path / "m.descend"))
    assert loaded.history_.gap_bound == history.gap_bound
    assert loaded.model_.summary["gap_bound"] == history.gap_bound
    old = {k: v for k, v in history.to_json().items() if k not in ("rule", "gap_estimate", "gap_bound")}
    assert History.from_json(old).gap_bound is None


LIKED_BETTER = [
    ("breast_cancer", None, "l2", 1),
    ("breast_cancer", None, "l1", 0),
    ("breast_cancer", "hinge", "l2", 0),
    ("breast_cancer", "squared_hinge", "l2", 0),
    ("breast_cancer", "modified_huber", "l2", 0),
    ("breast_cancer", "hinge", "l1", 0),
    ("breast_cancer", "hinge", "l2", 2),
    ("diabetes", "huber", "l2", 0),
    ("diabetes", "poisson", "l2", 2),
]


@pytest.mark.parametrize(("name", "loss", "penalty", "seed"), LIKED_BETTER)
def test_earlier_parameters_are_bounded_by_the_last_ones(name, loss, penalty, seed):
    """Kept because validation rows liked them better, their true gap is known nearly as well as that of the last."""
    X, y = {"breast_cancer": load_breast_cancer, "diabetes": load_diabetes}[name](return_X_y=True)
    source = array_source(X, y)
    ready = prepare(source, validation=0.1, seed=seed, scale_target=loss != "poisson")
    liked = fit(ready, Settings(loss=loss, penalty=penalty, early_stopping=True)).history
    lowest = fit(ready, Settings(loss=loss, penalty=penalty)).history
    above = liked.last["loss"] - lowest.last["loss"]
    assert above > 10 * lowest.gap_estimate
    assert above <= liked.gap_bound <= 2 * above + 1.01 * lowest.gap_bound
    assert liked.rule == "early stopping"
    # No estimate may have been made: then there is none, and not an infinite one.
    assert liked.gap_estimate is None or above <= liked.gap_estimate <= liked.gap_bound
    run = {"rule": liked.rule, "gap_bound": liked.gap_bound, "history": {"columns": liked.columns}}
    assert "liked best" in left_sentence(run)


def test_the_rule_is_named():
    """Five epochs end by the rule of epochs, SGD by its patience; neither has an estimate. Auto ends certified."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(400, 3))
    y = targets("log_loss", X, rng)
    five = LinearClassifier(optimizer="sgd", epochs=5, random_state=0).fit(X, y).history_
    assert (five.rule, five.gap_estimate, five.gap_bound) == ("epochs", None, None)
    patient = LinearClassifier(optimizer="sgd", random_state=0).fit(X, y).history_
    assert (patient.rule, patient.gap_estimate) == ("nothing gained", None)
    sharp = LinearClassifier(penalty="l1", alpha=0.01, random_state=0).fit(X, y).history_
    assert sharp.rule == "certified"
    assert sharp.gap_estimate <= 1e-3 * np.log(2)


@pytest.mark.parametrize("seed", range(5))
def test_few_rows_held_out_do_not_outweigh_a_certificate(seed):
    """Where rows held out like earlier parameters hardly better, the certified optimum is returned."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3000, 4))
    y = X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=3000) > 0
    history = LinearClassifier(early_stopping=True, random_state=seed).fit(X, y).history_
    assert history.rule == "certified"
    assert history.gap_estimate <= 1e-3 * (history["loss"][0] - history.last["loss"])


def test_rows_held_out_overrule_a_certificate_that_learns_by_heart():
    """With more columns than rows tell about, earlier parameters are kept, and no certificate is claimed for them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 350))
    y = X[:, 0] + rng.normal(size=400) > 0
    history = (
        LinearClassifier(early_stopping=True, alpha=1e-6, batch_size=8, random_state=0).fit(X, y).history_
    )
    assert (history.stopped, history.rule) == ("early_stopping", "early stopping")
    assert history.last["validation_loss"] == min(history["validation_loss"])


def test_a_bound_that_is_small_enough_ends_a_run_whose_estimate_never_is():
    """Rows that leave the straight of modified Huber leave no curvature to estimate by: the bound ends the run."""
    from sklearn.datasets import make_blobs

    X, y = make_blobs(500, 5, centers=2, random_state=0)
    model = LinearClassifier(loss="modified_huber", alpha=1e-6, random_state=0).fit(X, y)
    history = model.history_
    assert history.rule == "certified"
    assert history.gap_bound <= 1e-3 * (history["loss"][0] - history.last["loss"])
    assert model.n_iter_ < 100


@pytest.mark.parametrize("loss", ["huber", "epsilon_insensitive", "quantile"])
@pytest.mark.parametrize("alpha", [1e-9, 1e-4])
def test_no_more_is_left_than_the_objective_itself(loss, alpha):
    """Losses and penalties are nowhere below 0: what is left at the most is no more than what there is."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    X[:, 0] = np.exp(3.0 * X[:, 0])
    y = X @ [0.1, 1.0, 2.0, 0.0, 0.0] + rng.standard_t(2, size=400)
    history = LinearRegressor(loss=loss, alpha=alpha, epochs=1, random_state=0).fit(X, y).history_
    assert 0.0 < history.gap_bound <= history.last["loss"]


@pytest.mark.parametrize(("loss", "alpha", "told"), [("hinge", 1e-8, True), ("squared_hinge", 1e-8, False)])
def test_a_corner_without_a_penalty_is_told(loss, alpha, told):
    """A run that its time ended says that a larger alpha helps where the loss has corners, and only there."""
    ready = prepare(array_source(*load_digits(return_X_y=True)), task="classification", validation=0.0)
    notes = fit(ready, Settings(loss=loss, alpha=alpha, tol=1e-12, seconds=0.02)).history.notes
    assert any("not certified" in note for note in notes)
    assert any("or a larger alpha" in note for note in notes) == told


@pytest.mark.parametrize("num_columns", [3, 12])
def test_classes_by_themselves_tell_no_more_than_is_left(num_columns):
    """A quarter of g · B⁻¹ g, B softmax's Hessian class by class, is below ½ g · H⁻¹ g and not a tenth of it."""
    data, loss, k = dataset("softmax", 1200, num_columns)
    rng = np.random.default_rng(0)
    at = rng.normal(size=(k, num_columns + 1))
    engine = LinearEngine(data, loss, Penalty(0.01))
    gradient = engine.objective(at)[1]
    inverse = block_inverse(data, loss, 0.01, at, sample(data))
    assert inverse is not None
    hessian = hessian_product(data, loss, 0.01, at, True, sample(data))
    gap = estimate_gap(hessian, gradient, inverse).gap
    least = LEAST_BY_CLASS * float(np.vdot(gradient, inverse(gradient)))
    assert 0.1 * gap < least < gap


@pytest.mark.filterwarnings("ignore:The number of unique classes")
@pytest.mark.parametrize("batch_size", [1, "auto"])
def test_the_last_epoch_of_a_small_table_certifies_nothing_by_itself(batch_size):
    """Many classes of few rows on nearly equal columns: SAGA ends far above the optimum and says so.

    On the way, where small tables are solved to the last digit, an estimate is one from below, cut short.
    """
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), np.r_[:24, rng.integers(0, 24, size=6)]
    X = np.hstack([X, X + 1e-3 * rng.normal(size=X.shape)])
    lowest = LinearClassifier(random_state=0).fit(X, y).history_.last["loss"]
    with pytest.warns(ConvergenceWarning):
        history = LinearClassifier(optimizer="saga", batch_size=batch_size, random_state=0).fit(X, y).history_
    left = (history.last["loss"] - lowest) / (np.log(24) - lowest)
    assert left > 0.01
    assert history.stopped == "epochs"
