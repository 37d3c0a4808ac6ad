"""More rows for a store that is there: encoded as its rows were, shuffled among themselves, in blocks of their own.

The rows of a last block that was not full are written again at the beginning of the first new one, so that every
block but the last stays full; they keep their places. Blocks are permuted in every epoch, which keeps the order fair.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from descend.coded_rows import SMALL
from descend.errors import ColumnError, InputError, SourceError, shorten
from descend.features.statistics import Statistics
from descend.features.statistics_json import (
    dump_statistics,
    dump_target_statistics,
    load_statistics,
    load_target_statistics,
)
from descend.features.target import Target
from descend.features.target_statistics import TargetStatistics
from descend.store.block_files import read_block
from descend.store.gathering import Gathered
from descend.store.manifest import Manifest, read_manifest
from descend.types import Source

NOTE = " rows were added later; columns are encoded as the first rows said"


def choice_of(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Which columns are taken, as the store in ``folder`` was written; another choice is refused."""
    stored = read_manifest(folder).selection
    for name, value in given.items():
        if value and value != stored.get(name):
            raise InputError(
                f"--{name} is {shorten(str(value))}, but the store {shorten(str(folder), 200)!r} was written with "
                f"{shorten(str(stored.get(name) or 'none'))}; leave it out, or ingest all data again"
            )
    return {name: stored.get(name) or given[name] for name in given}


def match_columns(source: Source, before: Manifest) -> None:
    """The source has the store's columns, in the same order where they go by position."""
    expected = load_statistics(before.columns)
    match = getattr(source, "match_columns", None)
    if match is not None and expected.row_lengths:  # rows that go by number: the width is that of the store
        match(expected.names)
    found = source.column_names
    same = found == expected.names or (not expected.is_matrix and sorted(found) == sorted(expected.names))
    if not same:
        lacking = [n for n in expected.names if n not in set(found)]
        extra = [n for n in found if n not in set(expected.names)]
        what = f"lacks {_shown(lacking)}" if lacking else f"has besides {_shown(extra)}"
        if not lacking and not extra:
            what = "has them in another order"
        raise SourceError(
            f"{source.name} does not have the columns of the store: it {what}; give the same columns"
        )


def extended(source: Source, before: Manifest, gathered: Gathered) -> Manifest:
    """The manifest of the store with the new rows, its blocks yet to be written."""
    columns = _merged_columns(source, before, gathered.columns)
    target = _merged_target(source, before, gathered.target)
    layout = before.layout
    form = gathered.packer.format
    assert form is not None
    if form.sparse != layout.sparse:
        kinds = ("sparse", "dense") if layout.sparse else ("dense", "sparse")
        raise SourceError(
            f"rows of the store are {kinds[0]}, those of {source.name} {kinds[1]}; give the same kind"
        )
    if layout.dtype in SMALL and gathered.columns.stored != layout.dtype:
        raise ColumnError(
            f"the store keeps numbers of type {layout.dtype}, but {source.name} holds others, or has gaps; give the "
            "same type, or ingest all data again"
        )
    if form.has_weights and not layout.has_weights:
        raise SourceError(
            f"{source.name} has weights, but rows of the store have none; ingest all data again"
        )
    added = before.layout.num_rows + gathered.spill.num_rows - _first_rows(before)
    return replace(
        before,
        layout=replace(layout, num_rows=layout.num_rows + gathered.spill.num_rows),
        blocks=(),
        columns=dump_statistics(columns),
        target=dump_target_statistics(target),
        generation=before.generation + 1,
        notes=(*(note for note in before.notes if not note.endswith(NOTE)), f"{added:,}{NOTE}"),
    )


def head_of(folder: Path, before: Manifest) -> Any:
    """The rows of a last block that is not full, encoded; None where it is."""
    last = before.blocks[-1]
    if last.rows == before.layout.block_rows:
        return None
    return read_block(folder / last.file, last, before.layout)


def full_blocks(before: Manifest) -> tuple[Any, ...]:
    """The blocks that stay as they are."""
    return tuple(record for record in before.blocks if record.rows == before.layout.block_rows)


def _first_rows(before: Manifest) -> int:
    """Rows of the store before any were added."""
    for note in before.notes:
        if note.endswith(NOTE):
            return before.layout.num_rows - int(note.removesuffix(NOTE).replace(",", ""))
    return before.layout.num_rows


def _merged_columns(source: Source, before: Manifest, new: Statistics) -> Statistics:
    columns = load_statistics(before.columns)
    if columns.is_matrix != new.is_matrix:
        kinds = ("a matrix", "a table") if columns.is_matrix else ("a table", "a matrix")
        raise SourceError(
            f"the store was written from {kinds[0]}, and {source.name} is {kinds[1]}; give the same kind"
        )
    columns.merge(new)
    columns.forget_rows()
    return columns


def _merged_target(source: Source, before: Manifest, new: TargetStatistics) -> TargetStatistics:
    target = load_target_statistics(before.target)
    if (target.kind, target.num_outputs) != (new.kind, new.num_outputs):
        raise ColumnError(
            f"the store's target holds {target.kind}, that of {source.name} {new.kind}; give the same target"
        )
    if before.task == "classification":
        known = Target.from_statistics(target, "classification").classes
        unknown = [label for label in new.counts if label not in known]
        if unknown or new.overflowed:
            shown = shorten(str(unknown[0])) if unknown else "too many values"
            raise ColumnError(
                f"target {shorten(target.name)!r} of {source.name} holds {shown!r}, which is none of the store's "
                f"classes: {', '.join(shorten(str(c), 30) for c in known[:10])}; leave these rows out, or ingest all "
                "data again"
            )
    target.merge(new)
    return target


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(shorten(name, 30)) for name in names[:3]) + more
