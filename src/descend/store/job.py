"""What is to be ingested, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from descend.errors import SourceError, shorten
from descend.store import plan as plans
from descend.store.manifest import Manifest
from descend.types import Source, Task


@dataclass(frozen=True)
class Progress:
    """How far an ingest is: ``stage`` is "reading" or "writing"; ``total`` rows are known from the second on."""

    stage: str
    rows: int
    total: int | None = None


@dataclass
class Job:
    """What is to be ingested, and how."""

    source: Source
    folder: Path
    task: Task | None = None
    seed: int = 0
    memory_limit: int | None = None
    threads: int | None = None
    force: bool = False
    append: bool = False
    files: tuple[Path, ...] = ()
    """Files of the source, to notice that they change."""
    expected_bytes: int | None = None
    """About how large the rows are in memory, where that is known."""
    selection: dict[str, Any] = field(default_factory=dict)
    on_progress: Callable[[Progress], None] = lambda _: None
    notes: list[str] = field(default_factory=list)
    """What a person should know of how it went."""
    is_published: bool = False
    """Whether the store is whole, as somebody who ends the ingest then should know."""

    @property
    def work(self) -> Path:
        return self.folder / plans.FOLDER

    def identity(self, before: Manifest | None) -> dict[str, Any]:
        """What decides the store: an ingest goes on only with what an equal one left."""
        return {
            "data": self.source.name,
            "files": [self._file(path) for path in self.files],
            "columns": list(self.source.column_names),
            "seed": self.seed,
            "task": self.task,
            "selection": self.selection,
            "after": [before.generation, before.layout.num_rows] if self.append and before else None,
        }

    def _file(self, path: Path) -> list[Any]:
        try:
            found = path.stat()
        except OSError as error:
            raise SourceError(
                f"{shorten(str(path), 200)!r} cannot be read any more: {error.strerror}"
            ) from None
        return [str(path), found.st_size, found.st_mtime_ns]
