"""Matrices of 8- and 16-bit numbers: kept in their type from the source to the end, with the results of floats."""

import importlib
import tracemalloc

import numpy as np
import pytest

from descend import LinearClassifier, LinearRegressor
from descend.errors import ColumnError
from descend.features import prepare
from descend.sources import array_source, open_source

stage = importlib.import_module("descend.features.prepare")  # its name in the package is the function's
DTYPES = (np.uint8, np.int8, np.uint16, np.int16, np.float16)


def matrix(num_rows=3000, num_columns=20, dtype=np.uint8, seed=0):
    """Rows of correlated small numbers, and a number to predict from them."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(num_rows, num_columns))
    X = 60.0 + 18.0 * (base + 0.5 * np.roll(base, 1, axis=1))
    X = np.clip(X if dtype == np.float16 else np.rint(X), 0, 127).astype(dtype)
    y = base[:, :5].sum(axis=1) + rng.normal(size=num_rows)
    return X, y


@pytest.fixture(scope="module")
def large():
    return matrix(24_000, 600)


@pytest.fixture
def any_size(monkeypatch):
    """Small tables are kept in small numbers, too."""
    monkeypatch.setattr(stage, "FEWEST_CODED", 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("standardize", [True, False])
def test_coded_rows_are_the_encoded_rows(dtype, standardize, any_size):
    """Decoded, training and validation rows are those of the same numbers given as float32, row for row."""
    X, y = matrix(dtype=dtype)
    X[:, 7] = 5  # a column of one value, which is left out
    for shuffle in (True, False):
        options = {"standardize": standardize, "shuffle": shuffle, "validation": 0.2, "seed": 3}
        small, dense = (prepare(array_source(A, y), **options) for A in (X, X.astype(np.float32)))
        for one, other in ((small.train, dense.train), (small.validation, dense.validation)):
            assert one.is_coded
            assert one.X.values.dtype == dtype
            np.testing.assert_allclose(one.X[:], other.X, rtol=1e-6, atol=1e-6)
            np.testing.assert_array_equal(one.y, other.y)


def test_the_users_small_numbers_are_not_copied(any_size):
    """Neither shuffled nor split, the user's own array is trained on, standardised or not; and is never written."""
    X, y = matrix()
    before = X.copy()
    for standardize in (True, False):
        ready = prepare(array_source(X, y), validation=0, shuffle=False, standardize=standardize)
        assert np.shares_memory(ready.train.X.values, X)
        LinearRegressor(shuffle=False, standardize=standardize).fit(X, y)
    np.testing.assert_array_equal(X, before)
    by_column = prepare(array_source(np.asfortranarray(X), y), validation=0, shuffle=False)
    np.testing.assert_array_equal(by_column.train.X.values, X)
    weights = np.where(np.arange(len(X)) % 3, 1.0, 0.0)
    some = prepare(array_source(X, y, weights), validation=0, shuffle=False)
    np.testing.assert_array_equal(some.train.X.values, X[weights > 0])


def test_what_is_not_kept_in_small_numbers(any_size, monkeypatch):
    """Gaps, floats, an asked float64 and small tables go the usual way."""
    X, y = matrix(dtype=np.float16)
    gaps = X.copy()
    gaps[5, 3] = np.nan
    ready = prepare(array_source(gaps, y), validation=0)
    assert not ready.train.is_coded
    assert np.isfinite(ready.train.X).all()
    held = np.flatnonzero(np.random.Generator(np.random.PCG64([0, 0])).random(len(X)) < 0.1)
    gaps = X.copy()
    gaps[held[0], 3] = np.nan
    # Only validation rows have a gap: those are filled, the others stay as they are.
    ready = prepare(array_source(gaps, y))
    assert ready.train.is_coded
    assert not ready.validation.is_coded
    assert np.isfinite(ready.validation.X).all()
    infinite = X.copy()
    infinite[9, 2] = np.inf
    with pytest.raises(ColumnError, match="'x2' holds inf in row 10"):
        prepare(array_source(infinite, y))
    assert not prepare(array_source(X, y), dtype=np.float64).train.is_coded
    assert not prepare(array_source(X.astype(np.int32), y)).train.is_coded
    monkeypatch.undo()
    assert prepare(array_source(X, y)).train.X.dtype == np.float64


def test_files_of_small_numbers_are_kept_so(tmp_path, any_size):
    """.npy and .npz of uint8 keep a byte a number, a column that is the target left out; mixed types do not."""
    X, y = matrix()
    label = (y > 0).astype(np.uint8)
    np.savez(tmp_path / "a.npz", X=X.reshape(len(X), 4, 5), y=label)
    np.save(tmp_path / "b.npy", np.column_stack([X, label]))
    for name, options in (("a.npz", {}), ("b.npy", {"target": "20"})):
        ready = prepare(open_source(tmp_path / name, **options), validation=0, shuffle=False)
        assert ready.train.X.values.dtype == np.uint8
        np.testing.assert_array_equal(ready.train.X.values, X)
    (tmp_path / "two").mkdir()
    np.save(tmp_path / "two" / "a.npy", np.column_stack([X, label]))
    np.save(tmp_path / "two" / "b.npy", np.column_stack([X, label]).astype(np.int16))
    assert not prepare(open_source(tmp_path / "two", target="20")).train.is_coded


@pytest.mark.parametrize("batch_size", ["auto", 1, 32, 700, "full"])
@pytest.mark.parametrize(
    "settings", [{}, {"penalty": "l1", "alpha": 0.01}, {"loss": "hinge"}, {"early_stopping": True}]
)
def test_classifiers_end_where_floats_do(batch_size, settings, any_size):
    """Untuned, three classes end certified, at the loss that the same numbers in float32 end at."""
    X, y = matrix()
    labels = np.digitize(y, np.quantile(y, [0.3, 0.7]))
    small, dense = (
        LinearClassifier(batch_size=batch_size, random_state=0, **settings).fit(A, labels)
        for A in (X, X.astype(np.float32))
    )
    assert small.history_.rule == dense.history_.rule
    found, expected = (model.history_.columns["loss"] for model in (small, dense))
    assert abs(found[-1] - expected[-1]) <= 2e-3 * abs(expected[0] - expected[-1])
    # Rounding decides now and then which epoch is certified first: places of nearly the same loss.
    assert np.mean(small.predict(X) == dense.predict(X)) > 0.99
    np.testing.assert_array_equal(small.predict(X), small.predict(X.astype(np.float64)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "huber", "batch_size": 32},
        {"loss": "quantile"},
        {"optimizer": "newton"},
        {"penalty": "l1", "alpha": 0.05},
        {"shuffle": False, "optimizer": "adam"},
    ],
)
def test_regressors_end_where_floats_do(dtype, settings, any_size):
    """Coefficients for columns as they came are those of the same numbers in float32, with weights too."""
    X, y = matrix(dtype=dtype)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=len(y))
    for sample_weight in (None, weights):
        small, dense = (
            LinearRegressor(random_state=0, **settings).fit(A, y, sample_weight)
            for A in (X, X.astype(np.float32))
        )
        deviations = [m.standardized_coef_ for m in (small, dense)]
        np.testing.assert_allclose(*deviations, rtol=0.02, atol=0.02 * np.abs(deviations[1]).max())
        np.testing.assert_allclose(small.predict(X), small.predict(X.astype(np.float64)), rtol=1e-12)


@pytest.mark.parametrize("cls", [LinearClassifier, LinearRegressor])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": 1},
        {"batch_size": 32},
        {"batch_size": 3000},
        {"batch_size": "full"},
        {"penalty": "l1"},
        {"shuffle": False},
        {"early_stopping": True},
    ],
)
def test_nothing_makes_floats_of_all_rows(cls, settings, large):
    """At its peak ``fit`` holds, beyond the caller's bytes, little more than a copy of them, or some megabytes.

    Where float32 took four copies. Matrices of columns by columns and blocks of 8 MB have no part in the rows.
    """
    X, y = large
    target = y if cls is LinearRegressor else y > 0
    model = cls(random_state=0, **settings)
    model.fit(X[:2000], target[:2000])  # kernels and libraries are there from here on
    tracemalloc.start()
    try:
        model.fit(X, target)
        fitted = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        model.predict(X)
        predicted = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    floats = 4 * X.size
    assert fitted < (0.25 if "shuffle" in settings else 0.6) * floats
    assert predicted < 0.3 * floats
