"""The rows that ``compare`` and ``fit`` train on, and what is said about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.cli import arguments
from descend.cli.progress import ReadingLine, StatusLine
from descend.cli.talk import Talk
from descend.errors import InputError, shorten
from descend.machine import keep_to, memory_limit, return_freed_memory, spare_addresses
from descend.report import formatting

if TYPE_CHECKING:
    from descend.features import Prepared
    from descend.settings import Settings


def prepare_rows(
    data: str, given: dict[str, Any], settings: Settings, talk: Talk, needs_memory: str | None = None
) -> tuple[Prepared, str]:
    """Opens, learns and encodes the rows; returns them with the name of the data.

    ``needs_memory`` names what cannot train on rows that stay in their files.
    """
    task = arguments.task(given["task"])
    share, file = arguments.validation(given["validation"])
    drop, columns = arguments.names(given["drop"]), arguments.names(given["columns"]) or None

    if talk.quiet:
        from descend.engines import kernel_cache

        kernel_cache.quiet()
    from descend.features import prepare
    from descend.sources import open_source
    from descend.store import is_store

    if is_store(data):
        return _from_store(data, given, settings, talk)

    limit = arguments.memory(given["memory_limit"])
    if limit is not None:
        keep_to(limit)
    if limit is not None or memory_limit() is not None:
        return_freed_memory()
        spare_addresses()
    choice: dict[str, Any] = {
        "target": given["target"], "drop": drop, "columns": columns, "weights": given["weights"],
    }  # fmt: skip
    source = arguments.with_options(open_source, data, **choice)
    held_out = None
    if file is not None:
        try:
            held_out = arguments.with_options(open_source, file, **choice)
        except InputError as error:
            raise type(error)(f"--validation {shorten(file)!r}: {error}") from None
    line = StatusLine(talk)
    try:
        prepared = prepare(
            source,
            task=task,
            loss_task=settings.loss_task,
            validation=share,
            seed=settings.seed,
            standardize=settings.standardize,
            scale_target=settings.loss != "poisson",
            shuffle=settings.shuffle,
            validation_source=held_out,
            memory_limit=limit,
            in_source=None,
            needs_memory=needs_memory,
            on_progress=ReadingLine(line, shorten(source.name)),
        )
    finally:
        line.clear()
    describe(talk, prepared, source.name)
    return prepared, source.name


def _from_store(data: str, given: dict[str, Any], settings: Settings, talk: Talk) -> tuple[Prepared, str]:
    """The same for a block store: loaded where it fits into memory, else left where it is."""
    from descend.sources import open_source
    from descend.store import is_store, open_store
    from descend.store.choice import check_choice
    from descend.store.preparing import prepare_store

    share, file = arguments.validation(given["validation"])
    limit = arguments.memory(given["memory_limit"])
    if limit is not None:
        keep_to(limit)
    store = open_store(data)
    if not settings.standardize and store.features.standardize:
        raise InputError(
            f"--no-standardize: store {shorten(store.name)!r} holds standardised columns; leave it out, or train on "
            "the data that was ingested"
        )
    arguments.with_options(
        check_choice,
        store,
        target=given["target"],
        drop=arguments.names(given["drop"]),
        columns=arguments.names(given["columns"]),
        weights=given["weights"],
    )
    held_out: Any = None
    if file is not None:
        own = {"target": store.target_statistics.name} | {
            name: value for name, value in store.manifest.selection.items() if value
        }
        try:
            held_out = open_store(file) if is_store(file) else open_source(file, **own)
        except InputError as error:
            raise type(error)(f"--validation {shorten(file)!r}: {error}") from None
    line = StatusLine(talk)
    try:
        prepared = arguments.with_options(
            prepare_store,
            store,
            task=arguments.task(given["task"]),
            loss_task=settings.loss_task,
            validation=share,
            scale_target=settings.loss != "poisson",
            memory_limit=limit,
            validation_source=held_out,
            on_progress=ReadingLine(line, shorten(store.name), passes=1),
        )
    finally:
        line.clear()
    describe(talk, prepared, store.name)
    return prepared, store.name


def selection_of(given: dict[str, Any]) -> dict[str, Any]:
    """What leaves columns out of the features, besides the target: a model remembers it for other matrices."""
    weights = [given["weights"]] if given["weights"] is not None else []
    return {
        "drop": arguments.names(given["drop"]) + weights,
        "columns": arguments.names(given["columns"]) or None,
    }


def describe(talk: Talk, prepared: Prepared, name: str) -> None:
    """What was found in the data, on stderr."""
    rows = formatting.count(prepared.train.num_rows)
    if prepared.validation is not None:
        rows += f" rows to train on, {formatting.count(prepared.validation.num_rows)} for validation"
    else:
        rows += " rows"
    columns = formatting.count(len(prepared.features.input_names))
    encoded = formatting.count(prepared.train.num_columns)
    talk.note("data", f"{shorten(name)}: {rows}; {columns} columns, encoded as {encoded}")
    talk.note("task", prepared.target.reason)
    talk.notes(prepared.notes)
