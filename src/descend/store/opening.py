"""A store that was written: what it holds, and its blocks, verified as they are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.coded_rows import SMALL, CodedRows
from descend.errors import shorten
from descend.features.features import Features
from descend.features.statistics import Statistics
from descend.features.statistics_json import load_statistics, load_target_statistics
from descend.features.target import Target
from descend.features.target_statistics import TargetStatistics
from descend.store.block_files import BlockRecord, read_block
from descend.store.layout import Layout
from descend.store.manifest import NAME, Manifest, read_manifest
from descend.types import Task


class Store:
    """A folder of encoded rows in random order: its manifest, and blocks read whole."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def layout(self) -> Layout:
        return self.manifest.layout

    @property
    def name(self) -> str:
        """The folder's: what a person types, and what models and pages are called after."""
        return self.folder.resolve().name

    @property
    def notes(self) -> tuple[str, ...]:
        return self.manifest.notes

    @property
    def num_rows(self) -> int:
        return self.layout.num_rows

    @property
    def task(self) -> Task:
        return self.manifest.task  # type: ignore[return-value]

    @property
    def is_coded(self) -> bool:
        """Whether rows are kept in small numbers."""
        return self.layout.dtype in SMALL

    @property
    def num_bytes(self) -> int:
        """Bytes of all blocks."""
        return sum(record.parts(self.layout).size for record in self.manifest.blocks)

    @cached_property
    def features(self) -> Features:
        """The encoding that the rows were written in."""
        return Features.from_json(self.manifest.features)

    @cached_property
    def statistics(self) -> Statistics:
        """What is known of the columns as they came."""
        return load_statistics(self.manifest.columns)

    @cached_property
    def target_statistics(self) -> TargetStatistics:
        return load_target_statistics(self.manifest.target)

    def target(self, standardize: bool = True, centre: bool = True) -> Target:
        """The target; blocks hold its class codes, or its numbers before they are scaled."""
        target = Target.from_statistics(self.target_statistics, self.task, standardize, centre=centre)
        if self.manifest.task_given is None:
            told = Target.from_statistics(self.target_statistics, None, standardize, centre=centre)
            target.reason = told.reason if told.task == target.task else target.reason
        return target

    def path(self, block: int) -> Path:
        """Where block ``block`` lies."""
        return self.folder / self.manifest.blocks[block].file

    def record(self, block: int) -> BlockRecord:
        """What the manifest says of block ``block``."""
        return self.manifest.blocks[block]

    def read(self, block: int) -> tuple[Any, NDArray[np.float64], NDArray[np.float64] | None]:
        """X, y and weights of a block, verified; read-only. X is float32, ``CodedRows`` or CSR."""
        X, y, weights = read_block(self.path(block), self.record(block), self.layout)
        return CodedRows(X, self.features.mean, self.features.scale) if self.is_coded else X, y, weights

    def blocks(self) -> Iterator[tuple[Any, NDArray[np.float64], NDArray[np.float64] | None]]:
        """All blocks in order, one at a time."""
        for block in range(self.layout.num_blocks):
            yield self.read(block)

    def __repr__(self) -> str:
        shape = f"{self.num_rows:,} × {self.layout.num_columns:,}"
        return f"Store({shorten(str(self.folder), 200)!r}, {shape} {self.layout.dtype.name})"


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a folder with a manifest."""
    try:
        return (Path(path).expanduser() / NAME).is_file()
    except (OSError, ValueError):
        return False


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open the store in the folder ``path``; its manifest is verified now, blocks when they are read."""
    folder = Path(path).expanduser()
    return Store(folder, read_manifest(folder))
