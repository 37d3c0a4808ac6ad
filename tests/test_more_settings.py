"""Schedules that watch, averages, clipping, and what margins and counts predict: from settings to results."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from support import rule

from descend import LinearClassifier, LinearRegressor, load
from descend.batches import Visits
from descend.engines.base import KeepsNothing, State
from descend.errors import InputError
from descend.recipe import Phase
from descend.settings import Settings
from descend.training import train
from descend.updates.schedules import PLATEAU_EPOCHS
from descend.watching import Limits, Watch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4))
SIDES = (X @ [1.0, -1.0, 0.5, 0.0] + 0.5 * RNG.normal(size=300) > 0).astype(int)
THREE = np.digitize(X[:, 0] + 0.3 * RNG.normal(size=300), [-0.5, 0.5])


class Flat(KeepsNothing):
    """An engine whose loss falls for three epochs and then stays."""

    num_rows = 10

    def __init__(self):
        self.paces = []

    def run(self, state, rule, order, batch_size):
        if not len(order):  # asked for to see how long a call takes
            return
        self.paces.append(state.pace)
        state.visits += 10
        state.steps += 1
        state.parameters += 1.0

    def mean_loss(self, parameters, num_rows=None):
        return 10.0 - min(3.0, float(parameters[0, 0]))


def follow(epochs, tol=None):
    engine = Flat()
    watch = Watch(engine, 10, Limits(epochs=epochs, tol=tol, plateau=True))
    phase = Phase("sgd", rule(schedule="plateau", rate=0.5), 10, epochs)
    train(engine, State(np.zeros((1, 2))), [phase], Visits(10), watch)
    return engine, watch


def test_plateau_lowers_the_rate_after_epochs_without_gain():
    """The rate is divided by ten when so many epochs gained nothing, and again after as many more."""
    engine, watch = follow(3 + 2 * PLATEAU_EPOCHS + 1)
    full, tenth = 3 + PLATEAU_EPOCHS, PLATEAU_EPOCHS
    assert engine.paces == pytest.approx([1.0] * full + [0.1] * tenth + [0.01])
    assert watch.history["learning_rate"][-1] == pytest.approx(0.005)


def test_plateau_does_not_end_before_a_lower_rate_was_tried():
    """A run that stops by itself goes on after the first fall of the rate, and ends when that gained nothing."""
    engine, watch = follow(200, tol=1e-3)
    assert watch.stopped == "converged"
    assert min(engine.paces) < 1.0
    assert len(engine.paces) > 3 + PLATEAU_EPOCHS


@pytest.mark.parametrize("average", [True, "tail", "polyak"])
def test_averages_differ_as_their_names_say(average):
    """True is the tail; polyak is the mean of every step's parameters from the first on."""
    how = {"optimizer": "sgd", "learning_rate": 1.0, "batch_size": 1, "epochs": 30, "random_state": 0}
    model = LinearClassifier(average=average, **how).fit(X, SIDES)
    tail = LinearClassifier(average="tail", **how).fit(X, SIDES)
    assert np.array_equal(model.coef_, tail.coef_) == (average != "polyak")


def test_polyak_is_the_mean_of_all_steps():
    """One window that never closes: the mean over steps 1 … 40 is 20.5."""
    from descend.averaging import PolyakAverage

    state, mean = State(np.zeros((1, 1))), PolyakAverage()
    for step in range(1, 41):
        state.steps = state.num_averaged = step
        state.average += (step - state.average) / step
        mean.close_if_due(state)
    assert float(mean.parameters(state)[0, 0]) == pytest.approx(20.5)


def test_clipping_holds_the_first_step():
    """From zero, a full-batch step of rate 1 moves the parameters by the clip length exactly."""
    model = LinearRegressor(optimizer="sgd", learning_rate=1.0, batch_size="full", epochs=1, clip=0.25, penalty=None,
                            standardize=False, random_state=0).fit(X, 100.0 * X[:, 0])  # fmt: skip
    assert np.linalg.norm(model.model_.parameters) == pytest.approx(0.25)


@pytest.mark.parametrize("batch_size", ["full", 300])
def test_an_intercept_that_is_not_fitted_is_not_clipped_for(batch_size):
    """The clip length is that of the gradient which is used: without an intercept, of the weights' alone."""
    model = LinearRegressor(optimizer="sgd", learning_rate=1.0, batch_size=batch_size, epochs=1, clip=0.25,
                            penalty=None, standardize=False, fit_intercept=False, random_state=0,
                            loss="poisson").fit(X, 100.0 + SIDES)  # fmt: skip
    assert model.intercept_ == 0.0
    assert np.linalg.norm(model.model_.parameters) == pytest.approx(0.25)


@pytest.mark.parametrize("y", [SIDES, THREE], ids=["two", "three"])
def test_modified_hubers_probabilities_are_scikit_learns(y):
    """At the same scores, probabilities are those of SGDClassifier, rows that no class claims included."""
    model = LinearClassifier(loss="modified_huber", alpha=0.01, random_state=0).fit(X, y)
    oracle = SGDClassifier(loss="modified_huber", random_state=0).fit(X, y)
    oracle.coef_, oracle.intercept_ = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    far = np.vstack([X, -9.0 * X, 0.0 * X[:1]])
    np.testing.assert_allclose(model.predict_proba(far), oracle.predict_proba(far), atol=1e-12)


def test_margins_have_no_probabilities():
    """Hinge has no predict_proba, and says which losses have; its decision is the score's sign."""
    model = LinearClassifier(loss="hinge", alpha=0.01, random_state=0).fit(X, SIDES)
    assert not hasattr(model, "predict_proba")
    with pytest.raises(AttributeError):
        model.predict_proba(X)
    np.testing.assert_array_equal(model.predict(X), (model.decision_function(X) > 0).astype(int))


def test_a_saved_poisson_predicts_what_it_did(tmp_path):
    """Loading keeps the loss: counts, and not their logarithms, are predicted."""
    counts = np.random.default_rng(3).poisson(np.exp(X[:, 0]))
    model = LinearRegressor(loss="poisson", random_state=0).fit(X, counts)
    again = load(model.save(tmp_path / "counts.descend"))
    np.testing.assert_allclose(again.predict(X), model.predict(X))
    assert (again.predict(X) > 0).all()
    assert model.predict(X).mean() == pytest.approx(counts.mean(), rel=1e-2)


def test_poisson_refuses_targets_below_zero():
    """A negative target is refused by name, with its value."""
    with pytest.raises(InputError, match=r"poisson.*-2"):
        LinearRegressor(loss="poisson").fit(X, np.r_[-2.0, np.ones(299)])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"l1_ratio": 2.0, "penalty": "elasticnet"}, "l1_ratio"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": 0.0, "loss": "huber"}, "epsilon is 0"),
        ({"quantile": 1.0}, "quantile"),
        ({"clip": 0.0}, "clip"),
        ({"schedule": "cosine"}, "epochs=20"),
        ({"schedule": "step"}, "epochs=20"),
        ({"average": "mean"}, "average"),
        ({"clip": 1.0, "optimizer": "saga"}, "clip"),
    ],
)
def test_impossible_settings_are_refused(setting, words):
    """Each is refused in words that name it."""
    with pytest.raises(InputError, match=words):
        Settings(**setting).checked()


@pytest.mark.parametrize(
    ("loss", "penalty", "optimizer"),
    [("hinge", "l2", "saga"), ("hinge", "l1", "saga")],
)
def test_optimizers_that_cannot_are_refused(loss, penalty, optimizer):
    """SAGA on a loss with corners, with any penalty, is refused with what to take instead."""
    with pytest.raises(InputError, match=r'does not go with.*"auto"'):
        LinearClassifier(loss=loss, penalty=penalty, optimizer=optimizer).fit(X, SIDES)


def test_saga_is_refused_for_a_loss_without_a_bound():
    """SAGA's rate comes from the largest second derivative, and poisson has none: refused with what to take."""
    with pytest.raises(InputError, match=r"'saga' does not go with loss 'poisson'.*\"auto\""):
        LinearRegressor(loss="poisson", optimizer="saga").fit(X, SIDES)


RATES = {"sgd": 0.3, "momentum": 0.02, "adagrad": 0.3, "rmsprop": 0.02, "adam": 0.05, "adamw": 0.05}


@pytest.mark.parametrize("optimizer", RATES)
def test_every_optimizer_learns_under_every_schedule(optimizer):
    """Twenty epochs leave at most 3 % of the gain, and end elsewhere where the rate falls by the epoch."""
    lowest = LinearClassifier(optimizer="lbfgs", random_state=0).fit(X, SIDES).history_.last["loss"]
    ends = {}
    for schedule in ("constant", "cosine", "step", "plateau"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = LinearClassifier(
                optimizer=optimizer,
                schedule=schedule,
                learning_rate=RATES[optimizer],
                batch_size=8,
                epochs=20,
                random_state=0,
            ).fit(X, SIDES)
        losses = model.history_["loss"]
        assert losses[-1] - lowest <= 0.03 * (losses[0] - lowest), schedule
        ends[schedule] = model.coef_
    for schedule in ("cosine", "step"):
        assert np.abs(ends[schedule] - ends["constant"]).max() > 0.1, schedule
    assert np.abs(ends["cosine"] - ends["step"]).max() > 0.1


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_lbfgs_on_corners_does_not_certify_too_early(loss):
    """Asked for by name on rows where Newton is exact, L-BFGS ends certified within tol of Newton's end."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(400, 6))
        y = (rows @ rng.normal(size=6) + rng.normal(size=400) > 0).astype(int)
        alpha = 10.0 ** -(1 + seed)
        best = LinearClassifier(loss=loss, alpha=alpha, optimizer="newton", tol=1e-6, random_state=0).fit(
            rows, y
        )
        model = LinearClassifier(loss=loss, alpha=alpha, optimizer="lbfgs", random_state=0).fit(rows, y)
        lowest, first = best.history_.last["loss"], best.history_["loss"][0]
        assert model.history_.stopped == "converged"
        assert model.history_.last["loss"] - lowest <= 1e-3 * (first - lowest)
