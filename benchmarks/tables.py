"""Real tables out of a folder, each as a problem; those whose files are not there are left out."""

from __future__ import annotations

import bz2
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problem import Problem, make_problem


def from_folder(folder: Path) -> Iterator[Callable[[], Problem]]:
    """What makes each problem, so that one at a time is in memory."""
    for file, make in TABLES.items():
        if (folder / file).exists():
            yield lambda path=folder / file, make=make: make(path)


def _encoded(name: str, source: Any) -> Problem:
    """Columns standardised and texts one-hot by descend; rows in random order."""
    from descend.features import prepare

    ready = prepare(source, validation=0.0, dtype=np.float32)
    k = 1 if ready.target.task == "regression" else len(ready.target.classes)
    X = np.ascontiguousarray(ready.train.X)
    return make_problem(f"{name}, ", X, ready.train.y[:, 0], 1 if k == 2 else k)


def _adult(path: Path) -> Problem:
    from pyarrow import parquet

    from descend.sources import table_source

    table = parquet.read_table(path)
    return _encoded("adult", table_source(table.drop_columns(["split"]), target="income"))


def _kddcup99(path: Path) -> Problem:
    """Normal against attack: of the 23 kinds some have two rows."""
    from pyarrow import compute, parquet

    from descend.sources import table_source

    table = parquet.read_table(path, filters=[("split", "=", "train")])
    attack = compute.not_equal(compute.utf8_rtrim(table["label"], "."), "normal").cast("int8")
    table = table.drop_columns(["split", "label"]).append_column("attack", attack)
    return _encoded("kddcup99", table_source(table, target="attack"))


def _letter(path: Path) -> Problem:
    from descend.sources import open_source

    return _encoded("letter", open_source(path, target="lettr"))


def _fashion_mnist(path: Path) -> Problem:
    """Pixels from 0 to 1."""
    with np.load(path) as arrays:
        X, y = arrays["X_train"], arrays["y_train"]
    order = np.random.default_rng(0).permutation(len(X))
    X = X.reshape(len(X), -1)[order].astype(np.float32) / np.float32(255)
    return make_problem("fashion_mnist, ", X, y[order], 10)


def _svmlight(path: Path, num_columns: int, copies: int = 1) -> tuple[Any, Any]:
    """CSR rows in random order with 32-bit numbers, and labels as codes."""
    from scipy.sparse import csr_array, vstack
    from sklearn.datasets import load_svmlight_file

    with bz2.open(path) as text:
        X, y = load_svmlight_file(text, n_features=num_columns, dtype=np.float32)
    order = np.random.default_rng(0).permutation(copies * len(y))
    X = csr_array(vstack([X] * copies, format="csr")[order])
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return X, np.unique(np.tile(y, copies)[order], return_inverse=True)[1]


def _a9a(path: Path) -> Problem:
    return make_problem("a9a × 20, ", *_svmlight(path, 123, copies=20))


def _news20(path: Path) -> Problem:
    return make_problem("news20, ", *_svmlight(path, 44_563), num_outputs=20)


TABLES = {
    "adult.parquet": _adult,
    "kddcup99_10pct.parquet": _kddcup99,
    "letter.parquet": _letter,
    "fashion_mnist.npz": _fashion_mnist,
    "a9a_train.svm.bz2": _a9a,
    "news20bydate_tfidf_train.svm.bz2": _news20,
}
"""Files that ``--data`` looks for."""
