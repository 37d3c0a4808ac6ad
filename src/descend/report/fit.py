"""The page of one training: what the template is given."""

from __future__ import annotations

from typing import Any

from descend.report import facts, formatting
from descend.report.coefficient_figure import coefficient_figure, coefficient_name
from descend.report.curve_axes import AXES
from descend.report.curve_figures import fit_views, lines_recorded
from descend.report.left import left_figure, left_sentence
from descend.report.numbers_tables import fit_tables
from descend.report.schema import Run


def fit_context(run: Run) -> dict[str, Any]:
    """Words, tables and figures of one training, for ``fit.html.j2``."""
    views = fit_views(run)
    coefficients = list(run.get("coefficients") or ())[:30]
    charts: dict[str, Any] = {"curves": {"views": views}}
    if coefficients:
        charts["coefficients"] = {"figure": coefficient_figure(coefficients)}
    return {
        "charts": charts,
        "glance": fit_glance(run),
        "remarks": [t for t in (left_sentence(run), run.get("advice"), *(run.get("notes") or ())) if t],
        "axes": [(x.column, x.choice) for x in AXES if f"{x.column} loss" in views],
        "legend": [(label, colour, "●") for _, label, colour in lines_recorded(run)],
        "numbers": fit_tables(run),
        "metrics": metric_rows(run),
        "has_validation": bool(run.get("validation")),
        "coefficients": [(coefficient_name(one), formatting.number(one["value"])) for one in coefficients],
        "facts": [
            ("Data", facts.data_facts(run)),
            ("Settings", facts.settings_facts(run)),
            ("Machine", facts.machine_facts(run)),
        ],
    }


def fit_glance(run: Run) -> list[tuple[str, str]]:
    """The few figures that describe the training."""
    pairs = [
        ("Training time", formatting.duration(run.get("seconds"))),
        ("Epochs", formatting.count(run.get("epochs"))),
        ("Steps", formatting.count(run.get("steps"))),
        ("Batch size", formatting.batch_size(run["batch_size"]) if run.get("batch_size") is not None else ""),
        ("Learning rate", formatting.number(run.get("learning_rate"), 3)),
        ("Optimizer", formatting.prose(run.get("optimizer") or "", 20)),
        ("Ended", formatting.prose(run.get("rule") or run.get("stopped") or "", 30).replace("_", " ")),
        ("Left to gain", left_figure(run)),
    ]
    return [(name, text) for name, text in pairs if text not in ("", formatting.NOTHING)]


def metric_rows(run: Run) -> list[tuple[str, str, str]]:
    """Each metric on the training and on the validation rows; none that is null on both."""
    train, validation = run.get("train") or {}, run.get("validation") or {}
    names = dict.fromkeys([*train, *validation])
    return [
        (
            formatting.prose(name, 40).replace("_", " "),
            _metric(train.get(name)),
            _metric(validation.get(name)),
        )
        for name in names
        if not (train.get(name) is None and validation.get(name) is None)
    ]


def _metric(value: Any) -> str:
    return (
        formatting.number(value)
        if value is None or isinstance(value, int | float)
        else formatting.prose(value, 40)
    )
