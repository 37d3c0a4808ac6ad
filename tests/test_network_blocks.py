"""Networks that learn block by block: what the linear models' streams hold is true of theirs."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from descend import MLPClassifier, MLPRegressor
from descend.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, size=(400, 4))
Y = np.sin(X[:, 0]) + 0.1 * X[:, 1]


@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_an_early_block_that_diverges_teaches_nothing(estimator, when):
    """Among the first 32 rows, which are learnt anew with each block, what was known before is carried along."""
    y = (Y.mean() < Y).astype(int) if estimator is MLPClassifier else Y
    kwargs = {"classes": [0, 1]} if estimator is MLPClassifier else {}
    model = estimator((8,), random_state=0, optimizer="sgd", loss="squared_hinge" if kwargs else None)
    scores = model.decision_function if kwargs else model.predict
    blocks = [slice(0, 20), slice(20, 28), slice(28, 34)]
    for block in blocks[:when]:
        model.partial_fit(X[block], y[block], **kwargs)
    before = scores(X)
    assert np.ptp(before) > 0.1
    model.set_params(learning_rate=1e6)
    with pytest.warns(ConvergenceWarning, match="diverged: learning rate"):
        model.partial_fit(X[blocks[when]], y[blocks[when]])
    np.testing.assert_allclose(scores(X), before, rtol=1e-8, atol=1e-8)
    model.set_params(learning_rate=0.01)
    for block in blocks[when + 1 :]:
        model.partial_fit(X[block], y[block])
    assert model._stream.num_rows == 34
    assert model._stream.early is None
    assert np.isfinite(scores(X)).all()


def test_blocks_without_intercepts_are_not_shifted():
    """Without intercepts columns and target are divided only, in fit and block by block alike."""
    whole = MLPRegressor((8,), fit_intercept=False, epochs=1, random_state=0).fit(X, Y)
    blocks = MLPRegressor((8,), fit_intercept=False, random_state=0)
    for rows in np.array_split(np.arange(400), 4):
        blocks.partial_fit(X[rows], Y[rows])
    for model in (whole, blocks):
        assert not model.model_.features.mean.any()
        assert not model.model_.target.mean.any()
        assert not any(bias.any() for bias in model.intercepts_)


def test_the_average_is_carried_into_a_new_scaling():
    """At a rate of next to nothing the scale of a block changes no prediction, though they are the average's."""
    models = [MLPRegressor((8,), random_state=0, average=True) for _ in range(2)]
    for model, factor in zip(models, (1.0, 100.0), strict=True):
        for _ in range(8):
            model.partial_fit(X, Y)
        assert model._stream.tail.closed is not None
        model.set_params(learning_rate=1e-12)
        model.partial_fit(factor * X[:40], factor * Y[:40])
    assert models[1].model_.features.scale[0] > 2.0 * models[0].model_.features.scale[0]
    np.testing.assert_allclose(models[1].predict(X), models[0].predict(X), rtol=1e-8, atol=1e-8)


LABELS = np.column_stack([X[:, 0] > 3.0, X[:, 1] + X[:, 2] > 6.0, Y > 0.5]).astype(int)


def test_several_labels_a_row_come_block_by_block():
    """Blocks teach what ``fit`` does, with no classes named; one in which a label never occurs is like others."""
    model = MLPClassifier((16,), random_state=0)
    for _ in range(30):
        for rows in np.array_split(np.argsort(LABELS[:320, 0], kind="stable"), 4):
            model.partial_fit(X[rows], LABELS[rows])
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(X[:2]).shape == (2, 3)
    assert (model.predict(X[320:]) == LABELS[320:]).mean() > 0.9
    with_whole = MLPClassifier((16,), random_state=0, epochs=3).fit(X, LABELS)
    before = with_whole.model_.parameters.copy()
    with_whole.partial_fit(X, LABELS)
    assert not np.array_equal(with_whole.model_.parameters, before)
    assert (with_whole.predict(X) == LABELS).mean() > 0.8


@pytest.mark.parametrize(
    ("before", "settings", "y", "options", "message"),
    [
        (LABELS[:, 0], {}, LABELS, {}, r"shape \(400, 3\), but the model has one label a row"),
        (LABELS, {}, LABELS[:, 0], {}, "the model has 3 labels a row, 0 or 1 each: call fit"),
        (LABELS, {}, LABELS[:, :2], {}, "y has 2 labels a row, but the model has 3"),
        (None, {}, LABELS, {"classes": [0, 1]}, "y has 3 labels a row, but classes names 2"),
        (None, {"class_weight": "balanced"}, LABELS, {}, "class_weight does not go with several labels"),
        (None, {"loss": "hinge"}, LABELS, {}, "several labels a row go with log_loss alone"),
    ],
)
def test_labels_that_do_not_fit_are_refused(before, settings, y, options, message):
    """The refusal says what the model has, and leaves it as it was."""
    model = MLPClassifier((4,), epochs=1, **settings)
    if before is not None:
        model.fit(X, before)
    attributes = dict(vars(model))
    with pytest.raises(InputError, match=message):
        model.partial_fit(X, y, **options)
    assert vars(model) == attributes
