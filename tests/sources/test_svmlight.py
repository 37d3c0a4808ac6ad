"""svmlight files: the numbers of scikit-learn's reader, mistakes named with their line, bounded blocks."""

import bz2
import gzip

import numpy as np
import pytest
from scipy.sparse import csr_array, vstack
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from descend.engines.svmlight_text import parse_lines
from descend.errors import ColumnError, SourceError
from descend.sources import open_source
from descend.sources import svmlight as module


def written(path, X, y, **options):
    dump_svmlight_file(X, y, str(path), **options)
    return path


def rows_of(source):
    blocks = list(source.blocks())
    targets = None if blocks[0].target is None else np.concatenate([b.target for b in blocks])
    return vstack([b.columns for b in blocks], format="csr"), targets


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 30)) * 10.0 ** rng.integers(-12, 12, size=(400, 30))
    X[rng.random(X.shape) < 0.8] = 0.0
    return csr_array(X), rng.integers(-1, 3, size=400)


@pytest.mark.parametrize("zero_based", [False, True])
@pytest.mark.parametrize("block_bytes", [64, 1000, 2**22])
def test_numbers_and_labels_are_those_of_scikit_learn(tmp_path, monkeypatch, data, zero_based, block_bytes):
    """Whatever the blocks, the matrix and the labels are equal to the last bit, and columns keep their numbers."""
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    X, y = data
    path = written(tmp_path / "a.svm", X, y, zero_based=zero_based, comment="made: by hand", query_id=y)
    source = open_source(path)
    found, labels = rows_of(source)
    expected, expected_labels = load_svmlight_file(str(path), zero_based=zero_based, n_features=30)
    assert (found != expected).nnz == 0
    np.testing.assert_array_equal(labels, expected_labels)
    assert labels.dtype == np.int64
    assert source.column_names[0] == ("0" if zero_based else "1")
    assert f"numbered from {0 if zero_based else 1}" in source.notes[0]


@pytest.mark.parametrize(("ending", "pack"), [(".svm.gz", gzip.compress), (".libsvm.bz2", bz2.compress)])
def test_compressed_files_are_read(tmp_path, data, ending, pack):
    """Compression changes nothing, and a file that is cut short is told."""
    X, y = data
    text = written(tmp_path / "a.svm", X, y, zero_based=False).read_bytes()
    path = tmp_path / f"b{ending}"
    path.write_bytes(pack(text))
    assert (rows_of(open_source(path))[0] != rows_of(open_source(tmp_path / "a.svm"))[0]).nnz == 0
    path.write_bytes(pack(text)[:-500])
    with pytest.raises(SourceError, match="damaged or cut short"):
        open_source(path)


def test_numbers_are_rounded_as_python_rounds_them():
    """Any way of writing a number, short, long, tiny or huge, gives the float that Python reads."""
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=3000) * 10.0 ** rng.integers(-320, 308, size=3000)
    texts = [repr(float(x)) for x in numbers] + [f"{x:.4f}" for x in rng.normal(size=3000)]
    texts += [f"{x:.17e}" for x in numbers] + [f"{x:.6g}" for x in numbers]
    texts += ["1", "-0", "+5", ".5", "5.", "1e3", "1E+3", "9007199254740993", "0.1", "1e22", "1e23", "1e-22"]
    texts += ["123456789012345678901234567890", "inf", "nan", "1e400", "4.9e-324"]
    _, _, _, values = parse_lines("\n".join(f"0 1:{text}" for text in texts).encode(), False)
    np.testing.assert_array_equal(values, [float(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("1 1:2\nx 1:2\n", 2, "label 'x' is not a number"),
        ("1 1:2\n1,2 1:2\n", 2, "label '1,2' is not a number"),
        ("1 1:2\n\n# no\n0 3:1 2:4\n", 4, "column '2:4' stands after a greater one, or twice"),
        ("1 2:2 2:3\n", 1, "column '2:3' stands after a greater one, or twice"),
        ("1 a:2\n", 1, "number in 'a:2' is not a whole number"),
        ("1 -1:2\n", 1, "number in '-1:2' is not a whole number"),
        ("1 1.5:2\n", 1, "number in '1.5:2' is not a whole number"),
        ("1 1:2\n0 1:\n", 2, "value in '1:' is not a number"),
        ("1 1:2\n0 1:3x\n", 2, "value in '3x' is not a number"),
        ("1 1:2\n0 1:1_0\n", 2, "value in '1_0' is not a number"),
        ("1 1:2:3\n", 1, "value in '1:2:3' is not a number"),
        ("1 1:2\n0 3", 2, "'3' has no value"),
        ("1 1:2\n2:1 3:4\n", 2, "label is missing before '2:1'"),
        ("1\n0\n", None, "holds no number besides labels"),
        ("1 q7:3 2:1\n", 1, "number in 'q7:3' is not a whole number"),
        ("1 2:1\n0 qid\n", 2, "number in 'qid' is not a whole number"),
        ("1 1:1\n0 1000000000000:1\n", None, "has a column numbered 1,000,000,000,000"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, monkeypatch, text, line, what):
    """A line that is no row is refused at opening: which line, what is wrong, what is needed."""
    for block_bytes in (4, 2**22):
        monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
        (tmp_path / "a.svm").write_text(text)
        with pytest.raises(SourceError) as caught:
            open_source(tmp_path / "a.svm")
        assert what in str(caught.value)
        assert line is None or f"a.svm, line {line}:" in str(caught.value)


def test_rows_without_labels_can_be_read_for_prediction_only(tmp_path):
    """Lines that begin with a column are rows to predict, and no rows to train on."""
    (tmp_path / "a.svm").write_text("1:2 3:4\n2:5\n")
    found, target = rows_of(open_source(tmp_path / "a.svm", require_target=False))
    assert found.toarray().tolist() == [[2, 0, 4], [0, 5, 0]]
    assert target is None
    with pytest.raises(SourceError, match="label is missing"):
        open_source(tmp_path / "a.svm")


def test_several_files_have_the_width_of_the_widest_and_a_zero_in_any_counts_for_all(tmp_path):
    """Width and first column come from all files together."""
    (tmp_path / "a.svm").write_text("1 1:1\n")
    (tmp_path / "b.svm").write_text("1.5 0:2 6:3\r\n")
    source = open_source(tmp_path)
    found, target = rows_of(source)
    assert found.toarray().tolist() == [[0, 1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 3]]
    assert target.tolist() == [1.0, 1.5]


def test_columns_follow_a_model_and_not_the_file(tmp_path):
    """Narrower and wider rows take the model's columns; names of an array go by position, numbers by number."""
    (tmp_path / "a.svm").write_text("1 1:1 5:9\n0 2:2\n")
    for names, expected in (
        (("1", "2", "3"), [[1, 0, 0], [0, 2, 0]]),
        (("0", "1", "2"), [[0, 1, 0], [0, 0, 2]]),
        (("x0", "x1", "x2"), [[1, 0, 0], [0, 2, 0]]),
        (("1", "2", "3", "4", "5", "6", "7"), [[1, 0, 0, 0, 9, 0, 0], [0, 2, 0, 0, 0, 0, 0]]),
    ):
        source = open_source(tmp_path / "a.svm")
        source.match_columns(names)
        assert rows_of(source)[0].toarray().tolist() == expected
    with pytest.raises(ColumnError, match="'age'"):
        source.match_columns(("age", "1"))


def test_columns_can_be_left_out_and_other_choices_are_refused(tmp_path):
    """``drop`` and ``columns`` go by number; weights and another target do not exist."""
    (tmp_path / "a.svm").write_text("1 1:1 5:9\n0 2:2\n")
    source = open_source(tmp_path / "a.svm", drop=["2", "3"])
    assert source.column_names == ("1", "4", "5")
    assert rows_of(source)[0].toarray().tolist() == [[1, 0, 9], [0, 0, 0]]
    with pytest.raises(ColumnError, match="'7' is not in"):
        open_source(tmp_path / "a.svm", drop="7")
    with pytest.raises(ColumnError, match="no weights"):
        open_source(tmp_path / "a.svm", weights="1")
    with pytest.raises(ColumnError, match="is their label"):
        open_source(tmp_path / "a.svm", target="1")
