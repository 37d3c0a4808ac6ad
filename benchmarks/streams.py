"""Training on rows that stay on the disk: ``python -m benchmarks.streams --data FOLDER``.

Two tables. How fast an epoch goes from a block store in the page cache, against the same rows in memory (50 float32
columns, one thread for training): where all pages may stay mapped, where they are for as long as they are used, and
where there is no room for that and they are read. And how soon a test error is
reached from the disk, on flights repeated with noise: descend's ``fit`` from its store, scikit-learn's
``SGDRegressor.partial_fit`` over chunks of the encoded rows in a memory-mapped file (of a grid of rates the best, the
search not counted), Vowpal Wabbit from its cache. Everybody goes on by passes until the test error is within a share
of the certified optimum's; what is timed are the passes alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("dep_time", "arr_time", "air_time", "tailnum", "time_hour", "year")
NEAR = 1.002
"""The test error that counts as arrived, over that of the optimum."""
CHUNK = 100_000
MOST_PASSES = 8
RATES = (1e-4, 1e-3, 1e-2)
EPOCH_ROWS, EPOCH_COLUMNS = 2_000_000, 50


def epochs(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows a second of an epoch of logistic SGD, in memory and from the store, in turns.

    Mapped to stay; mapped for a while, as where other rows stay; read, as where there is no room to map.
    """
    from descend.batches import Visits, shuffle
    from descend.engines.base import Rule, State
    from descend.engines.choose import make_engine
    from descend.objectives.losses import LOSSES
    from descend.objectives.penalties import Penalty
    from descend.store import ingest, open_store
    from descend.store.preparing import prepare_store
    from descend.updates import OPTIMIZERS

    rng = np.random.default_rng(0)
    X = rng.standard_normal((options.rows, EPOCH_COLUMNS), dtype=np.float32)
    y = (X[:, 0] + rng.standard_normal(options.rows, dtype=np.float32) > 0).astype(np.int64)
    from descend.sources import array_source

    ingest(array_source(X, y), folder / "epochs")
    del X, y
    store = open_store(folder / "epochs")
    engines = {}
    for name in ("memory", "store", "windows", "read"):
        limit = 1 if name == "read" else None
        data: Any = prepare_store(store, validation=0.0, stream=name != "memory", memory_limit=limit).train
        if name == "windows":
            data.X.blocks.spare_bytes = 0
        engines[name] = make_engine(data, LOSSES["log_loss"], Penalty(1e-4, 0.0), threads=1)
    for batch_size in options.batch_sizes:
        times: dict[str, list[float]] = {name: [] for name in engines}
        for turn in range(options.repeats + 1):
            rows = shuffle(Visits(options.rows), 0, turn)
            for name, engine in engines.items():
                state = State(np.zeros((1, EPOCH_COLUMNS + 1), dtype=np.float32))
                start = time.perf_counter()
                engine.run(state, Rule(OPTIMIZERS["sgd"], 0.01), rows, batch_size)
                if turn:  # the first reads the file and compiles
                    times[name].append(time.perf_counter() - start)
        seconds = {name: median(found) for name, found in times.items()}
        yield {
            "batch_size": batch_size,
            "memory_rows_per_second": options.rows / seconds["memory"],
            "store_rows_per_second": options.rows / seconds["store"],
            "windows_rows_per_second": options.rows / seconds["windows"],
            "read_rows_per_second": options.rows / seconds["read"],
            "ratio": seconds["memory"] / seconds["store"],
            "windows_ratio": seconds["memory"] / seconds["windows"],
            "read_ratio": seconds["memory"] / seconds["read"],
        }


# --- flights ---------------------------------------------------------------------------------------


def write_flights(data: Path, folder: Path, copies: int) -> tuple[Any, Any]:
    """Two files in ``folder``: nine tenths of the flights, ``copies`` times with noise, and the others to test on."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(data / "nycflights13.parquet").drop_columns(list(LEFT_OUT))
    table = table.filter(pc.is_valid(table["arr_delay"]))
    rng = np.random.default_rng(0)
    is_test = rng.random(table.num_rows) < 0.1
    test, train = table.filter(pa.array(is_test)), table.filter(pa.array(~is_test))
    numbers = [f.name for f in table.schema if not pa.types.is_string(f.type)]
    plain = {name: train[name].to_numpy().astype(np.float64) for name in numbers}
    writer = None
    for _ in range(copies):
        order = rng.permutation(train.num_rows)
        copy = {name: train[name].take(order) for name in train.column_names}
        for name in numbers:
            if name != "arr_delay":
                noise = rng.normal(scale=0.01 * plain[name].std(), size=len(order))
                copy[name] = pa.array((plain[name][order] + noise).astype(np.float32))
        part = pa.table(copy)
        writer = writer or pq.ParquetWriter(folder / "train.parquet", part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()
    pq.write_table(
        test.cast(pa.schema([(n, part.schema.field(n).type) for n in test.column_names])),
        folder / "test.parquet",
    )
    return folder / "train.parquet", folder / "test.parquet"


def root_mean_square(errors: Any) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


class Ours:
    """``fit`` from the store, with the threads that it takes unasked; ``epochs`` None: until certified."""

    def __init__(self, folder: Path, train: Path, test: Path) -> None:
        from descend.sources import open_source
        from descend.store import ingest, open_store
        from descend.store.preparing import prepare_store

        start = time.perf_counter()
        ingest(open_source(train, target="arr_delay"), folder / "store")
        self.ingest_seconds = time.perf_counter() - start
        self.prepare = lambda: prepare_store(open_store(folder / "store"), validation=0.0, stream=True)
        self.test = open_source(test, target="arr_delay")

    def fit(self, **settings: Any) -> tuple[float, Any]:
        """Seconds, opening the store included, and the model."""
        from descend.fitting import fit
        from descend.settings import Settings

        start = time.perf_counter()
        run = fit(self.prepare(), Settings(**settings))
        return time.perf_counter() - start, run

    def error(self, model: Any) -> float:
        blocks = list(self.test.blocks())
        found = np.concatenate([model.predict_scores(model.scores(b.columns)) for b in blocks])
        return root_mean_square(found - np.concatenate([np.asarray(b.target, dtype=float) for b in blocks]))


def encoded(ours: Ours, folder: Path) -> tuple[Any, Any, Any, Any]:
    """The store's rows, standardised and in random order, in a memory-mapped file; the test rows encoded alike."""
    data = ours.prepare()
    n, d = data.train.num_rows, data.train.num_columns
    X = np.lib.format.open_memmap(folder / "X.npy", mode="w+", dtype=np.float32, shape=(n, d))
    for start in range(0, n, CHUNK):
        X[start : start + CHUNK] = data.train.X[slice(start, min(n, start + CHUNK))]
    X.flush()
    mean, scale = data.target.mean[0], data.target.scale[0]
    blocks = list(ours.test.blocks())
    test = np.concatenate([data.features.encode(b.columns, dtype=np.float32) for b in blocks])
    y_test = np.concatenate([np.asarray(b.target, dtype=float) for b in blocks])
    np.save(folder / "y.npy", data.train.y[:, 0])
    return np.load(folder / "X.npy", mmap_mode="r"), np.load(folder / "y.npy"), test, (y_test - mean) / scale


def scikit_learn(rows: tuple[Any, Any, Any, Any], target: float, rate: float) -> tuple[float, int] | None:
    """Seconds and passes of ``partial_fit`` over the chunks until ``target``; None where it does not arrive."""
    from sklearn.linear_model import SGDRegressor

    X, y, test, y_test = rows
    model = SGDRegressor(alpha=1e-4, eta0=rate, learning_rate="invscaling", average=True, random_state=0)
    seconds = 0.0
    for passes in range(1, MOST_PASSES + 1):
        start = time.perf_counter()
        for first in range(0, len(y), CHUNK):
            model.partial_fit(X[first : first + CHUNK], y[first : first + CHUNK])
        seconds += time.perf_counter() - start
        if root_mean_square(model.predict(test) - y_test) <= target:
            return seconds, passes
    return None


def vowpal_wabbit(train: Path, test: Path, folder: Path, target: float) -> tuple[float, int] | None:
    """Seconds and passes from its cache until ``target``, at the better of its default rate and ten times that.

    It gets targets and numbers standardised, as its manual advises: its steps are short beside minutes of delay.
    """
    import pyarrow.parquet as pq
    import vowpalwabbit

    table = pq.read_table(train)
    scaling = {
        name: (float(np.mean(column)), float(np.std(column)) or 1.0)
        for name, column in ((n, table[n].to_numpy()) for n in numbers_of(table))
    }
    write_text(table, folder / "train.vw", scaling)
    first = vowpalwabbit.Workspace(f"-d {folder}/train.vw --cache_file {folder}/cache --passes 1 -k --quiet")
    first.finish()
    (folder / "train.vw").unlink()
    write_text(pq.read_table(test), folder / "test.vw", scaling)
    lines = (folder / "test.vw").read_text().splitlines()
    truth = np.array([float(line.split(" ", 1)[0]) for line in lines])
    for passes in (1, 2, 4, 8):
        for rate in (0.5, 5.0):
            start = time.perf_counter()
            model = vowpalwabbit.Workspace(
                f"--cache_file {folder}/cache --passes {passes} -l {rate} --holdout_off --quiet -f {folder}/model"
            )
            model.finish()
            seconds = time.perf_counter() - start
            judge = vowpalwabbit.Workspace(f"-i {folder}/model -t --quiet")
            error = root_mean_square(np.array([judge.predict(line) for line in lines]) - truth)
            judge.finish()
            words = f"Vowpal Wabbit, {passes} passes at {rate}: {seconds:.1f} s, {error / target:.4f} of the target"
            print(words, file=sys.stderr, flush=True)
            if error <= target:
                return seconds, passes
    return None


def numbers_of(table: Any) -> list[str]:
    import pyarrow as pa

    return [f.name for f in table.schema if not pa.types.is_string(f.type)]


def write_text(table: Any, path: Path, scaling: dict[str, tuple[float, float]]) -> None:
    """Vowpal Wabbit's format: the target, numbers by name, texts as name=value."""
    numbers = [name for name in numbers_of(table) if name != "arr_delay"]
    texts = [name for name in table.column_names if name not in scaling]
    with path.open("w") as file:
        for batch in table.to_batches(max_chunksize=CHUNK):
            columns = {
                name: ((batch[name].to_numpy() - mean) / scale).round(4).tolist()
                for name, (mean, scale) in scaling.items()
            }
            words = {name: batch[name].to_pylist() for name in texts}
            for i, y in enumerate(columns["arr_delay"]):
                features = [f"{name}:{columns[name][i]}" for name in numbers]
                features += [f"{name}={words[name][i]}" for name in texts]
                file.write(f"{y} | {' '.join(features)}\n")


def flights(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The table of flights: seconds and passes of each."""
    train, test = write_flights(options.data, folder, options.copies)
    ours = Ours(folder, train, test)
    _, run = ours.fit()
    best = ours.error(run.model)
    target = NEAR * best
    deviation = run.model.target.scale[0]
    found: dict[str, Any] = {"optimum": best, "target": target, "ingest_seconds": ours.ingest_seconds}
    certified, alone, fewest = [], [], []
    passes = next(p for p in range(1, MOST_PASSES) if ours.error(ours.fit(epochs=p)[1].model) <= target)
    for _ in range(options.repeats):
        certified.append(ours.fit()[0])
        alone.append(ours.fit(threads=1)[0])
        fewest.append(ours.fit(epochs=passes)[0])
    found["descend, certified"] = [median(certified), None]
    found["descend, certified, one thread"] = [median(alone), None]
    found["descend, fewest epochs"] = [median(fewest), passes]
    rows = encoded(ours, folder)
    found["rows"], found["columns"] = rows[0].shape
    tried: list[Callable[[], Any]] = [
        lambda r=rate: scikit_learn(rows, target / deviation, r) for rate in RATES
    ]
    arrived = [result for attempt in tried if (result := attempt()) is not None]
    found["scikit-learn"] = min(arrived, default=None)
    found["Vowpal Wabbit"] = vowpal_wabbit(train, test, folder, target / deviation)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of open data")
    parser.add_argument("--rows", type=int, default=EPOCH_ROWS)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["epochs", "flights"])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/streams.json")
    options = parser.parse_args(arguments)
    from descend.machine import describe_machine

    date = datetime.now(UTC).isoformat(timespec="seconds")
    record: dict[str, Any] = {"date": date, "machine": describe_machine()}
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in (("epochs", lambda *a: list(epochs(*a))), ("flights", flights)):
            if name in options.parts:
                record[name] = measure(options, Path(folder))
                print(json.dumps(record[name], indent=1), flush=True)
                options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
