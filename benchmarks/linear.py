"""The time of an epoch of a linear model, descend's and others': ``python -m benchmarks.linear``.

Prints a table, writes ``benchmarks/results/linear.json`` and the table in ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.competitors import COMPETITORS, LEFT_OUT
from benchmarks.how import how
from benchmarks.measure import check_answers, check_timed, measure
from benchmarks.problem import BATCH_SIZES, SIZES, SQUARED_SIZE, Problem, synthetic
from benchmarks.ratios import ratios
from benchmarks.table import markdown, replace_table
from benchmarks.tables import from_folder

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "descend",
    "numpy",
    "scipy",
    "numba",
    "scikit-learn",
    "torch",
    "jax",
    "jaxlib",
    "vowpalwabbit",
    "river",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where answers disagree: such timings mean nothing."""
    options = _options(arguments)
    from threadpoolctl import threadpool_limits

    present = [c for c in COMPETITORS if c.why_not() is None]
    absent = {c.name: str(c.why_not()) for c in COMPETITORS if c not in present} | LEFT_OUT
    for name, reason in absent.items():
        _say(f"{name}: left out, {reason}")
    record = _describe(options, present, absent)
    began = time.perf_counter()
    with threadpool_limits(1):
        for make in _problems(options):
            record["cells"] += _cells(make(), present, options)
            _say(f"  {time.perf_counter() - began:.0f} s in all")
    record["machine_after"] = _machine()
    record["seconds"] = time.perf_counter() - began
    record["ratios"] = ratios(record)
    print(markdown(record))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.document is not None:
        replace_table(options.document, markdown(record))
    disagreeing = [c for c in record["cells"] if not (c["check"]["agree"] and c["check_timed"]["agree"])]
    for cell in disagreeing:
        _say(f"answers disagree: {cell['problem']}, batch size {cell['batch_size']}")
    return 1 if disagreeing else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _problems(options: argparse.Namespace) -> Iterator[Callable[[], Problem]]:
    """What makes each problem, so that one at a time is in memory."""
    for size in SIZES if options.rows is None else options.rows:
        yield partial(synthetic, *size)
    if options.rows is None:
        yield partial(synthetic, *SQUARED_SIZE, squared=True)
    if options.data is not None:
        yield from from_folder(options.data)


def _cells(problem: Problem, present: list[Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    _say(f"{problem.name} …")
    able = [c for c in present if c.can(problem)]
    sized = [problem.with_batch_size(size) for size in options.batch_sizes]
    checks = [check_answers(p, able) for p in sized]
    results = measure(
        problem, able, options.batch_sizes, options.repeats, _say if options.verbose else _quiet
    )
    load = _machine()["load"]
    return [
        {
            "problem": p.name,
            "group": p.group,
            "rows": p.num_rows,
            "columns": p.num_columns,
            "outputs": p.num_outputs,
            "batch_size": size,
            "rate": p.rate,
            "load": load,
            "check": check,
            "check_timed": check_timed(p, figures),
            "results": figures,
        }
        for p, size, check, figures in zip(sized, options.batch_sizes, checks, results, strict=True)
    ]


def _quiet(text: str) -> None:
    """Says nothing."""


def _describe(options: argparse.Namespace, present: list[Any], absent: dict[str, str]) -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "python": sys.version.split()[0],
        "versions": versions,
        "repeats": options.repeats,
        "what": {c.name: c.what for c in present},
        "absent": absent,
        "how": how(),
        "cells": [],
    }


def _machine() -> dict[str, Any]:
    from descend.machine import describe_machine

    return describe_machine()


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.linear", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of real tables, beside the made-up rows")
    parser.add_argument(
        "--rows", type=_size, nargs="*", help="other made-up sizes, such as 100000x30; or none"
    )
    parser.add_argument(
        "--batch-sizes", type=lambda t: t if t == "full" else int(t), nargs="+", default=list(BATCH_SIZES)
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/linear.json")
    parser.add_argument("--document", type=Path, default=ROOT / "docs/benchmarks.md")
    parser.add_argument("--print-only", action="store_true", help="write no file")
    parser.add_argument("--verbose", action="store_true", help="say what is being warmed up")
    options = parser.parse_args(arguments)
    if options.print_only:
        options.document = options.output = None
    return options


if __name__ == "__main__":
    sys.exit(main())
