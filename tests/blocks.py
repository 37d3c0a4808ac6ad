"""Tables that are learnt block by block, and the blocks."""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

from descend import LinearClassifier

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


def sparse_rows(n=600, d=40):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.2) * 10.0 ** rng.integers(-2, 3, size=d)
    w = rng.normal(size=d) / np.maximum(X.std(axis=0), 1e-9)
    return X, (X @ w + 0.3 * rng.normal(size=n) > 0).astype(int)
