"""CSV and TSV files: dialects, types that hold for the whole file, hostile names."""

import datetime as dt

import pytest

from descend.errors import SourceError
from descend.sources import open_source
from descend.sources.widening import TypesWidened


@pytest.fixture
def small_blocks(monkeypatch):
    """Read in blocks of 4 KB and infer from the first kilobyte, so that late rows are late."""
    monkeypatch.setattr("descend.sources.dialect.BLOCK_BYTES", 4096)
    monkeypatch.setattr("descend.sources.dialect.HEAD_BYTES", 1024)


def columns_of(path, **choice):
    """Every column as one list."""
    found = {}
    for block in open_source(path, target="y", **choice).blocks():
        for name, column in zip(block.columns.schema.names, block.columns.columns, strict=True):
            found.setdefault(name, []).extend(column.to_pylist())
    return found


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_dialects(tmp_path, delimiter, line_end, mark):
    """Delimiter, line ends and byte order mark do not change what is read."""
    lines = ["a,b c,y", "1,u,0", '2,"v",1', ""]
    text = mark + line_end.join(lines).replace(",", delimiter)
    assert columns_of(write(tmp_path, text)) == {"a": [1, 2], "b c": ["u", "v"]}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("blank", ["\n", "\n\r\n\n", "\r\r"])
def test_empty_lines_before_the_header_are_no_rows(tmp_path, small_blocks, mark, blank):
    """Empty lines before the header change nothing: the header is never read as a row, whole or in parts."""
    path = write(tmp_path, mark + blank + "a,b,y\n" + "1,u,2\n" * 3000)
    assert columns_of(path) == {"a": [1] * 3000, "b": ["u"] * 3000}
    source = open_source(path, target="y")
    parts = [block for part in source.parts() for block in part()]
    assert sum(block.num_rows for block in parts) == 3000
    assert {str(block.columns.schema.field("b").type) for block in parts} == {"string"}
    assert {v for block in parts for v in block.columns["b"].to_pylist()} == {"u"}


def test_delimiters_inside_quotes_do_not_count(tmp_path):
    """A quoted header full of commas leaves ; the delimiter."""
    text = '"a,b,c,d";y\n1;2\n'
    assert columns_of(write(tmp_path, text)) == {"a,b,c,d": [1]}


def test_quoted_line_ends_belong_to_the_cell(tmp_path, small_blocks):
    """A line end inside quotes ends no row, wherever blocks are cut."""
    text = '"a\nb",y\n' + "".join(f'"text\nno {i}",{i}\n' for i in range(2000))
    assert columns_of(write(tmp_path, text)) == {"a\nb": [f"text\nno {i}" for i in range(2000)]}


@pytest.mark.parametrize(
    "name", ["</script><img src=x onerror=alert(1)>", "\x1b[31mred", "L" * 10_000, "한국어 열", "=1+1", "a'b"]
)
def test_hostile_column_names_are_kept(tmp_path, name):
    """Any text is a column name."""
    assert columns_of(write(tmp_path, f'"{name}",y\n1,2\n')) == {name: [1]}


def test_empty_names_are_called_by_position(tmp_path):
    """A column without a name is called by its position."""
    assert columns_of(write(tmp_path, ",a,y\n1,2,3\n")) == {"column 1": [1], "a": [2]}


@pytest.mark.parametrize("null", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"])
def test_missing_values_of_numbers_and_texts(tmp_path, null):
    """The usual marks of a missing value are nulls, among numbers and among texts."""
    text = f"a,b,y\n1,u,0\n{null},{null},1\n"
    assert columns_of(write(tmp_path, text)) == {"a": [1, None], "b": ["u", None]}


@pytest.mark.parametrize(
    ("early", "late", "first"),
    [("7", "1.5", 7.0), ("7", "word", "7"), ("7.5", "word", "7.5"), ("", "3", None), ("", "word", None)],
)
def test_late_change_of_type_widens_the_whole_column(tmp_path, small_blocks, early, late, first):
    """A late value of a wider type widens its column in all rows, and no row is read with two types."""
    text = "a,y\n" + f"{early},0\n" * 5000 + f"{late},1\n" * 3
    values = columns_of(write(tmp_path, text))["a"]
    assert len(values) == 5003
    assert values[0] == first
    assert values[-1] == (late if late == "word" else float(late))
    assert {type(v) for v in values if v is not None} == {type(values[-1])}


@pytest.mark.parametrize(
    ("late", "value"),
    [
        ("2020-01-31", dt.date(2020, 1, 31)),
        ("2020-01-31 10:30:00", dt.datetime(2020, 1, 31, 10, 30)),
        ("10:30:00", dt.time(10, 30)),
        ("true", True),
        ('"say ""no"""', 'say "no"'),
    ],
)
def test_a_column_that_begins_with_gaps_has_the_type_of_its_values(tmp_path, small_blocks, late, value):
    """Dates, times and booleans behind a first megabyte of gaps are no text."""
    values = columns_of(write(tmp_path, "a,y\n" + ",0\n" * 5000 + f"{late},1\n" * 3))["a"]
    assert values == [None] * 5000 + [value] * 3


def test_a_draft_asks_to_begin_again(tmp_path, small_blocks):
    """``draft_blocks`` raises TypesWidened at a late change of type, once for each; then all rows come."""
    source = open_source(write(tmp_path, "a,y\n" + "7,0\n" * 5000 + "1.5,1\n"), target="y")
    with pytest.raises(TypesWidened):
        list(source.draft_blocks())
    assert sum(block.num_rows for block in source.draft_blocks()) == 5001


def test_codes_with_leading_zeros_stay_text(tmp_path):
    """Digits of one width, some beginning with 0, are codes: kept as text, and said."""
    path = write(tmp_path, "zip,n,y\n00501,10,0\n90210,20,1\n")
    assert columns_of(path) == {"zip": ["00501", "90210"], "n": [10, 20]}
    assert "leading zeros" in open_source(path, target="y").notes[0]


def test_decimal_commas_are_read_where_they_are_the_rule(tmp_path):
    """``3,14`` is a number in a file whose delimiter is no comma."""
    assert columns_of(write(tmp_path, "a;y\n3,14;0\n-2;1\n")) == {"a": [3.14, -2.0]}


def test_latin_1_is_read_and_told(tmp_path, small_blocks):
    """Text that is not UTF-8, early or late, is read as Latin-1, and said."""
    path = write(tmp_path, "a,y\n" + "plain,0\n" * 3000 + "café,1\n", encoding="latin-1")
    source = open_source(path, target="y")
    values = [v for block in source.blocks() for v in block.columns.column(0).to_pylist()]
    assert values[-1] == "café"
    assert any("Latin-1" in note for note in source.notes)


def test_rows_without_target_are_left_out_and_counted(tmp_path):
    """Rows whose target is missing are left out, counted in a note, and rows keep the file's numbers."""
    path = write(tmp_path, "a,y\n1,\n2,5\n3,NA\n4,6\n")
    source = open_source(path, target="y")
    assert [b.columns.column(0).to_pylist() for b in source.blocks()] == [[2, 4]]
    assert source.notes == ("2 rows without a value in target 'y' left out",)
    assert [source.row_number(0), source.row_number(1)] == [2, 4]


def test_row_numbers_are_the_files_over_many_blocks(tmp_path, monkeypatch):
    """The number of a kept row is its row in the file, whatever was left out in blocks before."""
    monkeypatch.setattr("descend.sources.tables.table_rows", lambda num_columns: 3)
    path = write(
        tmp_path, "a,y\n" + "".join(f"{i + 1},{'' if i % 3 == 1 or i < 5 else 1}\n" for i in range(40))
    )
    source = open_source(path, target="y")
    kept = [v for block in source.blocks() for v in block.columns.column(0).to_pylist()]
    assert [source.row_number(i) for i in range(len(kept))] == kept


def test_blocks_are_bounded(tmp_path, monkeypatch):
    """No block has more rows than the limit."""
    monkeypatch.setattr("descend.sources.tables.table_rows", lambda num_columns: 100)
    path = write(tmp_path, "a,y\n" + "1,2\n" * 1234)
    sizes = [block.num_rows for block in open_source(path, target="y").blocks()]
    assert max(sizes) == 100
    assert sum(sizes) == 1234


def test_rows_of_megabytes_are_read(tmp_path):
    """A row longer than the first megabyte is read whole."""
    path = write(tmp_path, "a,y\n" + f"{'w' * 3_000_000},1\n" * 4)
    assert columns_of(path) == {"a": ["w" * 3_000_000] * 4}


def test_ragged_row_far_in_is_refused(tmp_path, small_blocks):
    """A short row after the first block is refused with what was expected."""
    path = write(tmp_path, "a,y\n" + "1,2\n" * 3000 + "1\n")
    with pytest.raises(SourceError, match="row 3,002 of the file has 1 values and the header 2"):
        list(open_source(path, target="y").blocks())
