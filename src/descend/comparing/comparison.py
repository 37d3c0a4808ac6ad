"""Stochastic, mini-batch and batch gradient descent on the same rows, with the same budget, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batches import check_batch_size, kind_of
from descend.comparing.claims import answer_claims, verdict
from descend.comparing.compared import AnyRun, Compared, find_compared
from descend.comparing.kinds import GradientNoise, Kind
from descend.errors import InputError
from descend.machine import Scales, describe_machine
from descend.settings import Settings
from descend.watching import Callback, Observation

if TYPE_CHECKING:
    from descend.features import Prepared

FORMAT = "descend.comparison"
VERSION = 1
TARGET_SHARE = 0.01
REPEAT_SECONDS = 2.0
NOISE_BATCHES = 64

Progress = Callable[[str, int | str, int, Observation], object]
"""Called with kind, batch size, seed and observation while a run goes on."""


@dataclass(slots=True)
class Comparison:
    """What ``compare`` found, as plain data: saved, reloaded, rendered without an engine."""

    record: dict[str, Any]

    @property
    def runs(self) -> list[dict[str, Any]]:
        """One object for each batch size: kind, rates, times to the target, figures, histories."""
        return list(self.record["runs"])

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The textbook's claims, each with ``holds`` (True, False, None: cannot be told here) and evidence."""
        return list(self.record["claims"])

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        return str(self.record["verdict"])

    def to_json(self) -> dict[str, Any]:
        return self.record

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row for each batch size; medians over the seeds."""
        try:
            import pandas as pd  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise InputError("to_frame() needs pandas, which is not installed; read .runs instead") from None
        rows = [
            {
                name: value["median"] if isinstance(value, dict) else value
                for name, value in run.items()
                if not isinstance(value, list) and name != "excursions"
            }
            for run in self.runs
        ]
        return pd.DataFrame(rows)

    def plot(self) -> Any:
        """The learning curves as a plotly figure."""
        import plotly.graph_objects as go

        from descend.report.figures import figures

        return go.Figure(next(iter(figures(self.record).values())))

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Writes the comparison as one JSON file; ``descend report`` renders it again."""
        from descend.files import write_atomically

        return write_atomically(Path(path), json.dumps(self.record, allow_nan=False), force=force)

    def save_html(self, path: str | Path, force: bool = False) -> Path:
        """Writes the page: one file that needs no network."""
        from descend.report import write_page

        return write_page(self.record, Path(path), force=force)

    def _repr_html_(self) -> str:
        from html import escape

        from descend.report import render_page

        return f'<iframe srcdoc="{escape(render_page(self.record))}" width="100%" height="900"></iframe>'


@dataclass(slots=True)
class _KindRuns:
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


def check_batch_sizes(batch_sizes: Sequence[int | str], num_rows: int) -> list[int]:
    """The batch sizes as rows, checked; each once; raises ``InputError`` for none or impossible ones."""
    sizes = []
    for wanted in batch_sizes:
        size = check_batch_size(wanted, num_rows)
        if size == "auto":
            raise InputError('batch size "auto" cannot be compared; name sizes such as 1,32,full')
        sizes.append(num_rows if size == "full" else int(size))
    if not sizes:
        raise InputError("batch sizes are empty; name some, such as 1,32,full")
    return list(dict.fromkeys(sizes))


def compare_prepared(
    prepared: Prepared,
    settings: Settings,
    batch_sizes: Sequence[int | str] = (1, 32, "full"),
    seeds: int = 3,
    target_loss: float | None = None,
    data_name: str = "X",
    command: str | None = None,
    progress: Progress | None = None,
    model: str | Compared = "linear",
    on_measuring: Callable[[], object] | None = None,
) -> Comparison:
    """Runs every batch size with every seed and measures; see ``descend.compare`` for arrays and tables.

    ``on_measuring`` is called when the runs are over and what takes long after them begins.
    """
    compared = find_compared(model) if isinstance(model, str) else model
    num_rows = prepared.train.num_rows
    sizes = check_batch_sizes(batch_sizes, num_rows)
    settings = replace(
        settings,
        optimizer="sgd" if settings.optimizer == "auto" else settings.optimizer,
        epochs=settings.epochs,
        dense=True,
    ).checked()
    budget = settings.seconds
    if budget is None and settings.epochs is None:
        budget = compared.budget(prepared, settings)
        settings = replace(settings, seconds=budget)
    kinds = [
        _KindRuns(kind_of(size, num_rows), size, has_chance=compared.seeds_move_the_start) for size in sizes
    ]
    for seed in range(seeds):
        for kind in kinds:  # interleaved: a busy minute of the machine hits all kinds
            kind.runs.append(
                kind.runs[0]
                if kind.stands_for_all_seeds
                else _one_run(compared, prepared, settings, kind, settings.seed + seed, progress)
            )
    if on_measuring is not None:
        on_measuring()
    return _measure(compared, prepared, settings, kinds, seeds, budget, target_loss, data_name, command)


def _one_run(
    compared: Compared,
    prepared: Prepared,
    settings: Settings,
    kind: _KindRuns,
    seed: int,
    progress: Progress | None,
) -> AnyRun:
    callbacks: list[Callback] = []
    if progress is not None:

        def tell(observation: Observation) -> None:
            progress(kind.kind, kind.batch_size, seed, observation)

        callbacks.append(tell)

    scales = Scales()
    callbacks.append(scales.weigh)
    own = replace(settings, batch_size=kind.batch_size, seed=seed)
    run = compared.run(prepared, own, callbacks, keep_path=not kind.runs)
    kind.peak_bytes = max(kind.peak_bytes, scales.most_bytes)
    return run


def _measure(
    compared: Compared,
    prepared: Prepared,
    settings: Settings,
    kinds: list[_KindRuns],
    seeds: int,
    budget: float | None,
    target_loss: float | None,
    data_name: str,
    command: str | None,
) -> Comparison:
    first_loss = float(np.median([run.history["loss"][0] for run in kinds[0].runs]))
    # The last row of a history is evaluated on all rows; looks inside an epoch may be on a sample.
    best_loss = min(run.history.last["loss"] for kind in kinds for run in kind.runs)
    target = best_loss + TARGET_SHARE * (first_loss - best_loss) if target_loss is None else target_loss
    runs = {kind.batch_size: kind.runs for kind in kinds}
    measured = compared.measure(prepared, settings, runs, first_loss - best_loss)
    summaries = [
        _summarise(kind, prepared, target, first_loss) | measured.by_size.get(kind.batch_size, {})
        for kind in kinds
    ]
    noise = [gradient_noise(compared, prepared, settings, kind.batch_size) for kind in kinds]
    facts = [
        Kind(
            summary,
            first_loss,
            best_loss,
            spread,
            prepared.train.num_rows,
            getattr(prepared.train, "is_stored", False),
        )
        for summary, spread in zip(summaries, noise, strict=True)
    ]
    record = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": compared.describe(prepared, data_name),
        "settings": {
            "loss": kinds[0].runs[0].model.loss,
            "budget_seconds": budget,
            "epochs": settings.epochs,
            "seeds": [settings.seed + seed for seed in range(seeds)],
            "command": command,
        }
        | compared.settings(settings),
        "machine": describe_machine(),
        "first_loss": first_loss,
        "best_loss": best_loss,
        "target_loss": target,
        "runs": summaries,
        "surface": measured.surface,
        "claims": answer_claims(facts, compared.claims),
        "verdict": verdict(facts),
    }
    if measured.valleys is not None:
        record["valleys"] = measured.valleys
    return Comparison(record)


def _summarise(kind: _KindRuns, prepared: Prepared, target: float, first_loss: float) -> dict[str, Any]:
    histories = [run.history for run in kind.runs]
    hits = [
        None if history.stopped == "diverged" else _first_at_or_below(history["loss"], target)
        for history in histories
    ]
    row_bytes = prepared.train.bytes_of_row

    def to_target(name: str) -> dict[str, float] | None:
        values = [history[name][hit] for history, hit in zip(histories, hits, strict=True) if hit is not None]
        return spread_of([value for value in values if value is not None])

    finals = [history.last["loss"] for history in histories if history.last["loss"] is not None]
    speeds = [
        history.last["rows"] / history.last["seconds"] for history in histories if history.last["seconds"]
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
        "peak_bytes": kind.peak_bytes,
        "working_bytes": round(kind.batch_size * row_bytes),
        "stopped": [history.stopped for history in histories],
        "note": note_on(kind, hits, target, first_loss),
        "histories": [{"columns": history.columns} for history in histories],
    }


def note_on(kind: _KindRuns, hits: list[int | None], target: float, first_loss: float) -> str | None:
    """One sentence on a kind that did not reach the target with every seed, or that ran once for all of them."""
    if all(hit is not None for hit in hits):
        return "run once, counted for every seed: it has no randomness" if kind.stands_for_all_seeds else None
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
    return f"{reason} after {updates:,} updates, {100 * share:.2g} % of the way short of the target"


def _first_at_or_below(losses: list[float | None], target: float) -> int | None:
    return next((i for i, loss in enumerate(losses) if loss is not None and loss <= target), None)


def spread_of(values: Sequence[float]) -> dict[str, float] | None:
    """Median and range; None of nothing.

    >>> spread_of([3.0, 1.0, 2.0])
    {'median': 2.0, 'low': 1.0, 'high': 3.0}
    """
    if not values:
        return None
    return {"median": float(np.median(values)), "low": float(min(values)), "high": float(max(values))}


def gradient_noise(
    compared: Compared, prepared: Prepared, settings: Settings, batch_size: int
) -> GradientNoise:
    """How far the gradient of a batch strays from that of all rows, at the start: measured on random batches."""
    data = prepared.train
    engine, parameters = compared.start(prepared, settings)
    few = min(data.num_rows, 20_000)  # rows lie in random order: the first ones stand for all
    whole = engine.loss_and_gradient(parameters, slice(few)).gradient / few
    length = float(np.linalg.norm(whole))
    if batch_size >= data.num_rows or length == 0.0:
        return GradientNoise(batch_size, 0.0)
    generator = np.random.default_rng(settings.seed)
    strays = []
    for _ in range(NOISE_BATCHES):
        rows = generator.integers(data.num_rows, size=min(batch_size, few))
        gradient = engine.loss_and_gradient(parameters, rows).gradient / len(rows)
        strays.append(float(np.sum((gradient - whole) ** 2)))
    return GradientNoise(batch_size, float(np.sqrt(np.mean(strays))) / length)
