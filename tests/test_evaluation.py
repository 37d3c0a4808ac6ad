"""``descend.evaluate``, and figures of models that tell several labels a row."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification

import descend as library
from descend.errors import ColumnError, InputError
from descend.label_metrics import LabelMetrics

ROWS, LABELS = 300, 4


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any]:
    return make_multilabel_classification(ROWS, 8, n_classes=LABELS, random_state=0)


@pytest.fixture(scope="module")
def model(rows: tuple[Any, Any]) -> Any:
    return library.MLPClassifier(hidden_layer_sizes=(12,), epochs=15, random_state=0).fit(*rows)


@pytest.mark.parametrize("weighted", [False, True])
def test_figures_of_labels_are_those_of_scikit_learn(model: Any, rows: Any, weighted: bool) -> None:
    """All figures, together and of each label, agree with scikit-learn's on the predictions, weighted or not."""
    X, y = rows
    weights = np.arange(ROWS) % 3 + 0.5 if weighted else None
    found = library.evaluate(model, X, y, sample_weight=weights)
    told, likely = model.predict(X), model.predict_proba(X)
    given = {"sample_weight": weights}
    assert found["rows"] == ROWS
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, told, **given))
    assert found["hamming_loss"] == pytest.approx(metrics.hamming_loss(y, told, **given))
    assert found["f1"] == pytest.approx(metrics.f1_score(y, told, average="macro", **given))
    assert found["f1_micro"] == pytest.approx(metrics.f1_score(y, told, average="micro", **given))
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(y, likely, **given), abs=1e-6)
    each = metrics.precision_recall_fscore_support(y, told, **given)
    for place, label in enumerate(found["labels"]):
        assert [label[name] for name in ("precision", "recall", "f1")] == pytest.approx(
            [part[place] for part in each[:3]]
        )
        assert label["log_loss"] == pytest.approx(
            metrics.log_loss(y[:, place], likely[:, place], **given), rel=1e-6
        )
        assert label["share"] == pytest.approx(np.average(y[:, place], weights=weights))
    assert found["log_loss"] == pytest.approx(np.mean([label["log_loss"] for label in found["labels"]]))


def test_labels_added_block_by_block_are_those_of_all_rows(rows: Any) -> None:
    """Blocks of any size give the figures of all rows at once; a label that is nowhere has an f1 of 0."""
    y = np.hstack([rows[1], np.zeros((ROWS, 1), dtype=int)])
    scores = np.random.default_rng(0).normal(size=y.shape) + y
    scores[:, -1] = -1.0
    whole, parts = LabelMetrics(LABELS + 1), LabelMetrics(LABELS + 1)
    whole.add(scores, y)
    for start in range(0, ROWS, 37):
        parts.add(scores[start : start + 37], y[start : start + 37])
    assert parts.result() == pytest.approx(whole.result())
    assert parts.per_label()[-1] == pytest.approx(
        {
            "share": 0.0,
            "precision": 0.0,
            "recall": 0.0,
            "f1": 0.0,
            "log_loss": np.log1p(np.exp(-1.0)),
            "roc_auc": None,
        }
    )
    assert set(LabelMetrics(2).result().values()) == {None}


def test_classes_and_numbers_are_evaluated_in_python_too(tmp_path: Path) -> None:
    """``evaluate`` gives the figures of classes and of numbers, for an estimator and for the file it was saved in."""
    X, y = load_iris(return_X_y=True)
    classes = library.LinearClassifier().fit(X, y)
    found = library.evaluate(classes, X, y)
    assert found["accuracy"] == pytest.approx(classes.score(X, y))
    assert found["f1"] == pytest.approx(metrics.f1_score(y, classes.predict(X), average="macro"))
    X, y = load_diabetes(return_X_y=True)
    numbers = library.LinearRegressor().fit(X, y)
    found = library.evaluate(numbers, X, y)
    assert found["r2"] == pytest.approx(numbers.score(X, y))
    assert library.evaluate(numbers.save(tmp_path / "m.descend"), X, y) == pytest.approx(found)


def test_what_cannot_be_evaluated_is_refused(model: Any, rows: Any) -> None:
    """Truth of other columns, labels that are neither 0 nor 1, other lengths and no model are each refused."""
    X, y = rows
    for given, message in (
        ((model, X, y[:, :2]), "has 2 columns, but the model tells 4 labels a row"),
        ((model, X, y * 3), "holds '3' as label . of row .*; the model tells labels that are there"),
        ((model, X, y[:7]), "y has 7 rows, but X has 300"),
        ((model, X, None), "y is None; give one target a row"),
        ((library.MLPClassifier(), X, y), "a fitted estimator of descend"),
    ):
        with pytest.raises((InputError, ColumnError), match=message):
            library.evaluate(*given)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_a_missing_label_is_no_unknown_class(missing: Any) -> None:
    """A row without a label is refused by its row, among texts and among numbers; it counts as no class."""
    X, y = load_iris(return_X_y=True)
    texts = np.array(["a", "b", "c"], dtype=object)[y]
    model = library.LinearClassifier().fit(X, texts)
    texts[4] = missing
    with pytest.raises(ColumnError, match="target 'y' has no value in row 5"):
        library.evaluate(model, X, texts)
    numbers = y.astype(float)
    numbers[4] = np.nan
    with pytest.raises(ColumnError, match="target 'y' holds nan in row 5"):
        library.evaluate(library.LinearClassifier().fit(X, y), X, numbers)
