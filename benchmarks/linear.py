"""The time of an epoch of a linear model, descend's and others': ``python -m benchmarks.linear``.

Prints a table, writes ``benchmarks/results/linear.json`` and the table in ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.competitors import COMPETITORS
from benchmarks.measure import check_answers, check_timed, measure
from benchmarks.problem import BATCH_SIZES, SIZES, Problem, from_folder, synthetic
from benchmarks.table import bars, markdown, replace_table

ROOT = Path(__file__).parents[1]
PACKAGES = ("descend", "numpy", "numba", "scikit-learn", "torch", "jax", "jaxlib")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where answers disagree: such timings mean nothing."""
    options = _options(arguments)
    from threadpoolctl import threadpool_limits

    present = [c for c in COMPETITORS if c.why_not() is None]
    absent = {c.name: str(c.why_not()) for c in COMPETITORS if c not in present}
    for name, reason in absent.items():
        print(f"{name}: left out, {reason}", file=sys.stderr)
    if options.data is None:
        problems = [synthetic(*size) for size in options.rows or SIZES]
    else:
        problems = from_folder(options.data)
    record = _describe(options, absent)
    with threadpool_limits(1):
        record["cells"] = [_cell(p, size, present, options) for p in problems for size in options.batch_sizes]
    record["machine_after"] = _machine()
    record["bars"] = bars(record)
    print(markdown(record))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.document is not None:
        replace_table(options.document, markdown(record))
    disagreeing = [c for c in record["cells"] if not (c["check"]["agree"] and c["check_timed"]["agree"])]
    for cell in disagreeing:
        print(f"answers disagree: {cell['problem']}, batch size {cell['batch_size']}", file=sys.stderr)
    return 1 if disagreeing else 0


def _cell(problem: Problem, batch_size: int | str, present: list[Any], options: Any) -> dict[str, Any]:
    p = problem.with_batch_size(batch_size)
    print(f"{p.name}, batch size {batch_size} …", file=sys.stderr)
    check = check_answers(p, present)
    results = measure(p, present, options.repeats)
    return {
        "problem": p.name,
        "rows": p.num_rows,
        "columns": p.num_columns,
        "batch_size": batch_size,
        "rate": p.rate,
        "load": _machine()["load"],
        "check": check,
        "check_timed": check_timed(p, results),
        "results": results,
    }


def _describe(options: argparse.Namespace, absent: dict[str, str]) -> dict[str, Any]:
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
        "absent": absent,
    }


def _machine() -> dict[str, Any]:
    from descend.machine import describe_machine

    return describe_machine()


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.linear", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of real tables, instead of made-up rows")
    parser.add_argument("--rows", type=_size, nargs="+", help="sizes such as 100000x30")
    parser.add_argument(
        "--batch-sizes", type=lambda t: t if t == "full" else int(t), nargs="+", default=list(BATCH_SIZES)
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/linear.json")
    parser.add_argument("--document", type=Path, default=ROOT / "docs/benchmarks.md")
    parser.add_argument("--print-only", action="store_true", help="write no file")
    options = parser.parse_args(arguments)
    if options.print_only or (options.data is not None and options.document == ROOT / "docs/benchmarks.md"):
        options.document = None
    if options.print_only:
        options.output = None
    elif options.data is not None and options.output == ROOT / "benchmarks/results/linear.json":
        options.output = ROOT / "benchmarks/results/linear-tables.json"
    return options


if __name__ == "__main__":
    sys.exit(main())
