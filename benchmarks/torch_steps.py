"""What ``descend.torch`` costs and saves beside loops written by hand: ``python -m benchmarks.torch_steps``.

784-128-10, relu, cross entropy, float32, plain SGD at B = 32: the time of a step through ``fit`` and by hand, in each
way that people write it; batches from ``Batches`` and from a DataLoader; with ``--data FOLDER`` a small convolutional
network on fashion_mnist through ``fit``. Everybody takes turns; medians, and the ratio of each turn to its neighbour.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import descend.torch as dt

ROWS = 20_000
BATCH = 32
BLOCK = 160
EPOCHS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    _say(f"PyTorch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    _steps(options.repeats)
    for columns in (20, 64, 784):
        _batches(columns, options.repeats)
    if options.data is not None:
        for settings in (TUNED, {}):
            _convolutions(options.data, options.epochs, settings)
    _say(f"load {os.getloadavg()[0]:.1f}")
    return 0


def _steps(repeats: int) -> None:
    X, y = torch.rand(ROWS, 784), torch.randint(0, 10, (ROWS,))
    kinds: dict[str, Callable[[], float]] = {
        "by hand, rows indexed": lambda: _by_hand(X, y, _indexed, fused=False),
        "by hand, rows indexed, fused": lambda: _by_hand(X, y, _indexed, fused=True),
        "by hand, a shuffled copy, fused": lambda: _by_hand(X, y, _copied, fused=True),
        "by hand, blocks as Batches has them, fused": lambda: _by_hand(X, y, _in_blocks, fused=True),
        "fit": lambda: _fitted(X, y),
    }
    times = _in_turns(kinds, repeats)
    best = min((name for name in kinds if name != "fit"), key=lambda name: median(times[name]))
    for name, seconds in times.items():
        ratio = median(a / b for a, b in zip(times["fit"], seconds, strict=True))
        _say(f"step  {name:<44} {1e6 * median(seconds) / (ROWS / BATCH):7.1f} µs   fit / this {ratio:.3f}")
    _say(f"step  best by hand: {best}")


def _module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def _by_hand(X: Any, y: Any, batches: Callable[[Any, Any], Iterator[Any]], fused: bool) -> float:
    module, loss = _module(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, fused=fused)
    began = time.thread_time()
    for rows, target in batches(X, y):
        optimizer.zero_grad()
        loss(module(rows), target).backward()
        optimizer.step()
    return time.thread_time() - began


def _indexed(X: Any, y: Any) -> Iterator[Any]:
    for rows in torch.randperm(ROWS).split(BATCH):
        yield X[rows], y[rows]


def _copied(X: Any, y: Any) -> Iterator[Any]:
    order = torch.randperm(ROWS)
    yield from zip(X[order].split(BATCH), y[order].split(BATCH), strict=True)


def _in_blocks(X: Any, y: Any) -> Iterator[Any]:
    for rows in torch.randperm(ROWS).split(BLOCK):
        block = X.index_select(0, rows), y.index_select(0, rows)
        yield from zip(*(part.split(BATCH) for part in block), strict=True)


def _fitted(X: Any, y: Any) -> float:
    module = _module()
    began = time.thread_time()
    dt.fit(
        module,
        nn.CrossEntropyLoss(),
        (X, y),
        torch.optim.SGD,
        BATCH,
        learning_rate=0.01,
        epochs=1,
        device="cpu",
    )
    return time.thread_time() - began


def _batches(columns: int, repeats: int) -> None:
    X, y = torch.rand(ROWS, columns), torch.randint(0, 10, (ROWS,))
    ours = dt.Batches(X, y, BATCH, 0)
    theirs = DataLoader(TensorDataset(X, y), batch_size=BATCH, shuffle=True)
    times = _in_turns({"DataLoader": lambda: _walked(theirs), "Batches": lambda: _walked(ours)}, repeats)
    ratio = median(a / b for a, b in zip(times["DataLoader"], times["Batches"], strict=True))
    speeds = {name: ROWS / median(seconds) / 1e6 for name, seconds in times.items()}
    _say(
        f"batches of {BATCH} × {columns:<4} DataLoader {speeds['DataLoader']:.2f}, Batches {speeds['Batches']:.2f} "
        f"million rows/s; {ratio:.1f} times"
    )


def _walked(batches: Any) -> float:
    began = time.thread_time()
    for _ in batches:
        pass
    return time.thread_time() - began


def _in_turns(kinds: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Seconds of the processor of each kind in each turn; the first turn warms up and is left out."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats + 1):
        for name, kind in kinds.items():
            times[name].append(kind())
    return {name: seconds[1:] for name, seconds in times.items()}


TUNED: dict[str, Any] = {"optimizer": torch.optim.Adam, "learning_rate": 2e-3, "schedule": "cosine"}
"""By hand, for the convolutions; the rival is nothing."""


def _convolutions(folder: Path, epochs: int, settings: dict[str, Any]) -> None:
    """Two convolutions and two layers, 5 epochs, nothing tuned but what ``settings`` has."""
    data = np.load(folder / "fashion_mnist.npz")
    X, y = _images(data["X_train"]), torch.from_numpy(data["y_train"].astype(np.int64))
    held, labels = _images(data["X_test"]), torch.from_numpy(data["y_test"].astype(np.int64))
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    began = time.perf_counter()
    history = dt.fit(
        module,
        nn.CrossEntropyLoss(),
        (X, y),
        batch_size=64,
        epochs=epochs,
        **settings,
    )
    seconds = time.perf_counter() - began
    with torch.no_grad():
        right = sum(
            int((module(a).argmax(1) == b).sum()) for a, b in dt.Batches(held, labels, 1000, shuffle=False)
        )
    how = "tuned by hand" if settings else "nothing set"
    _say(
        f"fashion_mnist, convolutions, {epochs} epochs, {how}: accuracy {right / len(labels):.4f} on the test part, "
        f"loss {history.last['loss']:.4f}, {seconds:.0f} s"
    )


def _images(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(pixels).reshape(-1, 1, 28, 28).float() / 255


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with fashion_mnist.npz")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
