"""The figures of a model against scikit-learn's, added up in blocks of any size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from descend.metrics import (
    ClassificationMetrics,
    Metrics,
    RegressionMetrics,
    log_losses,
    roc_auc,
    roc_auc_of_many,
)

CLASSES = st.integers(2, 4)
SEEDS = st.integers(0, 1000)
ROWS = st.integers(2, 60)


def classification(
    scores: np.ndarray[Any, Any], codes: np.ndarray[Any, Any], classes: int, step: int, weights: Any = None
) -> Metrics:
    sums = ClassificationMetrics(classes)
    for start in range(0, len(codes), step):
        part = slice(start, start + step)
        sums.add(scores[part], codes[part], None if weights is None else weights[part])
    return sums.result()


@given(classes=CLASSES, rows=ROWS, seed=SEEDS, step=st.integers(1, 60), weighted=st.booleans())
def test_classification_equals_scikit_learn(
    classes: int, rows: int, seed: int, step: int, weighted: bool
) -> None:
    """Every figure equals scikit-learn's on all rows at once, whatever the blocks, ties and weights."""
    random = np.random.default_rng(seed)
    codes = random.integers(classes, size=rows)
    scores = random.normal(size=(rows, 1 if classes == 2 else classes)).round(1)
    weights = random.integers(1, 4, size=rows).astype(float) if weighted else None
    found = classification(scores, codes, classes, step, weights)
    if classes == 2:
        told = (scores[:, 0] > 0).astype(int)
        likely = np.hstack([1 / (1 + np.exp(scores)), 1 / (1 + np.exp(-scores))])
    else:
        told = scores.argmax(axis=1)
        likely = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    kind = "binary" if classes == 2 else "macro"
    present = sorted({*codes.tolist(), *told.tolist()}) if kind == "macro" else None
    expected = {
        "accuracy": oracle.accuracy_score(codes, told, sample_weight=weights),
        "log_loss": oracle.log_loss(codes, likely, labels=list(range(classes)), sample_weight=weights),
        "f1": oracle.f1_score(
            codes, told, average=kind, labels=present, sample_weight=weights, zero_division=0.0
        ),
    }
    if set(told.tolist()) <= set(codes.tolist()) and len(set(codes.tolist())) > 1:  # it warns of the others
        expected["balanced_accuracy"] = oracle.balanced_accuracy_score(codes, told, sample_weight=weights)
    if classes == 2 and 0 < codes.sum() < rows:
        expected["roc_auc"] = oracle.roc_auc_score(codes, scores[:, 0], sample_weight=weights)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@given(outputs=st.integers(1, 3), rows=ROWS, seed=SEEDS, step=st.integers(1, 60), weighted=st.booleans())
def test_regression_equals_scikit_learn(
    outputs: int, rows: int, seed: int, step: int, weighted: bool
) -> None:
    """r2, rmse and mae equal scikit-learn's, far from zero too, whatever the blocks and weights."""
    random = np.random.default_rng(seed)
    true = random.normal(size=(rows, outputs)) + 1e6
    predicted = true + random.normal(size=(rows, outputs))
    weights = random.integers(1, 4, size=rows).astype(float) if weighted else None
    sums = RegressionMetrics(outputs)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        sums.add(predicted[part], true[part], None if weights is None else weights[part])
    found = sums.result()
    assert found["r2"] == pytest.approx(oracle.r2_score(true, predicted, sample_weight=weights), rel=1e-6)
    rmse = oracle.root_mean_squared_error(true, predicted, sample_weight=weights)
    assert found["rmse"] == pytest.approx(rmse, rel=1e-9)
    mae = oracle.mean_absolute_error(true, predicted, sample_weight=weights)
    assert found["mae"] == pytest.approx(mae, rel=1e-9)


def test_log_loss_is_exact_where_probabilities_are_not() -> None:
    """A score of 800 for the wrong class costs 800: nothing is clipped and nothing overflows."""
    assert log_losses(np.array([[800.0]]), np.array([0])).tolist() == [800.0]
    assert log_losses(np.array([[800.0, 0.0, 0.0]]), np.array([1])).tolist() == [800.0]


def test_what_rows_cannot_tell_is_none() -> None:
    """One class has no ROC, one row and a constant have no r2, and no rows have nothing; no warning is given."""
    assert roc_auc(np.array([0.1, 0.2]), np.array([True, True])) is None
    assert roc_auc(np.zeros(0), np.zeros(0, dtype=bool)) is None
    constant = RegressionMetrics(1)
    constant.add(np.array([1.0, 2.0]), np.array([3.0, 3.0]))
    assert constant.result()["r2"] is None
    assert constant.result()["mae"] == 1.5
    assert set(RegressionMetrics(1).result().values()) == {None}
    assert set(ClassificationMetrics(2).result().values()) == {None}
    weightless = ClassificationMetrics(2)
    weightless.add(np.ones((3, 1)), np.array([0, 1, 1]), np.zeros(3))
    assert set(weightless.result().values()) == {None}


def test_infinite_scores_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few scores are sorted at a time, infinite ones are in one range each: the area is that of all rows."""
    scores = np.array([np.inf, -np.inf, 0.0, np.inf, 1.0, -np.inf])
    positive = np.array([True, False, True, False, False, True])
    for most in (1, 2, 100):
        monkeypatch.setattr("descend.metrics.MOST_SORTED", most)
        assert roc_auc_of_many([scores[:3], scores[3:]], [positive[:3], positive[3:]], []) == roc_auc(
            scores, positive
        )


def test_rows_of_unknown_classes_are_wrong_but_have_no_log_loss() -> None:
    """Code −1 lowers accuracy, is a class of its own in the averages, and leaves log_loss as it was."""
    scores = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    sums = ClassificationMetrics(3)
    sums.add(scores, np.array([0, 1, 2, -1, -1]), labels=["a", "b", "c", "x", "y"])
    found = sums.result()
    truth, told = ["a", "b", "c", "x", "y"], ["a", "b", "c", "a", "b"]
    assert (sums.rows, sums.unknown_rows, sums.unknown) == (5, 2, {"x": 1.0, "y": 1.0})
    assert found["accuracy"] == 0.6
    assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, told))
    assert found["f1"] == pytest.approx(oracle.f1_score(truth, told, average="macro", zero_division=0.0))
    assert found["log_loss"] == pytest.approx(math.log(1 + 2 * math.exp(-2)))


@given(st.floats(-1e12, 1e12).filter(lambda value: abs(value) > 1e-12), st.integers(2, 60))
def test_equal_numbers_have_no_r2_whatever_their_mean_rounds_to(value, num_rows):
    """A constant that is no short binary fraction is still a constant."""
    sums = RegressionMetrics(1)
    sums.add(np.zeros(num_rows), np.full(num_rows, value))
    assert sums.result()["r2"] is None
