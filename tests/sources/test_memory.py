"""Sources over what is already in memory: arrays, and tables from any library."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from descend.errors import ColumnError, InputError
from descend.sources import array_source, table_source

DATA = {"a": [1.5, None, 3.5], "b": ["u", "v", None], "y": [0, 1, 0]}


def test_array_blocks_are_views():
    """Blocks of an array share its memory."""
    X = np.arange(12.0).reshape(6, 2)
    block = next(iter(array_source(X, y=np.arange(6)).blocks()))
    assert np.shares_memory(block.columns, X)


@pytest.mark.parametrize(
    ("X", "error"),
    [
        (np.arange(3.0), InputError),
        (np.ones((2, 2, 2)), InputError),
        (np.ones((2, 0)), InputError),
        (np.ones((2, 2), dtype=complex), ColumnError),
        (np.array([["a", "b"]]), ColumnError),
        (np.array([["a", 1]], dtype=object), ColumnError),
    ],
)
def test_arrays_that_are_no_matrix_of_numbers_are_refused(X, error):
    """Only 2-D arrays of real numbers are accepted."""
    with pytest.raises(error):
        array_source(X)


def test_rows_must_match():
    """Y and weights have one entry a row."""
    with pytest.raises(InputError, match="y has 2 rows, but X has 3"):
        array_source(np.ones((3, 2)), y=[0, 1])
    with pytest.raises(InputError, match="one number a row"):
        array_source(np.ones((3, 2)), y=[0, 1, 0], weights=[1, 2])
    with pytest.raises(ColumnError, match=r"-1\.0 in row 2"):
        array_source(np.ones((3, 2)), y=[0, 1, 0], weights=[1, -1, 2])


def test_float32_stays_float32():
    """The type that rows are kept in follows the array."""
    assert array_source(np.ones((2, 2), dtype=np.float32)).dtype == "float32"
    assert array_source(np.ones((2, 2), dtype=np.int8)).dtype == "float64"


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_tables_of_any_library_give_the_same_rows(make):
    """pandas, polars and PyArrow tables are read alike, missing values included."""
    source = table_source(make(DATA), target="y")
    for _ in range(2):
        (block,) = source.blocks()
        assert block.columns.to_pydict() == {"a": DATA["a"], "b": DATA["b"]}
        assert block.target.to_pylist() == DATA["y"]


def test_a_pandas_index_is_no_column():
    """The index of a DataFrame, named or not, is no feature."""
    frame = pd.DataFrame(DATA, index=pd.Index([5, 7, 9], name="key"))
    assert table_source(frame, target="y").column_names == ("a", "b")


def test_a_table_takes_its_target_from_outside():
    """Y may be given beside the table; its rows and its name go along."""
    frame = pd.DataFrame(DATA).drop(columns="y")
    source = table_source(frame, y=pd.Series([1, 2, 3], name="pay"))
    assert source.target_name == "pay"
    assert next(iter(source.blocks())).target.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="y has 2 rows"):
        table_source(frame, y=[1, 2])


def test_columns_of_mixed_types_are_refused():
    """A pandas column of words and numbers together is refused in one message."""
    with pytest.raises(ColumnError, match="one type"):
        table_source(pd.DataFrame({"a": [1, "u"]}))


def test_nothing_heavy_is_imported():
    """Preparing arrays imports no PyArrow, scikit-learn, Numba or Rich."""
    code = (
        "import sys, numpy as np\n"
        "from descend.sources import array_source\n"
        "from descend.features import prepare\n"
        "prepare(array_source(np.random.rand(50, 3), np.arange(50.0)))\n"
        "print([m for m in ('pyarrow', 'sklearn', 'numba', 'rich', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
