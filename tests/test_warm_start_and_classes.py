"""What an estimator takes over from labels and from an earlier fit."""

import numpy as np
import pytest

from descend import LinearClassifier, LinearRegressor

LABELS = [[0, 1, 2], ["a", "b", "c"], [10, 20, 30]]


def three_groups(labels=(0, 1, 2)):
    rng = np.random.default_rng(0)
    code = np.repeat([0, 1, 2], 100)
    return rng.normal(size=(300, 3)) + 4 * np.eye(3)[code], np.asarray(labels)[code]


@pytest.mark.parametrize("batch_size", [1, "full", "auto"])
@pytest.mark.parametrize("absent", [0, 1, 2])
@pytest.mark.parametrize("labels", LABELS, ids=["codes", "texts", "tens"])
def test_a_class_of_weight_zero_is_absent(labels, absent, batch_size):
    """Rows of weight 0 leave no class behind: labels and probabilities are those of a fit without the rows."""
    X, y = three_groups(labels)
    kept = y != labels[absent]
    how = {"batch_size": batch_size, "random_state": 0}
    weighted = LinearClassifier(**how).fit(X, y, sample_weight=kept.astype(float))
    without = LinearClassifier(**how).fit(X[kept], y[kept])
    assert weighted.classes_.tolist() == without.classes_.tolist() == np.unique(y[kept]).tolist()
    # Rows of weight 0 shift the others in the sums: they round differently.
    np.testing.assert_allclose(weighted.predict_proba(X), without.predict_proba(X), rtol=1e-8)
    assert weighted.score(X[kept], y[kept]) > 0.95


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
def test_a_warm_start_begins_where_the_last_fit_ended(estimator, constant):
    """The first loss of the second fit is the last of the first, also beside a column that was left out."""
    X, y = three_groups()
    y = y if estimator is LinearClassifier else y + X[:, 0]
    if constant:
        X = np.column_stack([X[:, 0], np.ones(300), X[:, 1:]])
    model = estimator(optimizer="sgd", batch_size=8, epochs=3, warm_start=True, random_state=0).fit(X, y)
    ended = model.history_.last["loss"]
    model.fit(X, y)
    assert model.history_["loss"][0] == pytest.approx(ended, rel=1e-9)


def test_other_labels_start_cold():
    """As many classes under other names are other classes: nothing is taken over from them."""
    X, y = three_groups()
    model = LinearClassifier(warm_start=True, random_state=0).fit(X, y)
    model.fit(X, y + 10)
    assert model.history_["loss"][0] == pytest.approx(np.log(3), rel=1e-9)
    assert model.classes_.tolist() == [10, 11, 12]
