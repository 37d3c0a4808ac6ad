"""Stochastic, mini-batch and batch gradient descent on the same rows, with the same budget, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batches import check_batch_size, kind_of
from descend.comparing.claims import answer_claims, verdict
from descend.comparing.compared import AnyRun, Compared, find_compared
from descend.comparing.gradient_noise import gradient_noise
from descend.comparing.kinds import Kind
from descend.comparing.summary import KindRuns, summarise
from descend.errors import InputError
from descend.machine import Scales, describe_machine, give_back_memory
from descend.settings import Settings, finite_number
from descend.watching import Callback, Observation

if TYPE_CHECKING:
    from descend.features import Prepared

FORMAT = "descend.comparison"
VERSION = 1
TARGET_SHARE = 0.01

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
                if not isinstance(value, list) and name not in ("excursions", "rows_per_second_range")
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
    target_loss = finite_number("target_loss", target_loss)
    num_rows = prepared.train.num_rows
    sizes = check_batch_sizes(batch_sizes, num_rows)
    settings = replace(
        settings,
        optimizer="sgd" if settings.optimizer == "auto" else settings.optimizer,
        dense=True,
        thrifty=False,
    ).checked()
    budget = settings.seconds
    if budget is None and settings.epochs is None:
        budget = compared.budget(prepared, settings)
        settings = replace(settings, seconds=budget)
    kinds = [
        KindRuns(kind_of(size, num_rows), size, has_chance=compared.seeds_move_the_start) for size in sizes
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
    give_back_memory()
    return _measure(compared, prepared, settings, kinds, seeds, budget, target_loss, data_name, command)


def _one_run(
    compared: Compared,
    prepared: Prepared,
    settings: Settings,
    kind: KindRuns,
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
    kinds: list[KindRuns],
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
        summarise(kind, prepared, target, first_loss) | measured.by_size.get(kind.batch_size, {})
        for kind in kinds
    ]
    engine, start = compared.start(prepared, settings)
    noise = [
        gradient_noise(engine, start, prepared.train.num_rows, kind.batch_size, settings.seed)
        for kind in kinds
    ]
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
        "verdict": verdict(facts, target),
    }
    if measured.valleys is not None:
        record["valleys"] = measured.valleys
    return Comparison(record)
