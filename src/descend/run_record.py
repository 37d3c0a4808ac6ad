"""What is kept of one training: its figures inside the model file, and the record that a page is drawn from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.history import History
from descend.machine import describe_machine, num_threads
from descend.metrics import ClassificationMetrics, Metrics, RegressionMetrics
from descend.models.linear import LinearModel
from descend.models.model import Model
from descend.types import Dataset

if TYPE_CHECKING:
    from descend.features import Prepared
    from descend.settings import Settings

FORMAT = "descend.model"
VERSION = 1
MOST_COEFFICIENTS = 30
BLOCK_VALUES = 2**20
FAR_OUT = 1e4
"""An R² this far from 0 is told by its magnitude."""
METRICS = ("accuracy", "balanced_accuracy", "log_loss", "roc_auc", "f1", "r2", "rmse", "mae")
"""In the order in which they are shown; a model file keeps its keys sorted."""
STATIC = ("cpu", "cores", "memory_bytes", "system", "versions")
"""What of a machine does not change from run to run: a model file holds no more of it."""


def dataset_metrics(model: Model, data: Dataset) -> Metrics:
    """Figures of ``model`` on rows that are encoded already, weights taken into account; a block at a time."""
    classes = len(model.target.classes)
    outputs = model.target.num_outputs
    sums = ClassificationMetrics(classes, model.loss == "log_loss") if classes else RegressionMetrics(outputs)
    step = max(1, BLOCK_VALUES // max(outputs, 8))
    if data.is_stored and data.is_sparse:
        step = min(step, data.X.window_rows(outputs))  # type: ignore[attr-defined]
    elif data.comes_in_parts:  # rows are decoded, not looked at where they lie
        step = min(step, max(1, BLOCK_VALUES // data.num_columns))
    whole: Any = data.X
    for some in whole.pieces(num_threads("auto")) if data.is_in_source else (data,):
        for start in range(0, some.num_rows, step):
            _add(sums, model, some, slice(start, start + step))
    return sums.result()


def _add(sums: ClassificationMetrics | RegressionMetrics, model: Model, data: Dataset, rows: slice) -> None:
    scores = model.encoded_scores(data.X[rows])
    weights = None if data.weights is None else data.weights[rows]
    if isinstance(sums, ClassificationMetrics):
        sums.add(scores, data.y[rows, 0], weights)
    else:
        sums.add(model.expected(model.target.decode(scores)), model.target.decode(data.y[rows]), weights)


def complete_summary(
    model: Model,
    prepared: Prepared,
    settings: Settings,
    data_name: str,
    selection: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Adds to the model's summary what its page needs, and which columns were left out; returns the summary."""
    from descend.comparing.compared import describe_data

    machine = describe_machine()
    model.summary |= {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": describe_data(prepared, data_name),
        "selection": selection,
        "standardize": settings.standardize,
        "budget_seconds": settings.seconds,
        "most_epochs": settings.epochs,
        "machine": {name: machine[name] for name in STATIC},
        "train": dataset_metrics(model, prepared.train),
        "validation": None if prepared.validation is None else dataset_metrics(model, prepared.validation),
    }
    return model.summary


def model_record(model: Model, command: str | None = None, load: float | None = None) -> dict[str, Any]:
    """A ``descend.model`` record for ``descend.report``, from a model alone: fresh, or loaded from its file."""
    summary = model.summary
    data = summary.get("data") or {"name": model.target.name, "target": model.target.name}
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": summary.get("created"),
        "data": data,
        "settings": {
            "loss": model.loss,
            "penalty": summary.get("penalty"),
            "alpha": summary.get("alpha"),
            "hidden": summary.get("hidden"),
            "activation": summary.get("activation"),
            "optimizer": summary.get("optimizer"),
            "learning_rate": summary.get("learning_rate"),
            "standardize": summary.get("standardize"),
            "budget_seconds": summary.get("budget_seconds"),
            "epochs": summary.get("most_epochs"),
            "seeds": [summary["seed"]] if "seed" in summary else None,
            "reduction": summary.get("reduction"),
            "command": command,
        },
        "machine": (summary.get("machine") or {}) | ({} if load is None else {"load": load}),
        "history": {"columns": model.history.columns},
        "stopped": model.history.stopped,
        **what_ended(model.history),
        **{
            name: summary.get(name)
            for name in ("batch_size", "learning_rate", "optimizer", "epochs", "steps", "seconds")
        },
        "train": _ordered(summary.get("train")),
        "validation": _ordered(summary.get("validation")),
        "coefficients": largest_coefficients(model),
        "verdict": fit_verdict(model),
    }  # fmt: skip


def history_record(history: History, name: str) -> dict[str, Any]:
    """A ``descend.model`` record for a history that was saved without its model: the curve, and its end."""
    last = history.last if len(history) else {}
    ended = f"{last['loss']:.4g}" if last.get("loss") is not None else "unknown"
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": None,
        "data": {"name": name},
        "settings": {},
        "machine": {},
        "history": {"columns": history.columns},
        "stopped": history.stopped,
        **what_ended(history),
        "batch_size": last.get("batch_size"),
        "learning_rate": last.get("learning_rate"),
        "epochs": last.get("epoch"),
        "steps": last.get("updates"),
        "seconds": last.get("seconds"),
        "verdict": f"The run ended at a loss of {ended}: {history.stopped or 'unfinished'}.",
    }


def what_ended(history: History) -> dict[str, Any]:
    """The rule that ended a run, what is left to gain as estimated and at the most, and the notes."""
    return {
        "rule": history.rule,
        "gap_estimate": history.gap_estimate,
        "gap_bound": history.gap_bound,
        "advice": history.advice,
        "notes": list(history.notes),
    }


def _ordered(metrics: Metrics | None) -> Metrics | None:
    return metrics and {name: metrics[name] for name in METRICS if name in metrics}


def largest_coefficients(model: Model) -> list[dict[str, Any]]:
    """The coefficients of the encoded columns with the largest magnitude, largest first; a network has none."""
    if not isinstance(model, LinearModel):
        return []
    weights = model.parameters[:, :-1].astype(np.float64)
    order = np.argsort(-np.abs(weights), axis=None, kind="stable")[:MOST_COEFFICIENTS]
    several = len(weights) > 1
    classes = [str(label) for label in model.target.classes]
    found = []
    for output, column in zip(*np.unravel_index(order, weights.shape), strict=True):
        value = float(weights[output, column])
        label = (classes[output] if classes else int(output)) if several else None
        found.append(
            {
                "name": model.features.names[column],
                "output": label,
                "value": value if np.isfinite(value) else None,
            }
        )
    return found


def fit_verdict(model: Model) -> str:
    """The result in one sentence."""
    from descend.report import formatting

    summary = model.summary
    sentence = f"Trained in {formatting.duration(summary.get('seconds'))}"
    where, metrics = "validation", summary.get("validation")
    if not metrics:
        where, metrics = "training", summary.get("train")
    metrics = metrics or {}
    if metrics.get("accuracy") is not None:
        return f"{sentence}: {100 * metrics['accuracy']:.1f} % of the {where} rows are told right."
    if metrics.get("r2") is not None:
        return f"{sentence}: R² is {_share(metrics['r2'])} on the {where} rows, {_typical(metrics)}."
    return f"{sentence}."


def _share(r2: float) -> str:
    """Three decimals, or two digits where they would say nothing.

    >>> _share(0.51249), _share(-12.5), _share(-756770437256913038820245504.0)
    ('0.512', '-12.500', '-7.6e+26')
    """
    return f"{r2:.3f}" if abs(r2) < FAR_OUT else f"{r2:.2g}"


def _typical(metrics: dict[str, Any]) -> str:
    from descend.report import formatting

    return f"with a typical error of {formatting.number(metrics['rmse'])}"
