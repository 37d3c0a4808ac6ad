"""From what a person types to the source that reads it."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from descend.errors import InputError, SourceError, shorten
from descend.sources.selection import closest
from descend.types import Source

TEXT = (".csv", ".tsv")
COMPRESSED = (".gz", ".bz2", ".zst")
ARROW = (".parquet", ".arrow", ".feather")
NUMPY = (".npz", ".npy")
SVMLIGHT = (".svm", ".libsvm", ".svmlight")
ACCEPTED = (
    "accepted are .csv, .tsv and .svm (also .gz, .bz2, .zst), .parquet, .arrow, .feather, .npz, .npy, "
    "a folder or quoted glob of such files, and sklearn:NAME"
)


def open_source(
    data: str | Path | Sequence[str | Path],
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    weights: str | None = None,
    require_target: bool = True,
) -> Source:
    """Open ``data`` and check its columns; rows are read later, by ``blocks()``.

    Several places, given as a list, are read one after the other; they hold files of one kind.

    ``target`` is the column to predict (left out where the format has one of its own), ``drop`` and
    ``columns`` are names to leave out and to keep, ``weights`` is a column of row weights. With
    ``require_target=False`` rows are read for prediction: no target is needed, and the column ``target`` is
    left out where it is there.

    >>> source = open_source("sklearn:iris", drop=["petal width (cm)"])
    >>> source.name, len(source.column_names), source.target_name
    ('sklearn:iris', 3, 'target')
    """
    choice: dict[str, Any] = {
        "target": target,
        "drop": drop,
        "columns": columns,
        "weights": weights,
        "require_target": require_target,
    }
    addresses = _addresses(data)
    if addresses[0].startswith("sklearn:"):
        from descend.sources.sets import open_set

        return open_set(addresses[0], **choice)
    paths, name = _all_files(addresses)
    source = _open_files(paths, name, _common_ending(paths, " ".join(addresses)), choice)
    source.files = tuple(paths)
    return source  # type: ignore[no-any-return]


def _open_files(paths: Sequence[Path], name: str, kind: str, choice: dict[str, Any]) -> Any:
    if kind in TEXT:
        from descend.sources.delimited import open_delimited

        return open_delimited(paths, name, **choice)
    if kind in SVMLIGHT:
        from descend.sources.svmlight import open_svmlight

        return open_svmlight(paths, name, **choice)
    if kind in ARROW:
        from descend.sources.arrow_files import open_arrow_files

        return open_arrow_files(paths, name, kind, **choice)
    from descend.sources import numpy_files

    return (numpy_files.open_npz if kind == ".npz" else numpy_files.open_npy)(paths, name, **choice)


def files_of(data: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """The files that ``open_source`` would read; none of a bundled set."""
    addresses = _addresses(data)
    return () if addresses[0].startswith("sklearn:") else tuple(_all_files(addresses)[0])


def ending_of(path: Path) -> str:
    """A file's kind by its name, compression taken off.

    >>> ending_of(Path("flights.CSV.gz")), ending_of(Path("README"))
    ('.csv', '')
    """
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _addresses(data: object) -> list[str]:
    """What was given, as texts."""
    several = isinstance(data, list | tuple)
    given: list[object] = list(data) if several else [data]  # type: ignore[call-overload]
    if not given or not all(isinstance(one, str | Path) for one in given):
        raise InputError(
            f"data is a {type(data).__name__}; give a path or sklearn:NAME, or use array_source or "
            "table_source"
        )
    addresses = [str(one) for one in given]
    if several and len(given) > 1 and any(one.startswith("sklearn:") for one in addresses):
        raise InputError("a set of sklearn: stands alone; give it without other data")
    return addresses


def _all_files(addresses: Sequence[str]) -> tuple[list[Path], str]:
    """The files of all places in order, and what the first place is called."""
    found = [_files(address) for address in addresses]
    paths = [path for some, _ in found for path in some]
    places = [path.resolve() for path in paths]
    if len(set(places)) < len(places):
        twice = next(path for i, path in enumerate(paths) if places[i] in places[:i])
        raise SourceError(f"{shorten(str(twice), 200)!r} is given twice; name each file once")
    return paths, found[0][1]


def _files(address: str) -> tuple[list[Path], str]:
    path = Path(address).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):
        is_folder = is_file = False
    if is_folder:
        return _in_folder(path), path.resolve().name
    if is_file:
        return [path], _plain_name(path)
    if any(c in address for c in "*?["):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())  # noqa: PTH207
        if not found:
            raise SourceError(f"no file matches {shorten(address, 200)!r}; check the pattern and the folder")
        return found, _plain_name(found[0]) if len(found) == 1 else path.parent.resolve().name
    raise SourceError(_not_found(path, address))


def _in_folder(folder: Path) -> list[Path]:
    if (folder / "store.json").is_file():
        raise SourceError(
            f"{shorten(folder.name)} is a block store; fit, compare, batch-size, evaluate and predict take one, here "
            f"{ACCEPTED}"
        )
    known = (*TEXT, *ARROW, *NUMPY, *SVMLIGHT)
    found = sorted(
        p for p in folder.iterdir() if p.is_file() and p.name[0] not in "._" and ending_of(p) in known
    )
    if not found and (folder / ".ingest").is_dir():
        raise SourceError(
            f"folder {shorten(str(folder), 200)!r} is no block store yet: an ingest into it goes on, or was cut "
            "short; run the same descend ingest again"
        )
    if not found:
        raise SourceError(f"folder {shorten(str(folder), 200)!r} holds no file that can be read; {ACCEPTED}")
    return found


def _common_ending(paths: Sequence[Path], address: str) -> str:
    endings = sorted({ending_of(path) for path in paths})
    if len(endings) > 1:
        raise SourceError(
            f"{shorten(address, 200)!r} holds files of several kinds ({', '.join(endings)}); choose one "
            "with a "
            f"glob, such as '*{endings[0]}'"
        )
    kind = endings[0]
    last = paths[0].suffix.lower()
    if kind not in (*TEXT, *ARROW, *NUMPY, *SVMLIGHT) or (
        last in COMPRESSED and kind not in (*TEXT, *SVMLIGHT)
    ):
        raise SourceError(f"{shorten(paths[0].name)} is of no kind that can be read; {ACCEPTED}")
    for path in paths:
        if path.stat().st_size == 0:
            raise SourceError(f"{shorten(path.name)} is empty (0 bytes); a header and rows are needed")
    return kind


def _plain_name(path: Path) -> str:
    name = path.name
    for suffix in reversed(path.suffixes):
        if suffix.lower() not in (*TEXT, *ARROW, *NUMPY, *SVMLIGHT, *COMPRESSED):
            break
        name = name[: -len(suffix)]
    return name or path.name


def _not_found(path: Path, address: str) -> str:
    if path.is_symlink():
        return f"{shorten(address, 200)!r} is a link to a file that is not there; check where it leads"
    hint = ""
    try:
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        beside = []
    close = closest(path.name, beside)
    if close is not None:
        hint = f"; did you mean {shorten(str(path.parent / close), 200)!r}?"
    return (
        f"no file or folder {shorten(address, 200)!r}{hint or '; check the path. '}{'' if hint else ACCEPTED}"
    )
