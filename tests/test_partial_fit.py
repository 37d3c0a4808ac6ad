"""Learning block by block: what is learnt, what is carried over, weights, labels, and refusals."""

import pickle
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from descend import LinearClassifier, LinearRegressor, load
from descend.averaging import PolyakAverage
from descend.engines.linear import LinearEngine
from descend.features import Features
from descend.features.statistics import Statistics
from descend.models.scaling import Scaling, carry, carry_gradient
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.types import Dataset

IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
DIGITS = load_digits(return_X_y=True)
WINE = load_wine(return_X_y=True)


def in_blocks(model, X, y, num_blocks, epochs=1, by_label=False):
    """``model`` after ``epochs`` passes over the rows in blocks, shuffled or sorted by label."""
    places = np.argsort(y, kind="stable") if by_label else np.random.default_rng(0).permutation(len(y))
    classes = {"classes": np.unique(y)} if isinstance(model, LinearClassifier) else {}
    for _ in range(epochs):
        for rows in np.array_split(places, num_blocks):
            model.partial_fit(X[rows], y[rows], **classes)
    return model


# --- what is learnt --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 32, "auto"])
@pytest.mark.parametrize("data", [IRIS, CANCER, DIGITS, WINE], ids=["iris", "cancer", "digits", "wine"])
def test_blocks_end_near_fit(data, batch_size):
    """Ten epochs in 5 or 20 blocks come within 6 % of fit's accuracy, and within 9 % where blocks hold one label."""
    X, y = data
    best = LinearClassifier(random_state=0).fit(X, y).score(X, y)
    for num_blocks in (5, 20):
        for by_label, near in ((False, 0.06), (True, 0.09)):
            model = LinearClassifier(batch_size=batch_size, random_state=0)
            assert in_blocks(model, X, y, num_blocks, 10, by_label).score(X, y) > best - near


@pytest.mark.parametrize(
    ("data", "near"), [(IRIS, 0.15), (CANCER, 0.05), (WINE, 0.05)], ids=["iris", "cancer", "wine"]
)
def test_a_row_at_a_time_is_learnt_from(data, near):
    """One pass with one row a call comes near fit's accuracy, though the first rows have no scale."""
    X, y = data
    best = LinearClassifier(random_state=0).fit(X, y).score(X, y)
    assert in_blocks(LinearClassifier(random_state=0), X, y, len(y)).score(X, y) > best - near


def test_many_epochs_in_one_block_come_to_the_optimum():
    """Full batches of the same rows come to the predictions of LogisticRegression and Ridge."""
    X, y = WINE[0], (WINE[1] > 0).astype(int)
    scaled = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(C=1 / (len(X) * 1e-1), tol=1e-12, max_iter=10_000).fit(scaled, y)
    model = LinearClassifier(batch_size="full", alpha=1e-1, average=False, random_state=0)
    mine = in_blocks(model, X, y, 1, 1000)
    np.testing.assert_allclose(mine.decision_function(X), theirs.decision_function(scaled), atol=1e-5)
    X, y = DIABETES
    scaled = StandardScaler().fit_transform(X)
    ridge = Ridge(alpha=len(X) * 1e-1).fit(scaled, y)
    mine = in_blocks(
        LinearRegressor(batch_size="full", alpha=1e-1, average=False, random_state=0), X, y, 1, 400
    )
    np.testing.assert_allclose(mine.predict(X), ridge.predict(scaled), rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["auto", "sgd", "momentum", "nesterov", "adam"])
def test_regression_in_blocks(optimizer):
    """Every optimizer of single batches explains in ten epochs nearly what fit explains."""
    X, y = DIABETES
    rate = {"learning_rate": 0.02} if optimizer == "adam" else {}
    model = LinearRegressor(optimizer=optimizer, random_state=0, **rate)
    assert in_blocks(model, X, y, 5, 10).score(X, y) > 0.45


def test_several_outputs():
    """A target with two columns is learnt, and predictions have its shape."""
    X, y = DIABETES
    Y = np.stack([y, -2 * y], axis=1)
    model = LinearRegressor(random_state=0)
    for rows in np.array_split(np.arange(len(y)), 5) * 5:
        model.partial_fit(X[rows], Y[rows])
    assert model.predict(X).shape == Y.shape
    assert model.score(X, Y) > 0.45


# --- what is carried over --------------------------------------------------------------------------


def far_rows(X):
    """Rows on another scale, around another mean."""
    return 1000.0 + 50.0 * X[:40]


@pytest.mark.parametrize("after_fit", [False, True])
@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
def test_predictions_do_not_jump(estimator, after_fit):
    """Rows that move every mean and deviation move predictions only as far as their steps, here next to none."""
    X, y = CANCER
    kwargs = {"classes": [0, 1]} if estimator is LinearClassifier else {}
    model = estimator(random_state=0, average=False)
    model = model.fit(X, y) if after_fit else model.partial_fit(X, y, **kwargs)
    scores = model.decision_function if estimator is LinearClassifier else model.predict
    before = scores(X)
    model.set_params(learning_rate=1e-300).partial_fit(far_rows(X), y[:40])
    np.testing.assert_allclose(scores(X), before, rtol=1e-8, atol=1e-8 * np.abs(before).max())
    assert model.history_.last["updates"] > 0


def test_a_column_may_begin_to_vary():
    """A column that was constant in fit or in the first blocks is learnt from once it varies."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = (X[:, 1] > 0).astype(int)
    still = X.copy()
    still[:, 1] = 5.0
    for start in (
        LinearClassifier(random_state=0).fit(still, y),
        LinearClassifier(random_state=0).partial_fit(still, y, classes=[0, 1]),
    ):
        assert start.coef_.shape == (1, 3)
        assert start.coef_[0, 1] == 0.0
        for _ in range(5):
            start.partial_fit(X, y)
        assert start.score(X, y) > 0.95


def test_rounding_is_no_deviation():
    """A column of one value, whose sums are off in their last digits, is not divided by that error."""
    stats = Statistics(("a", "b"))
    for n in (3, 7, 11, 13):
        stats.update(np.column_stack([np.full(n, 0.1), np.arange(n)]))
    assert stats.moments.M2[0] > 0.0
    features = Features.from_statistics(stats, keep_constants=True)
    assert features.names == ("a", "b")
    assert features.scale[0] == 1.0


def test_carrying_keeps_scores_and_is_undone():
    """Scores in the new scaling are those of the old one, and carrying back gives the parameters back."""
    rng = np.random.default_rng(0)
    X, P = rng.normal(size=(50, 4)) * 10 + 3, rng.normal(size=(2, 5))
    one, other = (
        Scaling(rng.normal(size=4), rng.uniform(0.1, 9, 4), rng.normal(size=2), rng.uniform(0.1, 9, 2))
        for _ in "ab"
    )

    def scores(P, s):
        return ((X - s.mean) / s.scale @ P[:, :-1].T + P[:, -1]) * s.target_scale + s.target_mean

    carried = carry(P, one, other)
    np.testing.assert_allclose(scores(carried, other), scores(P, one), rtol=1e-10)
    np.testing.assert_allclose(carry(carried, other, one), P, rtol=1e-10)


@pytest.mark.parametrize(("loss", "degree"), [("squared_error", 2), ("quantile", 1)])
def test_a_carried_gradient_is_the_gradient_there(loss, degree):
    """The gradient at carried parameters, of rows in the new scaling, is the carried gradient."""
    assert LOSSES[loss].degree == degree
    rng = np.random.default_rng(0)
    raw, y, P = rng.normal(size=(50, 4)) * 3 + 1, rng.normal(size=(50, 2)), rng.normal(size=(2, 5))
    one, other = (
        Scaling(rng.normal(size=4), rng.uniform(0.5, 3, 4), rng.normal(size=2), rng.uniform(0.5, 3, 2))
        for _ in "ab"
    )

    def gradient(P, s):
        data = Dataset((raw - s.mean) / s.scale, (y - s.target_mean) / s.target_scale)
        engine = LinearEngine(data, LOSSES[loss], Penalty(0.0))
        return engine.loss_and_gradient(P, slice(0, 50)).gradient

    np.testing.assert_allclose(
        carry_gradient(gradient(P, one), one, other, degree),
        gradient(carry(P, one, other), other),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_the_optimizers_memory_is_kept(optimizer):
    """Two halves of a block end elsewhere when the memory between them is lost."""
    X, y = CANCER
    rate = {"learning_rate": 0.01} if optimizer == "adam" else {}
    model = LinearClassifier(optimizer=optimizer, average=False, random_state=0, **rate)
    model.partial_fit(X[:300], y[:300], classes=[0, 1])
    forgetful = pickle.loads(pickle.dumps(model))
    forgetful._stream.state.first[:] = 0.0
    kept, lost = model.partial_fit(X[300:], y[300:]), forgetful.partial_fit(X[300:], y[300:])
    assert np.abs(kept.coef_ - lost.coef_).max() > 1e-4 * np.abs(kept.coef_).max()


def test_steps_go_on_counting():
    """A falling schedule goes on falling: steps are counted over all blocks, and so are rows and epochs."""
    model = LinearClassifier(batch_size=50, schedule="inverse-scaling", random_state=0)
    in_blocks(model, *IRIS, num_blocks=1, epochs=4)
    history = model.history_
    assert history["epoch"] == [1, 2, 3, 4]
    assert all(a < b for a, b in zip(history["updates"], history["updates"][1:], strict=False))
    assert all(a < b for a, b in zip(history["rows"], history["rows"][1:], strict=False))
    assert model.n_iter_ == 4


def test_fit_begins_anew_after_blocks():
    """``fit`` forgets the blocks; with warm_start it starts from them."""
    X, y = CANCER
    plain = LinearClassifier(optimizer="sgd", epochs=2, random_state=0)
    cold = clone(plain).fit(X, y)
    again = clone(plain).partial_fit(X, y, classes=[0, 1]).fit(X, y)
    np.testing.assert_array_equal(again.coef_, cold.coef_)
    warm = clone(plain).set_params(warm_start=True, average=False).partial_fit(X, y, classes=[0, 1])
    between = warm.history_.last["loss"]
    assert warm.fit(X, y).history_["loss"][0] == pytest.approx(between, rel=1e-6)


def test_blocks_after_fit_keep_what_was_learnt():
    """Blocks of the same rows after ``fit`` leave its accuracy within 3 %."""
    for X, y in (IRIS, CANCER, WINE):
        model = LinearClassifier(random_state=0).fit(X, y)
        best = model.score(X, y)
        assert in_blocks(model, X, y, 5).score(X, y) > best - 0.03


def test_statistics_of_fit_count_for_the_scaling():
    """After ``fit`` and a block the scaling is that of all rows together."""
    X, y = CANCER
    model = LinearClassifier(random_state=0).fit(X[:300], y[:300]).partial_fit(X[300:], y[300:])
    np.testing.assert_allclose(model.model_.features.mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.model_.features.scale, X.std(axis=0), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_pickled_and_loaded_models_go_on(dtype, tmp_path):
    """A pickled stream goes on to the last bit; a saved model predicts the same and learns on from there."""
    X, y = CANCER[0].astype(dtype), CANCER[1]
    model = LinearClassifier(random_state=0).partial_fit(X[:300], y[:300], classes=[0, 1])
    again = pickle.loads(pickle.dumps(model))
    loaded = load(model.save(tmp_path / "m.descend"))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    for one in (model, again):
        one.partial_fit(X[300:], y[300:])
    np.testing.assert_array_equal(model.coef_, again.coef_)
    loaded.set_params(random_state=0).partial_fit(X[300:], y[300:])
    assert loaded.score(X, y) > 0.95


# --- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [CANCER, DIABETES], ids=["cancer", "diabetes"])
def test_weight_two_is_the_row_twice_in_full_batches(data):
    """Whole-number weights over three full-batch blocks give what repeated rows give, zero weights included."""
    X, y = data
    weights = np.random.default_rng(0).integers(0, 4, size=len(X)).astype(float)
    estimator = LinearRegressor if y.dtype.kind == "f" else LinearClassifier
    kwargs = {"classes": [0, 1]} if estimator is LinearClassifier else {}
    one = estimator(batch_size="full", learning_rate=0.01, random_state=0)
    two = clone(one)
    for rows in np.array_split(np.arange(len(y)), 3) * 3:
        w = weights[rows].astype(int)
        one.partial_fit(X[rows], y[rows], sample_weight=weights[rows], **kwargs)
        two.partial_fit(np.repeat(X[rows], w, axis=0), np.repeat(y[rows], w), **kwargs)
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-10, atol=1e-12 * np.abs(two.coef_).max())


@pytest.mark.parametrize("batch_size", [1, 16])
def test_weight_zero_is_absence(batch_size):
    """Rows of weight 0 leave the same bits as if they had not been there."""
    X, y = CANCER
    weights = (np.random.default_rng(0).random(len(X)) < 0.6).astype(float)
    one = LinearClassifier(batch_size=batch_size, random_state=0)
    two = clone(one)
    for rows in np.array_split(np.arange(len(y)), 4):
        kept = rows[weights[rows] > 0]
        one.partial_fit(X[rows], y[rows], classes=[0, 1], sample_weight=weights[rows])
        two.partial_fit(X[kept], y[kept], classes=[0, 1])
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-12)


def test_weights_are_relative_to_those_of_other_blocks():
    """A constant times every weight changes nothing; a block of double weight counts double against the others."""
    X, y = CANCER
    one, other = (LinearClassifier(random_state=0) for _ in "ab")
    for rows in np.array_split(np.arange(len(y)), 4):
        one.partial_fit(X[rows], y[rows], classes=[0, 1], sample_weight=np.ones(len(rows)))
        other.partial_fit(X[rows], y[rows], classes=[0, 1], sample_weight=np.full(len(rows), 1e6))
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-7)


def test_a_dict_of_class_weights_counts():
    """A dict of weights moves the predictions towards the heavier class."""
    X, y = CANCER
    heavy = in_blocks(LinearClassifier(class_weight={0: 20.0}, random_state=0), X, y, 5, 5)
    plain = in_blocks(LinearClassifier(random_state=0), X, y, 5, 5)
    assert heavy.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean() + 0.02
    with pytest.raises(ValueError, match="class_weight"):
        LinearClassifier(class_weight={0: 0.0}).partial_fit(X[:50], np.zeros(50, int), classes=[0, 1])


@pytest.mark.parametrize("labels", [np.array([0, 1, 2]), np.array(["a", "b", "c"])])
def test_balanced_weights_go_by_the_counts_given(labels):
    """``classes={class: count}`` and "balanced" weigh rows as the dict n / (K · count) does from the start on."""
    X, y = IRIS[0][30:], labels[IRIS[1][30:]]
    counts = {label: int((y == label).sum()) for label in labels}
    one = LinearClassifier(class_weight="balanced", random_state=0)
    two = LinearClassifier(class_weight={c: len(y) / (3 * n) for c, n in counts.items()}, random_state=0)
    for rows in np.array_split(np.random.default_rng(0).permutation(len(y)), 6):
        one.partial_fit(X[rows], y[rows], classes=counts)
        two.partial_fit(X[rows], y[rows], classes=labels)
    np.testing.assert_array_equal(one.coef_, two.coef_)
    plain = in_blocks(LinearClassifier(random_state=0), X, y, 6, 1)
    assert np.abs(plain.coef_ - one.coef_).max() > 1e-3
    np.testing.assert_array_equal(clone(one).partial_fit(X, y, classes=counts).classes_, labels)


def test_balanced_weights_go_by_the_counts_of_fit():
    """After ``fit`` its rows' counts hold: the next block is weighed as by the dict of them."""
    X, y = CANCER
    one = LinearClassifier(class_weight="balanced", random_state=0).fit(X[:300], y[:300])
    counts = np.bincount(y[:300])
    two = LinearClassifier(class_weight=dict(enumerate(300 / (2 * counts))), random_state=0).fit(
        X[:300], y[:300]
    )
    one.partial_fit(X[300:], y[300:])
    two.partial_fit(X[300:], y[300:])
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-9)


@pytest.mark.parametrize("counts", [{0: -1, 1: 2}, {0: 0, 1: 0}, {0: np.nan, 1: 1}, {0: "a", 1: 1}, {0: 5}])
def test_counts_that_cannot_be_are_refused(counts):
    """Counts below 0, all 0, not finite, no numbers, or of one class raise ValueError naming ``classes``."""
    model = LinearClassifier(class_weight="balanced")
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X0, Y0, classes=counts)
    assert not hasattr(model, "classes_")
    assert model._class_counts is None


# --- every loss, penalty, optimizer ----------------------------------------------------------------

TARGETS = {
    "log_loss": IRIS,
    "hinge": CANCER,
    "squared_hinge": IRIS,
    "modified_huber": CANCER,
    "squared_error": DIABETES,
    "huber": DIABETES,
    "epsilon_insensitive": DIABETES,
    "quantile": DIABETES,
    "poisson": (DIABETES[0], DIABETES[1] / 100.0),
}


@pytest.mark.parametrize("loss", TARGETS)
@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
def test_blocks_of_every_row_are_the_epochs_of_fit(loss, penalty):
    """Four full batches of the same rows end where ``fit`` with four epochs does, whatever steps are taken."""
    X, y = TARGETS[loss]
    classifies = LOSSES[loss].task == "classification"
    estimator = LinearClassifier if classifies else LinearRegressor
    first = {"classes": np.unique(y)} if classifies else {}
    # The intercept's gradient is 0 but for rounding at squared error's start; to divide it by its size is chaos.
    by_size = () if loss == "squared_error" else ("adagrad", "rmsprop", "adam", "adamw")
    for rows, optimizer, schedule, clip in product(
        (X, csr_array(X)),
        ("sgd", "momentum", "nesterov", *by_size),
        ("constant", "inverse-scaling"),
        (None, 0.1),
    ):
        whole = estimator(
            loss=loss,
            penalty=penalty,
            alpha=1e-2,
            optimizer=optimizer,
            schedule=schedule,
            clip=clip,
            batch_size="full",
            learning_rate=0.001,
            average=False,
            epochs=4,
            random_state=0,
        )
        blocks = clone(whole)
        for _ in range(4):
            blocks.partial_fit(rows, y, **first)
        whole.fit(rows, y)
        size = np.abs(whole.standardized_coef_).max()
        np.testing.assert_allclose(
            blocks.standardized_coef_, whole.standardized_coef_, rtol=1e-7, atol=1e-7 * size
        )
        np.testing.assert_allclose(blocks.intercept_, whole.intercept_, rtol=1e-6, atol=1e-7 * size)


def test_zeros_of_l1_stay_zero_as_scales_change():
    """Weights expressed in another scaling: those at zero are zero to the last bit, and no others."""
    rng = np.random.default_rng(0)
    P = rng.normal(size=(2, 7)) * rng.integers(0, 2, size=(2, 7))
    one, other = (Scaling(rng.normal(size=6), rng.uniform(0.1, 9, 6), np.ones(2), np.ones(2)) for _ in "ab")
    np.testing.assert_array_equal(carry(P, one, other)[:, :-1] == 0.0, P[:, :-1] == 0.0)


def test_poisson_gets_over_a_block_of_zeros():
    """Counts that begin with nothing but zeros do not send the intercept where no gradient brings it back."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = rng.poisson(np.exp(0.5 * X[:, 0] + 0.5))
    model = LinearRegressor(loss="poisson", batch_size=1, random_state=0).partial_fit(X[:50], np.zeros(50))
    assert model.predict(X[:50]).max() < 0.1
    in_blocks(model, X, y, 8, 3)
    assert model.coef_[0] == pytest.approx(0.5, abs=0.15)
    assert model.predict(X).mean() == pytest.approx(y.mean(), rel=0.2)


def test_the_average_may_be_another_from_block_to_block():
    """Set to polyak and back to the tail in midstream, the average that is returned is of the kind that is set."""
    X, y = CANCER
    model = LinearClassifier(average="polyak", batch_size=8, random_state=0).partial_fit(X, y, classes=[0, 1])
    assert isinstance(model._stream.tail, PolyakAverage)
    model.set_params(average="tail").partial_fit(X, y)
    assert not isinstance(model._stream.tail, PolyakAverage)
    assert model._stream.tail.closed is not None
    assert model.score(X, y) > 0.9


# --- refusals --------------------------------------------------------------------------------------

X0, Y0 = CANCER


def changed(value):
    X = X0.copy()
    X[3, 2] = value
    return X


BAD = {
    "X nan": (lambda m: m.partial_fit(changed(np.nan), Y0, **m.first), "X contains NaN"),
    "X infinite": (lambda m: m.partial_fit(changed(np.inf), Y0, **m.first), "X contains infinity"),
    "X object": (lambda m: m.partial_fit(np.full((9, 3), "a"), Y0[:9], **m.first), "could not convert"),
    "X complex": (lambda m: m.partial_fit(X0 * 1j, Y0, **m.first), "(?i)complex"),
    "X 3-D": (lambda m: m.partial_fit(X0[:, :, None], Y0, **m.first), "X.*dim 3|3.*dimensions|dim 3"),
    "X empty": (lambda m: m.partial_fit(X0[:0], Y0[:0], **m.first), "0 sample"),
    "X no columns": (lambda m: m.partial_fit(X0[:, :0], Y0, **m.first), r"0 feature"),
    "lengths": (lambda m: m.partial_fit(X0, Y0[:-1], **m.first), "inconsistent numbers"),
    "y nan": (lambda m: m.partial_fit(X0, np.where(Y0, np.nan, 0.0), **m.first), "y contains NaN|Input y"),
    "weights zero": (lambda m: m.partial_fit(X0, Y0, sample_weight=Y0 * 0.0, **m.first), "sample_weight|weights"),
    "weights negative": (lambda m: m.partial_fit(X0, Y0, sample_weight=Y0 - 0.5, **m.first), "sample_weight"),
    "weights nan": (lambda m: m.partial_fit(X0, Y0, sample_weight=Y0 * np.nan, **m.first), "sample_weight"),
    "weights short": (lambda m: m.partial_fit(X0, Y0, sample_weight=[1.0], **m.first), "sample_weight"),
}  # fmt: skip


class Classifier(LinearClassifier):
    first = {"classes": [0, 1]}  # noqa: RUF012


class Regressor(LinearRegressor):
    first = {}  # noqa: RUF012


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("estimator", [Classifier, Regressor])
def test_a_refused_block_changes_nothing(estimator, name):
    """A value that cannot be used raises ValueError naming it; nothing is set, and a model stays what it was."""
    call, said = BAD[name]
    model = estimator()
    before = dict(vars(model))
    with pytest.raises(ValueError, match=said):
        call(model)
    assert vars(model) == before
    model = estimator(random_state=0).partial_fit(X0, Y0, **estimator.first)
    held = model.predict(X0)
    updates = model.history_.last["updates"]
    with pytest.raises(ValueError, match=r".*"):
        call(model)
    np.testing.assert_array_equal(model.predict(X0), held)
    assert model.history_.last["updates"] == updates
    model.partial_fit(X0, Y0)


def test_classes_are_needed_once_and_hold():
    """Without classes the first call is refused; unseen labels and other classes are named."""
    X, y = IRIS
    model = LinearClassifier(random_state=0)
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(X, y)
    assert not hasattr(model, "classes_")
    with pytest.raises(ValueError, match="classes holds 1"):
        model.partial_fit(X, y * 0, classes=[0])
    with pytest.raises(ValueError, match=r"y holds the label 2.*classes"):
        model.partial_fit(X, y, classes=[0, 1])
    assert not hasattr(model, "classes_")
    model.partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y)
    with pytest.raises(ValueError, match="classes is"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"y holds the label 7"):
        model.partial_fit(X, y + 7)


@pytest.mark.parametrize(
    "labels", [np.array(["no", "yes"]), np.array([-1, 1]), np.array([False, True]), np.array([2.0, 5.0])]
)
def test_labels_come_back_as_they_came(labels):
    """Predictions have the labels' own values; classes that never came have a column of their own."""
    y = labels[Y0]
    model = LinearClassifier(random_state=0).partial_fit(X0, y, classes=labels)
    assert (model.predict(X0) == y).mean() > 0.9
    three = LinearClassifier(random_state=0).partial_fit(X0, Y0, classes=[0, 1, 9])
    assert three.predict_proba(X0).shape == (len(X0), 3)
    assert three.predict_proba(X0)[:, 2].mean() < 0.2


def test_one_row_is_enough():
    """A block of one row is learnt from, with finite parameters."""
    model = LinearClassifier(random_state=0).partial_fit(X0[:1], Y0[:1], classes=[0, 1])
    assert np.isfinite(model.coef_).all()
    assert model.predict(X0[:1]) == Y0[:1]
    model = LinearRegressor(random_state=0).partial_fit(X0[:1], [5.0])
    assert model.predict(X0[:1]) == pytest.approx([5.0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"class_weight": "balanced"}, "class_weight"),
        ({"early_stopping": True}, "early_stopping"),
        ({"schedule": "linear", "epochs": 3}, "schedule"),
        ({"batch_size": 0}, "batch size"),
        ({"class_weight": {5: 1.0}}, "class_weight"),
    ],
)
def test_settings_that_need_every_row_are_named(settings, said):
    """A setting that cannot be met block by block raises ValueError naming it, and sets nothing."""
    model = LinearClassifier(**settings)
    with pytest.raises(ValueError, match=said):
        model.partial_fit(X0, Y0, classes=[0, 1])
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("optimizer", ["saga", "lbfgs", "newton"])
@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
def test_optimizers_of_all_rows_have_no_partial_fit(estimator, optimizer):
    """As scikit-learn's networks do it: the method is not there, and asking for it says why."""
    model = estimator(optimizer=optimizer)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit") as caught:
        model.partial_fit(X0, Y0)
    assert f"optimizer '{optimizer}'" in str(caught.value.__cause__)
    assert hasattr(estimator(), "partial_fit")


def test_tables_of_text_are_sent_to_fit():
    """A column of text is refused by name, and so is a block after a fit of such a table."""
    frame = pd.DataFrame({"a": ["x", "y"] * 20, "b": np.arange(40.0)})
    y = np.arange(40) % 2
    with pytest.raises(ValueError, match="X has columns of text"):
        LinearClassifier().partial_fit(frame, y, classes=[0, 1])
    with pytest.raises(ValueError, match="X has columns of text"):
        LinearClassifier(random_state=0).fit(frame, y).partial_fit(np.ones((4, 2)), y[:4])


def test_column_names_are_kept_and_checked():
    """Names of a table of numbers are kept; a block with other names or another number of columns is refused."""
    frame = pd.DataFrame(X0[:, :3], columns=["a", "b", "c"])
    model = LinearClassifier(random_state=0).partial_fit(frame, Y0, classes=[0, 1])
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame.rename(columns={"a": "z"}), Y0)
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame[["a", "b"]], Y0)
    with pytest.raises(ValueError, match="3 features"):
        LinearClassifier().partial_fit(X0[:, :2], Y0, classes=[0, 1]).partial_fit(X0[:, :3], Y0)


def test_a_block_that_diverges_teaches_nothing():
    """At an impossible rate a warning says so, and the model stays finite and what it was."""
    model = LinearRegressor(random_state=0).partial_fit(*DIABETES)
    before = model.predict(DIABETES[0])
    model.set_params(learning_rate=1e6)
    with pytest.warns(ConvergenceWarning, match="diverged: learning rate"):
        model.partial_fit(*DIABETES)
    np.testing.assert_allclose(model.predict(DIABETES[0]), before, rtol=1e-10)
    assert np.isfinite(model._stream.state.parameters).all()
    assert np.abs(model._stream.state.parameters).max() < 10.0


@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
def test_an_early_block_that_diverges_teaches_nothing(estimator, when):
    """Among the first 32 rows too, which are learnt anew with each block: what was known before is carried along."""
    X, y = CANCER
    kwargs = {"classes": [0, 1]} if estimator is LinearClassifier else {}
    model = estimator(random_state=0, loss="squared_hinge" if kwargs else "squared_error")
    scores = model.decision_function if estimator is LinearClassifier else model.predict
    blocks = [slice(0, 20), slice(20, 28), slice(28, 34)]
    for block in blocks[:when]:
        model.partial_fit(X[block], y[block], **kwargs)
    before = scores(X)
    assert np.ptp(before) > 0.1
    model.set_params(learning_rate=1e6)
    with pytest.warns(ConvergenceWarning, match="diverged: learning rate"):
        model.partial_fit(X[blocks[when]], y[blocks[when]])
    np.testing.assert_allclose(scores(X), before, rtol=1e-8, atol=1e-8)
    model.set_params(learning_rate="auto")
    for block in blocks[when + 1 :]:
        model.partial_fit(X[block], y[block])
    assert model._stream.num_rows == 34
    assert model._stream.early is None
    assert np.isfinite(scores(X)).all()


def test_callbacks_see_every_block():
    """Callbacks are told of each block once; one that raises leaves the model with the block learnt."""
    seen = []
    model = LinearClassifier(random_state=0, callbacks=[seen.append])
    in_blocks(model, *IRIS, num_blocks=3)
    assert [o.epoch for o in seen] == [1.0, 2.0, 3.0]

    def fail(observation):
        raise RuntimeError("mine")

    model.set_params(callbacks=[fail])
    with pytest.raises(RuntimeError, match="mine"):
        model.partial_fit(*IRIS)
    assert model.n_iter_ == 4


def test_one_random_state_one_model():
    """Two streams with one random_state are equal to the last bit."""
    one, other = (in_blocks(LinearClassifier(random_state=3), *DIGITS, num_blocks=4) for _ in "ab")
    np.testing.assert_array_equal(one.coef_, other.coef_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_blocks(LinearClassifier(random_state=4), *DIGITS, num_blocks=4)


# --- sparse rows -----------------------------------------------------------------------------------


def sparse_rows(n=600, d=40):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.2) * 10.0 ** rng.integers(-2, 3, size=d)
    w = rng.normal(size=d) / np.maximum(X.std(axis=0), 1e-9)
    return X, (X @ w + 0.3 * rng.normal(size=n) > 0).astype(int)


def test_sparse_blocks_are_learnt_from():
    """Blocks of CSR rows end near fit, at every batch size, and a refused dense-to-sparse change names X."""
    X, y = sparse_rows()
    rows = csr_array(X)
    best = LinearClassifier(random_state=0).fit(rows, y).score(rows, y)
    for batch_size in (1, 32, "auto"):
        model = in_blocks(LinearClassifier(batch_size=batch_size, random_state=0), rows, y, 6, 10)
        assert model.score(rows, y) > best - 0.05
        assert model.model_.features.takes_sparse
    assert in_blocks(LinearClassifier(random_state=0), rows[:100], y[:100], 100).score(rows, y) > 0.6
    with pytest.raises(ValueError, match="X is sparse"):
        LinearClassifier(random_state=0).partial_fit(X, y, classes=[0, 1]).partial_fit(rows, y)


def test_sparse_predictions_do_not_jump():
    """Sparse rows that change every scale move no prediction, after fit as after blocks; dense rows may follow."""
    X, y = sparse_rows()
    rows = csr_array(X)
    for model in (
        LinearClassifier(random_state=0, average=False).fit(rows, y),
        LinearClassifier(random_state=0, average=False).partial_fit(rows, y, classes=[0, 1]),
    ):
        before = model.decision_function(rows)
        model.set_params(learning_rate=1e-300).partial_fit(1e3 * rows, y)
        np.testing.assert_allclose(model.decision_function(rows), before, rtol=1e-8, atol=1e-10)
        model.partial_fit(X, y)
        np.testing.assert_allclose(model.decision_function(X), before, rtol=1e-8, atol=1e-10)


def test_nothing_of_single_rows_is_kept():
    """What a stream remembers does not grow with its rows."""
    X, y = sparse_rows()
    model = LinearClassifier(random_state=0).fit(csr_array(X), y)
    sizes = []
    for _ in range(3):
        model.partial_fit(csr_array(X), y)
        sizes.append(len(pickle.dumps(model._stream.learned)) + len(pickle.dumps(model._learned)))
    assert sizes[0] == sizes[-1]
