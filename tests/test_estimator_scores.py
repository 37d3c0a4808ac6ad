"""``score`` of rows that stay in files, datasets and block stores: what scikit-learn says of the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
import scipy.sparse as sp
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, r2_score

from descend import LinearClassifier, LinearRegressor, MLPClassifier, ingest, open_store
from descend.errors import InputError

ROWS = 400
random = np.random.default_rng(0)
X = random.normal(size=(ROWS, 3))
NUMBER = X @ [1.0, -2.0, 0.5] + random.normal(size=ROWS)
LABEL = np.where(NUMBER > 0, "yes", "no")
WEIGHT = random.random(ROWS) + 0.5
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows as a table and as stores, one of labels and one of numbers with weights."""
    place = tmp_path_factory.mktemp("rows")
    FRAME.assign(label=LABEL, weight=WEIGHT).to_parquet(place / "labels.parquet", row_group_size=100)
    FRAME.assign(number=NUMBER, weight=WEIGHT).to_csv(place / "numbers.csv", index=False)
    ingest(place / "labels.parquet", place / "labels", target="label", drop="weight")
    ingest(place / "numbers.csv", place / "numbers", target="number", weights="weight")
    return place


def places(folder: Path) -> dict[str, Any]:
    """The labelled rows, by the door through which they are given."""
    dataset = pa.dataset.dataset(folder / "labels.parquet")
    return {
        "path": folder / "labels.parquet",
        "text": str(folder / "labels.parquet"),
        "dataset": dataset,
        "reader": dataset.scanner().to_reader(),
    }


@pytest.mark.parametrize("door", ["path", "text", "dataset", "reader"])
def test_accuracy_is_that_of_the_same_rows_in_memory(folder: Path, door: str) -> None:
    """From a path, a dataset or batches the score is scikit-learn's, with and without a column of weights."""
    model = LinearClassifier(random_state=0).fit(FRAME, LABEL)
    told = model.predict(FRAME)
    assert model.score(places(folder)[door], "label") == pytest.approx(accuracy_score(LABEL, told))
    weighted = model.score(places(folder)[door], "label", sample_weight="weight")
    assert weighted == pytest.approx(accuracy_score(LABEL, told, sample_weight=WEIGHT))
    assert model.score(FRAME, LABEL) == pytest.approx(accuracy_score(LABEL, told))


@pytest.mark.parametrize("estimator", [LinearClassifier, MLPClassifier])
def test_a_store_is_scored_alone(folder: Path, estimator: type) -> None:
    """An open store and its path give the score of what the model predicts of their rows, in the store's order."""
    store = open_store(folder / "labels")
    model = estimator(random_state=0).fit(store)
    truth = np.concatenate([store.target().decode(y[:, 0]) for _, y, _ in store.blocks()])
    expected = accuracy_score(truth, model.predict(store))
    assert 0.8 < expected < 1.0
    assert model.score(store) == model.score(folder / "labels") == pytest.approx(expected)
    with pytest.raises(InputError, match="y is given with a block store"):
        model.score(store, LABEL)


def test_a_regressors_score_counts_the_stores_weights(folder: Path) -> None:
    """R² of a store is that of its rows at their weights, and of the file that it was written from."""
    model = LinearRegressor(random_state=0).fit(open_store(folder / "numbers"))
    told = model.predict(folder / "numbers.csv")
    expected = r2_score(NUMBER, told, sample_weight=WEIGHT)
    assert model.score(open_store(folder / "numbers")) == pytest.approx(expected)
    assert model.score(folder / "numbers.csv", sample_weight="weight") == pytest.approx(expected)
    assert model.score(folder / "numbers.csv") == pytest.approx(r2_score(NUMBER, told))


def test_a_class_that_was_not_trained_on_is_told_wrong(folder: Path) -> None:
    """Rows of another label count as mistakes, as in scikit-learn."""
    model = LinearClassifier(random_state=0).fit(FRAME[:50], np.where(LABEL[:50] == "yes", "yes", "never"))
    assert model.score(folder / "labels.parquet", "label") == pytest.approx(
        accuracy_score(LABEL, model.predict(FRAME))
    )


def test_what_cannot_be_scored_is_refused(folder: Path, tmp_path: Path) -> None:
    """An array without y, and labels beside a path, are refused by name; a constant target is nan and says so."""
    model = LinearRegressor(random_state=0).fit(FRAME, NUMBER)
    with pytest.raises(InputError, match="y is missing"):
        model.score(FRAME)
    with pytest.raises(InputError, match="y is a ndarray, but X says where rows are read"):
        model.score(folder / "numbers.csv", NUMBER)
    FRAME[:5].assign(number=1.0).to_csv(tmp_path / "flat.csv", index=False)
    with pytest.warns(UndefinedMetricWarning, match="not defined: the target is the same"):
        assert np.isnan(model.score(tmp_path / "flat.csv", "number"))


def test_wide_sparse_blocks_are_scored_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a block of sparse rows takes are its numbers: it is not cut by the width that it would have if dense."""
    rows = sp.random(300, 300_000, density=1e-5, format="csr", random_state=0)
    ingest(sp.csr_array(rows), tmp_path / "wide", y=np.arange(300) % 2)
    model = LinearClassifier(random_state=0, epochs=1, optimizer="sgd").fit(tmp_path / "wide")
    calls = []
    score = model.model_.scores_of_encoded
    monkeypatch.setattr(model.model_, "scores_of_encoded", lambda X: calls.append(X.shape) or score(X))
    assert model.predict(tmp_path / "wide").shape == (300,)
    assert model.score(tmp_path / "wide") >= 0.5
    assert calls == [(300, 300_000)] * 2
