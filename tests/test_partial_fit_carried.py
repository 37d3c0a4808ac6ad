"""What is carried over from one block to the next: scaling, memory, counts; before and after ``fit``."""

import pickle

import numpy as np
import pytest
from blocks import CANCER, IRIS, WINE, in_blocks
from sklearn.base import clone

from descend import LinearClassifier, LinearRegressor, load
from descend.engines.linear import LinearEngine
from descend.features import Features
from descend.features.statistics import Statistics
from descend.models.scaling import Scaling, carry, carry_gradient
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.types import Dataset


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


def test_zeros_of_l1_stay_zero_as_scales_change():
    """Weights expressed in another scaling: those at zero are zero to the last bit, and no others."""
    rng = np.random.default_rng(0)
    P = rng.normal(size=(2, 7)) * rng.integers(0, 2, size=(2, 7))
    one, other = (Scaling(rng.normal(size=6), rng.uniform(0.1, 9, 6), np.ones(2), np.ones(2)) for _ in "ab")
    np.testing.assert_array_equal(carry(P, one, other)[:, :-1] == 0.0, P[:, :-1] == 0.0)
