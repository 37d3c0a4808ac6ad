"""Rows, targets, weights and classes that cannot be used are refused by name, and nothing is trained."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_breast_cancer

from descend import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from descend.cli.failures import option_words
from descend.errors import InputError

X, Y = load_breast_cancer(return_X_y=True)
X = X[:, :5]
KINDS = {"dense": np.asarray, "csr": csr_array, "pandas": pd.DataFrame}


def with_value(value):
    rows = X.copy()
    rows[3, 2] = value
    return rows


# What is wrong with X, for every method: the value of each kind, and what the message says.
ROWS = {
    "nan": (with_value(np.nan), r"X contains NaN"),
    "infinite": (with_value(np.inf), r"X contains infinity"),
    "no rows": (X[:0], r"0 sample"),
    "no columns": (X[:, :0], r"0 feature"),
}
DENSE_ONLY = {
    "object": (np.where(X.mean() < X, "a", "b").astype(object), r"could not convert string to float"),
    "complex": (X * 1j, r"Complex data"),
    "1-D": (X[:, 0], r"Expected 2D array"),
    "3-D": (X[:, :, None], r"dim 3"),
}
FIRST = {LinearClassifier: {"classes": [0, 1]}, LinearRegressor: {}}
ESTIMATORS = [LinearClassifier, LinearRegressor]


def cases():
    found = []
    for kind, make in KINDS.items():
        for name, (rows, said) in ROWS.items():
            found.append(pytest.param(kind, make(rows), said, id=f"{kind}-{name}"))
    for name, (rows, said) in DENSE_ONLY.items():
        found.append(pytest.param("dense", rows, said, id=f"dense-{name}"))
    return found


def untouched(model, before):
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[key] is before[key] for key in before)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("kind", "rows", "said"), cases())
def test_rows_that_cannot_be_learnt_from(estimator, method, kind, rows, said):
    """Fit and partial_fit raise ValueError naming X, of a new estimator and of one that has learnt something."""
    y = Y[: rows.shape[0]]
    more = FIRST[estimator] if method == "partial_fit" else {}
    if kind == "pandas" and rows.isna().to_numpy().any():
        if method == "fit":  # gaps of a table are encoded
            assert estimator(random_state=0).fit(rows, y).score(rows, y) > 0.5
            return
        said = r"X has columns .*gaps"
    for model in (estimator(), estimator(random_state=0).fit(KINDS[kind](X), Y)):
        before = dict(vars(model))
        with pytest.raises(ValueError, match=said):
            getattr(model, method)(rows, y, **more)
        untouched(model, before)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("kind", "rows", "said"), cases())
def test_rows_that_cannot_be_predicted(estimator, kind, rows, said):
    """Predict raises ValueError naming X, also for fewer columns than were learnt."""
    model = estimator(random_state=0).fit(KINDS[kind](X), Y)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=said):
        model.predict(rows)
    with pytest.raises(ValueError, match=r"feature|columns"):
        model.predict(KINDS[kind](X[:, :3]))
    untouched(model, before)


TARGETS = {
    "nan": (np.where(Y, np.nan, 0.0), r"\by contains NaN"),
    "infinite": (np.where(Y, np.inf, 0.0), r"\by contains infinity"),
    "complex": (Y * 1j, r"Complex data|\by\b"),
    "3-D": (Y[:, None, None], r"\by\b|dim 3"),
    "too few": (Y[:-1], r"inconsistent numbers of samples"),
    "none": (None, r"\by\b"),
    "objects": (np.array([{}] * len(Y), dtype=object), r"\by\b|[Ll]abel"),
}
WEIGHTS = {
    "zero": np.zeros(len(Y)),
    "negative": np.where(Y == 1, 1.0, -1.0),
    "nan": np.full(len(Y), np.nan),
    "infinite": np.full(len(Y), np.inf),
    "text": np.full(len(Y), "a"),
    "too few": np.ones(3),
    "2-D": np.ones((len(Y), 2)),
    "complex": np.full(len(Y), 1j),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_targets_and_weights_that_cannot_be(estimator, kind, method):
    """Targets and weights raise ValueError naming y and sample_weight, and nothing is learnt or forgotten."""
    more = FIRST[estimator] if method == "partial_fit" else {}
    rows = KINDS[kind](X)
    for model in (estimator(), estimator(random_state=0).fit(rows, Y)):
        before = dict(vars(model))
        for name, (y, said) in TARGETS.items():
            with pytest.raises(ValueError, match=said):
                getattr(model, method)(rows, y, **more)
            assert vars(model).keys() == before.keys(), name
        for name, weights in WEIGHTS.items():
            with pytest.raises(ValueError, match=r"(?i)sample.?weight"):
                getattr(model, method)(rows, Y, sample_weight=weights, **more)
            assert vars(model).keys() == before.keys(), name
        untouched(model, before)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_and_labels(kind):
    """One row, one class, a label that classes lack, quantities as labels and texts as quantities are refused."""
    rows = KINDS[kind](X)
    for estimator in ESTIMATORS:
        with pytest.raises(ValueError, match="1 sample"):
            estimator().fit(rows[:1], Y[:1])
    with pytest.raises(ValueError, match=r"\bclass"):
        LinearClassifier().fit(rows, np.zeros(len(Y), int))
    with pytest.raises(ValueError, match=r"y holds the label 'c'.*classes"):
        LinearClassifier().partial_fit(rows, np.where(Y == 1, "a", "c"), classes=["a", "b"])
    with pytest.raises(ValueError, match=r"continuous"):
        LinearClassifier().fit(rows, X[:, 0])
    with pytest.raises(ValueError, match=r"\by\b|could not convert"):
        LinearRegressor().fit(rows, np.where(Y == 1, "a", "c"))
    words = np.where(Y == 1, "yes", "no")
    model = LinearClassifier(random_state=0).fit(rows, words)
    assert set(model.predict(rows)) == {"no", "yes"}
    assert model.partial_fit(rows, words).score(rows, words) > 0.8


MIXED = pd.DataFrame({"size": X[:, 0], "colour": np.array(["red", "blue"])[Y]})
NO_TARGETS = {
    "none": (None, r"requires y to be passed, but the target y is None"),
    "missing": (np.where(np.arange(len(Y)) == 3, np.nan, Y), r"'?y'? holds nan in row"),
    "two types": (np.array(["a", 1], dtype=object)[Y], r"y holds (labels that are no classes|values)"),
    "dates": (np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]")[Y], r"'?y'? holds datetime64"),
}


@pytest.mark.parametrize("rows", [X, MIXED], ids=["array", "table"])
@pytest.mark.parametrize("estimator", [*ESTIMATORS, MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("kind", NO_TARGETS)
def test_targets_that_are_none_are_told_so_of_arrays_and_tables(estimator, kind, rows):
    """No target, a gap, labels of two types and dates are a ValueError that names y, whatever X is."""
    y, said = NO_TARGETS[kind]
    if kind == "missing" and rows is X:
        said = r"y contains NaN"
    with pytest.raises(ValueError, match=said):
        estimator().fit(rows, y)


def test_rows_that_are_not_read_yet_are_told_how_to_be():
    """A lazy frame of polars is refused with what to give, by every method, and of the same frame collected not."""
    frame = pl.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    model = LinearClassifier().fit(frame, Y)
    for method in (model.fit, model.partial_fit, model.score):
        with pytest.raises(ValueError, match=r"X is a LazyFrame, .* give X.collect\(\)"):
            method(frame.lazy(), Y)
    with pytest.raises(ValueError, match=r"X is a LazyFrame"):
        model.predict(frame.lazy())
    assert len(model.predict(frame.lazy().collect())) == len(Y)


def test_columns_are_left_out_in_the_words_of_who_asks():
    """What a column is refused for names no option in Python; on the command line it names --drop."""
    with pytest.raises(InputError, match=r"leave it out of training$") as refused:
        LinearClassifier().fit(X * 1e200, Y)
    assert option_words(str(refused.value)).endswith("leave it out with --drop")


def test_tables_that_arrow_cannot_take_are_told_why():
    """Columns of one name, and a sparse column among others, are refused as input that is wrong, by name."""
    twice = pd.concat([MIXED, MIXED[["size"]]], axis=1)
    with pytest.raises(InputError, match=r"Duplicate column names: 'size'; rename all but one"):
        LinearClassifier().fit(twice, Y)
    sparse = MIXED.assign(few=pd.arrays.SparseArray((X[:, 1] > 20) * 1.0))
    with pytest.raises(InputError, match=r"Sparse pandas data \(column few\).*dense"):
        LinearClassifier().fit(sparse, Y)
