"""``descend evaluate`` and ``predict`` of models that tell several labels a row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_multilabel_classification

import descend as library

Command = Callable[..., Any]
ROWS, LABELS = 300, 4


@pytest.fixture(scope="module")
def rows() -> tuple[Any, Any]:
    return make_multilabel_classification(ROWS, 8, n_classes=LABELS, random_state=0)


@pytest.fixture(scope="module")
def model(rows: tuple[Any, Any]) -> Any:
    return library.MLPClassifier(hidden_layer_sizes=(12,), epochs=15, random_state=0).fit(*rows)


@pytest.fixture
def table(rows: Any, model: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A model that was trained on a table, and the table with a column for each label."""
    X, y = rows
    frame = pd.DataFrame(X, columns=[f"word{i}" for i in range(X.shape[1])])
    made = library.MLPClassifier(hidden_layer_sizes=(12,), epochs=15, random_state=0).fit(frame, y)
    for place in range(LABELS):
        frame[f"topic{place}"] = y[:, place]
    frame.to_csv(tmp_path / "texts.csv", index=False)
    return Path(made.save(tmp_path / "texts.descend")), tmp_path / "texts.csv"


def test_labels_are_evaluated_in_the_shell(descend: Command, model: Any, rows: Any, tmp_path: Path) -> None:
    """Arrays with labels (n, k) have the figures of ``evaluate``; the table names each label under them."""
    path, data = model.save(tmp_path / "m.descend"), tmp_path / "rows.npz"
    np.savez(data, X=rows[0], y=rows[1])
    expected = library.evaluate(model, *rows)
    found = descend("evaluate", path, data, "--json").json
    assert [label.pop("label") for label in found["labels"]] == list(range(LABELS))
    assert list(found) == list(expected)
    assert found["f1_micro"] == pytest.approx(expected["f1_micro"])
    assert found["labels"][2] == pytest.approx(expected["labels"][2])
    lines = descend("evaluate", path, data).out.splitlines()
    assert [line.split()[0] for line in lines[-LABELS:]] == ["0", "1", "2", "3"]
    assert lines[-LABELS - 1].split() == [
        "label",
        "share",
        "precision",
        "recall",
        "f1",
        "log",
        "loss",
        "roc",
        "auc",
    ]


def test_labels_of_a_table_are_columns(descend: Command, table: tuple[Path, Path]) -> None:
    """``--target a,b,c`` names the labels' columns, by which they are shown; none, too few or others are told."""
    model, data = table
    topics = [f"topic{place}" for place in range(LABELS)]
    found = descend("evaluate", model, data, "--target", ",".join(topics), "--json").json
    assert [label["label"] for label in found["labels"]] == topics
    assert found["rows"] == ROWS
    for target, message in (
        ([], "--target is not given; the model tells 4 labels a row"),
        (["--target", "topic0,topic1"], "--target is 2 columns"),
        (["--target", "topic0,topic1,topic2,topik3"], "column 'topik3' is not in texts; is it 'topic3'?"),
        (["--target", "topic0,topic1,topic2,word3"], "as label 3 of row"),
    ):
        result = descend("evaluate", model, data, *target)
        assert result.status == 2
        assert message in result.err


def test_probabilities_of_labels_are_written(descend: Command, table: tuple[Path, Path]) -> None:
    """``predict --probabilities`` has a column for each label."""
    model, data = table
    lines = descend("predict", model, data, "--probabilities").out.splitlines()
    assert lines[0].split(",")[LABELS:] == [f"probability_{place}" for place in range(LABELS)]
    told = np.array([line.split(",") for line in lines[1:]], dtype=float)
    assert np.array_equal(told[:, :LABELS], told[:, LABELS:] > 0.5)
    found = descend("predict", model, data, "--probabilities", "--json").json
    assert found["classes"] == list(range(LABELS))
