"""What happened during a run, observation by observation: saved, reloaded, rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from descend.errors import InputError, ModelFileError

COLUMNS = (
    "seconds",
    "epoch",
    "rows",
    "updates",
    "loss",
    "last_loss",
    "validation_loss",
    "batch_size",
    "learning_rate",
)
FORMAT = "descend.history"
VERSION = 1


@dataclass(slots=True)
class History:
    """One row an observation, in columns.

    ``seconds`` of training alone (observing is off the clock), ``epoch`` (fractions allowed), ``rows`` visited,
    ``updates``, ``loss`` (the objective of what would be returned: the better of the last parameters and their
    average), ``last_loss`` (the objective of the last parameters), ``validation_loss``, ``batch_size``,
    ``learning_rate``. The last row is the model that is returned, told of every row; those before it may be told of a
    few that stand for them (``watching/sparing.py``).
    """

    columns: dict[str, list[float | None]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    stopped: str = ""
    """Why it ended: converged, early_stopping, epochs, time, diverged or interrupted."""
    rule: str = ""
    """Which rule ended it: ``certified``, ``nothing gained`` (both are ``converged``), or that of ``stopped``."""
    gap_estimate: float | None = None
    """How far the loss is estimated to be above the lowest there is; None where nothing estimates it."""
    gap_bound: float | None = None
    """How far it is at the most; None where nothing bounds it (alpha 0 and no L1, or a fixed number of epochs)."""
    advice: str = ""
    """Which other method would have been faster, and the estimate; empty where none is known."""
    notes: list[str] = field(default_factory=list)
    stopped_by_callback: bool = False

    def append(self, row: Mapping[str, float | None]) -> None:
        for name in COLUMNS:
            self.columns[name].append(row[name])

    def __len__(self) -> int:
        return len(self.columns["loss"])

    def __getitem__(self, name: str) -> list[float | None]:
        return self.columns[name]

    @property
    def last(self) -> dict[str, Any]:
        """The last row."""
        return {name: values[-1] for name, values in self.columns.items()}

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row an observation; raises ``InputError`` where pandas is missing."""
        try:
            import pandas as pd  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise InputError(
                "to_frame() needs pandas, which is not installed; install it, or read history.columns"
            ) from None
        return pd.DataFrame(self.columns)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "columns": self.columns,
            "stopped": self.stopped,
            "rule": self.rule,
            "gap_estimate": self.gap_estimate,
            "gap_bound": self.gap_bound,
            "advice": self.advice,
            "notes": self.notes,
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> History:
        """The history that ``to_json`` described; raises ``ModelFileError`` for anything else."""
        if saved.get("format") != FORMAT or saved.get("version", 0) > VERSION:
            raise ModelFileError(
                f"not a history of this version of descend: format {saved.get('format')!r}, "
                f"version {saved.get('version')!r}; {FORMAT!r} up to version {VERSION} is read"
            )
        kept = saved.get("columns")
        if not isinstance(kept, Mapping) or not all(isinstance(kept.get(name), list) for name in COLUMNS):
            raise ModelFileError("the history is damaged: its columns are not lists of numbers")
        columns = {name: list(kept[name]) for name in COLUMNS}
        return cls(
            columns,
            saved.get("stopped", ""),
            saved.get("rule", ""),
            saved.get("gap_estimate"),
            saved.get("gap_bound"),
            saved.get("advice", ""),
            list(saved.get("notes", [])),
        )

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Writes the history as one JSON file; an existing one is kept unless ``force``."""
        from descend.files import write_atomically

        return write_atomically(Path(path), json.dumps(self.to_json()), force=force)
