import hashlib
import io
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descend import model_file
from descend.errors import InputError, ModelFileError
from descend.model_file import pack_model, read_model, unpack_model, write_model

ARRAYS: dict[str, Any] = {"coef": np.array([[0.5, -2.0]]), "intercept": np.array([1.0], np.float32)}
HEADER: dict[str, Any] = {"loss": "log_loss", "classes": ["한글", "</script>"], "alpha": 1e-4, "plan": None}

dtypes = st.sampled_from(["float32", "float64", "int64", "int32", "uint8", "bool", ">f8", ">i4"])
array = dtypes.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.text(max_size=8), array, max_size=4),
    st.dictionaries(st.text(), json_value, max_size=4),
)
def test_what_is_packed_comes_back(arrays: dict[str, Any], header: dict[str, Any]) -> None:
    """Arrays come back equal in value, shape and type, and headers equal, whatever their names."""
    arrays.pop("__metadata__", None)
    data = pack_model(arrays, header)
    again, same = unpack_model(data)
    assert same == header
    assert sorted(again) == sorted(arrays)
    for name, value in arrays.items():
        assert again[name].shape == value.shape
        assert again[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(again[name], value)
    assert data == pack_model(dict(reversed(arrays.items())), dict(reversed(header.items())))


def test_transposed_and_strided_arrays_keep_their_values() -> None:
    """Arrays that do not lie in rows are written in rows, and what is read may be changed."""
    base = np.arange(12.0).reshape(3, 4)
    arrays, _ = unpack_model(pack_model({"t": base.T, "s": base[::2, ::-1]}, {}))
    np.testing.assert_array_equal(arrays["t"], base.T)
    np.testing.assert_array_equal(arrays["s"], base[::2, ::-1])
    arrays["t"] += 1.0


def test_equal_models_are_equal_bytes_in_another_process() -> None:
    """Two processes with other hash seeds write the same bytes."""
    code = (
        "import sys, numpy as np; from descend.model_file import pack_model; "
        "arrays = {n: np.arange(3.0) for n in {'a', 'b', 'c', 'd'}}; "
        "header = {n: 1 for n in {'x', 'y', 'z'}}; sys.stdout.buffer.write(pack_model(arrays, header))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.descend", ARRAYS, HEADER)


def test_every_changed_byte_is_noticed(written: Path) -> None:
    """Changing any one byte of a file to any of three others raises ModelFileError, never anything else."""
    whole = written.read_bytes()
    for position in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= change
            written.write_bytes(damaged)
            with pytest.raises(ModelFileError, match=r"damaged|not a model"):
                read_model(written)


def test_every_cut_and_added_byte_is_noticed(written: Path) -> None:
    """A file cut anywhere or with something added raises ModelFileError."""
    whole = written.read_bytes()
    for damaged in [whole[:n] for n in range(len(whole))] + [whole + b"\0", whole + b" ", b"\0" + whole]:
        written.write_bytes(damaged)
        with pytest.raises(ModelFileError, match=r"damaged|not a model|is empty"):
            read_model(written)


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, X=np.zeros(2))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"age,income\n1,2\n", "a text file"),
        (b'{"format": "descend.comparison"}', "JSON file"),
        (b"\x80\x04\x95", "pickle, which descend never opens"),
        (_npz(), "zip file"),
        (b"PAR1\0\0", "Parquet"),
        (bytes(range(1, 65)) + b"\0", "not a model file"),
        (struct.pack("<Q", 1 << 62) + b"{}", "not a model file"),
    ],
    ids=["empty", "csv", "json", "pickle", "npz", "parquet", "binary", "header of 4 EB"],
)
def test_other_files_are_told_by_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that was never a model is named for what it seems to be."""
    path = tmp_path / "x.descend"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        read_model(path)


def test_no_file_at_all(tmp_path: Path) -> None:
    """A missing name, a folder, a pipe and an impossible name are ModelFileError, and none of them waits."""
    os.mkfifo(tmp_path / "pipe")
    for path, words in {
        tmp_path / "none": "does not exist",
        tmp_path: "is a folder",
        tmp_path / "pipe": "not a regular file",
        tmp_path / "a\0b": "does not exist|cannot be read",
        tmp_path / ("x" * 300): "does not exist|cannot be read",
    }.items():
        with pytest.raises(ModelFileError, match=words):
            read_model(path)


def test_newer_layout_asks_for_an_upgrade() -> None:
    """A file of a later layout says so and names both numbers."""
    data = pack_model(ARRAYS, HEADER, replace(model_file.MODEL, version=7))
    with pytest.raises(ModelFileError, match=r"newer descend \(layout 7, this one reads up to 1\)"):
        unpack_model(data)


def _forged(inner: object, tensors: str = "") -> bytes:
    """A file with a right checksum whose header is whatever ``inner`` is."""
    outer = json.dumps({"__metadata__": {"descend": inner}})[:-1] + tensors + "}"
    body = struct.pack("<Q", len(outer)) + outer.encode()
    digest = hashlib.sha256(body).hexdigest().encode()
    return body.replace(b"0" * 64, digest, 1)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        '"x": 1}',
        '"header": NaN}',
        '"format": "other", "version": 1, "header": {}}',
        '"format": "descend.model", "version": "1", "header": {}}',
        '"format": "descend.model", "version": 1, "header": []}',
        '"format": "descend.model", "version": 1, "header": ' + "[" * 100_000,
    ],
)
def test_forged_headers_are_refused(rest: str) -> None:
    """A header that no descend wrote is ModelFileError even where the checksum is right."""
    with pytest.raises(ModelFileError):
        unpack_model(_forged('{"sha256": "' + "0" * 64 + '", ' + rest))


def test_forged_tensors_are_refused() -> None:
    """Tensors that lie outside the file or have an unknown type are ModelFileError."""
    good = '{"sha256": "' + "0" * 64 + '", "format": "descend.model", "version": 1, "header": {}}'
    assert unpack_model(_forged(good)) == ({}, {})
    for dtype, end in (("F64", 8), ("F64", 1 << 62), ("X", 0)):
        tensors = f', "a": {{"dtype": "{dtype}", "shape": [{end // 8}], "data_offsets": [0, {end}]}}'
        with pytest.raises(ModelFileError):
            unpack_model(_forged(good, tensors))


def test_existing_model_is_not_replaced_without_force(written: Path) -> None:
    """Writing over a model needs force."""
    with pytest.raises(InputError, match="--force"):
        write_model(written, ARRAYS, {})
    write_model(written, ARRAYS, {}, force=True)
    assert read_model(written)[1] == {}


def test_numbers_that_json_lacks_are_not_written(tmp_path: Path) -> None:
    """NaN in a header is refused before anything is written."""
    with pytest.raises(ValueError, match="JSON"):
        write_model(tmp_path / "m", {}, {"loss": float("nan")})
    assert not any(tmp_path.iterdir())
