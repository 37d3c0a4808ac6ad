"""What survives: ``python -m benchmarks.interruptions [--kills 200] [--ingests 200] [--damages 10000] [--cost]``.

Kills: runs are ended by SIGKILL at random moments, half of them a second time, and gone on with from their
checkpoints; the parameters have to be those of a run that nobody disturbed, bit for bit. Ingests: the same of block
stores that are written or added to; the files have to be equal, and no others there. Damages: a byte of a model, a
checkpoint or a file of a store is changed, or its end cut off; it has to be noticed, with the file's name, or to
change nothing. Cost: what checkpoints take of the time of a run. Needs a system with fork.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy.sparse as sp

from benchmarks import damages, killed_ingests
from benchmarks.children import in_child
from descend import checkpoint, turns
from descend.features import prepare
from descend.fitting import fit
from descend.machine import describe_machine
from descend.networks.fitting import fit_network
from descend.settings import Settings
from descend.sources import array_source
from descend.store import ingest, ingesting
from descend.store.preparing import prepare_store

ROWS, COLUMNS = 40_000, 30
BLOCK_ROWS = 8_192
"""Of stores, which have several blocks then."""
LATE = 0.75
"""Of the kills: they wait for the first checkpoint before their random time begins."""
Train = Callable[[Path | None], bytes]
"""Trains into a folder and returns the bytes of the parameters."""


def workloads(rows: int = ROWS) -> dict[str, Train]:
    """Runs of some tenths of a second, of every kind of state: by name."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, COLUMNS)).astype(np.float32)
    scores = X @ rng.normal(size=(COLUMNS, 3)) + rng.normal(size=(rows, 3))
    thin = np.where(rng.random(X.shape) < 0.8, 0.0, X)
    dense = prepare(array_source(X, scores.argmax(axis=1)), validation=0.1)
    two = prepare(array_source(X, scores[:, 0] > 0), validation=0.0)
    sparse = prepare(array_source(sp.csr_array(thin), scores[:, 0] > 0), validation=0.0)
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    with patch.object(ingesting, "rows_of_block", lambda _: BLOCK_ROWS):
        store = ingest(array_source(X, scores[:, 0] > 0), place / "store")
    mapped = prepare_store(store, validation=0.0, stream=True)
    read = prepare_store(store, validation=0.0, stream=True, memory_limit=1)

    def of(trainer: Any, prepared: Any, **settings: Any) -> Train:
        def train(folder: Path | None) -> bytes:
            if folder is None:
                return bytes(trainer(prepared, Settings(**settings)).model.parameters.tobytes())
            with checkpoint.opened(folder, resume=True) as opened:
                run = trainer(prepared, Settings(**settings), checkpoint=opened)
            return bytes(run.model.parameters.tobytes())

        return train

    return {
        "sgd, one row": of(fit, two, optimizer="sgd", batch_size=1, epochs=100),
        "sgd, averaged": of(fit, dense, optimizer="sgd", batch_size=32, epochs=100),
        "nothing set": of(fit, dense, batch_size=32, tol=1e-9),
        "saga": of(fit, two, optimizer="saga", batch_size=1, tol=1e-12),
        "l1": of(fit, dense, penalty="l1", alpha=1e-3, tol=1e-6),
        "hinge": of(fit, two, loss="hinge"),
        "lbfgs": of(fit, dense, optimizer="lbfgs", tol=1e-12),
        "adam": of(fit, dense, optimizer="adam", batch_size=64, epochs=80),
        "sparse sgd": of(fit, sparse, optimizer="sgd", batch_size=1, epochs=20),
        "sparse saga": of(fit, sparse, optimizer="saga", batch_size=32, tol=1e-12),
        "store sgd": of(fit, read, optimizer="sgd", batch_size=32, epochs=50),
        "store saga": of(fit, read, optimizer="saga", batch_size=1, tol=1e-12),
        "store, all mapped": of(fit, mapped, batch_size=32, tol=1e-9),
        "network": of(fit_network, dense, batch_size=64, hidden=(16,), epochs=24),
        "network by ladder": of(
            fit_network, dense, optimizer="momentum", batch_size=128, hidden=(16,), early_stopping=True
        ),
    }


def torch_workloads() -> dict[str, Train]:
    """The same of a PyTorch module, which draws random numbers."""
    import torch

    from descend.torch import fit as fit_module

    torch.set_num_threads(1)  # others would not live on in a child
    numbers = torch.Generator().manual_seed(0)
    X = torch.randn(20_000, COLUMNS, generator=numbers)
    y = (X[:, :3] + torch.randn(len(X), 3, generator=numbers)).argmax(dim=1)

    def train(folder: Path | None) -> bytes:
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Linear(COLUMNS, 32), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(32, 3)
        )
        loss = torch.nn.CrossEntropyLoss()
        fit_module(
            module, loss, (X, y), batch_size=64, epochs=8, checkpoint=folder, resume=folder is not None
        )
        return b"".join(p.detach().numpy().tobytes() for p in module.parameters())

    return {"torch": train}


def killed_and_resumed(train: Train, seconds: float, rng: random.Random) -> tuple[bytes, bool]:
    """The parameters of a run that is killed within ``seconds``, and whether a checkpoint was there to go on from."""
    folder = Path(tempfile.mkdtemp())
    run, result = folder / "run", folder / "result"
    found = False
    try:
        for _ in range(1 + rng.randrange(2)):
            child = in_child(lambda: train(run))
            is_late, ended = rng.random() < LATE, False
            while is_late and not is_saved(run) and not ended:
                time.sleep(0.001)
                ended = os.waitpid(child, os.WNOHANG) != (0, 0)
            if not ended:
                time.sleep(rng.uniform(0.0, seconds))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            found = found or is_saved(run)
        child = in_child(lambda: result.write_bytes(train(run)))
        _, status = os.waitpid(child, 0)
        return (result.read_bytes() if status == 0 else b""), found
    finally:
        shutil.rmtree(folder)


def is_saved(run: Path) -> bool:
    return any(run.glob("run-*"))


def kills(count: int, seed: int, chosen: list[tuple[str, Train]]) -> dict[str, Any]:
    """How many of so many killed runs ended as undisturbed ones do."""
    turns.SHARE = 1.0  # save whenever that does not stop the run altogether
    turns.SECONDS_A_FILE = 0.0
    rng, same, resumed, wrong = random.Random(seed), 0, 0, []
    whole: dict[str, tuple[bytes, float]] = {}
    for name, train in chosen:
        train(None)  # kernels
        began = time.perf_counter()
        whole[name] = (train(None), time.perf_counter() - began)
    for number in range(count):
        name, train = chosen[number % len(chosen)]
        expected, seconds = whole[name]
        came_to, found = killed_and_resumed(train, 1.2 * seconds, rng)
        same += came_to == expected
        resumed += found
        if came_to != expected:
            wrong.append(name)
        print(f"\r{same} of {number + 1} identical", end="", file=sys.stderr, flush=True)
    return {
        "kills": count,
        "identical": same,
        "had a checkpoint": resumed,
        "wrong": wrong,
        "seconds": {n: s for n, (_, s) in whole.items()},
    }


def cost() -> dict[str, Any]:
    """What writing takes of some seconds of training, by how much there is to write."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1_000_000, 20)).astype(np.float32)
    prepared = prepare(array_source(X, X[:, 0] + rng.normal(size=len(X)) > 0), validation=0.0)
    told = {}
    for name, settings in {
        "little (sgd)": Settings(optimizer="sgd", batch_size=32, epochs=10**6, seconds=10.0),
        "much (saga's table)": Settings(optimizer="saga", batch_size=1, tol=1e-300, seconds=10.0),
    }.items():
        spent: list[float] = []
        save = checkpoint.Checkpoint.save

        def timed(self: Any, *args: Any, save: Any = save, spent: list[float] = spent, **named: Any) -> None:
            began = time.perf_counter()
            save(self, *args, **named)
            spent.append(time.perf_counter() - began)

        checkpoint.Checkpoint.save = timed  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            with checkpoint.opened(Path(folder) / "run", resume=False) as opened:
                fit(prepared, settings, checkpoint=opened)
            whole = time.perf_counter() - began
            size = max(path.stat().st_size for path in Path(folder).glob("run/*"))
        checkpoint.Checkpoint.save = save  # type: ignore[method-assign]
        told[name] = {"bytes": size, "saves": len(spent), "seconds a save": sum(spent) / len(spent)}
        told[name] |= {"share": sum(spent[:-1]) / whole, "with the last": sum(spent) / whole}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--only", default="", help="workloads with one of these words, a|b, in their name")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the tables of killed runs")
    parser.add_argument("--torch", action="store_true", help="a PyTorch module in their place")
    parser.add_argument("--ingests", type=int, default=0)
    parser.add_argument("--damages", type=int, default=0)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    told: dict[str, Any] = {"load": describe_machine()["load"]}
    if given.kills:
        runs = torch_workloads() if given.torch else workloads(given.rows)
        words = given.only.split("|")
        chosen = [(name, train) for name, train in runs.items() if any(word in name for word in words)]
        told["kills"] = kills(given.kills, given.seed, chosen)
    if given.ingests:
        told["ingests"] = killed_ingests.ingests(given.ingests, given.seed)
    if given.damages:
        network = workloads()["network"]
        told["damages"] = damages.damages(given.damages, given.seed, network)
    if given.cost:
        told["cost"] = cost()
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
