"""``store.json``: what a store holds and what is known of it, with a checksum of itself; written last.

A folder without it is no store, and blocks that it does not name are none of the store's: so a store appears, grows
and is replaced at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from descend.errors import InputError, OutputError, SourceError, shorten
from descend.files import write_atomically
from descend.store.block_files import BlockRecord
from descend.store.layout import DTYPES, Layout

NAME = "store.json"
FORMAT = "descend.store"
VERSION = 3
READ = (1, 2, 3)
"""Blocks of version 1 have no products; those of versions 1 and 2 begin with their rows."""
_ZEROS = "0" * 64
_DIGEST = re.compile(rb'\{"sha256": "([0-9a-f]{64})"')
_PLAIN_NAME = re.compile(r"block-(\d+-)?\d{5,}\.bin")


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of a store besides its rows; JSON values, kept as they were written."""

    layout: Layout
    blocks: tuple[BlockRecord, ...]
    name: str
    """What the data were called that were ingested."""
    seed: int
    features: dict[str, Any]
    task: str
    task_given: str | None
    columns: dict[str, Any]
    """Statistics of the columns (``features.statistics_json``)."""
    target: dict[str, Any]
    """Statistics of the target."""
    generation: int = 0
    """How often the store was replaced: names of blocks that replace others are new."""
    notes: tuple[str, ...] = ()
    selection: dict[str, Any] = field(default_factory=dict)
    """What was said of the columns: ``target``, ``drop``, ``columns``, ``weights``."""

    @property
    def total_weight(self) -> float:
        return float(self.columns["total"])


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``store.json``; the store is there from then on. OutputError where the disk is full or fails."""
    write_whole(folder / NAME, pack(manifest))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of ours all or nothing; what goes wrong is the disk's fault, not the caller's."""
    try:
        write_atomically(path, data, force=True)
    except InputError as error:
        raise OutputError(str(error)) from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a store, verified; SourceError for anything else."""
    place = folder / NAME
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        raise SourceError(
            f"{shorten(str(folder), 200)!r} is no block store: it has no {NAME}; `descend ingest` writes one"
        ) from None
    except OSError as error:
        raise SourceError(f"{shorten(str(place), 200)!r} cannot be read: {error.strerror or error}") from None
    return unpack(data, place)


def is_damaged(folder: Path) -> bool:
    """Whether ``store.json`` is there and no longer what was written, in this layout or a newer one.

    One that cannot be read is not known to be: opening it says why.
    """
    try:
        return not _is_intact((folder / NAME).read_bytes())
    except OSError:
        return False


def pack(manifest: Manifest) -> bytes:
    """The bytes of ``store.json``; the digest is that of the file with zeros in its place."""
    layout = asdict(manifest.layout) | {"dtype": manifest.layout.dtype.name}
    value = {
        "sha256": _ZEROS,
        "format": FORMAT,
        "version": VERSION,
        "name": manifest.name,
        "seed": manifest.seed,
        "generation": manifest.generation,
        "layout": layout,
        "task": manifest.task,
        "task_given": manifest.task_given,
        "selection": manifest.selection,
        "notes": list(manifest.notes),
        "features": manifest.features,
        "columns": manifest.columns,
        "target": manifest.target,
        "blocks": [record.to_json() for record in manifest.blocks],
    }
    data = (json.dumps(value, allow_nan=False) + "\n").encode()
    return data.replace(_ZEROS.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def unpack(data: bytes, place: Path, is_draft: bool = False) -> Manifest:
    """What ``pack`` packed; ``place`` names the file in errors. A draft has no blocks yet."""
    shown = shorten(str(place), 200)
    if _DIGEST.match(data) is None:
        raise SourceError(
            f"{shown!r} is no manifest of a block store, or is damaged; ingest the data again (with --force, "
            "force=True)"
        )
    if not _is_intact(data):
        raise SourceError(
            f"{shown!r} is damaged: its content ({len(data):,} bytes) does not match its checksum; copy the store "
            "again, or ingest the data again (with --force, force=True)"
        )
    value = json.loads(data)
    if value.get("format") != FORMAT:
        raise SourceError(
            f"{shown!r} says it is {shorten(repr(value.get('format')))}; accepted is {FORMAT!r}"
        )
    if value.get("version") not in READ:
        raise SourceError(
            f"{shown!r} was written in layout {value.get('version')}; this descend reads {VERSION}: install a newer "
            "one, or ingest the data again"
        )
    try:
        return _manifest(value, is_draft)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{shown!r} cannot be used ({type(error).__name__}: {error})") from None


def _is_intact(data: bytes) -> bool:
    found = _DIGEST.match(data)
    if found is None:
        return False
    whole = data[: found.start(1)] + _ZEROS.encode() + data[found.end(1) :]
    return hashlib.sha256(whole).hexdigest().encode() == found[1]


def _manifest(value: dict[str, Any], is_draft: bool) -> Manifest:
    layout = Layout(**{**value["layout"], "dtype": np.dtype(value["layout"]["dtype"])})
    blocks = tuple(BlockRecord(**record) for record in value["blocks"])
    if layout.dtype not in DTYPES:
        raise ValueError(f"rows of type {layout.dtype}")
    expected = [] if is_draft else [layout.rows_of(i) for i in range(layout.num_blocks)]
    if [record.rows for record in blocks] != expected:
        raise ValueError("rows of the blocks do not add up")
    if not all(_PLAIN_NAME.fullmatch(record.file) for record in blocks):
        raise ValueError("a block's name is none")
    names = ("name", "seed", "features", "task", "task_given", "columns", "target", "generation", "selection")
    rest = {name: value[name] for name in names}
    return Manifest(layout, blocks, notes=tuple(value["notes"]), **rest)
