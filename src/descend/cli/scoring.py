"""Data for a model: the columns it needs, scored a few rows at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from descend.cli.arguments import names, with_options
from descend.errors import ColumnError, InputError, NoRowsError, shorten
from descend.estimators.sources import scored
from descend.features.target_values import as_values
from descend.models.model import Model
from descend.sources import open_source
from descend.sources.opening import SVMLIGHT, ending_of
from descend.sources.selection import closest, listing
from descend.sources.svmlight import SvmlightSource
from descend.sources.tables import TableSource
from descend.store import is_store, open_store
from descend.store.choice import check_choice
from descend.store.source import StoredSource
from descend.types import Block, FloatArray, Source


def needed_columns(model: Model) -> list[str]:
    """The columns of a table that the model reads."""
    return list(dict.fromkeys(encoder.name for _, encoder in model.features.encoders))


class NoRows:
    """A table with a header alone: it has no predictions, and is no mistake in a pipeline that runs every night."""

    target_name: str | None = None

    def __init__(self, name: str, column_names: tuple[str, ...]) -> None:
        self.name, self.column_names = name, column_names

    def blocks(self) -> Iterator[Block]:
        return iter(())


def open_unlabelled(model: Model, data: str, target: str | None = None) -> Source:
    """Rows to predict. A target is not needed; where it is there it is not read, and no row is left out."""
    try:
        return _unlabelled(model, data, target)
    except NoRowsError as empty:
        _check_columns(model, empty.names, data)
        return NoRows(data, empty.names)


def _unlabelled(model: Model, data: str, target: str | None) -> Source:
    goal = target if target is not None else model.target.name
    if is_store(data):
        return _stored(model, data, target)
    source = open_source(data, target=goal, require_target=False)
    if isinstance(source, SvmlightSource):
        return _by_number(model, source)
    if not isinstance(source, TableSource):
        return _matrix(model, source, data, target=goal, require_target=False)
    every = open_source(data, require_target=False)
    _check_columns(model, every.column_names, every.name)
    return open_source(data, columns=needed_columns(model), require_target=False)


def open_labelled(model: Model, data: str, target: str | None = None, weights: str | None = None) -> Source:
    """Rows with a target; rows of a table that lack it are left out by the source, which counts them."""
    goal = target if target is not None else model.target.name
    if is_store(data):
        return _stored(model, data, target, weights)
    choice: dict[str, Any] = {"target": goal, "weights": weights}
    if target is None and ending_of(Path(data)) in SVMLIGHT:
        choice["target"] = None  # the label is the target, whatever the model calls it
    if getattr(model, "labels", 0):
        every = open_source(data, require_target=False)
        if isinstance(every, TableSource):
            return _labelled_table(model, every, data, target, weights)
    source: Source = with_options(open_source, data, **choice)
    if isinstance(source, SvmlightSource):
        return _by_number(model, source)
    if not isinstance(source, TableSource):
        return _matrix(model, source, data, **choice)
    _check_columns(model, source.column_names, source.name)
    return open_source(data, columns=needed_columns(model), **choice)


class LabelledTable:
    """A table whose truth is in several columns, one for each label."""

    def __init__(self, source: TableSource, label_names: list[str]) -> None:
        self.source, self.label_names = source, label_names
        self.name, self.target_name = source.name, ",".join(label_names)

    @property
    def notes(self) -> Any:
        return getattr(self.source, "notes", ())

    def blocks(self) -> Iterator[Block]:
        """Blocks with the labels (r, k) as their target."""
        for block in self.source.blocks():
            labels = [as_values(block.columns[name], name) for name in self.label_names]
            yield Block(block.columns, np.column_stack(labels), block.weights)


def _labelled_table(
    model: Model, every: TableSource, data: str, target: str | None, weights: str | None
) -> Source:
    count = int(getattr(model, "labels", 0))
    labels = [] if target is None else names([target])
    if len(labels) != count:
        given = "not given" if target is None else f"{len(labels)} columns"
        raise InputError(
            f"--target is {given}; the model tells {count} labels a row: name their {count} columns, of 0 and 1, in "
            "the order of training, as in --target a,b,c"
        )
    _check_columns(model, every.column_names, every.name)
    for name in labels:
        if name not in every.column_names:
            close = closest(name, every.column_names)
            hint = f"is it {shorten(close)!r}? Its" if close is not None else "its"
            raise ColumnError(
                f"--target: column {shorten(name)!r} is not in {shorten(every.name)}; {hint} columns are "
                f"{listing(every.column_names)}"
            )
    columns = list(dict.fromkeys([*needed_columns(model), *labels]))
    chosen = with_options(open_source, data, columns=columns, weights=weights, require_target=False)
    labelled: Any = LabelledTable(chosen, labels)
    return labelled  # type: ignore[no-any-return]


def scores(model: Model, source: Source) -> Iterator[tuple[FloatArray, Block]]:
    """Scores (r, k) and the rows they belong to, few enough at a time to be encoded in bounded memory."""
    score = model.scores_of_encoded if isinstance(source, StoredSource) else model.scores
    done = 0
    try:
        for found, part in scored(score, source.blocks(), model):
            yield found, part
            done += part.num_rows
    except ColumnError as error:
        raise _with_row(error, done) from None


def _stored(model: Model, data: str, target: str | None, weights: str | None = None) -> Source:
    """A store's rows in the model's terms; its target and weights are those it was ingested with."""
    store = open_store(data)
    with_options(check_choice, store, target=target, weights=weights)
    return StoredSource(store, model.features)


def _with_row(error: ColumnError, start: int) -> ColumnError:
    """The same message with the row counted from the first one read."""
    text = re.sub(r"in row (\d+) of its block", lambda found: f"in row {start + int(found[1]):,}", str(error))
    return type(error)(text) if type(error) is ColumnError else error


def _check_columns(model: Model, names: tuple[str, ...], where: str) -> None:
    if model.features.takes_sparse:
        raise ColumnError(
            f"{shorten(where)} is a table, but the model was trained on sparse rows, whose columns go by "
            "number; give svmlight rows or a matrix"
        )
    present = set(names)
    lacking = [name for name in needed_columns(model) if name not in present]
    if not lacking:
        return
    close = closest(lacking[0], names)
    hint = f" (is it {shorten(close)!r}?)" if close is not None else ""
    what = f"column {shorten(lacking[0])!r}{hint}" if len(lacking) == 1 else f"columns {listing(lacking)}"
    raise ColumnError(
        f"{shorten(where)} lacks {what}, which the model needs; its columns are {listing(names)}. "
        "Give data with the columns that the model was trained on"
    )


def _by_number(model: Model, source: SvmlightSource) -> Source:
    """Rows whose columns go by number: the width is the model's, and what it does not know is left out."""
    names = model.features.input_names
    if not model.features.is_matrix:
        raise ColumnError(
            f"{shorten(source.name)} has numbered columns, but the model was trained on a table with columns "
            f"{listing(names)}; give a table with these"
        )
    source.match_columns(names)
    return source


def _matrix(model: Model, source: Source, data: str, **choice: Any) -> Source:
    """A matrix goes by position; columns that training left out by its options are left out here too."""
    names = model.features.input_names
    if not model.features.is_matrix:
        raise ColumnError(
            f"{shorten(source.name)} is a matrix without named columns, but the model was trained on a table "
            f"with columns {listing(names)}; give a table with these"
        )
    same: dict[str, Any] = dict(model.summary.get("selection") or {})
    tries = [same | choice, choice]
    if not choice.get("require_target", True):
        tries.append({"require_target": False})  # without a target, what is named like it is a feature
    for one in tries:
        with suppress(InputError):
            chosen = open_source(data, **one)
            if len(chosen.column_names) == len(names):
                return chosen
    raise ColumnError(
        f"{shorten(source.name)} has {len(source.column_names)} columns besides the target, but the model was "
        f"trained on {len(names)}; give the same columns in the same order"
    )
