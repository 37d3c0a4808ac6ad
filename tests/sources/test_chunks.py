"""Sources in parts that are read by themselves: in order and in any order they are the same rows."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.errors import SourceError
from descend.sources import array_source, open_source
from descend.sources.chunks import chunks_of
from descend.sources.line_ranges import line_ranges, read_range

ROWS = 5000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut where a file of some kilobytes has many parts."""
    for name in ("READ_BYTES", "FEWEST_BYTES"):
        monkeypatch.setattr(f"descend.sources.line_ranges.{name}", 512)
    monkeypatch.setattr("descend.sources.limits.MAX_BLOCK_ROWS", 700)


def table():
    rng = np.random.default_rng(0)
    words = [None if i % 7 == 0 else f'wo,r"d\n{i % 5}' for i in range(ROWS)]
    target = [None if i % 11 == 0 else i % 3 for i in range(ROWS)]
    return pa.table({"a": np.arange(ROWS), "b": rng.normal(size=ROWS).round(4), "c": words, "y": target})


def write(kind, folder):
    """A file of ``kind``; its path."""
    path = folder / f"rows.{kind}"
    rows = table()
    if kind.startswith("csv"):
        text = rows.to_pandas().astype({"y": "Int64"}).to_csv(index=False, lineterminator="\r\n").encode()
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else b"\xef\xbb\xbf" + text.rstrip())
    elif kind == "parquet":
        pq.write_table(rows, path, row_group_size=900)
    elif kind in ("arrow", "stream.arrow"):
        make = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with make(path, rows.schema) as sink:
            sink.write_table(rows, max_chunksize=800)
    elif kind == "npy":
        np.save(path, np.arange(4.0 * ROWS).reshape(ROWS, 4))
    elif kind == "npz":
        np.savez(path, X=np.arange(4.0 * ROWS).reshape(ROWS, 4), y=np.arange(ROWS) % 2)
    else:
        lines = (f"{i % 2} {1 + i % 6}:{i}.5 {7 + i % 4}:{i}" for i in range(ROWS))
        path.write_bytes("\n".join(lines).encode())
    return path


def cells(blocks):
    """What a reading gave, a tuple for each row."""
    found = []
    for block in blocks:
        if isinstance(block.columns, pa.RecordBatch):
            columns = [column.to_pylist() for column in block.columns.columns]
        else:
            dense = block.columns.toarray() if hasattr(block.columns, "toarray") else block.columns
            columns = dense.T.tolist()
        targets = [None] * block.num_rows if block.target is None else block.target.tolist()
        found += list(zip(*columns, targets, strict=True))
    return found


TARGETS = {"npy": "-1", "svm": None, "npz": None}
KINDS = ["csv", "csv.gz", "parquet", "arrow", "stream.arrow", "npy", "npz", "svm"]


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_in_order_are_the_blocks(kind, tmp_path):
    """All chunks, one after another, hold the rows of ``blocks()``: none lost, none twice, values and gaps alike."""
    source = open_source(
        write(kind, tmp_path), target={"npy": "-1"}.get(kind, None if kind in ("svm", "npz") else "y")
    )
    rows = cells(source.blocks())
    chunks = chunks_of(source)
    assert cells(block for chunk in chunks for block in chunk) == rows
    assert chunks.in_any_order == (kind not in ("csv.gz", "stream.arrow", "npz"))


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_gives_the_same_rows(kind, tmp_path):
    """A chunk holds the same rows whether it is read first, last, twice, or in its turn."""
    source = open_source(
        write(kind, tmp_path), target={"npy": "-1"}.get(kind, None if kind in ("svm", "npz") else "y")
    )
    chunks = chunks_of(source)
    in_turn = [cells(chunk) for chunk in chunks]
    assert len(in_turn) > 2
    for i in np.random.default_rng(1).integers(len(in_turn), size=2 * len(in_turn)):
        assert cells(chunks.read(int(i))) == in_turn[i]


def test_weights_and_left_out_rows_are_those_of_the_blocks(tmp_path):
    """A column of weights is read in parts as in blocks, and rows without a target are left out of both."""
    source = open_source(write("csv", tmp_path), target="y", weights="a", drop="c")
    whole = np.concatenate([block.weights for block in source.blocks()])
    parts = [block.weights for chunk in chunks_of(source) for block in chunk]
    assert len(parts) > 3
    assert np.array_equal(np.concatenate(parts), whole)
    assert len(whole) == ROWS - len(range(0, ROWS, 11))


TEXT = st.text(alphabet='a",\n\r ', max_size=4)
QUOTED = TEXT.map(lambda text: '"' + text.replace('"', '""') + '"')
PLAIN = st.text(alphabet='ab" ', max_size=3).map(lambda text: "a" + text)
CELL = PLAIN | QUOTED


@given(
    rows=st.lists(st.tuples(CELL, CELL, st.sampled_from(["\n", "\r\n", "\r"])), min_size=4, max_size=20),
    step=st.integers(1, 9),
)
def test_hostile_text_is_cut_where_its_reader_ends_a_row(rows, step, tmp_path_factory):
    """Whatever quotes, line ends and delimiters a CSV file holds, its ranges parse to the rows of the whole file."""
    path = tmp_path_factory.mktemp("hostile") / "t.csv"
    text = "x,y\n" + "".join(f"{x},{y}{end}" for x, y, end in rows)
    path.write_bytes(text.encode())
    try:
        source = open_source(path, target="y")
        whole = cells(source.blocks())
    except SourceError:
        return
    with pytest.MonkeyPatch.context() as patch:
        for name in ("READ_BYTES", "FEWEST_BYTES"):
            patch.setattr(f"descend.sources.line_ranges.{name}", step)
        assert cells(block for chunk in chunks_of(source) for block in chunk) == whole


@pytest.mark.parametrize("text", [b"", b"\n", b"a", b"a\nb", b"a\n\n\nb\n", b'"a\n', b"\r\r\r"])
@pytest.mark.parametrize("delimiter", [",", None])
def test_ranges_are_the_whole_file(text, delimiter, tmp_path, monkeypatch):
    """Ranges follow each other without a gap from the first byte to the last, however the file ends."""
    monkeypatch.setattr("descend.sources.line_ranges.READ_BYTES", 1)
    path = tmp_path / "t.csv"
    path.write_bytes(text)
    assert b"".join(read_range(path, part) for part in line_ranges(path, delimiter)) == text


def test_a_file_cut_meanwhile_is_told(tmp_path):
    """A chunk of a file that has become shorter is an error that names the file, not fewer rows."""
    path = write("csv", tmp_path)
    source = open_source(path, target="y")
    list(source.blocks())
    chunks = chunks_of(source)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SourceError, match=r"rows\.csv changed while it was read"):
        cells(block for chunk in chunks for block in chunk)


def test_arrays_in_memory_are_read_in_sequence():
    """What is in memory needs no parts."""
    assert not chunks_of(array_source(np.ones((3, 1)), y=[0, 1, 0])).in_any_order
