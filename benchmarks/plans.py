"""Whether plans hold: ``python -m benchmarks.plans --data FOLDER``.

On each table a plan is made five times over, and the first one's size and rate are then run by ``compare`` with five
seeds, each in a process of its own. Printed are the sizes that were answered, whether they agree (within a factor of
2, or each among the sizes that every other plan calls as good), and what the runs took over what was predicted: time
to the target, a step on the way there, a step later (over the curve of steps timed alone), the peak.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import descend
from descend.batch_size.plan import Plan
from descend.machine import describe_machine

TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("sklearn:digits", {}),
    "breast_cancer": ("sklearn:breast_cancer", {}),
    "adult": ("adult.parquet", {"target": "income"}),
    "california_housing": ("california_housing.parquet", {"target": "median_house_value"}),
    "electricity": ("electricity.parquet", {"target": "target"}),
    "letter": ("letter.parquet", {"target": "lettr"}),
    "diamonds": ("diamonds.parquet", {"target": "price"}),
    "digits, network": ("sklearn:digits", {"model": "mlp", "hidden_layer_sizes": 32}),
    "letter, network": ("letter.parquet", {"target": "lettr", "model": "mlp", "hidden_layer_sizes": 64}),
}
REPEATS, SEEDS, SECONDS = 5, 5, 20.0
APART = 2
"""Answers that differ by so much still agree."""


def check(source: str, options: dict[str, Any], processor_time: bool) -> dict[str, Any]:
    """Five plans of one table, and runs by the first of them; each in a process that has done nothing else."""
    plans = _elsewhere(planned, source, options, processor_time)
    plan = plans[0]
    asked = options | {
        "optimizer": plan.optimizer,
        "batch_sizes": (plan.batch_size,),
        "learning_rate": plan.learning_rate,
        "target_loss": plan.record["target_loss"],
    }
    run = _elsewhere(compared, source, asked, processor_time)
    later = _later_step_seconds(run["histories"][0]["columns"], plan.record["target_loss"])
    taken, predicted = run["seconds_to_target"], plan.predicted
    return {
        "sizes": [p.batch_size for p in plans],
        "equivalent": [p.equivalent for p in plans],
        "agree": agreement([p.batch_size for p in plans], [p.equivalent for p in plans]),
        "tuning_seconds": [p.tuning_seconds for p in plans],
        "target_share": plan.record["target_share"],
        "reached": run["target_reached"],
        "seconds": predicted["seconds_to_target"],
        "seconds_ratio": taken and taken["median"] / (predicted["seconds_to_target"] or float("nan")),
        "step_ratio": _step_seconds(run) / (predicted["step_seconds"] or float("nan")),
        "later_ratio": later / plan.evidence["step_seconds"][str(plan.batch_size)],
        "peak_ratio": run["peak_bytes"] / (predicted["peak_bytes"] or float("nan")),
    }


def agreement(sizes: Sequence[int], equivalent: Sequence[tuple[int, int]]) -> str:
    """How answers agree: ``within 2 ×``, ``equivalent`` (each lies in every other's set), or ``no``.

    >>> agreement([32, 64], [(32, 32), (64, 64)]), agreement([16, 64], [(8, 64), (16, 64)])
    ('within 2 ×', 'equivalent')
    >>> agreement([16, 64], [(8, 64), (32, 64)])
    'no'
    """
    if max(sizes) <= APART * min(sizes):
        return f"within {APART} ×"
    inside = all(low <= size <= high for size in sizes for low, high in equivalent)
    return "equivalent" if inside else "no"


def _elsewhere(work: Callable[..., Any], *given: Any) -> Any:
    """What ``work`` returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def planned(source: str, options: dict[str, Any], processor_time: bool) -> list[Plan]:
    """Plans, one after the other."""
    if processor_time:
        time.perf_counter = time.process_time
    return [descend.configure_batch_size(source, **options, seconds=SECONDS) for _ in range(REPEATS)]


def compared(source: str, options: dict[str, Any], processor_time: bool) -> dict[str, Any]:
    """The runs that plans are held against."""
    if processor_time:
        time.perf_counter = time.process_time
    comparison = descend.compare(source, **options, seeds=SEEDS, seconds=SECONDS, validation_fraction=0.0)
    return comparison.runs[0]


def _step_seconds(run: dict[str, Any]) -> float:
    """Seconds of a step on the way to the target."""
    if not run["seconds_to_target"]:
        return float("nan")
    return float(run["seconds_to_target"]["median"] / run["updates_to_target"]["median"])


def _later_step_seconds(columns: dict[str, list[Any]], target: float) -> float:
    """Seconds of a step behind the target, where looks are far apart and every order of an epoch is used up."""
    there = next((i for i, loss in enumerate(columns["loss"]) if loss is not None and loss <= target), 0)
    steps = columns["updates"][-1] - columns["updates"][there]
    return float(columns["seconds"][-1] - columns["seconds"][there]) / steps if steps else float("nan")


def line(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    sizes = " ".join(str(size) for size in found["sizes"])
    ratio = "–" if not found["seconds_ratio"] else f"{found['seconds_ratio']:.2f}"
    seconds = "–" if found["seconds"] is None else f"{1e3 * found['seconds']:.3g}"
    later = f"{found['step_ratio']:.2f} | {found['later_ratio']:.2f}"
    return (
        f"| {name} | {sizes} | {found['agree']} | {seconds} | {ratio} | {later} | {found['peak_ratio']:.2f} "
        f"| {found['reached']} of {SEEDS} | {max(found['tuning_seconds']):.2g} |"
    )


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a folder of open data; without it scikit-learn's sets alone")
    parser.add_argument("--only", nargs="+", default=[], help="tables whose name holds one of these words")
    parser.add_argument("--output", help="a JSON file for what was found")
    parser.add_argument("--processor-time", action="store_true", help="for a machine that others use, too")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        "| table | five answers | agree | predicted, ms | taken over it | a step | later | peak | reached "
        "| tuning, s |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---|---:|")
    found = {}
    for name, (source, options) in TABLES.items():
        if given.only and not any(word in name for word in given.only):
            continue
        if not source.startswith("sklearn:"):
            if given.data is None:
                continue
            source = str(Path(given.data) / source)
        found[name] = check(source, options, given.processor_time)
        print(line(name, found[name]), flush=True)
    machine = describe_machine()
    print(f"\n{machine['cpu']}, {machine['cores']} cores, load {machine['load']}")
    if given.output:
        Path(given.output).write_text(json.dumps({"machine": machine, "tables": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
