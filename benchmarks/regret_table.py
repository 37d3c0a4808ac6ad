"""The record of a run of the regret benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, inf, log
from statistics import median
from typing import Any

import numpy as np

from benchmarks.regret_grid import ORACLES
from benchmarks.regret_rivals import AS_IT_COMES, FIXED, RIVALS
from benchmarks.regret_scores import TARGETS

SHORT = 0.010
"""Jobs below so many seconds are told apart: nobody can feel them."""
JOBS = (("≥ 10 ms", SHORT, inf), ("shorter", 0.0, SHORT))
AUTO = "auto"
WORDS = {
    AUTO: "auto: nothing set",
    "fit": "auto, the grid's optimizer",
    "optimizer auto": "auto, linear models' own optimizer",
    "most rows a second": "most rows a second, rate by our finder",
    "gradient noise": "gradient noise at the start, rate by our finder",
    "as Lightning": "as Lightning: largest batch, rate by its finder",
    "no controller": "auto without a controller",
    **{f"B = {size}": f"B = {size}, rate by our finder" for size in FIXED},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One seed at one target, against one oracle; ``seconds`` None: missed. Parts as ``regret.py`` defines them."""

    workload: str
    rival: str
    seed: int
    oracle: str
    target: str
    needed: float
    seconds: float | None
    batch: float | None = None
    rate: float | None = None
    overhead: float | None = None

    @property
    def regret(self) -> float | None:
        return None if self.seconds is None else self.seconds / self.needed


def outcomes(workloads: Sequence[dict[str, Any]]) -> Iterator[Outcome]:
    """All by the simulated clock; what comes with nothing set stands under its own name, and as ``auto``."""
    for workload in workloads:
        for number, target in enumerate(workload["targets"]):
            for oracle in ORACLES:
                best = target[oracle]
                if best is None:
                    continue
                for run in workload["runs"]:
                    names = [run["rival"]]
                    names += [AUTO] if run["rival"] == AS_IT_COMES[workload["network"]] else []
                    for name in names:
                        where = workload["workload"], name, run["seed"], oracle, target["target"]
                        yield _outcome(where, best, run, number)


def _outcome(where: tuple[str, str, int, str, str], best: dict[str, Any], run: Any, number: int) -> Outcome:
    needed, seconds, tuning = best["seconds"], run["seconds"][number], run["tuning"][number]
    at_size = best["at_size"].get(str(run["batch_size"]))
    if seconds is None or at_size is None or run["rival"] == "optimizer auto":
        return Outcome(*where, needed, seconds)
    rate = (seconds - tuning) / at_size
    return Outcome(*where, needed, seconds, at_size / needed, rate, tuning / seconds)


def wall_outcomes(workloads: Sequence[dict[str, Any]]) -> Iterator[Outcome]:
    """All by the wall's clock; a job's length is the grid's by that clock, too."""
    for workload in workloads:
        for cell in workload["wall"]:
            for name, rows in cell["ours"].items():
                for number, seconds in enumerate(rows):
                    is_auto = name == AS_IT_COMES[workload["network"]]
                    for shown in (name, AUTO) if is_auto else (name,):
                        yield Outcome(
                            workload["workload"], shown, number, cell["oracle"], cell["target"],
                            cell["seconds"], seconds,
                        )  # fmt: skip


def summary(some: Sequence[Outcome]) -> str:
    """Geometric mean, 90th percentile and worst; of those that were missed how many, and they count as never."""
    regrets = [o.regret for o in some if o.regret is not None]
    missed = len(some) - len(regrets)
    if not some:
        return "–"
    if not regrets:
        return f"never ({missed} of {len(some)} missed)"
    tenth = float(np.quantile([*regrets, *[inf] * missed], 0.9, method="higher"))
    last = "∞" if missed else f"{max(regrets):.1f}"
    shown = f"{_geometric(regrets):.2f} / {'∞' if tenth == inf else f'{tenth:.1f}'} / {last}"
    return f"{shown} ({missed} of {len(some)} missed)" if missed else f"{shown} ({len(some)})"


def _geometric(numbers: Sequence[float]) -> float:
    return exp(sum(map(log, numbers)) / len(numbers))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * texts + "---:|" * (len(head) - texts)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def by_rival(found: Sequence[Outcome]) -> str:
    """A line for each rival; oracles and lengths of jobs beside one another."""
    columns = [(oracle, *job) for oracle in ORACLES for job in JOBS]
    rows = []
    for rival in (AUTO, *RIVALS):
        own = [o for o in found if o.rival == rival]
        if own:
            rows.append([WORDS[rival], *(summary(_some(own, *column)) for column in columns)])
    return _table(["", *(f"{oracle}, {words}" for oracle, words, *_ in columns)], rows)


def _some(found: Sequence[Outcome], oracle: str, _: str, low: float, high: float) -> list[Outcome]:
    return [o for o in found if o.oracle == oracle and low <= o.needed < high]


def by_part(found: Sequence[Outcome]) -> str:
    """Batch regret, rate regret and overhead of what ``fit`` finds with the grid's optimizer."""
    rows = []
    for oracle in ORACLES:
        for job in JOBS:
            told = [
                o for o in _some(found, oracle, *job) if o.rival == "fit" and o.batch is not None and o.rate
            ]
            if told:
                parts = [[getattr(o, name) for o in told] for name in ("batch", "rate")]
                overhead = [o.overhead for o in told if o.overhead is not None]
                shares = [f"{100 * share:.0f} %" for share in (median(overhead), max(overhead))]
                means = [f"{_geometric(part):.2f}" for part in parts]
                rows.append([oracle, job[0], str(len(told)), *means, *shares])
    head = ["oracle", "jobs", "outcomes", "batch regret", "rate regret", "overhead, median", "most"]
    return _table(head, rows, texts=2)


def by_workload(workloads: Sequence[dict[str, Any]], make: Callable[..., Iterator[Outcome]]) -> str:
    """The median regret of ``auto`` at each target, and the milliseconds that the grid's best run needs."""
    rows = []
    for workload in workloads:
        found = [o for o in make([workload]) if o.rival == AUTO]
        cells = [
            _cell([o for o in found if (o.oracle, o.target) == (oracle, target)])
            for oracle in ORACLES
            for target in TARGETS
        ]
        rows.append([workload["workload"], *cells])
    return _table(
        ["workload", *(f"{oracle}: {target[0].upper()}" for oracle in ORACLES for target in TARGETS)], rows
    )


def _cell(some: Sequence[Outcome]) -> str:
    if not some:
        return "–"
    regrets = [o.regret for o in some if o.regret is not None]
    missed = len(some) - len(regrets)
    text = f"{median(regrets):.2f}" if regrets else "never"
    needed = 1e3 * some[0].needed
    return f"{text}{f' ({missed} missed)' if missed else ''} of {needed:.{1 if needed < 10 else 0}f} ms"


def fixed_sizes(found: Sequence[Outcome]) -> str:
    """How the fixed sizes, with the same rate finder, compare with ``fit``'s own: what is true, in words."""
    own = {(o.workload, o.seed, o.target): o for o in found if o.rival == "fit" and o.oracle == "raw"}
    ratios = {}
    for size in FIXED:
        theirs = [o for o in found if o.rival == f"B = {size}" and o.oracle == "raw" and o.needed >= SHORT]
        pairs = [(o.seconds, own[o.workload, o.seed, o.target].seconds) for o in theirs]
        both = [a / b for a, b in pairs if a is not None and b is not None]
        missed = sum(a is None for a, _ in pairs)
        if both:
            ratios[size] = _geometric(both), missed, len(pairs)
    if not ratios:
        return ""
    best = min(ratios, key=lambda size: ratios[size][0])
    others = ", ".join(
        f"{size}: {ratio:.2f} ({missed} of {count} missed)" for size, (ratio, missed, count) in ratios.items()
    )
    ours = sum(o.seconds is None for o in own.values() if o.needed >= SHORT)
    ratio = ratios[best][0]
    verdict = "slower than" if ratio > 1.005 else "as fast as" if ratio > 0.995 else "faster than"
    return (
        f"The best fixed size, chosen with all of this known, is {best}: it is {verdict} the size that `auto` takes. "
        f"Times of jobs of 10 ms and more over those of `auto`, same optimizer and rate finder, geometric mean: "
        f"{others}; `auto` misses {ours}."
    )


def markdown(record: dict[str, Any]) -> str:
    """All tables, and how they came about."""
    workloads = record["workloads"]
    found, by_clock = list(outcomes(workloads)), list(wall_outcomes(workloads))
    machine, after = record["machine"], record["machine_after"]
    left_out = "".join(f" Left out: {name} ({reason})." for name, reason in record["absent"].items())
    options = record["options"]
    clock = "the processor's time, one thread" if options.get("processor_time") else "the wall's clock"
    return "\n\n".join(
        part
        for part in (
            "## What it costs not to know batch size and learning rate",
            record["how"],
            f"By the simulated clock: {_count(found)}. Geometric mean / 90th percentile / worst (outcomes); one that "
            "is missed is never.",
            by_rival(found),
            fixed_sizes(found),
            f"By {clock}, medians of the grid's best runs:",
            by_rival(by_clock),
            "What the regret of `fit` consists of, by the simulated clock, where it arrived behind its ladder. That "
            "trains as well, so overhead is told too high and rate regret too low; regret is batch · rate / "
            "(1 − overhead):",
            by_part(found),
            "`auto`, workload by workload, at loose, medium and tight targets, by the simulated clock:",
            by_workload(workloads, outcomes),
            f"The same by {clock}:",
            by_workload(workloads, wall_outcomes),
            f"{record['date'][:10]}; {machine['cpu']}, {machine['cores']} cores, one thread; load "
            f"{machine['load']} before, {after['load']} after; the whole took {record['seconds'] / 60:.0f} min; grid "
            f"of batch sizes {_listed(options['batch_sizes'])} and that of `auto`, up to {options['epochs']} epochs; "
            f"seeds {_listed(options['seeds'])} of `fit`, one of the grid.{left_out}",
        )
        if part
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _count(found: Sequence[Outcome]) -> str:
    count = len({o.workload for o in found})
    return f"{count} workload{'s' if count > 1 else ''}"
