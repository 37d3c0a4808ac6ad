"""From a path or address to the source that reads it."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from descend.errors import ColumnError, SourceError
from descend.sources import open_source

TABLE = pa.table({"a": list(range(20)), "b": ["u", "v"] * 10, "y": [0.5 * i for i in range(20)]})
CSV = "a,b,y\n" + "".join(f"{i},{'uv'[i % 2]},{0.5 * i}\n" for i in range(20))


def rows_of(source):
    """All feature rows of a source as a list of dicts, and its targets."""
    rows, targets = [], []
    for block in source.blocks():
        rows += block.columns.to_pylist()
        targets += block.target.to_pylist()
    return rows, targets


def write(path, content):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_as(folder, ending):
    path = folder / f"data{ending}"
    if ending == ".parquet":
        pyarrow.parquet.write_table(TABLE, path)
    elif ending == ".feather":
        pyarrow.feather.write_feather(TABLE, path)
    elif ending == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
            writer.write_table(TABLE)
    elif ending == ".tsv":
        path.write_text(CSV.replace(",", "\t"))
    elif ending == ".csv":
        path.write_text(CSV)
    else:
        codec = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}["." + ending.rsplit(".", 1)[1]]
        with pa.CompressedOutputStream(str(path), codec) as sink:
            sink.write(CSV.encode())
    return path


@pytest.mark.parametrize(
    "ending", [".csv", ".tsv", ".csv.gz", ".csv.bz2", ".csv.zst", ".parquet", ".feather", ".arrow"]
)
def test_formats_give_the_same_rows(tmp_path, ending):
    """Every format of named columns gives the same rows, twice in the same order."""
    source = open_source(write_as(tmp_path, ending), target="y")
    assert source.name == "data"
    assert source.column_names == ("a", "b")
    assert source.target_name == "y"
    expected = TABLE.select(["a", "b"]).to_pylist(), TABLE["y"].to_pylist()
    assert rows_of(source) == expected
    assert rows_of(source) == expected


@pytest.mark.parametrize("address", ["folder", "folder/*.csv"])
def test_folder_and_glob_read_files_by_name(tmp_path, address):
    """A folder or glob is read file after file in the order of their names; other files are ignored."""
    header = "a,y\n"
    write(tmp_path / "folder" / "2.csv", header + "3,4\n")
    write(tmp_path / "folder" / "1.csv", header + "1,2\n")
    write(tmp_path / "folder" / "README.md", "words")
    write(tmp_path / "folder" / "_part.csv.crc", "words")
    source = open_source(str(tmp_path / address), target="y")
    assert source.name == "folder"
    assert rows_of(source) == ([{"a": 1}, {"a": 3}], [2, 4])


def test_folder_with_other_columns_is_refused(tmp_path):
    """Files that do not share their columns are refused, and the file and the difference are named."""
    write(tmp_path / "1.csv", "a,y\n1,2\n")
    write(tmp_path / "2.csv", "a,z\n1,2\n")
    with pytest.raises(SourceError, match=r"2\.csv.*lacks y.*has besides z"):
        open_source(tmp_path, target="y")


def test_folder_of_mixed_kinds_is_refused(tmp_path):
    """A folder with two kinds of file is refused, with a glob to try."""
    write(tmp_path / "1.csv", "a,y\n1,2\n")
    pyarrow.parquet.write_table(TABLE, tmp_path / "2.parquet")
    with pytest.raises(SourceError, match=r"several kinds .*glob"):
        open_source(tmp_path, target="y")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "empty"),
        ("blank.csv", b" \n\n", "empty"),
        ("header.csv", b"a,b,y\n", "header but no rows"),
        ("header.csv", b"a,b,y", "header but no rows"),
        ("garbage.csv", bytes(range(256)) * 8, "binary"),
        ("wide.csv", "a,y\n1,2\n".encode("utf-16"), "UTF-16"),
        ("ragged.csv", b"a,y\n1,2\n3\n", "row 3 of the file has 1 values and the header 2"),
        ("cut.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:40], "damaged or cut short"),
        ("garbage.parquet", bytes(range(256)) * 8, "cannot be read as Parquet"),
        ("garbage.arrow", bytes(range(256)) * 8, "cannot be read as Arrow"),
        ("garbage.npy", bytes(range(256)) * 8, "cannot be read as .npy"),
        ("garbage.npz", bytes(range(256)) * 8, "cannot be read as .npz"),
        ("rows.xlsx", b"x", "no kind that can be read; accepted are"),
        ("rows.parquet.gz", b"x", "no kind that can be read"),
    ],
)
def test_bad_files_are_refused_with_one_message(tmp_path, name, content, message):
    """A file that cannot be read raises SourceError, which names the file, and no other error."""
    path = write(tmp_path / name, content)
    with pytest.raises(SourceError, match=message) as caught:
        list(open_source(path, target="y").blocks())
    assert name in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_parquet_is_refused(tmp_path, share):
    """A Parquet file cut anywhere raises SourceError."""
    whole = write_as(tmp_path, ".parquet").read_bytes()
    path = write(tmp_path / "cut.parquet", whole[: int(share * len(whole))])
    with pytest.raises(SourceError, match="damaged"):
        list(open_source(path, target="y").blocks())


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path, ending):
    """Two columns of one name are refused by that name."""
    path = tmp_path / f"t{ending}"
    if ending == ".csv":
        path.write_text("a,a,y\n1,2,3\n")
    else:
        pyarrow.parquet.write_table(pa.table([[1], [2], [3]], names=["a", "a", "y"]), path)
    with pytest.raises(ColumnError, match="more than one column named 'a'"):
        open_source(path, target="y")


def test_missing_path_suggests_a_neighbour(tmp_path):
    """A path that does not exist is refused with the most similar name beside it."""
    write(tmp_path / "flights.csv", CSV)
    with pytest.raises(SourceError, match=r"did you mean .*flights\.csv"):
        open_source(tmp_path / "flihgts.csv", target="y")


def test_missing_target_lists_columns(tmp_path):
    """Without a target the message lists the columns, and leaves how one is named to whoever asked."""
    with pytest.raises(ColumnError, match=r"needs a target: .*columns are a, b, y$"):
        open_source(write(tmp_path / "t.csv", CSV))


def test_long_lists_of_columns_are_cut(tmp_path):
    """Of 100 columns the message shows ten and counts the rest."""
    names = ",".join(f"c{i}" for i in range(100))
    path = write(tmp_path / "t.csv", f"{names}\n{','.join('1' * 100)}\n")
    with pytest.raises(ColumnError, match="c9 and 90 more"):
        open_source(path)


def test_wrong_target_suggests_a_column(tmp_path):
    """A misspelt target is refused with the column that was meant."""
    path = write(tmp_path / "t.csv", "income,b\n1,2\n")
    with pytest.raises(ColumnError, match=r"'incme' is not in t\. Did you mean 'income'"):
        open_source(path, target="incme")


@pytest.mark.parametrize("choice", [{"drop": "q"}, {"columns": ["a", "q"]}, {"weights": "q"}])
def test_unknown_names_are_refused(tmp_path, choice):
    """Names in drop, columns and weights have to exist."""
    with pytest.raises(ColumnError, match="'q' is not in t"):
        open_source(write(tmp_path / "t.csv", CSV), target="y", **choice)


def test_drop_and_columns_choose_features(tmp_path):
    """``drop`` leaves columns out, ``columns`` keeps only those; target and weights are never features."""
    path = write(tmp_path / "t.csv", "a,b,c,w,y\n1,2,3,1,5\n")
    assert open_source(path, target="y", weights="w", drop="b").column_names == ("a", "c")
    assert open_source(path, target="y", weights="w", columns=["c", "y"]).column_names == ("c",)
    with pytest.raises(ColumnError, match="no feature column"):
        open_source(path, target="y", columns=["y"])


def test_predicting_needs_no_target(tmp_path):
    """With ``require_target=False`` a target column is left out where there is one and else not missed."""
    path = write(tmp_path / "t.csv", CSV)
    assert open_source(path, require_target=False).column_names == ("a", "b", "y")
    assert open_source(path, target="zz", require_target=False).column_names == ("a", "b", "y")
    source = open_source(path, target="y", require_target=False)
    assert source.column_names == ("a", "b")


def test_a_column_called_split_is_a_feature_like_any_other(tmp_path):
    """The name ``split`` means nothing special."""
    path = write(tmp_path / "t.csv", "a,split,y\n1,train,0\n2,test,1\n")
    assert open_source(path, target="y").column_names == ("a", "split")


def test_weights_are_checked_with_their_row(tmp_path):
    """A negative weight is refused with its column, value and row of the file."""
    path = write(tmp_path / "t.csv", "a,w,y\n1,1,\n2,0.5,3\n3,-2,4\n")
    with pytest.raises(ColumnError, match=r"'w' holds -2\.0 in row 3"):
        list(open_source(path, target="y", weights="w").blocks())


def test_nested_columns_are_refused_by_name(tmp_path):
    """A Parquet column of lists is refused by name unless it is dropped."""
    table = TABLE.append_column("tags", pa.array([[1, 2]] * 20))
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ColumnError, match="'tags'"):
        open_source(tmp_path / "t.parquet", target="y")
    assert open_source(tmp_path / "t.parquet", target="y", drop=["tags"]).column_names == ("a", "b")


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "iris", "wine", "diabetes"])
def test_bundled_sets_open_with_their_own_target(name):
    """Every bundled set gives its rows, its own target and its task."""
    source = open_source(f"sklearn:{name}")
    block = next(iter(source.blocks()))
    assert block.columns.shape[1] == len(source.column_names)
    assert len(block.target) == block.num_rows
    assert source.target_name == "target"
    assert source.task == ("regression" if name == "diabetes" else "classification")


def test_unknown_set_is_refused():
    """An unknown bundled set is refused with the names there are."""
    with pytest.raises(SourceError, match="'digit' is not known; choose one of: breast_cancer"):
        open_source("sklearn:digit")


def test_a_feature_of_a_bundled_set_can_be_the_target():
    """Naming a feature makes it the target; the set's own is then no feature, and no task is assumed."""
    source = open_source("sklearn:iris", target="petal width (cm)")
    assert "petal width (cm)" not in source.column_names
    assert len(source.column_names) == 3
    assert source.task is None
    assert np.isclose(next(iter(source.blocks())).target[0], 0.2)


def test_a_file_without_rows_among_others_is_no_error(tmp_path):
    """A header alone is a day on which nothing happened; where no file has rows it is refused by name."""
    write(tmp_path / "days" / "1.csv", "a,y\n")
    with pytest.raises(SourceError, match=r"1\.csv has a header but no rows"):
        open_source(tmp_path / "days", target="y")
    write(tmp_path / "days" / "2.csv", "y,a\n0,1.5\n1,2\n")
    write(tmp_path / "days" / "3.csv", "a,y")
    source = open_source(tmp_path / "days", target="y")
    assert [block.columns.column(0).to_pylist() for block in source.blocks()] == [[1.5, 2.0]]
    assert sum(block.num_rows for part in source.parts() for block in part()) == 2


def test_a_link_to_nowhere_is_called_one(tmp_path):
    """A link whose file is gone is no misspelt name."""
    (tmp_path / "rows.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(SourceError, match="is a link to a file that is not there"):
        open_source(tmp_path / "rows.csv", target="y")


def test_long_row_groups_are_read_some_pages_at_a_time(tmp_path):
    """Of a Parquet file of one long row group less than a third is held at a time."""
    random = np.random.default_rng(0)
    path = tmp_path / "long.parquet"
    columns = {f"c{i}": random.standard_normal(1_500_000) for i in range(4)}
    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=1_500_000)
    del columns
    pool, most = pa.default_memory_pool(), 0
    before = pool.bytes_allocated()
    for block in open_source(path, target="c0").blocks():
        most = max(most, pool.bytes_allocated() - before)
        assert block.num_rows
    assert 0 < most < path.stat().st_size / 3


@pytest.mark.parametrize("groups", [90_000, 7_000])
def test_blocks_of_parquet_do_not_follow_the_batches_they_are_read_in(tmp_path, groups):
    """However a Parquet file is cut, its blocks have the rows of one CSV's, dictionaries and gaps included."""
    rows = 150_000
    words = pa.array(
        [None if i % 11 == 0 else f"word {i % 1000 if i < 80_000 else i % 7}" for i in range(rows)]
    )
    columns = {"a": np.arange(rows), "b": words, "c": words.dictionary_encode(), "y": np.arange(rows) % 2}
    table = pa.table(columns)
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=groups)
    source = open_source(tmp_path / "t.parquet", target="y")
    blocks = list(source.blocks())
    assert [block.num_rows for block in blocks] == [65_536, 65_536, rows - 2 * 65_536]
    found = pa.Table.from_batches([block.columns for block in blocks])
    assert found.column("a").to_pylist() == list(range(rows))
    assert found.column("b").to_pylist() == found.column("c").to_pylist() == words.to_pylist()
    parts = pa.Table.from_batches([block.columns for part in source.parts() for block in part()])
    assert parts.column("a").to_pylist() == list(range(rows))
