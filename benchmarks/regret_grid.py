"""The full grid (batch size × rate) whose best run is the oracle, and what is best of it.

Two oracles, never mixed: ``raw``, a constant rate and the last weights; ``free``, which may also average the tail, or
let the rate fall to zero at an end that it chose best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from benchmarks.regret_runs import GROWTH, Curve, grid_run
from benchmarks.regret_workloads import Workload

MOST_RATES = 16
ORACLES = ("raw", "free")


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the grid; ``length``: the rows over which its rate falls to zero, or None."""

    batch_size: int
    rate: float
    length: int | None
    curve: Curve

    def to_json(self) -> list[Any]:
        return [self.batch_size, self.rate, self.length]


def grid(
    workload: Workload, batch_sizes: Sequence[int], num_rows: int, decays: int, seed: int
) -> dict[str, list[Cell]]:
    """All runs of one seed, by oracle, up to ``num_rows`` rows; ``decays``: lengths of a falling rate, in halves."""
    found: dict[str, list[Cell]] = {name: [] for name in ORACLES}
    for size in batch_sizes:
        for rate in _rates(workload, size):
            raw, averaged = grid_run(workload, size, rate, num_rows, seed)
            found["raw"].append(Cell(size, rate, None, raw))
            found["free"].append(Cell(size, rate, None, averaged))
            if not raw.losses[-1] < raw.losses[0]:
                break  # rates above are higher still
            length = num_rows // 2 ** (decays - 1)
            while length <= num_rows:
                decayed = grid_run(workload, size, rate, length, seed, decay=True)[1]
                found["free"].append(Cell(size, rate, length, decayed))
                length *= 2
    return found


def _rates(workload: Workload, batch_size: int) -> Iterator[float]:
    """Doubling from far below what any could want; whoever asks stops where they are too high."""
    from descend.batch_size.ladder import lowest_rate

    name = workload.settings.optimizer
    start = 1e-4 if name == "adam" else 4.0 * lowest_rate(workload.prepared.train, workload.loss)
    for power in range(MOST_RATES):
        yield start * 2.0**power * (0.1 if name == "momentum" else 1.0)


def again(workload: Workload, oracle: str, cell: Cell, level: float, seed: int) -> Curve:
    """The run once more, for the wall's clock: to the target and a little further, or over its length."""
    place = cell.curve.reached(level)
    assert place is not None
    rows = int(GROWTH**2 * cell.curve.rows[place])
    average = oracle == "free"
    runs = grid_run(
        workload, cell.batch_size, cell.rate, cell.length or rows, seed, cell.length is not None, average
    )
    return runs[average]


def best_of(
    cells: Sequence[Cell], level: float, prices: Mapping[int, float], batch_size: int | None = None
) -> tuple[float, Cell | None]:
    """The fewest seconds to ``level``, of this size or of all, and whose they are; infinite where none came there."""
    best: tuple[float, Cell | None] = (inf, None)
    for cell in cells:
        place = cell.curve.reached(level)
        if place is None or batch_size not in (None, cell.batch_size):
            continue
        seconds = cell.curve.rows[place] * prices[cell.batch_size]
        if seconds < best[0]:
            best = seconds, cell
    return best


def best_by_size(cells: Sequence[Cell], level: float, prices: Mapping[int, float]) -> dict[str, float]:
    """The same at each size, of those that came there; JSON has keys of text."""
    sizes = sorted({cell.batch_size for cell in cells})
    found = {str(size): best_of(cells, level, prices, size)[0] for size in sizes}
    return {size: seconds for size, seconds in found.items() if seconds < inf}
