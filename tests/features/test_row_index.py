"""Columns that count the rows are told of, and others are not."""

import numpy as np
import pandas as pd
import pytest

from descend.features import prepare
from descend.sources import open_source, table_source

N = 200
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({"age": RNG.normal(size=N), "y": RNG.normal(size=N)})


def notes(table):
    return [
        n
        for n in prepare(table_source(table, target="y", require_target=True)).notes
        if "counts the rows" in n
    ]


@pytest.mark.parametrize("name", ["index", "Unnamed: 0", "Index"])
@pytest.mark.parametrize("first", [0, 1])
def test_an_index_is_told(name, first):
    """Whole numbers from 0 or 1 in the order of the rows, under an index's name, are told with the name."""
    told = notes(TABLE.assign(**{name: np.arange(first, first + N)}))
    assert len(told) == 1
    assert f"{name!r} counts the rows, {first}, {first + 1}, {first + 2}" in told[0]


@pytest.mark.parametrize("name", ["id", "count", "index of prices"])
def test_other_names_are_not(name):
    """A column of another name may count for a reason."""
    assert notes(TABLE.assign(**{name: np.arange(N)})) == []


@pytest.mark.parametrize(
    "values",
    [
        np.arange(N)[::-1],
        np.arange(5, N + 5),
        np.arange(N) * 7,
        np.arange(N) * 1.0,
        np.zeros(N, dtype=int),
        np.r_[np.arange(N - 1), 3],
    ],
    ids=["falling", "from 5", "by 7", "fractions", "constant", "back"],
)
def test_other_numbers_are_not(values):
    """Under such a name, numbers that do not count the rows are a column like any other."""
    assert notes(TABLE.assign(index=values)) == []


def test_rows_left_out_leave_gaps():
    """Rows without a target are left out, and the column still counts those of the file."""
    table = TABLE.assign(index=np.arange(N))
    table.loc[::7, "y"] = np.nan
    assert len(notes(table)) == 1


def test_an_index_without_a_name_is_told(tmp_path):
    """What pandas writes with its index has a first column without a name: told, whatever the blocks."""
    place = tmp_path / "table.csv"
    pd.concat([TABLE] * 500, ignore_index=True).to_csv(place)
    told = prepare(open_source(str(place), target="y")).notes
    assert any("column 'column 1' counts the rows" in note for note in told)
