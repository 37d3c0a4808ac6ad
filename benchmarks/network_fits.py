"""Networks with nothing set, descend's and scikit-learn's: ``python -m benchmarks.network_fits --data FOLDER``.

Seconds, wall and processor, of ``fit`` on encoded, standardised rows, and the score on rows held out by the data's
own split (kin40k: a fifth at random). Both get the same arrays in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
BARS = {"letter": 0.955, "kin40k": 0.20, "adult": 0.85, "fashion_mnist": 0.885}
"""Accuracy at least; of kin40k the root mean squared error at most."""
Table = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def tables(folder: Path) -> Iterator[tuple[str, Table]]:
    """Training rows and targets, then those of the test."""
    import pandas as pd

    letter = pd.read_parquet(folder / "letter.parquet")
    yield "letter", _encoded(letter[:16_000], letter[16_000:], "lettr", "classification")
    kin = pd.read_parquet(folder / "kin40k.parquet")
    order = np.random.default_rng(0).permutation(len(kin))
    yield "kin40k", _encoded(kin.iloc[order[:32_000]], kin.iloc[order[32_000:]], "y", "regression")
    adult = pd.read_parquet(folder / "adult.parquet")
    parts = [adult[(adult.split == "train") == wanted].drop(columns="split") for wanted in (True, False)]
    yield "adult", _encoded(*parts, "income", "classification")
    images = np.load(folder / "fashion_mnist.npz")
    X, new = (images[name].reshape(-1, 784).astype(np.float32) for name in ("X_train", "X_test"))
    mean, deviation = X.mean(axis=0), X.std(axis=0) + 1e-6
    yield (
        "fashion_mnist",
        ((X - mean) / deviation, images["y_train"], (new - mean) / deviation, images["y_test"]),
    )


def _encoded(train: Any, test: Any, target: str, task: Any) -> Table:
    from descend.features import prepare
    from descend.sources import table_source

    source = table_source(train, target=target, require_target=True)
    ready = prepare(source, task=task, validation=0.0, shuffle=False, dtype=np.float32)
    blocks = table_source(test.drop(columns=[target]), name="test").blocks()
    new = np.vstack([ready.features.encode(block.columns) for block in blocks])
    y = [train[target].to_numpy(), test[target].to_numpy()]
    return ready.train.X, y[0], new, y[1]


def contenders(task: str, seed: int) -> dict[str, Any]:
    """Both with their defaults."""
    from sklearn import neural_network

    import descend

    kind = "MLPRegressor" if task == "regression" else "MLPClassifier"
    return {
        "descend": getattr(descend, kind)(random_state=seed),
        "scikit-learn": getattr(neural_network, kind)(random_state=seed),
    }


def measure(name: str, table: Table, seed: int, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Scores and seconds of both."""
    X, y, new, truth = table
    regression = name == "kin40k"
    found: dict[str, Any] = {}
    for who, model in contenders("regression" if regression else "classification", seed).items():
        if not wanted(who):
            continue
        if who == "descend":  # compiled kernels are kept on disk; the first run of all must not be counted
            type(model)(epochs=1).fit(X[:300], y[:300])
        began = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        predicted = model.predict(new)
        score = np.sqrt(np.mean((predicted - truth) ** 2)) if regression else np.mean(predicted == truth)
        found[who] = {
            "score": float(score),
            "seconds": wall,
            "cpu_seconds": cpu,
            "epochs": int(model.n_iter_),
        }
        print(f"{name}, seed {seed}, {who}: {found[who]}", file=sys.stderr, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where descend misses a bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_fits", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tables", nargs="+", default=list(BARS))
    parser.add_argument("--only", help="descend or scikit-learn")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/network_fits.json")
    parser.add_argument("--print-only", action="store_true")
    options = parser.parse_args(arguments)
    from descend.machine import describe_machine

    record: dict[str, Any] = {"machine": describe_machine(), "runs": []}
    missed = 0
    for name, table in tables(options.data):
        if name not in options.tables:
            continue
        for seed in options.seeds:
            found = measure(name, table, seed, lambda who: options.only in (None, who))
            record["runs"].append({"table": name, "seed": seed, "bar": BARS[name]} | found)
            if "descend" in found:
                score = found["descend"]["score"]
                missed += score > BARS[name] if name == "kin40k" else score < BARS[name]
    record["machine_after"] = describe_machine()
    if not options.print_only:
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
