"""Estimators over rows where they live: paths, datasets, readers and iterators of blocks."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from descend import LinearClassifier, LinearRegressor, MLPClassifier, compare, ingest
from descend.errors import InputError
from descend.machine import Room

ROWS = 900
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 4))
LABELS = np.array(["no", "yes"])[(X @ [1.0, -2.0, 0.5, 0.0] + RNG.normal(size=ROWS) > 0).astype(int)]
NUMBERS = X @ [1.0, 2.0, 0.0, -1.0] + 0.1 * RNG.normal(size=ROWS)
NAMES = ["ape", "bee", "cat", "dog"]
FRAME = pd.DataFrame(X, columns=NAMES).assign(
    label=LABELS, number=NUMBERS, weight=RNG.uniform(0.5, 2.0, ROWS)
)
ONLY = [*NAMES, "label"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    FRAME[ONLY].to_csv(folder / "rows.csv", index=False)
    pq.write_table(pa.Table.from_pandas(FRAME[ONLY]), folder / "rows.parquet", row_group_size=200)
    FRAME[[*NAMES, "number", "weight"]].to_parquet(folder / "numbers.parquet", index=False)
    parts = FRAME[ONLY].assign(kind=np.arange(ROWS) % 3)
    pa.dataset.write_dataset(
        pa.Table.from_pandas(parts), folder / "parts", format="parquet", partitioning=["kind"],
        partitioning_flavor="hive",
    )  # fmt: skip
    return folder


def reader(columns=ONLY, rows=100):
    table = pa.Table.from_pandas(FRAME[columns], preserve_index=False)
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(rows))


def test_a_path_and_a_dataset_are_fitted_as_the_table(folder):
    """From a path, and from a dataset, the model is that of the same table in memory, names and classes too."""
    table = LinearClassifier(random_state=0).fit(FRAME[NAMES], LABELS)
    for where in (
        folder / "rows.parquet",
        str(folder / "rows.csv"),
        pa.dataset.dataset(folder / "rows.parquet"),
    ):
        model = clone(table).fit(where, "label")
        assert np.allclose(model.coef_, table.coef_, atol=1e-3)
        assert model.classes_.tolist() == ["no", "yes"]
        assert model.feature_names_in_.tolist() == NAMES
        assert np.array_equal(model.predict(where), model.predict(FRAME[NAMES]))
        assert model.predict_proba(where).shape == (ROWS, 2)


def test_partitions_are_columns(folder):
    """A partitioned dataset has the column that its folders are named by, read by row groups and fragments alike."""
    dataset = pa.dataset.dataset(folder / "parts", partitioning="hive")
    model = LinearClassifier(random_state=0).fit(dataset, "label")
    assert model.feature_names_in_.tolist() == [*NAMES, "kind"]
    assert (model.predict(dataset) == dataset.to_table()["label"].to_numpy()).mean() > 0.8


def test_weights_may_be_a_column(folder):
    """``sample_weight`` names a column, which is then no feature."""
    by_name = LinearRegressor(random_state=0).fit(
        folder / "numbers.parquet", "number", sample_weight="weight"
    )
    given = LinearRegressor(random_state=0).fit(FRAME[NAMES], FRAME["number"], sample_weight=FRAME["weight"])
    assert by_name.feature_names_in_.tolist() == NAMES
    assert np.allclose(by_name.coef_, given.coef_, atol=1e-4)
    assert by_name.predict(folder / "numbers.parquet").shape == (ROWS,)


def test_a_refit_forgets_the_classes_before(folder):
    """An estimator fitted on other labels has those of the file after it was fitted on that."""
    model = LinearClassifier(random_state=0).fit(X, np.arange(ROWS) % 3)
    assert model.fit(folder / "rows.csv", "label").classes_.tolist() == ["no", "yes"]
    assert model.fit(X, np.arange(ROWS) % 3).predict(X[:2]).shape == (2,)


def test_a_refit_on_a_store_forgets_columns_and_target_before(tmp_path):
    """Fitted on a table and a column of targets, an estimator of a store has the store's names and shapes."""
    store = ingest(X, tmp_path / "store", NUMBERS)
    model = LinearRegressor(random_state=0).fit(FRAME[NAMES], NUMBERS[:, None])
    model.fit(store)
    assert not hasattr(model, "feature_names_in_")
    assert model.predict(X).shape == (ROWS,)
    assert model.coef_.shape == (4,)


@pytest.mark.parametrize("kind", ["reader", "dataset", "path", "iterator", "weighted iterator"])
@pytest.mark.parametrize("estimator", [LinearClassifier, MLPClassifier])
def test_partial_fit_takes_block_after_block(folder, estimator, kind):
    """Blocks out of a reader, dataset, path or iterator are learnt as if each were given by itself."""
    classes = ["no", "yes"]
    table = pa.Table.from_pandas(FRAME[ONLY], preserve_index=False)
    rows = 200 if kind in ("dataset", "path") else 100
    places = [slice(start, start + rows) for start in range(0, ROWS, rows)]
    one_by_one = estimator(random_state=0)
    weights = np.where(np.arange(ROWS) % 2, 2.0, 1.0) if kind == "weighted iterator" else None
    for part in places:
        weight = None if weights is None else weights[part]
        one_by_one.partial_fit(X[part], LABELS[part], classes=classes, sample_weight=weight)
    source = {
        "reader": lambda: reader(),
        "dataset": lambda: pa.dataset.dataset(folder / "rows.parquet"),
        "path": lambda: folder / "rows.parquet",
        "iterator": lambda: ((X[part], LABELS[part]) for part in places),
        "weighted iterator": lambda: ((X[part], LABELS[part], weights[part]) for part in places),
    }[kind]()
    y = None if "iterator" in kind else "label"
    at_once = estimator(random_state=0).partial_fit(source, y, classes=classes)
    if kind in ("reader", "dataset"):
        assert np.allclose(at_once.predict_proba(FRAME[NAMES]), one_by_one.predict_proba(X), rtol=1e-12)
        assert at_once.feature_names_in_.tolist() == NAMES
        assert np.array_equal(at_once.predict(table.select(NAMES).to_reader()), one_by_one.predict(X))
    assert (at_once.predict(X if y is None else FRAME[NAMES]) == LABELS).mean() > 0.8


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m, f: m.fit(reader(), "label"), "X is a RecordBatchReader, which gives its rows once"),
        (lambda m, f: m.fit(iter([(X, LABELS)])), "which gives its rows once"),
        (lambda m, f: m.fit(f / "rows.csv", LABELS), "y is a ndarray, but X says where rows are read: give the name"),
        (lambda m, f: m.fit(f / "rows.csv"), "needs a target: .*; give its name as y$"),
        (lambda m, f: m.fit(f / "rows.csv", "lable"), "'lable' is not in rows. Did you mean 'label'"),
        (lambda m, f: m.fit(f / "none.csv", "label"), "no file or folder"),
        (lambda m, f: m.partial_fit(iter([3])), "block 0 of X is a int"),
        (lambda m, f: m.partial_fit(iter([(X, LABELS)]), "label"), "leave y and"),
        (lambda m, f: m.partial_fit(reader(), classes=["no", "yes"]), "y is missing"),
        (lambda m, f: m.partial_fit(f / "rows.csv", "ape", classes=[0, 1]), "column 'label' holds string"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(folder, call, told):
    """Each misuse is told with what was given and what to do, and leaves the estimator as it was."""
    model = LinearClassifier(random_state=0)
    with pytest.raises(ValueError, match=told):
        call(model, folder)
    assert not hasattr(model, "model_")


def test_columns_of_a_later_reader_have_to_match():
    """A second reader with other columns is refused by name."""
    model = LinearClassifier(random_state=0).partial_fit(reader(), "label", classes=["no", "yes"])
    with pytest.raises(InputError, match=r"X has the columns .*'bee', 'ape'"):
        model.partial_fit(reader(["bee", "ape", "cat", "dog", "label"]), "label")
    model.partial_fit(reader(), "label")
    assert model.feature_names_in_.tolist() == NAMES


def test_rows_that_do_not_fit_stay_where_they_are(folder, tmp_path, monkeypatch):
    """Where memory is short a linear model reads its rows from the file and warns of their order; networks refuse."""
    monkeypatch.setattr(
        "descend.features.prepare_source.find_rooms", lambda limit: [Room(1000, "free memory")]
    )
    monkeypatch.setattr("descend.sources.limits.MAX_BLOCK_ROWS", 50)
    monkeypatch.setattr("descend.sources.limits.MAX_TABLE_BYTES", 1)
    monkeypatch.setattr("descend.features.prepare_source.FEWEST_WINDOW_BYTES", 1000)
    path = tmp_path / "sorted.parquet"
    FRAME[ONLY].sort_values("label").to_parquet(path, index=False, row_group_size=50)
    with pytest.warns(ConvergenceWarning, match="the target changes from one part of the file to the next"):
        model = LinearClassifier(random_state=0, epochs=10).fit(path, "label")
    assert (model.predict(FRAME[NAMES]) == LABELS).mean() > 0.8
    with pytest.raises(InputError, match="a network needs its rows there, or in a block store"):
        MLPClassifier().fit(path, "label")
    with pytest.raises(InputError, match=r"does not fit into memory .* descend ingest"):
        compare(path, target="label", seeds=1)


def test_an_array_is_predicted_by_a_model_of_named_columns(folder):
    """Rows of a file and the array of their numbers get the same predictions; where a column is text, it is named."""
    model = LinearClassifier(random_state=0).fit(folder / "rows.parquet", "label")
    with pytest.warns(UserWarning, match="valid feature names"):
        assert np.array_equal(model.predict(X), model.predict(FRAME[NAMES]))
    with (
        pytest.raises(ValueError, match="3 features"),
        pytest.warns(UserWarning, match="valid feature names"),
    ):
        model.predict(X[:, :3])
    model = LinearClassifier(random_state=0).fit(FRAME[["ape", "label"]], FRAME["number"] > 0)
    with pytest.raises(InputError, match="'label' is no column of numbers"):
        model.predict(X[:, :2])


def test_a_missing_target_is_asked_for_in_words_of_python(folder):
    """Without y a path says that y names the target, and which columns there are."""
    with pytest.raises(InputError, match=r"Its columns are ape, bee, cat, dog, label; give its name as y"):
        LinearClassifier().fit(folder / "rows.parquet")
