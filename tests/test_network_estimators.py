"""MLPClassifier and MLPRegressor: what they learn, what they are given, and what they refuse."""

import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning

from descend import InputError, MLPClassifier, MLPRegressor, load
from descend.models.network import Network, initialise
from descend.objectives.activations import ACTIVATIONS


def waves(num_rows=1500, seed=0):
    """A surface that no linear model sees."""
    X = np.random.default_rng(seed).uniform(-2, 2, size=(num_rows, 2))
    return X, np.sin(2 * X[:, 0]) * X[:, 1]


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "gelu"])
def test_a_surface_that_no_line_sees_is_learnt(activation):
    """With nothing else set, every activation with a bend explains more than 95 % of new rows' variance."""
    X, y = waves()
    model = MLPRegressor(activation=activation, random_state=0).fit(X, y)
    new_X, new_y = waves(seed=1)
    assert model.score(new_X, new_y) > 0.95
    assert model.history_.stopped == "early_stopping"


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad"])
def test_every_optimizer_finds_its_rate(optimizer):
    """With the automatic rate every optimizer tells more than 90 % of digits that other people wrote."""
    X, y = load_digits(return_X_y=True)
    model = MLPClassifier(optimizer=optimizer, epochs=20, random_state=0).fit(X[:1200], y[:1200])
    assert model.score(X[1200:], y[1200:]) > 0.9


@pytest.mark.parametrize(("factor", "told"), [(1.0, False), (3.0, False), (50.0, True), (0.001, True)])
def test_an_output_that_is_small_beside_another_is_told(factor, told):
    """Outputs share one loss: where one varies 10 times less than another, notes name it and say what to do."""
    X, y = waves(300)
    Y = np.c_[factor * (y - y.mean()) / y.std(), (X[:, 0] - X[:, 0].mean()) / X[:, 0].std()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        notes = MLPRegressor((4,), epochs=2, random_state=0).fit(X, Y).history_.notes
    said = [note for note in notes if "scale the outputs alike" in note]
    assert len(said) == told
    if told:
        assert f"output {int(factor > 1.0)} varies" in said[0]


@pytest.mark.parametrize("batch_size", [1, 8, 100, "full"])
def test_every_batch_size_learns(batch_size):
    """Stochastic, mini-batch and batch gradient descent all tell iris apart."""
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier(batch_size=batch_size, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.95
    assert model.batch_size_ == (150 if batch_size == "full" else batch_size)


def test_the_rate_falls_as_nothing_more_is_gained():
    """From what 100 units bear, the rate doubles once and falls to a quarter, twice; the last row is the model."""
    X, y = waves()
    model = MLPRegressor(early_stopping=False, random_state=0).fit(X, y)
    rates = list(dict.fromkeys(model.history_.columns["learning_rate"]))
    np.testing.assert_allclose(rates, [1e-2, 2e-2, 5e-3, 1.25e-3])
    assert "begun at 3.33 times that" in model.model_.summary["learning_rate_reason"]
    expected = 0.5 * np.mean((model.predict(X) - y) ** 2)
    penalty = 0.5e-4 * sum(np.sum(w**2) for w in model.coefs_) * np.var(y)
    assert model.history_.last["loss"] == pytest.approx(expected + penalty, rel=1e-6)


def test_the_ladder_is_in_the_history_and_on_the_clock():
    """Rates that were tried for SGD stand in the history with their seconds, before the training that goes on."""
    X, y = waves()
    model = MLPRegressor(optimizer="sgd", epochs=3, random_state=0).fit(X, y)
    columns = model.history_.columns
    rungs = [
        rate for rate, epoch in zip(columns["learning_rate"], columns["epoch"], strict=True) if epoch < 1
    ][1:]
    assert len(rungs) > 3
    assert rungs[1] == pytest.approx(2 * rungs[0])
    assert "ladder" in model.model_.summary["learning_rate_reason"]
    seconds = columns["seconds"]
    assert seconds == sorted(seconds)
    assert seconds[len(rungs)] > 0


def test_rows_held_out_choose_the_parameters():
    """With early stopping the last row of the history has the lowest loss of the rows held out."""
    X, y = load_breast_cancer(return_X_y=True)
    model = MLPClassifier(early_stopping=True, random_state=0).fit(X, y)
    held_out = model.history_.columns["validation_loss"]
    assert model.history_.stopped == "early_stopping"
    assert held_out[-1] <= min(held_out[10:]) + 1e-12
    assert MLPClassifier(random_state=0, epochs=2).fit(X, y).history_.last["validation_loss"] is None


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_plateau_at_the_beginning_is_no_end(activation):
    """At a rate of one's own, too, 40 rows held out do not end a run that has not yet learnt anything."""
    X, y = waves(400)
    model = MLPRegressor(activation=activation, learning_rate=3e-3, random_state=0).fit(X, y)
    assert model.history_.last["validation_loss"] is not None
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize(("num_rows", "held_out"), [(299, False), (300, True)])
def test_enough_rows_are_held_out_by_themselves(num_rows, held_out):
    """early_stopping="auto" holds rows out from 300 on; who says how many epochs gets as many, on all rows."""
    X, y = waves(num_rows)
    enough = [lambda seen: seen.epoch >= 1]
    last = MLPRegressor(random_state=0, callbacks=enough).fit(X, y).history_.last
    assert (last["validation_loss"] is not None) == held_out
    assert MLPRegressor(epochs=1, random_state=0).fit(X, y).history_.last["validation_loss"] is None


def test_labels_of_a_row_that_are_no_labels_are_refused():
    """A label is kept in a byte: a number that none holds is named, not cut to one that it does."""
    X, there = np.random.default_rng(0).normal(size=(40, 3)), np.arange(120).reshape(40, 3) % 2
    with pytest.raises(ValueError, match="holds 300; several labels a row are each 0 or 1"):
        MLPClassifier(hidden_layer_sizes=(4,)).partial_fit(X, 300 * there)


def test_several_labels_a_row():
    """Labels that are there or not are told each, with probabilities; the file keeps that."""
    X, y = load_digits(return_X_y=True)
    labels = np.column_stack([y % 2 == 0, y > 4, y == 3]).astype(int)
    model = MLPClassifier(random_state=0, epochs=20).fit(X[:1200], labels[:1200])
    assert (model.predict(X[1200:]) == labels[1200:]).mean() > 0.93
    assert model.predict_proba(X[1200:]).shape == (597, 3)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), rtol=1e-9)


def test_several_numbers_a_row():
    """A target of two columns gives predictions of two columns."""
    X, y = waves()
    model = MLPRegressor(random_state=0).fit(X, np.column_stack([y, X[:, 0] ** 2]))
    assert model.predict(X).shape == (1500, 2)
    assert model.score(X, np.column_stack([y, X[:, 0] ** 2])) > 0.95


@pytest.mark.parametrize("loss", ["huber", "epsilon_insensitive", "quantile", "poisson"])
def test_other_losses_of_numbers_learn(loss):
    """Each loss for numbers explains most of what a bent surface of counts holds."""
    X, y = waves()
    y = np.round(3 * np.exp(y / 2))
    assert MLPRegressor(loss=loss, random_state=0, epochs=60).fit(X, y).score(X, y) > 0.8


def test_a_weight_of_two_is_the_row_twice():
    """A full batch with whole-number weights ends where the same rows repeated do."""
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:60], y[:60]
    counts = np.random.default_rng(0).integers(1, 4, size=60)
    how = {"batch_size": "full", "epochs": 50, "shuffle": False, "random_state": 0}
    weighted = MLPRegressor(**how).fit(X, y, sample_weight=counts)
    repeated = MLPRegressor(**how).fit(X.repeat(counts, axis=0), y.repeat(counts))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-7)


def test_class_weights_move_the_answers():
    """Balanced weights find more rows of a rare class."""
    X, y = make_classification(900, weights=[0.95], flip_y=0.1, class_sep=0.5, random_state=0)
    found = [
        MLPClassifier(class_weight=w, epochs=10, random_state=0).fit(X, y).predict(X).sum()
        for w in (None, "balanced")
    ]
    assert found[1] > 1.5 * found[0]


def test_sparse_rows_learn_like_dense_ones():
    """CSR rows without standardising give the predictions of the same rows written out."""
    X, y = load_digits(return_X_y=True)
    how = {"standardize": False, "epochs": 5, "random_state": 0, "learning_rate": 1e-3}
    dense = MLPClassifier(**how).fit(X, y)
    sparse = MLPClassifier(**how).fit(csr_array(X), y)
    np.testing.assert_allclose(
        sparse.predict_proba(X[:50]), dense.predict_proba(X[:50]), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        sparse.predict_proba(csr_array(X[:50])), dense.predict_proba(X[:50]), rtol=1e-6, atol=1e-9
    )


def test_the_same_seed_gives_the_same_network_whatever_the_threads():
    """Two fits with one seed are equal to the last bit, with one thread or two; another seed is another network."""
    X, y = waves(3000)
    models = [MLPRegressor(batch_size=b, epochs=3, random_state=s, n_jobs=j).fit(X, y)
              for b, s, j in ((1500, 0, 1), (1500, 0, 2), (1500, 1, 1))]  # fmt: skip
    first, same, other = (model.predict(X) for model in models)
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)


def test_a_saved_network_predicts_the_same(tmp_path):
    """Saved and loaded, a network has the same predictions, settings and history, in a file of equal bytes."""
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier(
        (12, 5), "tanh", class_weight={0: 2.0, 1: 1.0, 2: 1.0}, epochs=4, weight_decay=0.01
    ).fit(X, y)
    loaded = load(model.save(tmp_path / "iris.descend"))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.get_params() | {"random_state": None} == model.get_params()
    assert loaded.history_.columns == model.history_.columns
    loaded.save(tmp_path / "again.descend")
    assert (tmp_path / "again.descend").read_bytes() == (tmp_path / "iris.descend").read_bytes()


def test_warm_start_goes_on():
    """With warm_start a second fit begins at the loss where the first ended."""
    X, y = waves()
    model = MLPRegressor(warm_start=True, epochs=10, random_state=0).fit(X, y)
    before = model.history_.last["loss"]
    model.set_params(epochs=1).fit(X, y)
    assert model.history_.columns["loss"][0] == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("rows_at_once", [7, 40, 400])
def test_learning_block_by_block(rows_at_once):
    """So many epochs of blocks, of any size, explain nearly what a fit of as many epochs at one rate does."""
    X, y = waves(400)
    whole = MLPRegressor(random_state=0, epochs=40, learning_rate=3e-3).fit(X, y).score(X, y)
    model = MLPRegressor(random_state=0)
    for _ in range(40):
        for start in range(0, 400, rows_at_once):
            model.partial_fit(X[start : start + rows_at_once], y[start : start + rows_at_once])
    assert whole > 0.2
    assert model.score(X, y) > whole - 0.05


def test_rows_one_by_one_are_learnt():
    """A row at a time, six times over, tells more than 90 % of iris."""
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier(random_state=0)
    for row in np.random.default_rng(0).permutation(150).tolist() * 6:
        model.partial_fit(X[row : row + 1], y[row : row + 1], classes=[0, 1, 2])
    assert model.score(X, y) > 0.9


def test_new_rows_on_another_scale_do_not_make_predictions_jump():
    """A block far away changes the scaling, and hardly what was predicted before it."""
    X, y = waves(400)
    model = MLPRegressor(random_state=0, learning_rate=1e-14, optimizer="sgd", average=False)
    for _ in range(3):
        model.partial_fit(X, y)
    before = model.predict(X)
    model.partial_fit(10 * X[:50] + 5, y[:50])
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-8, atol=1e-9)


def test_a_fit_may_be_followed_by_blocks():
    """partial_fit goes on from fit: what was learnt is still there after one block."""
    X, y = waves()
    model = MLPRegressor(random_state=0).fit(X, y)
    score = model.score(X, y)
    model.partial_fit(X[:100], y[:100])
    assert model.score(X, y) > score - 0.05


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes holds 0"),
        ({"hidden_layer_sizes": "10"}, "hidden_layer_sizes is '10'"),
        ({"hidden_layer_sizes": (2.5,)}, "hidden_layer_sizes holds 2.5"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"optimizer": "lbfgs"}, "which networks do not take"),
        ({"loss": "squared_error"}, "is for regression, and the task is classification"),
    ],
)
def test_what_cannot_be_used_is_named(parameters, told):
    """A setting that does not fit is refused before training, by its name and value."""
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match=told):
        MLPClassifier(**parameters).fit(X, y)


def test_divergence_is_told_and_leaves_finite_numbers():
    """A rate far too high warns with the rate, and the network that is kept predicts finite numbers."""
    X, y = waves(300)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = MLPRegressor(optimizer="sgd", learning_rate=1e6, random_state=0).fit(X, y)
    assert any(issubclass(w.category, ConvergenceWarning) and "1e+06" in str(w.message) for w in caught)
    assert np.isfinite(model.predict(X)).all()


def test_first_weights_have_the_variance_that_their_activation_wants():
    """He's variance 2 / inputs for relu, Glorot's 2 / (inputs + outputs) for tanh; equal in both precisions."""
    for name, variance in (("relu", 2 / 300), ("tanh", 2 / 700)):
        network = Network((300, 400, 3), ACTIVATIONS[name])
        weights, bias = network.parts(initialise(network, 0, np.float64))[0]
        assert weights.var() == pytest.approx(variance, rel=0.02)
        assert not bias.any()
        narrow = network.parts(initialise(network, 0, np.float32))[0][0]
        np.testing.assert_allclose(narrow, weights, rtol=1e-6)


def test_small_whole_numbers_are_learnt_like_float32():
    """Pixels of a byte each give the network that the same rows in float32 do."""
    X = np.random.default_rng(0).integers(0, 256, size=(3000, 400)).astype(np.uint8)
    y = (X[:, 0] > X[:, 1]).astype(int)
    small, plain = (
        MLPClassifier((8,), epochs=2, random_state=0).fit(rows, y) for rows in (X, X.astype(np.float32))
    )
    np.testing.assert_allclose(small.predict_proba(X), plain.predict_proba(X.astype(np.float32)), atol=2e-3)
