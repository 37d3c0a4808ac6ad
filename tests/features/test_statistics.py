"""Statistics of a table or matrix: one pass, mergeable."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.errors import ColumnError
from descend.features import Features, Statistics

CELLS = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(-5, 5),
        "c": st.none() | st.sampled_from(["u", "v", "w"]),
        "d": st.none() | st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2030, 1, 1)),
    }
)
SCHEMA = pa.schema({"n": pa.int64(), "c": pa.string(), "d": pa.timestamp("us")})


def batch(rows):
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def statistics(*parts, weights=None):
    record = Statistics(SCHEMA.names)
    for part in parts:
        record.update(part, weights)
    return record


def assert_same(one, other):
    assert one.total == pytest.approx(other.total)
    assert one.kinds == other.kinds
    for name, slot in one.slots.items():
        there = other.slots[name]
        for field in ("count", "mean", "M2", "minimum", "maximum"):
            a, b = getattr(one.moments, field)[slot], getattr(other.moments, field)[there]
            assert a == pytest.approx(b, rel=1e-7, abs=1e-5), (name, field)
    for name, levels in one.levels.items():
        assert levels.counts == pytest.approx(other.levels[name].counts)


@given(st.lists(CELLS, min_size=1, max_size=20), st.integers(0, 20))
def test_records_of_disjoint_rows_merge_to_that_of_all(rows, cut):
    """Merging, and updating block by block, both give the record of all rows."""
    whole, first, second = batch(rows), batch(rows[:cut]), batch(rows[cut:])
    merged = statistics(first)
    merged.merge(statistics(second))
    assert_same(merged, statistics(whole))
    assert_same(statistics(first, second), statistics(whole))


@given(st.lists(st.tuples(CELLS, st.integers(0, 3)), min_size=1, max_size=20))
def test_weights_are_counts(pairs):
    """Weight 2 is the row twice and weight 0 is its absence, in every kind of column."""
    rows, weights = [r for r, _ in pairs], np.array([float(w) for _, w in pairs])
    repeated = [r for r, w in pairs for _ in range(w)]
    assert_same(statistics(batch(rows), weights=weights), statistics(batch(repeated)))


def test_a_matrix_and_a_table_of_its_columns_agree():
    """The matrix path and the table path learn the same."""
    X = np.random.default_rng(0).normal(size=(500, 3))
    X[3, 1] = np.nan
    matrix, table = Statistics(("a", "b", "c")), Statistics(("a", "b", "c"))
    matrix.update(X)
    table.update(pa.RecordBatch.from_pydict(dict(zip("abc", X.T, strict=True))))
    np.testing.assert_allclose(matrix.moments.M2, table.moments.M2)
    assert matrix.missing("b") == table.missing("b") == 1


@pytest.mark.parametrize("as_table", [False, True])
def test_infinity_is_refused_with_column_and_row(as_table):
    """An infinite value is refused with its column and row, counted over blocks."""
    X = np.zeros((10, 2))
    record = Statistics(("a", "b"))
    record.update(pa.RecordBatch.from_pydict({"a": X[:, 0], "b": X[:, 1]}) if as_table else X)
    X[4, 1] = -np.inf
    with pytest.raises(ColumnError, match=r"'b' holds -inf in row 15"):
        record.update(pa.RecordBatch.from_pydict({"a": X[:, 0], "b": X[:, 1]}) if as_table else X)


def test_a_column_that_begins_with_nulls_is_learned_later():
    """A block of nulls counts as missing, and the kind is that of the first values."""
    record = Statistics(("a",))
    record.update(pa.RecordBatch.from_pydict({"a": pa.nulls(3)}))
    record.update(pa.RecordBatch.from_pydict({"a": [1.0, 2.0]}))
    assert record.kinds == {"a": "number"}
    assert record.missing("a") == 3


def test_a_column_of_two_kinds_is_refused():
    """Numbers in one file and text in the next cannot be one column."""
    record = Statistics(("a",))
    record.update(pa.RecordBatch.from_pydict({"a": [1.0]}))
    with pytest.raises(ColumnError, match="'a' holds numbers in some rows or files and text"):
        record.update(pa.RecordBatch.from_pydict({"a": ["u"]}))


def test_numbers_beyond_squaring_are_refused_by_name():
    """Numbers whose squares overflow are refused, not scaled to nan."""
    record = Statistics(("a",))
    record.update(np.array([[1e200], [-1e200]]))
    with pytest.raises(ColumnError, match="'a' holds numbers too large"):
        Features.from_statistics(record)
