"""The runs of one batch size as a row of the table: what they took to the target, and why some did not get there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.comparing.compared import AnyRun
from descend.report import formatting

if TYPE_CHECKING:
    from descend.features import Prepared

REPEAT_SECONDS = 2.0


@dataclass(slots=True)
class KindRuns:
    """The runs of one batch size, one for each seed."""

    kind: str
    batch_size: int
    runs: list[AnyRun] = field(default_factory=list)
    peak_bytes: int = 0
    has_chance: bool = False
    """Whether a seed changes something of the full batch too: where it starts."""

    @property
    def stands_for_all_seeds(self) -> bool:
        """The full batch has no order, so no randomness: a long run is not repeated only to be timed again."""
        if self.has_chance or self.kind != "batch" or not self.runs:
            return False
        return bool(self.runs[0].history.last["seconds"] > REPEAT_SECONDS)


def summarise(kind: KindRuns, prepared: Prepared, target: float, first_loss: float) -> dict[str, Any]:
    """One entry of the record's ``runs``: medians over the seeds, and the histories themselves."""
    histories = [run.history for run in kind.runs]
    hits = [
        None if history.stopped == "diverged" else first_at_or_below(history["loss"], target)
        for history in histories
    ]
    row_bytes = prepared.train.bytes_of_row

    def to_target(name: str) -> dict[str, float] | None:
        values = [history[name][hit] for history, hit in zip(histories, hits, strict=True) if hit is not None]
        return spread_of([value for value in values if value is not None])

    finals = [history.last["loss"] for history in histories if history.last["loss"] is not None]
    speeds = [
        history.last["rows"] / history.last["seconds"]
        for history in histories
        if history.last["rows"] and history.last["seconds"]
    ]
    return {
        "kind": kind.kind,
        "batch_size": kind.batch_size,
        "learning_rate": kind.runs[0].rate.value,
        "target_reached": sum(hit is not None for hit in hits),
        "num_seeds": len(histories),
        "seconds_to_target": to_target("seconds"),
        "epochs_to_target": to_target("epoch"),
        "rows_to_target": to_target("rows"),
        "updates_to_target": to_target("updates"),
        "final_loss": float(np.median(finals)) if finals else None,
        "rows_per_second": float(np.median(speeds)) if speeds else None,
        "rows_per_second_range": [min(speeds), max(speeds)] if speeds else None,
        "peak_bytes": kind.peak_bytes,
        "working_bytes": round(kind.batch_size * row_bytes),
        "stopped": [history.stopped for history in histories],
        "note": note_on(kind, hits, target, first_loss),
        "histories": [{"columns": history.columns} for history in histories],
    }


def note_on(kind: KindRuns, hits: list[int | None], target: float, first_loss: float) -> str | None:
    """One sentence on a kind that did not reach the target with every seed, or that ran once for all of them."""
    if all(hit is not None for hit in hits):
        once = kind.stands_for_all_seeds and len(kind.runs) > 1
        return "run once, counted for every seed: it has no randomness" if once else None
    missed = [run for run, hit in zip(kind.runs, hits, strict=True) if hit is None]
    run = missed[0]
    if run.history.notes:
        return run.history.notes[0]
    lowest = min(loss for loss in run.history["loss"] if loss is not None)
    share = (lowest - target) / max(first_loss - target, 1e-300)
    reason = {
        "time": "the time budget ended",
        "epochs": "the epochs ended",
        "converged": "it had stopped gaining",
    }.get(run.stopped, run.stopped)
    updates = run.history.last["updates"]
    after = formatting.counted(updates, "update")
    return f"{reason} after {after}, {formatting.share(share)} of the way short of the target"


def first_at_or_below(losses: list[float | None], target: float) -> int | None:
    """The place of the first loss that the target is reached with; a loss that is missing reaches none."""
    return next((i for i, loss in enumerate(losses) if loss is not None and loss <= target), None)


def spread_of(values: Sequence[float]) -> dict[str, float] | None:
    """Median and range; None of nothing.

    >>> spread_of([3.0, 1.0, 2.0])
    {'median': 2.0, 'low': 1.0, 'high': 3.0}
    """
    if not values:
        return None
    return {"median": float(np.median(values)), "low": float(min(values)), "high": float(max(values))}
