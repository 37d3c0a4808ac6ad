"""Features: encoding against scikit-learn, unseen and missing values, and their way to JSON and back."""

import datetime as dt
import decimal
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from descend.errors import ColumnError, ModelFileError
from descend.features import Features, Statistics, prepare
from descend.features.kinds import as_numbers
from descend.sources import table_source

RNG = np.random.default_rng(0)


def learn(columns, standardize=True):
    """Features of a matrix, or of a table given as a dict of columns."""
    if isinstance(columns, dict):
        columns = pa.RecordBatch.from_pydict(columns)
    names = (
        [f"x{i}" for i in range(columns.shape[1])]
        if isinstance(columns, np.ndarray)
        else columns.schema.names
    )
    stats = Statistics(names)
    stats.update(columns)
    return Features.from_statistics(stats, standardize)


def encode(features, columns):
    return features.encode(pa.RecordBatch.from_pydict(columns), dtype=np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
def test_standardised_values_equal_scikit_learns(dtype):
    """Standardised values equal StandardScaler's to 1e-6 on the same rows, for table and matrix."""
    from sklearn.preprocessing import StandardScaler

    X = (RNG.normal(size=(500, 6)) * [1, 3, 10, 30, 2, 5] + 100).astype(dtype)
    expected = StandardScaler().fit_transform(X.astype(np.float64))
    matrix = learn(X).encode(X)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, expected, atol=1e-6)
    columns = {f"x{i}": X[:, i] for i in range(6)}
    np.testing.assert_allclose(encode(learn(columns), columns), expected, atol=1e-10)


def test_one_hot_equals_scikit_learns():
    """0/1 columns equal OneHotEncoder's on the same rows, levels sorted."""
    from sklearn.preprocessing import OneHotEncoder

    texts = RNG.choice(["pear", "apple", "한국어", "<b>"], size=200)
    flags = RNG.random(200) < 0.5
    cells = np.stack([texts.astype(object), flags.astype(object)], axis=1)
    expected = OneHotEncoder(sparse_output=False).fit_transform(cells)
    features = learn({"t": texts, "f": flags})
    assert features.names == ("t=<b>", "t=apple", "t=pear", "t=한국어", "f=false", "f=true")
    np.testing.assert_array_equal(encode(features, {"t": texts, "f": flags}), expected)


def test_missing_numbers_are_the_mean_and_told():
    """A missing number becomes the mean, 0 when scaled, and a column of its own says so."""
    features = learn({"a": [1.0, 3.0, None, np.nan]})
    assert features.names == ("a", "a is missing")
    np.testing.assert_array_equal(
        encode(features, {"a": [1.0, 3.0, None, np.nan]}), [[-1, 0], [1, 0], [0, 1], [0, 1]]
    )
    raw = learn({"a": [1.0, 3.0, None]}, standardize=False)
    np.testing.assert_array_equal(encode(raw, {"a": [None, 5.0]}), [[2, 1], [5, 0]])


@given(arrays(np.float64, (8, 3), elements=st.one_of(st.floats(-100, 100), st.just(np.nan))), st.booleans())
def test_matrix_and_table_encode_alike(X, standardize):
    """The fast path over a matrix and the path column by column write the same numbers."""
    X[:2] = [[1, 2, 3], [4, 5, 6]]
    columns = {f"x{i}": X[:, i] for i in range(3)}
    matrix, table = learn(X, standardize), learn(columns, standardize)
    if matrix.names == table.names:
        np.testing.assert_allclose(matrix.encode(X, dtype=np.float64), encode(table, columns), atol=1e-9)


def test_missing_where_training_had_none_is_the_mean():
    """A gap in a column that had none in training is filled with its mean."""
    X = RNG.normal(size=(50, 2))
    features = learn(X)
    np.testing.assert_allclose(features.encode(np.array([[np.nan, X[:, 1].mean()]])), [[0, 0]], atol=1e-12)


def test_a_constant_that_is_sometimes_missing_keeps_its_gaps():
    """A column of one value that is sometimes missing tells only where it is missing."""
    features = learn({"a": [7.0, None, 7.0], "b": [1, 2, 3]})
    assert features.names == ("a is missing", "b")
    np.testing.assert_array_equal(encode(features, {"a": [7.0, None], "b": [2, 2]})[:, 0], [0, 1])


def test_constant_and_empty_columns_are_left_out_and_told():
    """Columns of one value, of none, and of texts that never repeat are left out, and notes say why."""
    names = [f"person {i}" for i in range(100)]
    features = learn(
        {"k": [1] * 100, "t": ["u"] * 100, "e": pa.nulls(100), "id": names, "x": range(100)},
    )
    assert features.names == ("x",)
    notes = "\n".join(features.notes)
    assert "columns k, t left out: the same value in every row" in notes
    assert "column e left out: no value" in notes
    assert "column id left out: text that is different in nearly every row" in notes


def test_nothing_left_is_refused():
    """A table without a usable column is refused, and the reasons are given."""
    with pytest.raises(ColumnError, match="no column is left to learn from: column k left out"):
        learn({"k": [1, 1, 1]})


def test_rounding_noise_is_constant():
    """A column whose spread is rounding error is constant, as in scikit-learn."""
    X = np.full((1000, 2), 0.1) + np.arange(1000)[:, None] * [1e-19, 1]
    assert learn(X).names == ("x1",)


@pytest.mark.parametrize("weight", [1e-300, 1e-3, 1e9, 1e15])
def test_what_all_rows_weigh_decides_no_column(weight):
    """Columns are kept, pooled and left out alike whether rows weigh 1 each, a share of 1 or billions."""
    columns = {
        "year": [2000 + i % 9 for i in range(400)],
        "few": ["u", "v"] * 200,
        "rare": ["u"] * 300 + ["v"] * 98 + ["w"] * 2,
        "grade": ["0", "1", "2", "3+"] * 5 + ["0"] * 380,
    }

    def names(weights):
        stats = Statistics(tuple(columns))
        stats.update(pa.RecordBatch.from_pydict(columns), weights)
        return Features.from_statistics(stats).names

    kept = names(np.full(400, weight))
    assert kept[:3] == ("year", "few=u", "few=v")
    if weight <= 1:
        assert kept == names(None)
        assert "rare=other" in kept


def test_rare_levels_are_pooled_and_unseen_ones_join_them():
    """Levels of few rows share one column, named =other, where unseen levels go too."""
    texts = ["a"] * 500 + ["b"] * 480 + ["c"] * 5 + ["d"] * 4
    features = learn({"t": texts})
    assert features.names == ("t=a", "t=b", "t=other")
    assert "2 rare levels pooled" in features.notes[0]
    np.testing.assert_array_equal(encode(features, {"t": ["c", "new", None, "a"]})[:, 2], [1, 1, 1, 0])


def test_unseen_levels_without_a_pool_are_all_zeros():
    """Where nothing was rare an unseen or missing level is all zeros."""
    features = learn({"t": ["a", "b"] * 50})
    np.testing.assert_array_equal(encode(features, {"t": ["new", None]}), np.zeros((2, 2)))


def test_missing_texts_are_a_level_of_their_own():
    """Nulls seen in training have their own column."""
    features = learn({"t": ["a", "b", None] * 50})
    assert features.names == ("t=a", "t=b", "t=missing")
    np.testing.assert_array_equal(encode(features, {"t": [None, "a"]}), [[0, 0, 1], [1, 0, 0]])


def test_levels_are_capped():
    """At most 250 levels have a column of their own."""
    features = learn({"t": [f"level {i % 400}" for i in range(20_000)]})
    assert len(features.names) == 251


def test_text_that_is_dictionary_encoded_is_text():
    """Dictionary columns, of text or of numbers, are levels."""
    column = pa.array(["u", "v"] * 10).dictionary_encode()
    numbers = pa.array([1, 2] * 10).dictionary_encode()
    assert learn({"t": column, "n": numbers}).names == ("t=u", "t=v", "n=1", "n=2")


def test_categories_of_polars_are_text():
    """Categories of polars come as a dictionary of views; they are levels, in new data too, and a target."""
    texts = ["u", None, "v", "v"] * 10
    frame = pl.DataFrame({"t": texts, "y": [text or "none" for text in texts]})
    told = frame.with_columns(pl.col("t").cast(pl.Categorical), pl.col("y").cast(pl.Enum(["none", "u", "v"])))
    plain, category = (prepare(table_source(f, target="y"), validation=0.0) for f in (frame, told))
    assert category.features.names == plain.features.names == ("t=u", "t=v", "t=missing")
    assert category.target.classes == ("none", "u", "v")
    np.testing.assert_array_equal(category.train.X, plain.train.X)
    np.testing.assert_array_equal(category.train.y, plain.train.y)


def test_a_null_in_a_dictionary_is_a_missing_value():
    """A dictionary may hold the null instead of the array: the row has no target, and the cell no level."""
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2] * 20), pa.array(["u", None, "v"]))
    source = table_source(pa.table({"t": column, "y": column}), target="y")
    assert sum(block.num_rows for block in source.blocks()) == 40
    assert learn({"t": column}).names == ("t=u", "t=v", "t=missing")


def test_levels_that_arrive_as_numbers_are_found():
    """Levels "1" and "2" are found where a file holds only digits, whole or with .0."""
    features = learn({"t": ["1", "2", "3+"] * 30})
    for column in ([1, 2], [1.0, 2.0], ["1", "2"]):
        np.testing.assert_array_equal(encode(features, {"t": column}), [[1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_long_durations_are_seconds(unit):
    """Durations of months and years, odd to the last nanosecond, are their seconds to float64's rounding."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [200 * 86_400 * per_second + 1, -(250 * 365 * 86_400 * per_second) - 1, 0]
    found = as_numbers(pa.array([*counts, None], pa.duration(unit)), "wait", "number")[:, 0]
    np.testing.assert_allclose(found[:3], np.array(counts, dtype=float) / per_second, rtol=1e-15)
    assert np.isnan(found[3])


def test_decimals_and_durations_are_numbers():
    """Decimals, durations (in seconds) and booleans among numbers are numbers."""
    features = learn(
        {
            "m": [decimal.Decimal("1.5"), decimal.Decimal("2.5")],
            "s": [dt.timedelta(seconds=10), dt.timedelta(minutes=1)],
        },
        standardize=False,
    )
    values = encode(features, {"m": [decimal.Decimal("1.5")], "s": [dt.timedelta(seconds=10)]})
    np.testing.assert_array_equal(values, [[1.5, 10.0]])


def test_dates_are_elapsed_days_and_cycles_that_vary():
    """A date gives scaled elapsed days and the cycles of day of week and of year, not of a still hour."""
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=i) for i in range(366)]
    features = learn({"d": days})
    assert features.names == (
        "d",
        "d day of week (sin)",
        "d day of week (cos)",
        "d day of year (sin)",
        "d day of year (cos)",
    )
    values = encode(features, {"d": days})
    np.testing.assert_allclose(values[:, 0], (np.arange(366) - 182.5) / np.arange(366).std())
    np.testing.assert_allclose(values[0, 1:3], [0, 1], atol=1e-12)  # 2024-01-01 was a Monday
    np.testing.assert_allclose(values[7, 1:3], [0, 1], atol=1e-12)
    np.testing.assert_allclose(values[:, 3] ** 2 + values[:, 4] ** 2, 1)


def test_timestamps_have_an_hour_of_day():
    """A timestamp's hour goes round in a day; a missing one sits in the middle and is told."""
    moments = [dt.datetime(2024, 1, 1) + dt.timedelta(hours=i) for i in range(24)] + [None]
    features = learn({"t": moments})
    assert "t hour of day (sin)" in features.names
    assert features.names[-1] == "t is missing"
    values = encode(features, {"t": [dt.datetime(2024, 1, 1, 6), None]})
    at = features.names.index("t hour of day (sin)")
    np.testing.assert_allclose(values[:, at : at + 2], [[1, 0], [0, 0]], atol=1e-12)
    assert values[:, -1].tolist() == [0, 1]


def test_time_of_day_is_a_cycle():
    """A time without a date is a cycle only."""
    features = learn({"t": [dt.time(0), dt.time(6), dt.time(12)]})
    assert features.names == ("t hour of day (sin)", "t hour of day (cos)")
    np.testing.assert_allclose(encode(features, {"t": [dt.time(18)]}), [[-1, 0]], atol=1e-12)


def test_time_zones_show_the_clock_on_the_wall():
    """Hours of a timestamp with a zone are local hours."""
    moments = pa.array([0, 3600 * 12, 3600 * 24], pa.timestamp("s", "Asia/Seoul"))
    features = learn({"t": moments})
    at = features.names.index("t hour of day (sin)")
    np.testing.assert_allclose(encode(features, {"t": moments})[0, at], np.sin(2 * np.pi * 9 / 24))


def test_columns_go_by_name_and_others_are_ignored():
    """Columns of a table are found by name in any order, and further ones do not matter."""
    features = learn({"a": [1, 2, 3], "b": [5, 7, 9]})
    one = encode(features, {"a": [2], "b": [5]})
    np.testing.assert_array_equal(encode(features, {"z": ["?"], "b": [5], "a": [2]}), one)


def test_a_missing_column_is_named_with_those_present():
    """Data that lacks a column of the model is refused with what it lacks and what it has."""
    features = learn({"a": [1, 2], "b": [1, 2]})
    with pytest.raises(ColumnError, match=r"lacks column 'b'.*has columns 'a', 'c'"):
        encode(features, {"a": [1], "c": [2]})
    with pytest.raises(ColumnError, match="has 3 columns, but the model was made with 2"):
        features.encode(np.ones((1, 3)))


@pytest.mark.parametrize("column", [["12"], [dt.date(2024, 1, 1)], pa.array([[1]])])
def test_other_values_for_a_number_are_refused(column):
    """Text, dates and lists where numbers are needed are refused by name."""
    with pytest.raises(ColumnError, match=r"column 'a' holds .* numbers are needed"):
        encode(learn({"a": [1, 2]}), {"a": column})


def test_the_text_among_numbers_is_the_one_shown():
    """Of a column of new data that became text the message shows a cell that is no number, not the first one."""
    features = learn({"a": [1.5, 2.5], "b": [1, 2]})
    with pytest.raises(ColumnError, match=r"column 'a' holds string values \('oops'\)"):
        encode(features, {"a": ["1.5", None, "2e3", "oops", "x"], "b": [1] * 5})


def test_infinity_in_new_data_is_refused():
    """An infinite value in new data is refused with its column and row."""
    X = RNG.normal(size=(50, 2))
    features = learn(X)
    X[7, 1] = np.inf
    with pytest.raises(ColumnError, match="'x1' holds inf in row 8"):
        features.encode(X)
    with pytest.raises(ColumnError, match="'x1' holds inf in row 8"):
        encode(features, {"x0": X[:, 0], "x1": X[:, 1]})


def test_affine_map_gives_the_users_units():
    """Encoded · scale + mean is the input, and ``origin`` says which one."""
    X = RNG.normal(size=(100, 3)) * 5 + 2
    X[:, 1] = 4.0
    features = learn(X)
    assert features.origin.tolist() == [0, 2]
    np.testing.assert_allclose(
        features.encode(X, dtype=np.float64) * features.scale + features.mean, X[:, [0, 2]]
    )
    mixed = learn({"t": ["u", "v"] * 2, "a": [1.0, 3.0] * 2})
    assert mixed.mean.tolist() == [0, 0, 2]
    assert mixed.scale.tolist() == [1, 1, 1]


def test_raw_matrices_are_left_as_they_are():
    """Without standardising a matrix keeps every column, constants included."""
    X = np.array([[1.0, 5.0], [2.0, 5.0]])
    features = learn(X, standardize=False)
    assert features.is_identity
    np.testing.assert_array_equal(features.encode(X, dtype=np.float64), X)


@pytest.mark.parametrize("standardize", [True, False])
def test_json_keeps_the_encoding_to_the_last_bit(standardize):
    """Features that went through JSON text encode exactly as before."""
    columns = {
        "a": [*RNG.normal(size=99), None],
        "t": [*["u", "v", "</script>"] * 33, None],
        "d": [dt.datetime(2024, 1, 1) + dt.timedelta(hours=7 * i) for i in range(100)],
        "k": [1.0] * 99 + [None],
    }
    features = learn(columns, standardize)
    back = Features.from_json(json.loads(json.dumps(features.to_json(), allow_nan=False)))
    assert back.names == features.names
    assert back.notes == features.notes
    assert back.input_names == features.input_names
    np.testing.assert_array_equal(encode(back, columns), encode(features, columns))
    np.testing.assert_array_equal(back.scale, features.scale)


def test_json_of_a_wide_matrix_is_small():
    """50,000 columns of a matrix take two numbers each and no names."""
    features = learn(RNG.normal(size=(3, 50_000)))
    assert len(json.dumps(features.to_json())) < 50_000 * 50


def test_damaged_json_is_refused():
    """Features of another version, or lacking parts, raise ModelFileError."""
    stored = learn({"a": [1, 2]}).to_json()
    with pytest.raises(ModelFileError, match="version 99"):
        Features.from_json(stored | {"version": 99})
    with pytest.raises(ModelFileError, match="damaged"):
        Features.from_json(stored | {"numbers": {}})


@pytest.mark.parametrize(
    "words",
    [["oops"], ["1,234"], ["12kg"], ["oops", "-"], ["n.a."] * 30],
)
def test_text_among_numbers_is_refused(words):
    """A column of numbers with some text is refused with an example and its row; it is never one-hot."""
    column = [str(i * 0.5) for i in range(1000)]
    column[40 : 40 + len(words)] = words
    with pytest.raises(ColumnError, match=r"column 'a' holds numbers in 9.* in row 41"):
        learn({"a": column, "b": range(1000)})


@pytest.mark.parametrize(
    "column",
    [
        ["0", "1", "2", "3+"] * 50 + ["0"] * 1000,
        ["V57", "E909", "V58"] * 10 + [str(i % 100) for i in range(500)],
        ["zero", "one"] * 50,
        ["1", "2"] * 50,
    ],
)
def test_levels_and_codes_are_no_mistake(column):
    """Levels that come back and codes such as V57 are categories."""
    assert learn({"a": column}).names


def test_numbers_in_disguise_are_named():
    """Numbers that only a person can read are left out, and the note shows one."""
    features = learn({"a": [f"{1000 + i:,}" for i in range(200)], "b": range(200)})
    assert "numbers written as text, such as '1,000'" in features.notes[0]
