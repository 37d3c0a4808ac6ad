"""What it costs not to know batch size and learning rate: ``python -m benchmarks.regret --data FOLDER``.

Regret is the time in which ``fit`` with everything left to it comes to a target, its tuning counted, over that of the
best run of a full grid (batch size × rate), whose search costs nothing. Two oracles, never mixed: ``raw``, a constant
rate and the last weights; ``free``, which may also average the tail, or let the rate fall to zero at an end that it
chose best. The target is what is left of (first − lowest) loss on rows that no algorithm sees, ``lowest`` being the
grid's. Seeds are scored one by one; a target that is missed is counted apart.

Two clocks. The simulated one: rows, times the least seconds a row of this batch size, plus 0.4 of that for a row
that is only evaluated; all rivals are priced by it. The wall's: from the call to the target, for ``auto`` with all
that it does before, between and beside its steps, for the grid's best run the bare loop of steps; both run anew, in
turns. Looks at the target's rows are off it for both.

Regret by parts, at the size that ``fit`` took:

    batch regret   the grid's best at that size / the grid's best
    rate regret    ours without tuning / the grid's best at that size
    overhead       tuning / ours: what the ladder visits and all that ladder and controller evaluate. The ladder also
                   trains, so this tells too much of it, and the rate regret too little
    regret         batch regret · rate regret / (1 − overhead)

Linear models are scored with the grid's optimizer, and with the one that ``fit`` takes by itself: that one is
certified, works on all rows at once, and has no row's price, so its simulated seconds are its own clock's.
``auto`` is what comes with nothing set: the latter of linear models, the former of networks. The convolutional
network is by the wall throughout.

``regret_workloads.py`` has the tables, ``regret_torch.py`` the convolutional network, ``regret_grid.py`` the oracle,
``regret_rivals.py`` other ways to a size and a rate, ``regret_table.py`` what is printed and put into
``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import regret_torch
from benchmarks.regret_runs import processor_time
from benchmarks.regret_scores import score
from benchmarks.regret_table import markdown
from benchmarks.regret_workloads import FEW, NAMES, USUAL, workloads
from benchmarks.table import replace_table

ROOT = Path(__file__).parents[1]
SIZES = (8, 32, 128)
HOW = """\
```text
python -m benchmarks.regret --data FOLDER           # all of this, and benchmarks/results/regret.json
python -m benchmarks.regret --data FOLDER --few     # six workloads
python -m benchmarks.regret --data FOLDER --all     # every one
python -m benchmarks.regret --data FOLDER --only letter
```

Regret is the time in which `fit` comes to a target, its tuning counted, over that of the best run of a grid (batch
sizes × rates in steps of two), whose search costs nothing. *raw*: constant rates and last weights; *free*: averages
of the tail and rates that fall to zero at the best of several lengths, too (the convolutional network: falling
rates alone). Targets (L, M, T) are 20, 8 and 3 % of the gap between the first loss and the grid's lowest (linear
models: 5, 1 and 0.2 %), on rows that no algorithm sees. By the simulated clock a row costs what it was measured to
cost at its batch size, one that is only evaluated 0.4 of that; the wall's (with `--processor-time`: the processor's)
counts from the call of `fit` on, its looks at the loss included, and for the grid the bare loop. The
convolutional network is by the wall throughout.

Everybody's tuning counts. *Most rows a second*: every doubling of the batch size is timed by two steps. *Gradient
noise*: tr Σ / |G|² of single rows (networks: of eights) where training begins is taken for the critical batch size.
*As Lightning*: the largest power of two that fits into a gigabyte and the rows, up to 8,192, three steps at each on
the way, a hundred steps at rates from 1e-8 to 1, then constantly the rate at which the smoothed loss fell fastest,
and the last weights. All others have the ladder, the controller and the averages of `fit`. Who is not there in
twenty times what the grid needs to the tight target, and a second, has missed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables; writes the results, and the tables in the document."""
    options = _options(arguments)
    from descend.machine import describe_machine, one_blas_thread

    warnings.simplefilter("ignore")
    absent: dict[str, str] = {}
    record: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "options": {k: v for k, v in vars(options).items() if k not in ("data", "output", "document")},
        "how": HOW,
        "absent": absent,
        "workloads": [],
    }
    began = time.perf_counter()
    with one_blas_thread(), processor_time() if options.processor_time else nullcontext():
        for name, make in _scored(options, absent):
            start = time.perf_counter()
            record["workloads"].append(make())
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    record["seconds"] = time.perf_counter() - began
    record["machine_after"] = describe_machine()
    print(markdown(record))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(compact(record), encoding="utf-8")
    if options.document is not None:
        replace_table(options.document, markdown(record), "regret")
    return 0


def _scored(
    options: argparse.Namespace, absent: dict[str, str]
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The workloads that were asked for, each as what scores it, so that one at a time is in memory."""
    names = NAMES if options.all else FEW if options.few else USUAL
    names = tuple(name for name in names if _is_asked(name, options))
    there = set()
    for workload in workloads(options.data, names, options.hidden):
        there.add(workload.name)
        yield workload.name, partial(score, workload, options)
    absent |= {name: "its file is not in the folder" for name in names if name not in there}
    if not options.few and _is_asked(regret_torch.NAME, options):
        reason = regret_torch.why_not(options.data)
        if reason is None:
            yield regret_torch.NAME, partial(regret_torch.score_module, options.data, options)
        else:
            absent[regret_torch.NAME] = reason
    for name, reason in absent.items():
        print(f"{name}: left out, {reason}", file=sys.stderr, flush=True)


def _is_asked(name: str, options: argparse.Namespace) -> bool:
    return not options.only or any(word in name for word in options.only)


def compact(record: dict[str, Any]) -> str:
    """JSON with a line for each run, target and repeat of the wall."""
    between = ",\n"
    written = []
    for workload in record["workloads"]:
        parts = []
        for key, value in workload.items():
            rows = value if isinstance(value, list) else []
            lines = between.join(json.dumps(row, ensure_ascii=False) for row in rows)
            text = f"[\n{lines}\n]" if rows else json.dumps(value, ensure_ascii=False)
            parts.append(f'"{key}": {text}')
        written.append("{\n" + between.join(parts) + "\n}")
    rest = json.dumps({k: v for k, v in record.items() if k != "workloads"}, indent=1, ensure_ascii=False)
    return rest[:-2] + ',\n "workloads": [\n' + between.join(written) + "\n]\n}\n"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of open data")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--few", action="store_true", help="six workloads")
    which.add_argument("--all", action="store_true", help="every workload: an hour and a half")
    parser.add_argument("--only", nargs="+", help="workloads whose name holds one of these words")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of fit; the grid has the first"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=list(SIZES), help="of the grid")
    parser.add_argument("--epochs", type=int, default=32, help="the longest run of the grid")
    parser.add_argument("--decays", type=int, default=5, help="lengths of a falling rate, each half the next")
    parser.add_argument("--repeats", type=int, default=3, help="of runs by the wall's clock")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument(
        "--processor-time", action="store_true", help="in place of the wall's: where others are at work"
    )
    parser.add_argument(
        "--output", type=Path, help="of a part of the workloads nothing is written unless asked for"
    )
    parser.add_argument("--document", type=Path, help="the same")
    parser.add_argument("--print-only", action="store_true", help="write no file")
    options = parser.parse_args(arguments)
    if options.print_only:
        options.document = options.output = None
    elif not options.few and not options.only:
        options.output = options.output or ROOT / "benchmarks/results/regret.json"
        options.document = options.document or ROOT / "docs/benchmarks.md"
    return options


if __name__ == "__main__":
    sys.exit(main())
