"""Writing files so that a place holds the old content or the new, never half of it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from descend.errors import DescendError, InputError, OutputError, shorten

TEMPORARY = ".descend-"


def check_output(path: str | os.PathLike[str], force: bool = False) -> Path:
    """Raise InputError now if ``path`` could not be written later; long work comes between.

    Returns the path with symbolic links followed, so that a link goes on pointing at what is replaced.
    """
    shown = _shown(path)
    try:
        place = Path(os.path.realpath(path))
        mode = _mode(place)
        parent = _mode(place.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise InputError(
            f"output {shown} cannot be written: {_reason(error)}; choose another name"
        ) from error
    if mode is not None and stat.S_ISDIR(mode):
        raise InputError(f"output {shown} is a folder; give the name of a file, such as {_inside(path)}")
    if mode is not None and not stat.S_ISREG(mode):
        raise InputError(f"output {shown} is not a regular file; give the name of one")
    if mode is not None and not force:
        raise InputError(
            f"output {shown} exists already; choose another name, or replace it with --force (force=True)"
        )
    folder = _shown(place.parent)
    if parent is None:
        raise InputError(f"output {shown}: the folder {folder} does not exist; create it or choose another")
    if not stat.S_ISDIR(parent):
        raise InputError(f"output {shown}: {folder} is not a folder; choose another place")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise InputError(f"output {shown}: the folder {folder} cannot be written; choose another")
    return place


def write_atomically(path: str | os.PathLike[str], data: bytes | str, force: bool = False) -> Path:
    """Write ``data`` beside ``path``, flush it to the disk, then rename; returns ``path``.

    Text is UTF-8 with its line ends as they are. A file that exists is replaced only with ``force``, and
    keeps its permissions. After an error or an interrupt nothing is left behind. Raises ``InputError`` for a place
    that cannot be, ``OutputError`` where writing fails.
    """
    with written_atomically(path, force) as file:
        file.write(data.encode("utf-8", errors="backslashreplace") if isinstance(data, str) else data)
    return Path(path)


@contextmanager
def written_atomically(path: str | os.PathLike[str], force: bool = False) -> Iterator[IO[bytes]]:
    """The same for content that comes piece by piece: the file is there once the context is left, or never."""
    place = check_output(path, force)
    # A short name of its own: one derived from a long name could be too long for the file system.
    temporary = place.with_name(f"{TEMPORARY}{secrets.token_hex(6)}.tmp")
    try:
        # Created through os.open, the file gets the permissions that the user's umask leaves.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if (mode := _mode(place)) is not None:
            temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(place)
    except BaseException as error:
        _remove(temporary)
        if not isinstance(error, OSError) or isinstance(error, DescendError):
            raise
        raise OutputError(
            f"output {_shown(path)} could not be written: {_reason(error)}; "
            "what was there before is as it was, and nothing else was left"
        ) from error
    flush_folder(place.parent)


def free_name(path: str | os.PathLike[str]) -> Path:
    """``path``, or with -2, -3, … before its suffix: the first that does not exist.

    >>> free_name("no-such-file.html").name
    'no-such-file.html'
    """
    first = Path(path)
    candidate, number = first, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = first.with_name(f"{first.stem}-{number}{first.suffix}")
    return candidate


def remove_temporaries(folder: Path) -> None:
    """Removes what killed processes left of files in the making; for a folder that nobody else is writing to."""
    for path in folder.glob(f"{TEMPORARY}*.tmp"):
        _remove(path)


def flush_folder(folder: Path) -> None:
    """Make renames inside it survive a power cut, where folders can be flushed (not on Windows)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _mode(path: Path) -> int | None:
    """What kind of thing lies at ``path`` with its permissions, or None if nothing does."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _shown(path: str | os.PathLike[str]) -> str:
    return f"'{shorten(os.fspath(path), width=200)}'"


def _inside(path: str | os.PathLike[str]) -> str:
    return _shown(Path(path) / "model.descend")
