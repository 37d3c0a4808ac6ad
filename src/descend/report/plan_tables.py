"""The numbers of a plan's figures, for reading without a chart or without JavaScript."""

from __future__ import annotations

from dataclasses import dataclass

from descend.report import formatting, plan_evidence
from descend.report.plan_evidence import OUTCOMES
from descend.report.schema import Run


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, and rows of as many texts; ``best`` is the row of the answer."""

    headings: list[str]
    rows: list[list[str]]
    best: int | None = None


def plan_tables(run: Run) -> dict[str, Table]:
    """Tables with rows, by the name of the section they stand in."""
    tables = {
        "seconds-to-target": _sizes(run),
        "step-seconds": _steps(run),
        "learning-rates": _rates(run),
        "memory": _memory(run),
    }
    return {name: table for name, table in tables.items() if table.rows}


def _sizes(run: Run) -> Table:
    """Each size with its step, its steps and their product."""
    seconds = plan_evidence.by_size(run, "seconds_to_target")
    steps = plan_evidence.by_size(run, "steps_to_target")
    step_seconds = plan_evidence.by_size(run, "step_seconds")
    rates = plan_evidence.best_rates(plan_evidence.tried(run))
    rows = [
        [
            f"{size:,}",
            formatting.duration(value),
            "measured" if size in steps else "predicted",
            formatting.count(steps.get(size)),
            formatting.duration(step_seconds.get(size)),
            formatting.number(rates.get(size), 3),
        ]
        for size, value in seconds.items()
    ]
    best = list(seconds).index(run["batch_size"]) if run["batch_size"] in seconds else None
    return Table(["Batch size", "Time to the target", "How", "Steps", "A step", "Best rate"], rows, best)


def _steps(run: Run) -> Table:
    seconds, ranges = plan_evidence.by_size(run, "step_seconds"), plan_evidence.ranges(run)
    rows = []
    for size, value in seconds.items():
        low, high = ranges.get(size, (value, value))
        rows.append(
            [
                f"{size:,}",
                formatting.duration(value),
                formatting.duration(low),
                formatting.duration(high),
                formatting.duration(value / size),
            ]
        )
    return Table(["Batch size", "A step", "lowest", "highest", "A row"], rows)


def _rates(run: Run) -> Table:
    rows = [
        [
            f"{one.batch_size:,}",
            formatting.number(one.rate, 3),
            OUTCOMES.get(one.outcome, formatting.prose(one.outcome, 30)),
            formatting.duration(one.seconds),
            formatting.count(one.updates),
            formatting.loss(one.loss),
            str(one.num_seeds),
        ]
        for one in plan_evidence.tried(run)
    ]
    headings = ["Batch size", "Rate", "Outcome", "Time to the target", "Steps", "Last loss", "Seeds"]
    return Table(headings, rows)


def _memory(run: Run) -> Table:
    if not plan_evidence.memory_is_told(run):
        return Table([], [])
    memory = plan_evidence.by_size(run, "memory_bytes")
    return Table(
        ["Batch size", "Peak memory"],
        [[f"{size:,}", formatting.size(value)] for size, value in memory.items()],
    )
