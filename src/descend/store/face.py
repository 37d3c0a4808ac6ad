"""``descend.ingest``, and what the command line shares with it: from what a person names to a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from descend.errors import InputError, shorten
from descend.sources import open_source
from descend.sources.given import named_target, rows_in_memory
from descend.sources.opening import files_of
from descend.store.appending import choice_of
from descend.store.ingesting import run
from descend.store.inputs import expected_bytes
from descend.store.job import Job
from descend.store.opening import Store
from descend.store.places import prepare_folder
from descend.types import Task


def ingest(
    data: Any,
    output: str | os.PathLike[str],
    y: Any = None,
    *,
    target: str | None = None,
    task: Task | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    weights: Any = None,
    seed: int = 0,
    memory_limit: int | None = None,
    threads: int | None = None,
    force: bool = False,
    append: bool = False,
) -> Store:
    """Write ``data`` as a shuffled block store into the folder ``output``, and open it.

    ``data``: a path or a list of paths (files of one kind, folders, quoted globs), a matrix with ``y`` (n,), or a
    table with the Arrow PyCapsule interface and its ``target``. ``weights``: a column's name, or one number a row.
    ``memory_limit`` in bytes bounds what this process may hold; default: what its limits and what is free allow.
    ``force`` replaces a store that is there, when the new one is whole; ``append`` adds the rows to it.

    Raises InputError for data or a place that cannot be used, OutputError where the disk is full or fails.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ingest(np.arange(40.0).reshape(20, 2), folder, y=np.arange(20) % 2)
    >>> store.num_rows, store.layout.num_columns
    (20, 2)
    """
    if not _is_count(memory_limit):
        raise InputError(
            f"memory_limit is {shorten(repr(memory_limit))}; give a whole number of bytes, such as 2_000_000_000"
        )
    options: dict[str, Any] = {"task": task, "seed": seed, "force": force, "append": append}
    options |= {"memory_limit": memory_limit, "threads": threads}
    if isinstance(data, str | Path | list | tuple) and (isinstance(data, str | Path) or _are_paths(data)):
        name = named_target(y, target, weights, "weights")
        choice = {"target": name, "drop": drop, "columns": columns, "weights": weights}
        return run(file_job([data] if isinstance(data, str | Path) else data, output, choice, **options))
    source: Any = rows_in_memory(data, y, target=target, weights=weights, drop=drop, columns=columns)
    return run(Job(source, Path(output), **options))


def file_job(
    data: Sequence[str | Path],
    output: str | os.PathLike[str],
    choice: dict[str, Any],
    opening: Callable[..., Any] = open_source,
    **options: Any,
) -> Job:
    """What it takes to ingest files, checked as far as can be before their rows are read.

    ``choice`` has ``target``, ``drop``, ``columns`` and ``weights``; ``options`` are those of a job.
    """
    folder = Path(output).expanduser()
    files = files_of(list(data))
    if folder.is_dir() and any(folder.resolve() in path.resolve().parents for path in files):
        raise InputError(f"output {shorten(str(folder), 200)!r} is what is read; choose another name")
    prepare_folder(folder, options["force"], options["append"], make=False)
    if options["append"]:
        choice = choice_of(folder, choice)
    source = opening(list(data), **choice)
    return Job(
        source, folder, files=files, expected_bytes=expected_bytes(files), selection=_plain(choice), **options
    )


def _plain(choice: dict[str, Any]) -> dict[str, Any]:
    """Lists as JSON has them, one name as a list of one."""

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        return list(value)

    found = {name: plain(value) for name, value in choice.items()}
    for name in ("drop", "columns"):
        if isinstance(found[name], str):
            found[name] = [found[name]]
    return found | {"columns": found["columns"] or None}


def _are_paths(data: Sequence[Any]) -> bool:
    return bool(data) and all(isinstance(one, str | Path) for one in data)


def _is_count(value: Any) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return value is None or (whole and int(value) > 0)
