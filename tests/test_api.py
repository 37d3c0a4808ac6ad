"""``compare`` and ``load`` as people call them: what X may be, and what is refused before anything runs."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.datasets import load_diabetes, load_iris

import descend
from descend import InputError, LinearClassifier, LinearRegressor, compare, load

X, Y = load_iris(return_X_y=True)
FRAME = pd.DataFrame(X, columns=list("abcd"))
QUICK = {"epochs": 3, "seeds": 1, "batch_sizes": (8, "full")}


def losses(found):
    return [run["final_loss"] for run in found.runs]


def test_arrays_tables_and_paths_are_the_same_rows(tmp_path):
    """The same rows give the same losses from arrays, pandas, polars, PyArrow, a CSV file and sklearn:iris."""
    named = FRAME.assign(kind=Y)
    named.to_csv(tmp_path / "iris.csv", index=False)
    expected = losses(compare(X.astype(np.float32), Y, **QUICK))
    for found in (
        compare(FRAME, Y, task="classification", **QUICK),
        compare(named, target="kind", task="classification", **QUICK),
        compare(pl.from_pandas(named), target="kind", **QUICK),
        compare(pa.Table.from_pandas(named), target="kind", **QUICK),
        compare(tmp_path / "iris.csv", target="kind", **QUICK),
        compare(str(tmp_path / "iris.csv"), target="kind", **QUICK),
        compare("sklearn:iris", **QUICK),
    ):
        np.testing.assert_allclose(losses(found), expected, rtol=1e-5)


def test_the_loss_may_say_the_task():
    """Whole numbers are counts where the loss is one for numbers; stores have settled it."""
    counts = np.random.default_rng(0).poisson(np.exp(0.2 * X[:, 0] - 0.5))
    found = compare(X, counts, loss="poisson", **QUICK)
    same = compare(X, counts, loss="poisson", task="regression", **QUICK)
    assert losses(found) == losses(same)
    with pytest.raises(InputError, match="'poisson' is for regression, and the task is classification"):
        compare(X, counts, loss="poisson", task="classification", **QUICK)


def test_the_task_may_be_said():
    """Whole numbers are classes unless regression is asked for."""
    assert compare(X, Y, **QUICK).record["settings"]["loss"] == "log_loss"
    found = compare(X, Y, task="regression", **QUICK)
    assert found.record["settings"]["loss"] == "squared_error"
    assert found.record["data"]["task"] == "regression"


def test_the_random_state_decides_which_rows_are_held_out():
    """Another random state holds out other rows, so the loss of the mean, where all kinds start, is another."""
    rows = load_diabetes(return_X_y=True)
    firsts = [compare(*rows, random_state=r, **QUICK).record["first_loss"] for r in (0, 0, 1)]
    assert firsts[0] == firsts[1] != firsts[2]


def test_weights_count():
    """Weights change the losses; weights of 1 do not."""
    rng = np.random.default_rng(0)
    plain, ones, some = (
        losses(compare(X, Y, sample_weight=w, **QUICK)) for w in (None, np.ones(150), rng.uniform(0, 1, 150))
    )
    np.testing.assert_allclose(plain, ones, rtol=1e-9)
    assert plain != some


def test_a_batch_size_above_the_rows_is_every_row():
    """It is compared as the full batch, and once where that was named too."""
    found = compare(
        "sklearn:iris", batch_sizes=(1, 10**12, "full"), seeds=1, epochs=2, validation_fraction=0.0
    )
    assert [run["batch_size"] for run in found.runs] == [1, 150]


BAD = [
    ("batch_sizes", (0, "full")),
    ("batch_sizes", ("auto",)),
    ("batch_sizes", ()),
    ("seeds", 0),
    ("seeds", 1.5),
    ("epochs", 0),
    ("seconds", -1),
    ("learning_rate", float("nan")),
    ("learning_rate", -1),
    ("loss", "no_loss"),
    ("optimizer", "adamm"),
    ("alpha", -1),
    ("task", "ranking"),
    ("validation_fraction", 1.0),
    ("validation_fraction", "0.1"),
    ("memory_limit", "2GB"),
    ("random_state", None),
    ("random_state", -1),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_what_cannot_be_used_is_named_before_anything_runs(name, value):
    """An impossible argument raises InputError, a ValueError, and no run is begun."""
    heard = []
    said = {"batch_sizes": "batch size", "seconds": "time", "validation_fraction": "validation"}.get(
        name, name
    )
    with pytest.raises(InputError, match=said):
        compare(X, Y, progress=lambda *told: heard.append(told), **QUICK | {name: value})
    assert heard == []


def test_the_target_and_the_weights_of_a_path_or_table_go_by_name(tmp_path):
    """``y`` and ``sample_weight`` name columns of a path or a table, as they do for estimators, and are used."""
    named = FRAME.assign(kind=Y, weight=np.arange(len(Y)) % 3)
    named.to_csv(tmp_path / "iris.csv", index=False)
    table = FRAME.astype(np.float32)
    expected = losses(compare(table, Y, sample_weight=named.weight, **QUICK))
    for X_, more in (
        (tmp_path / "iris.csv", {"target": "kind"}),
        (tmp_path / "iris.csv", {"y": "kind"}),
        (table.assign(kind=Y, weight=named.weight), {"y": "kind"}),
    ):
        found = losses(compare(X_, sample_weight="weight", **more, **QUICK))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert losses(compare(table, Y, **QUICK))[0] != pytest.approx(expected[0], rel=1e-3)


def test_what_would_be_left_unused_is_refused(tmp_path):
    """A target or weights that the rows at hand cannot take are named, and never passed over."""
    path = tmp_path / "iris.csv"
    FRAME.assign(kind=Y).to_csv(path, index=False)
    lazy = pl.from_pandas(FRAME).lazy()
    for X_, more, message in (
        (path, {"y": Y, "target": "kind"}, "y is a ndarray, but X is a path"),
        (
            path,
            {"target": "kind", "sample_weight": np.ones(len(Y))},
            "sample_weight is a ndarray, but X is a path",
        ),
        (path, {"y": "kind", "target": "kind"}, "y is 'kind', and target 'kind' too"),
        (FRAME.assign(kind=Y), {"y": Y, "target": "kind"}, "y is given, and target 'kind' too"),
        (X, {"y": Y, "target": "kind"}, "target is 'kind', but X is a ndarray, whose columns have no names"),
        (lazy, {"y": Y}, r"X is a LazyFrame, whose rows are not read yet: give X.collect\(\)"),
    ):
        with pytest.raises(InputError, match=message):
            compare(X_, **more, **QUICK)


def test_one_batch_size_may_stand_alone():
    """A number or ``"full"`` is a comparison of that one kind."""
    alone = {name: value for name, value in QUICK.items() if name != "batch_sizes"}
    assert [run["kind"] for run in compare(X, Y, batch_sizes=32, **alone).runs] == ["mini-batch"]
    assert [run["kind"] for run in compare(X, Y, batch_sizes="full", **alone).runs] == ["batch"]


def test_missing_targets_are_told():
    """Without y, or with a target that is not there, the message says what to give."""
    with pytest.raises(InputError, match="y is missing"):
        compare(X)
    with pytest.raises(InputError, match="nothere"):
        compare(FRAME.assign(kind=Y), target="nothere")
    with pytest.raises(InputError, match=r"no-such-file"):
        compare("no-such-file.csv", target="y")
    with pytest.raises(InputError):
        compare(X, Y[:-1])


def test_load_gives_the_estimator_that_belongs_to_the_task(tmp_path):
    """A classifier's file loads as classifier, a regressor's as regressor, with the settings that were asked for."""
    one = LinearClassifier(batch_size=16, alpha=0.5, optimizer="adam", epochs=2).fit(X, Y)
    again = load(one.save(tmp_path / "c.descend"))
    assert type(again) is LinearClassifier
    for name in ("batch_size", "alpha", "optimizer", "learning_rate"):
        assert getattr(again, name) == getattr(one, name)
    other = LinearRegressor().fit(*load_diabetes(return_X_y=True))
    assert type(load(str(other.save(tmp_path / "r.descend")))) is LinearRegressor


def test_a_loaded_estimator_can_be_fitted_again(tmp_path):
    """What was loaded is a full estimator: it fits again, and gives the same from the same data and state."""
    one = LinearClassifier(random_state=0).fit(X, Y)
    again = load(one.save(tmp_path / "c.descend"))
    refitted = again.set_params(random_state=0).fit(X, Y)
    np.testing.assert_allclose(refitted.coef_, one.coef_, rtol=1e-10)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x00" * 100, b"PK\x03\x04zip"])
def test_other_files_are_no_models(content, tmp_path):
    """An empty file, a CSV, zeros or a zip are refused as InputError with the file's name."""
    (tmp_path / "m.descend").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.descend"):
        load(tmp_path / "m.descend")


def test_public_names_are_there_and_no_more():
    """Every public name can be imported, is listed by dir, and an unknown one raises AttributeError."""
    for name in descend.__all__:
        assert getattr(descend, name) is not None
        assert name in dir(descend)
    with pytest.raises(AttributeError, match="nothing"):
        descend.nothing  # noqa: B018
