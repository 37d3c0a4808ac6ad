"""A model, or a run's checkpoint, as one safetensors file: named arrays, and a JSON header among its metadata.

The metadata has one entry, ``descend``: a JSON text with, in this order,

- ``sha256``: the digest of the whole file in which these 64 digits are zeros, so that any byte changed, cut
  off or added is noticed;
- ``format``, of a model always ``descend.model``, and ``version``, the number of this layout;
- ``header``: what the writer gave, keys sorted.

One entry, because safetensors writes several in no fixed order, and equal models are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ModelFileError, shorten
from descend.files import write_atomically


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file of this make is called: to programs, and in messages."""

    format: str
    version: int
    what: str
    writer: str
    """Who writes one: "a model file that `descend fit` wrote"."""
    remedy: str
    """What to do about a damaged one."""


MODEL = Layout(
    "descend.model",
    1,
    "model",
    "a model file that `descend fit` wrote",
    "copy it again or train again",
)
FORMAT, VERSION = MODEL.format, MODEL.version

_ZEROS = b"0" * 64
_DIGEST = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"')
_MARK = b'"descend":"{'
_HEAD_BYTES = 4096
_MOST_HEADER_BYTES = 100_000_000
"""safetensors refuses longer ones."""

_KINDS = (
    (b"PK\x03\x04", "a zip file (.npz is one)"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\x80", "a pickle, which descend never opens"),
)


def write_model(
    path: str | os.PathLike[str],
    arrays: dict[str, NDArray[Any]],
    header: dict[str, Any],
    force: bool = False,
) -> Path:
    """Write ``arrays`` and ``header`` (JSON values, numbers finite) to ``path``; equal input, equal bytes."""
    return write_atomically(path, pack_model(arrays, header), force)


def read_model(
    path: str | os.PathLike[str], layout: Layout = MODEL
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the header of a model file, its checksum verified; ModelFileError for anything else."""
    return unpack_model(_content(path, layout), _shown(path), layout)


def pack_model(arrays: dict[str, NDArray[Any]], header: dict[str, Any], layout: Layout = MODEL) -> bytes:
    """The bytes of a model file, or of another of its make.

    >>> arrays, header = unpack_model(pack_model({"coef": np.ones(2)}, {"loss": "log_loss"}))
    >>> arrays["coef"], header
    (array([1., 1.]), {'loss': 'log_loss'})
    """
    from safetensors.numpy import save

    inner = {"sha256": _ZEROS.decode(), "format": layout.format, "version": layout.version}
    body = json.dumps(header, sort_keys=True, allow_nan=False)
    text = f'{json.dumps(inner)[:-1]}, "header": {body}}}'
    data = bytearray(save({name: _plain(array) for name, array in arrays.items()}, {"descend": text}))
    start, end = _digest_span(data)
    data[start:end] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def unpack_model(
    data: bytes, shown: str = "these bytes", layout: Layout = MODEL
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What ``pack_model`` packed; ``shown`` names the file in errors."""
    _check_digest(data, shown, layout)
    return _arrays(data, shown, layout), _header(data, shown, layout)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """In rows: safetensors writes the memory of any other array as it lies, without an error."""
    array = np.asarray(array)
    return array if array.ndim == 0 else np.ascontiguousarray(array)  # which would make (1,) of a scalar


def _content(path: str | os.PathLike[str], layout: Layout) -> bytes:
    """The whole file, unless its first bytes tell that it is something else."""
    shown, place = _shown(path), Path(path)
    try:
        if place.is_dir():
            raise ModelFileError(f"{layout.what} {shown} is a folder; give {layout.writer}")
        if not place.exists():
            raise ModelFileError(f"{layout.what} {shown} does not exist; give {layout.writer}")
        if not place.is_file():
            raise ModelFileError(f"{layout.what} {shown} is not a regular file; give {layout.writer}")
        with place.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            _check_kind(head, shown, layout)
            return head + file.read()
    except (OSError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(f"{layout.what} {shown} cannot be read: {reason}") from error


def _check_kind(head: bytes, shown: str, layout: Layout) -> None:
    """Raise for a file that never was a model; a damaged model passes, and fails its checksum."""
    if _MARK in head or _DIGEST.search(head):
        return
    if not head:
        raise ModelFileError(f"{layout.what} {shown} is empty; give {layout.writer}")
    raise ModelFileError(f"{layout.what} {shown} is {_kind(head)}, not {layout.writer}")


def _kind(head: bytes) -> str:
    """What a file that is no model seems to be, for the message."""
    for magic, name in _KINDS:
        if head.startswith(magic):
            return name
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= _MOST_HEADER_BYTES:
        return "another safetensors file or a damaged model"
    if b"\0" in head:
        return "a binary file of an unknown kind"
    if head.lstrip()[:1] in (b"{", b"["):
        return "a JSON file (`descend report` shows a saved run)"
    return "a text file (data such as CSV?)"


def _digest_span(data: bytes | bytearray) -> tuple[int, int]:
    """Where the digest stands; (0, 0) if nowhere."""
    found = _DIGEST.search(data)
    return found.span(1) if found else (0, 0)


def _check_digest(data: bytes, shown: str, layout: Layout) -> None:
    start, end = _digest_span(data)
    state = hashlib.sha256(data[:start])
    state.update(_ZEROS)
    state.update(data[end:])
    if end == 0 or state.hexdigest().encode() != data[start:end]:
        raise ModelFileError(
            f"{layout.what} {shown} is damaged: its content ({len(data):,} bytes) does not match its checksum; "
            f"some bytes were changed, cut off or added, so {layout.remedy}"
        )


def _arrays(data: bytes, shown: str, layout: Layout) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(sorted(load(data).items()))
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{layout.what} {shown} is not readable: {shorten(str(error))}") from error


def _header(data: bytes, shown: str, layout: Layout) -> dict[str, Any]:
    """The writer's header, once format and version are known ones."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        inner = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["descend"])
        form, version, header = inner["format"], inner["version"], inner["header"]
    except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"{layout.what} {shown} has no readable header; it was not written by descend"
        ) from error
    if form != layout.format or not isinstance(version, int) or not isinstance(header, dict):
        raise ModelFileError(
            f"{layout.what} {shown} says it is {shorten(repr(form))}; accepted is {layout.format!r}"
        )
    if version > layout.version:
        raise ModelFileError(
            f"{layout.what} {shown} was written by a newer descend (layout {version}, this one reads "
            f"up to {layout.version}); upgrade descend"
        )
    return header


def _shown(path: str | os.PathLike[str]) -> str:
    return f"'{shorten(os.fspath(path), width=200)}'"
