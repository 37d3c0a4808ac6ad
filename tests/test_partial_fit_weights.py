"""Weights of rows and of classes, block by block."""

import numpy as np
import pytest
from blocks import CANCER, DIABETES, IRIS, in_blocks
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from descend import LinearClassifier, LinearRegressor


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
    """Rows of weight 0 leave what their absence leaves, but for the rounding of sums."""
    X, y = CANCER
    weights = (np.random.default_rng(0).random(len(X)) < 0.6).astype(float)
    one = LinearClassifier(batch_size=batch_size, random_state=0)
    two = clone(one)
    for rows in np.array_split(np.arange(len(y)), 4):
        kept = rows[weights[rows] > 0]
        one.partial_fit(X[rows], y[rows], classes=[0, 1], sample_weight=weights[rows])
        two.partial_fit(X[kept], y[kept], classes=[0, 1])
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-12)


def test_weights_have_no_scale():
    """A constant times every weight changes nothing."""
    X, y = CANCER
    one, other = (LinearClassifier(random_state=0) for _ in "ab")
    for rows in np.array_split(np.arange(len(y)), 4):
        one.partial_fit(X[rows], y[rows], classes=[0, 1], sample_weight=np.ones(len(rows)))
        other.partial_fit(X[rows], y[rows], classes=[0, 1], sample_weight=np.full(len(rows), 1e6))
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_weights_are_relative_to_those_of_other_blocks(batch_size):
    """A block of weight 2 after blocks of weight 1 moves the model by 2 over the mean weight of all rows so far."""
    X, y = StandardScaler().fit_transform(CANCER[0]), CANCER[1]
    *before, last = np.array_split(np.random.default_rng(0).permutation(len(y)), 3)

    def moved(weight):
        model = LinearClassifier(
            batch_size=batch_size,
            learning_rate=1e-7,  # so that what is moved by does not change on the way
            penalty=None,
            average=False,
            standardize=False,
            random_state=0,
        )
        for rows in before:
            model.partial_fit(X[rows], y[rows], classes=[0, 1])
        held = model.coef_.copy()
        model.partial_fit(X[last], y[last], sample_weight=np.full(len(last), weight))
        return model.coef_ - held

    np.testing.assert_allclose(moved(2.0), moved(1.0) * 2.0 / (1.0 + len(last) / len(y)), rtol=1e-3)


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
