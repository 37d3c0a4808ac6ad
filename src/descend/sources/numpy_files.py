"""``.npy`` and ``.npz``: read a block at a time, neither mapped into memory nor loaded whole."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, SourceError, shorten
from descend.sources.arrays import MatrixSource, Rows, check_numeric, column_names, select_positions
from descend.sources.limits import block_rows
from descend.sources.selection import closest, listing

Opener = Callable[[], Any]
"""Gives a context manager of a byte stream that stands at the start of the ``.npy`` data."""


@dataclass(frozen=True)
class StoredArray:
    """One array as it lies in a file: its shape and type are known, its values not yet read."""

    path: Path
    label: str
    open: Opener
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    @property
    def num_columns(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def rows(self, step: int) -> Iterator[NDArray[Any]]:
        """The array ``step`` rows at a time, all but the first axis flattened: (r, columns)."""
        n, d = self.shape[0], self.num_columns
        with _told(self.path), self.open() as stream:
            _header(stream)
            if self.fortran_order:
                whole = np.frombuffer(stream.read(), dtype=self.dtype)
                if whole.size < n * d:
                    raise _cut_short(self.path, self.label)
                matrix = whole[: n * d].reshape(self.shape, order="F").reshape(n, -1)
                for start in range(0, n, step):
                    yield matrix[start : start + step]
                return
            for start in range(0, n, step):
                rows = min(step, n - start)
                block = np.empty((rows, d), dtype=self.dtype)
                _fill(stream, block, self.path, self.label)
                yield block

    def part(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop − 1 of an array that lies row after row in a file of its own."""
        d = self.num_columns
        with _told(self.path), self.path.open("rb") as stream:
            _header(stream)
            stream.seek(start * d * self.dtype.itemsize, 1)
            block = np.empty((stop - start, d), dtype=self.dtype)
            _fill(stream, block, self.path, self.label)
        return block


def open_npy(paths: Sequence[Path], name: str, **choice: Any) -> Any:
    """One ``.npy`` file, or several of one width read in turn."""
    stored = [_stored(path, partial(path.open, "rb"), path.name) for path in paths]
    first = stored[0]
    if first.dtype.names is not None:
        return _open_records(stored, name, **choice)
    names = column_names(_width(stored, "columns"))
    selection = select_positions(names, name, **choice)
    step = block_rows(len(names), first.dtype.itemsize)

    def chunks() -> Iterator[Rows]:
        for array in stored:
            for rows in array.rows(step):
                yield rows, None

    parts = None
    if not any(array.fortran_order for array in stored):  # columns lie together, and a row is everywhere
        parts = [
            partial(_slice, array, start, min(start + step, array.shape[0]))
            for array in stored
            for start in range(0, array.shape[0], step)
        ]
    return MatrixSource(name, names, chunks, selection, parts=parts)


def _slice(array: StoredArray, start: int, stop: int) -> Rows:
    return array.part(start, stop), None


def open_npz(
    paths: Sequence[Path],
    name: str,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    weights: str | None = None,
    require_target: bool = True,
) -> MatrixSource:
    """Arrays ``X`` and ``y``; ``target="y_train"`` takes ``X_train`` with it.

    ``weights`` may name an array of the file, or a column of ``X``.
    """
    parts = [_choose(path, target, require_target) for path in paths]
    matrices = [x for x, _, _ in parts]
    targets = [y for _, y, _ in parts]
    names = column_names(_width(matrices, "columns of X"))
    column = next((c for _, _, c in parts), None)
    selection = select_positions(
        names,
        f"X of {name}",
        target=column,
        drop=drop,
        columns=columns,
        weights=weights,
        require_target=column is not None and require_target,
    )
    step = block_rows(len(names), matrices[0].dtype.itemsize)
    labels = [y.label.partition(" in ")[0] for y in targets if y is not None]

    def chunks() -> Iterator[Rows]:
        for X, y in zip(matrices, targets, strict=True):
            if y is None:
                for rows in X.rows(step):
                    yield rows, None
                continue
            goal = np.concatenate(list(y.rows(2**20)))
            goal = goal[:, 0] if goal.shape[1] == 1 else goal
            start = 0
            for rows in X.rows(step):
                yield rows, goal[start : start + len(rows)]
                start += len(rows)

    return MatrixSource(name, names, chunks, selection, beside=labels[0] if labels else None)


def _choose(
    path: Path, target: str | None, require_target: bool
) -> tuple[StoredArray, StoredArray | None, str | None]:
    """X, the target array beside it, and the column of X that is the target (one of the two, or neither)."""
    members = _members(path)
    matrix = _matrix_name(members, target)
    if matrix is None:
        raise ColumnError(
            f"{path.name} holds arrays {listing(list(members))}, but no array X; "
            "name the target, such as --target y_train, and X_train is taken with it; or save them as X and y"
        )
    X = _in_npz(path, matrix)
    label = target if target is not None else "y" + matrix.removeprefix("X")
    if label in members and label != matrix:
        if not require_target:
            return X, None, None
        y = _in_npz(path, label, numeric=False)
        if y.shape[0] != X.shape[0]:
            raise SourceError(
                f"{path.name}: {label} has {y.shape[0]} rows, but {matrix} has {X.shape[0]}; they must match"
            )
        return X, y, None
    if target is None:
        if require_target:
            raise ColumnError(
                f"{path.name} holds arrays {listing(list(members))}, but no {label}; "
                "give --target, the name of the array to predict"
            )
        return X, None, None
    if _is_column(target, X.num_columns):
        return X, None, target
    if not require_target:
        return X, None, None
    close = closest(target, list(members))
    hint = f" Did you mean {shorten(close)!r}?" if close else ""
    raise ColumnError(
        f"target {shorten(target)!r} is no array of {path.name}.{hint} It holds {listing(list(members))}"
    )


def _matrix_name(members: Sequence[str], target: str | None) -> str | None:
    if target is not None and target.startswith("y") and "X" + target[1:] in members:
        return "X" + target[1:]
    for name in ("X", "x", "data"):
        if name in members:
            return name
    return None


def _is_column(name: str, num_columns: int) -> bool:
    digits = name.removeprefix("x")
    return digits.lstrip("-").isdigit() and -num_columns <= int(digits) < num_columns


def _members(path: Path) -> list[str]:
    with _told(path), zipfile.ZipFile(path) as archive:
        return [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]


def _in_npz(path: Path, label: str, numeric: bool = True) -> StoredArray:
    @contextmanager
    def member() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{label}.npy") as stream:
            yield stream

    return _stored(path, member, f"{label} in {path.name}", numeric)


def _stored(path: Path, opener: Opener, label: str, numeric: bool = True) -> StoredArray:
    with _told(path), opener() as stream:
        shape, fortran, dtype = _header(stream)
    if dtype.hasobject:
        raise SourceError(
            f"{label} holds Python objects, which are never loaded; save numbers or text instead"
        )
    if dtype.names is None and numeric:
        check_numeric(dtype, label)
        if len(shape) < 2:
            raise SourceError(f"{label} has shape {shape}; a matrix (rows, columns) is needed")
    if len(shape) == 0 or shape[0] == 0:
        raise SourceError(f"{label} has shape {shape}: no rows; give one that has some")
    if numeric and dtype.names is None and 0 in shape:
        raise SourceError(f"{label} has shape {shape}: no columns; at least 1 is needed")
    return StoredArray(path, label, opener, shape, dtype, fortran and len(shape) > 1)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return tuple(int(s) for s in shape), bool(fortran), np.dtype(dtype)


def _fill(stream: IO[bytes], block: NDArray[Any], path: Path, label: str) -> None:
    view = block.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise _cut_short(path, label)
        done += got


def _width(stored: Sequence[StoredArray], what: str) -> int:
    width = stored[0].num_columns
    for array in stored[1:]:
        if array.num_columns != width:
            raise SourceError(
                f"{array.label} has {array.num_columns} {what}, but {stored[0].label} has {width}; "
                "files read together must match"
            )
    return width


def _cut_short(path: Path, label: str) -> SourceError:
    return SourceError(
        f"{shorten(label)} is cut short: the file {path.name} ends before its rows do; copy it again"
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Any damage, as one message that names the file."""
    try:
        yield
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, SyntaxError, KeyError) as error:
        if isinstance(error, SourceError | ColumnError):
            raise
        raise SourceError(
            f"{path.name} cannot be read as {path.suffix} data: it is damaged, cut short or something else "
            f"({shorten(str(error), 100)})"
        ) from None


def _open_records(stored: Sequence[StoredArray], name: str, **choice: Any) -> Any:
    """A structured array: its fields are columns of a table."""
    from descend.sources.records import open_records

    return open_records(stored, name, **choice)
