"""How it was run: data, settings, machine and versions as pairs of words."""

from __future__ import annotations

from typing import Any

from descend.report import formatting
from descend.report.schema import Run

Fact = tuple[str, str]


def data_facts(run: Run) -> list[Fact]:
    """The table that was trained on."""
    data = run["data"]
    rows = formatting.count(data.get("rows"))
    if data.get("validation_rows"):
        rows += f" for training, {formatting.count(data['validation_rows'])} for validation"
    columns = formatting.count(data.get("columns"))
    if data.get("encoded_columns") is not None:
        columns += f", encoded as {formatting.count(data['encoded_columns'])}"
    outputs = data.get("outputs")
    return _given(
        ("Name", data.get("name")),
        ("Rows", rows),
        ("Columns", columns),
        ("Target", data.get("target")),
        ("Task", data.get("task")),
        ("Told from", data.get("task_reason")),
        ("Outputs", outputs if outputs is not None and outputs != 1 else None),
    )


def settings_facts(run: Run) -> list[Fact]:
    """What was asked for."""
    settings = run["settings"]
    penalty, alpha = settings.get("penalty"), settings.get("alpha")
    if penalty not in (None, "none") and alpha is not None:
        penalty = f"{penalty}, alpha {alpha}"
    budget = settings.get("budget_seconds")
    seeds = settings.get("seeds")
    standardize = settings.get("standardize")
    hidden = settings.get("hidden")
    return _given(
        ("Hidden layers", ", ".join(str(units) for units in hidden[:50]) if hidden else None),
        ("Activation", settings.get("activation")),
        ("Loss", settings.get("loss")),
        ("Penalty", penalty),
        ("Optimizer", settings.get("optimizer") or run.get("optimizer")),
        ("Learning rate", _number_or_word(settings.get("learning_rate"))),
        ("Columns standardised", None if standardize is None else ("yes" if standardize else "no")),
        ("Reduction over a batch", settings.get("reduction")),
        (_budget_words(run), None if budget is None else formatting.duration(budget)),
        ("Found in", _found_in(run)),
        ("Epochs at most", settings.get("epochs")),
        ("Seeds", ", ".join(str(seed) for seed in seeds[:20]) if seeds else None),
    )


def _budget_words(run: Run) -> str:
    return "Time to find out" if run["format"] == "descend.plan" else "Time budget for each run"


def _found_in(run: Run) -> str | None:
    """Seconds that a plan took, all of it."""
    seconds = run.get("tuning_seconds")
    return None if seconds is None else formatting.duration(seconds)


def machine_facts(run: Run) -> list[Fact]:
    """Where it ran, and with which versions."""
    machine = run["machine"]
    memory = machine.get("memory_bytes")
    load = machine.get("load")
    versions = machine.get("versions") or {}
    return _given(
        ("Processor", machine.get("cpu")),
        ("Cores", machine.get("cores")),
        ("Memory", None if memory is None else formatting.size(memory)),
        ("System", machine.get("system")),
        ("Load at the end", _load(load)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("Run at", _moment(run.get("created"))),
    )


def _load(load: Any) -> str | None:
    values = load if isinstance(load, list | tuple) else [load]
    numbers = [formatting.number(v, 3) for v in values if isinstance(v, int | float)]
    return ", ".join(numbers) or None


def _moment(created: str | None) -> str | None:
    """To the minute, without the letter in the middle: ``2026-11-24 08:31 UTC``."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(created or "")
    except ValueError:
        return created
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()


def _number_or_word(value: Any) -> Any:
    return formatting.number(value) if isinstance(value, int | float) else value


def _given(*facts: tuple[str, Any]) -> list[Fact]:
    return [
        (name, formatting.prose(value, 300))
        for name, value in facts
        if value not in (None, "", formatting.NOTHING)
    ]
