"""What ``learning_rate="auto"`` of modules is worth: ``python -m benchmarks.torch_rates``.

Seven small modules, four optimizers, batches of 32 rows, as many epochs for everybody: the loss of rows that no run
saw, at the end, of the rate that is found, of the best of a grid of constant ones (each twice the next), and of the
rate that the optimizer comes with. Means over seeds; the grid's best is the rate with the lowest mean.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, inf, isfinite, log
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import descend.torch as dt
from benchmarks.table import replace_table

ROOT = Path(__file__).parents[1]
BATCH = 32
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any], list[float]]] = {
    "SGD": (torch.optim.SGD, {}, [2.0**-power for power in range(-1, 9)]),
    "SGD, momentum 0.9": (torch.optim.SGD, {"momentum": 0.9}, [2.0**-power for power in range(1, 12)]),
    "Adam": (torch.optim.Adam, {}, [1e-3 * 2.0**power for power in range(-2, 6)]),
    "AdamW": (torch.optim.AdamW, {}, [1e-3 * 2.0**power for power in range(-2, 6)]),
}
Rows = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Workload:
    """A module, its rows, and how long it trains."""

    rows: Callable[[Path | None], tuple[Rows, Rows] | None]
    module: Callable[[], nn.Module]
    epochs: int
    loss: Callable[[], nn.Module] = nn.CrossEntropyLoss


def _cut(X: torch.Tensor, y: torch.Tensor, num_train: int) -> tuple[Rows, Rows]:
    return (X[:num_train], y[:num_train]), (X[num_train:], y[num_train:])


@cache
def digits(_folder: Path | None) -> tuple[Rows, Rows]:
    """1,200 and 597 images of 8 × 8."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return _cut(torch.tensor(X[order] / 16, dtype=torch.float32), torch.tensor(y[order]), 1200)


@cache
def sequences(_folder: Path | None) -> tuple[Rows, Rows]:
    """2,000 and 1,000 walks of 16 steps by one of four Markov chains over 20 places; a tenth of labels is drawn."""
    numbers = np.random.default_rng(1)
    num_rows, length, places, chains = 3000, 16, 20, 4
    ways = numbers.dirichlet(np.full(places, 0.25), size=(chains, places))
    y = numbers.integers(0, chains, num_rows)
    X = np.zeros((num_rows, length), dtype=np.int64)
    X[:, 0] = numbers.integers(0, places, num_rows)
    for step in range(1, length):
        for row in range(num_rows):
            X[row, step] = numbers.choice(places, p=ways[y[row], X[row, step - 1]])
    drawn = numbers.random(num_rows) < 0.1
    y[drawn] = numbers.integers(0, chains, drawn.sum())
    return _cut(torch.tensor(X), torch.tensor(y), 2000)


@cache
def fashion(folder: Path | None) -> tuple[Rows, Rows] | None:
    """3,000 and 2,000 images of fashion_mnist."""
    if folder is None or not (folder / "fashion_mnist.npz").exists():
        return None
    with np.load(folder / "fashion_mnist.npz") as arrays:
        X, y = arrays["X_train"], arrays["y_train"]
    few = np.random.default_rng(0).permutation(len(y))[:5000]
    images = X[few].reshape(-1, 1, 28, 28).astype(np.float32) / 127.5 - 1
    return _cut(torch.tensor(images), torch.tensor(y[few].astype(np.int64)), 3000)


@cache
def kin40k(folder: Path | None) -> tuple[Rows, Rows] | None:
    """4,000 and 2,000 rows of eight columns, standardised as the target is."""
    if folder is None or not (folder / "kin40k.parquet").exists():
        return None
    import pyarrow.parquet as parquet

    table = parquet.read_table(folder / "kin40k.parquet")
    rows = np.stack([column.to_numpy() for column in table.columns], 1).astype(np.float32)
    rows = (rows - rows.mean(0)) / rows.std(0)
    some = torch.tensor(rows[np.random.default_rng(0).permutation(len(rows))[:6000]])
    return _cut(some[:, :8], some[:, 8:], 4000)


def _images(rows: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
    (X, y), (Z, z) = rows
    return (X.reshape(-1, 1, 8, 8), y), (Z.reshape(-1, 1, 8, 8), z)


class Recurrent(nn.Module):
    """An embedding, an LSTM, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(20, 16), nn.LSTM(16, 32, batch_first=True)
        self.output = nn.Linear(32, 4)

    def forward(self, X: torch.Tensor) -> Any:
        return self.output(self.lstm(self.embedding(X))[0][:, -1])


class Attending(nn.Module):
    """An embedding with places, two layers of attention, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(20, 32), nn.Parameter(0.02 * torch.randn(16, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(32, 4)

    def forward(self, X: torch.Tensor) -> Any:
        return self.output(self.layers(self.embedding(X) + self.places).mean(1))


def _dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(128, 10),
    )  # fmt: skip


def _normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 10),
    )  # fmt: skip


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(400, 10),
    )  # fmt: skip


WORKLOADS = {
    "digits, a hidden layer": Workload(
        digits, lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), 20
    ),
    "digits, dropout": Workload(digits, _dropout, 20),
    "digits, convolutions and BatchNorm": Workload(lambda folder: _images(digits(folder)), _normalised, 10),
    "fashion_mnist, convolutions": Workload(fashion, _convolutions, 8),
    "sequences, LSTM": Workload(sequences, Recurrent, 8),
    "sequences, attention": Workload(sequences, Attending, 5),
    "kin40k, a hidden layer": Workload(
        kin40k, lambda: nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1)), 20, nn.MSELoss
    ),
}


def final_loss(
    workload: Workload, rows: tuple[Rows, Rows], optimizer: str, rate: float | str | None, seed: int
) -> dict[str, Any]:
    """The loss of the rows that the run did not see; infinite where it diverged."""
    kind, options, _ = OPTIMIZERS[optimizer]
    torch.manual_seed(seed)
    module, loss = workload.module(), workload.loss()
    began = time.process_time()
    settings: dict[str, Any] = {"learning_rate": rate, "optimizer_options": options, "device": "cpu"}
    try:
        history = dt.fit(module, loss, rows[0], kind, BATCH, epochs=workload.epochs, seed=seed, **settings)
    except dt.TrainingError:
        return {"loss": inf, "seconds": time.process_time() - began, "notes": []}
    seconds = time.process_time() - began
    module.eval()
    X, y = rows[1]
    with torch.no_grad():
        value = loss(module(X), y).item()
    notes = [note for note in history.notes if note.startswith("learning rate")]
    return {"loss": value if isfinite(value) else inf, "seconds": seconds, "notes": notes}


def runs_of(options: argparse.Namespace, known: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every run by its name; those of the grid that are ``known`` are taken from there."""
    for name, workload in WORKLOADS.items():
        rows = workload.rows(options.data)
        if rows is None or (options.only and not any(word in name for word in options.only)):
            continue
        for optimizer, (_, _, rates) in OPTIMIZERS.items():
            for rate in ("auto", None, *rates[:: options.stride]):
                for seed in options.seeds:
                    key = f"{name}|{optimizer}|{rate}|{seed}"
                    found = None if rate == "auto" else known.get(key)
                    yield key, found or final_loss(workload, rows, optimizer, rate, seed)
            print(f"{name}, {optimizer}", file=sys.stderr, flush=True)


def markdown(runs: dict[str, Any]) -> str:
    """The table: a line for each module and optimizer."""
    cells: dict[tuple[str, str], dict[str, list[float]]] = {}
    for key, run in runs.items():
        name, optimizer, rate, _ = key.split("|")
        cells.setdefault((name, optimizer), {}).setdefault(rate, []).append(run["loss"])
    lines = [
        "| module | optimizer | `auto` | worst seed | best of the grid | at rate | `auto` over it | its own rate |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    ratios = []
    for (name, optimizer), rates in cells.items():
        losses = {rate: mean(values) for rate, values in rates.items()}
        grid = {rate: value for rate, value in losses.items() if rate not in ("auto", "None")}
        best = min(grid, key=lambda rate: grid[rate])
        ratios.append(losses["auto"] / grid[best])
        lines.append(
            f"| {name} | {optimizer} | {losses['auto']:.3g} | {max(rates['auto']):.3g} | {grid[best]:.3g} | "
            f"{float(best):.2g} | {ratios[-1]:.2f} | {losses['None']:.3g} |"
        )
    middle = exp(mean(map(log, ratios)))
    return "\n".join(lines) + f"\n\nGeometric mean of the ratios {middle:.2f}, highest {max(ratios):.2f}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; writes it, and the runs, where asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_rates", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder with fashion_mnist.npz and kin40k.parquet")
    parser.add_argument("--only", nargs="+", help="modules whose name holds one of these words")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stride", type=int, default=1, help="2: every second rate of the grid")
    parser.add_argument("--again", type=Path, help="an earlier record: its grid is not run again")
    parser.add_argument("--output", type=Path, help="where the runs are written")
    parser.add_argument("--document", type=Path, help="where the table is")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    before = json.loads(options.again.read_text(encoding="utf-8"))["runs"] if options.again else {}
    runs = dict(runs_of(options, before))
    print(markdown(runs))
    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    if options.output is not None:
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(run)}" for key, run in runs.items())
        options.output.write_text(
            f'{{"torch": "{torch.__version__}", "runs": {{\n{lines}\n}}}}\n', encoding="utf-8"
        )
    if options.document is not None:
        replace_table(options.document, markdown(runs), "torch_rates")
    return 0


if __name__ == "__main__":
    sys.exit(main())
