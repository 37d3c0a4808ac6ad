"""What ``partial_fit`` refuses, and that nothing is learnt from what it refuses."""

import numpy as np
import pandas as pd
import pytest
from blocks import CANCER, DIABETES, IRIS
from sklearn.exceptions import ConvergenceWarning

from descend import LinearClassifier, LinearRegressor

X0, Y0 = CANCER


def changed(value):
    X = X0.copy()
    X[3, 2] = value
    return X


# What is found out at different places on the way; ``test_refusals.py`` has every kind of bad value.
BAD = {
    "X": ((changed(np.nan), Y0), {}, "X contains NaN"),
    "columns": ((X0[:, :3], Y0), {}, "X has 3 features"),
    "y": ((X0, np.where(Y0, np.nan, 0.0)), {}, "y contains NaN"),
    "lengths": ((X0, Y0[:-1]), {}, "inconsistent numbers of samples"),
    "all weights": ((X0, Y0), {"sample_weight": np.zeros(len(Y0))}, "(?i)sample.?weight"),
    "one weight": ((X0, Y0), {"sample_weight": [1.0]}, "sample_weight"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
def test_a_refused_block_changes_nothing(estimator, name):
    """After a refused block the next one ends, to the last bit, where it does without the refused one."""
    rows, weights, said = BAD[name]
    first = {"classes": [0, 1]} if estimator is LinearClassifier else {}
    model, other = (
        estimator(optimizer="momentum", random_state=0).partial_fit(X0[:300], Y0[:300], **first) for _ in "ab"
    )
    with pytest.raises(ValueError, match=said):
        model.partial_fit(*rows, **weights)
    np.testing.assert_array_equal(model.predict(X0), other.predict(X0))
    for one in (model, other):
        one.partial_fit(X0[300:], Y0[300:])
    np.testing.assert_array_equal(model.coef_, other.coef_)
    np.testing.assert_array_equal(model.model_.features.scale, other.model_.features.scale)
    for column in ("epoch", "updates", "rows", "loss"):
        assert model.history_[column] == other.history_[column]


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
