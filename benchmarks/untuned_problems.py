"""Convex problems for training with nothing to set: open data, the same made hard, and tables of our own making.

Each is a function of nothing but a seed or a folder, so that all of them are the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLES = {
    "adult": "income",
    "california_housing": "median_house_value",
    "diamonds": "price",
    "electricity": "target",
    "higgs_7k": "label",
    "skin_nonskin": "skin",
    "kin40k": "y",
    "letter": "lettr",
    "nycflights13": "arr_delay",
    "kddcup99_10pct": "label",
}
"""Parquet files that ``--data`` looks for, and their targets."""
LEFT_OUT = {
    "adult": ("split",),
    "higgs_7k": ("split",),
    "kddcup99_10pct": ("split",),
    "nycflights13": ("dep_time", "arr_time", "air_time", "tailnum", "time_hour", "year"),
}
MOST_ROWS = {"nycflights13": 60_000, "kddcup99_10pct": 100_000}


@dataclass(frozen=True)
class Problem:
    """Mean loss + ½ alpha |w|² over standardised columns (sparse ones: scaled), the intercept free.

    ``X`` (n, d) dense or CSR; ``y`` (n,) labels or numbers.
    """

    name: str
    X: Any
    y: NDArray[Any]
    task: str = "classification"
    alpha: float = 1e-4
    is_finite: bool = True
    """False: no finite optimum exists, and a stated reason is as good as a small gap."""
    standardize: bool = True

    @property
    def size(self) -> str:
        return f"{self.X.shape[0]:,} × {self.X.shape[1]:,}"


def open_data(folder: Path, only: Container[str] | None = None) -> Iterator[Problem]:
    """The known files of ``folder``: dense and sparse, two classes and more, least squares; ``only``: their names."""

    def wanted(name: str, file: str) -> bool:
        return (folder / file).exists() and (only is None or name in only)

    for name in TABLES:
        if wanted(name, f"{name}.parquet"):
            yield _table(folder, name)
    if wanted("usps", "usps.npz"):
        images = np.load(folder / "usps.npz")
        yield Problem("usps", images["X_train"].reshape(7291, -1).astype(np.float32), images["y_train"])
    if wanted("fashion_mnist", "fashion_mnist.npz"):
        images = np.load(folder / "fashion_mnist.npz")
        X = images["X_train"][:10_000].reshape(10_000, -1).astype(np.float32)
        yield Problem("fashion_mnist", X, images["y_train"][:10_000])
    from sklearn.datasets import load_svmlight_file

    for name, columns in (("a9a_train", 123), ("news20bydate_tfidf_train", 44563)):
        if wanted(name.split("_")[0], f"{name}.svm.bz2"):
            X, y = load_svmlight_file(str(folder / f"{name}.svm.bz2"), n_features=columns, dtype=np.float32)
            yield Problem(name.split("_")[0], X, y.astype(int))


def _table(folder: Path, name: str) -> Problem:
    """A table as numbers: texts one column a level, gaps the median."""
    import pandas as pd

    frame = pd.read_parquet(folder / f"{name}.parquet")
    target = TABLES[name]
    frame = frame[frame[target].notna()].drop(columns=list(LEFT_OUT.get(name, ())))
    if name in MOST_ROWS:
        frame = frame.sample(MOST_ROWS[name], random_state=0)
    y = frame.pop(target)
    if name == "kddcup99_10pct":
        y = y.astype(str).str.startswith("normal")
    numbers = frame.select_dtypes("number")
    texts = frame.drop(columns=numbers.columns)
    X = numbers.fillna(numbers.median()).to_numpy(np.float32)
    if texts.shape[1]:
        X = np.hstack([X, pd.get_dummies(texts).to_numpy(np.float32)])
    is_numbers = name in ("california_housing", "diamonds", "kin40k", "nycflights13")
    labels = y.to_numpy(float) if is_numbers else np.unique(y.astype(str), return_inverse=True)[1]
    return Problem(name, X, labels, "regression" if is_numbers else "classification")


def made_hard(problem: Problem) -> Iterator[Problem]:
    """A table of two classes with every trouble that people's tables have, one at a time."""
    rng = np.random.default_rng(0)
    few = rng.permutation(len(problem.y))[:20_000]
    X, y = problem.X[few].astype(np.float64), problem.y[few]
    labels = np.unique(y)
    base = replace(problem, X=X, y=y)

    def harder(name: str, **changes: Any) -> Problem:
        return replace(base, name=f"{problem.name}: {name}", **changes)

    powers = 10.0 ** rng.integers(-6, 7, size=X.shape[1])
    heavy = X.copy()
    heavy[rng.permutation(len(X))[:20]] *= 1000.0
    flipped = np.where(rng.random(len(y)) < 0.3, np.where(y == labels[0], labels[1], labels[0]), y)
    w = rng.normal(size=X.shape[1])
    Z = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-12)
    side = Z @ w
    far = np.abs(side) > 1.0
    yield harder("columns times 1e-6 … 1e6", X=X * powers)
    yield harder("the same, float32", X=(X * powers).astype(np.float32))
    yield harder("a column three times", X=np.hstack([X, X[:, :1], X[:, :1]]))
    yield harder("a constant column", X=np.hstack([X, np.full((len(X), 1), 7.0)]))
    yield harder("20 rows × 1000", X=heavy)
    yield harder("20 rows × 1000, not standardised", X=np.where(heavy == X, Z, Z * 1000), standardize=False)
    yield harder("labels flipped 30 %", y=flipped)
    yield harder("labels at random", y=rng.choice(labels, size=len(y)))
    yield harder("separable", X=X[far], y=(side[far] > 0).astype(int))
    yield harder("separable, alpha 0", X=X[far], y=(side[far] > 0).astype(int), alpha=0.0, is_finite=False)
    yield harder("50 rows", X=X[:50], y=y[:50])
    yield harder("alpha 0", alpha=0.0)
    yield harder("float32", X=X.astype(np.float32))
    yield harder("alpha 0, float32", X=X.astype(np.float32), alpha=0.0)


def of_our_own(seed: int = 0) -> Iterator[Problem]:
    """Tables that no constant was chosen on."""
    for make in MADE:
        yield make(np.random.default_rng(seed))


def _answers(rng: np.random.Generator, X: Any, scale: float = 1.0, shift: float = 0.0) -> NDArray[Any]:
    """Two classes drawn from a logistic model of the columns."""
    w = rng.normal(size=X.shape[1])
    scores = X @ w
    scores = (scores - scores.mean()) / scores.std()
    return (rng.random(X.shape[0]) < 1 / (1 + np.exp(-(scale * scores + shift)))).astype(int)


def _rare(rng: np.random.Generator) -> Problem:
    X = rng.normal(size=(50_000, 20))
    return Problem("one row in a thousand is of the class", X, _answers(rng, X, 1.5, -8.0))


def _cauchy(rng: np.random.Generator) -> Problem:
    X = rng.standard_cauchy(size=(20_000, 20))
    return Problem("Cauchy columns", X, _answers(rng, np.arctan(X), 2.0))


def _lognormal(rng: np.random.Generator) -> Problem:
    X = rng.lognormal(sigma=3.0, size=(20_000, 20))
    return Problem("lognormal columns, sigma 3", X, _answers(rng, np.log(X), 2.0))


def _lognormal_numbers(rng: np.random.Generator) -> Problem:
    X = rng.lognormal(sigma=2.0, size=(20_000, 20))
    y = X @ rng.normal(size=20) + rng.normal(size=20_000)
    return Problem("lognormal columns, numbers", X, y, "regression")


def _collinear(rng: np.random.Generator) -> Problem:
    basis = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    X = rng.normal(size=(10_000, 60)) @ (basis * np.logspace(0, -8, 60)) @ basis.T
    return Problem("condition 1e8", X, _answers(rng, X, 2.0))


def _collinear_three(rng: np.random.Generator) -> Problem:
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    X = rng.normal(size=(20_000, 40)) @ (basis * np.logspace(0, -4, 40)) @ basis.T
    scores = X @ rng.normal(size=(40, 5)) * 3 + rng.gumbel(size=(20_000, 5))
    return Problem("condition 1e4, 5 classes", X, scores.argmax(axis=1))


def _levels(rng: np.random.Generator) -> Problem:
    from scipy.sparse import csr_array

    level = np.minimum(rng.zipf(1.3, size=20_000) - 1, 499)
    X = csr_array((np.ones(20_000), level, np.arange(20_001)), shape=(20_000, 500))
    effect = rng.normal(size=500)
    return Problem("500 rare levels", X, (rng.random(20_000) < 1 / (1 + np.exp(-effect[level]))).astype(int))


def _levels_dense(rng: np.random.Generator) -> Problem:
    sparse = _levels(rng)
    return replace(sparse, name="500 rare levels, dense", X=sparse.X.toarray())


def _few_rows(rng: np.random.Generator) -> Problem:
    X = rng.normal(size=(60, 200))
    return Problem("60 rows × 200", X, _answers(rng, X))


def _more_columns(rng: np.random.Generator) -> Problem:
    X = rng.normal(size=(400, 1500))
    return Problem("400 rows × 1500", X, _answers(rng, X[:, :30] @ rng.normal(size=(30, 1500)), 2.0))


def _wide_numbers(rng: np.random.Generator) -> Problem:
    X = rng.normal(size=(1000, 3000))
    y = X[:, :20] @ rng.normal(size=20) + 0.5 * rng.normal(size=1000)
    return Problem("1000 rows × 3000, numbers", X, y, "regression")


def _counts(rng: np.random.Generator) -> Problem:
    from scipy.sparse import random_array

    X = random_array(
        (20_000, 2000), density=0.01, format="csr", rng=rng, data_sampler=lambda size: rng.zipf(1.8, size)
    )
    X.data = np.minimum(X.data, 1000).astype(float)
    return Problem("sparse counts", X, _answers(rng, X.sign(), 1.5))


def _wide_sparse(rng: np.random.Generator) -> Problem:
    from scipy.sparse import random_array

    X = random_array((5000, 50_000), density=0.001, format="csr", rng=rng)
    return Problem("very wide and sparse", X, _answers(rng, X, 2.0))


def _many_classes(rng: np.random.Generator) -> Problem:
    centres = rng.normal(size=(60, 10))
    y = np.minimum(rng.zipf(1.5, size=15_000) - 1, 59)
    return Problem("60 classes, most of them rare", centres[y] + rng.normal(size=(15_000, 10)), y)


def _interpolating(rng: np.random.Generator) -> Problem:
    X = rng.normal(size=(9000, 300)) * np.logspace(0, -2, 300)
    scores = X @ (rng.normal(size=(300, 8)) * 4)
    return Problem("8 classes, nearly separable", X.astype(np.float32), scores.argmax(axis=1))


def _blobs(rng: np.random.Generator) -> Problem:
    from sklearn.datasets import make_classification

    X, y = make_classification(
        30_000, 100, n_informative=30, n_redundant=40, n_repeated=10, weights=[0.97], flip_y=0.01,
        class_sep=2.0, random_state=int(rng.integers(1000)),
    )  # fmt: skip
    return Problem("redundant columns", X.astype(np.float32), y)


MADE: tuple[Callable[[np.random.Generator], Problem], ...] = (
    _rare,
    _cauchy,
    _lognormal,
    _lognormal_numbers,
    _collinear,
    _collinear_three,
    _levels,
    _levels_dense,
    _few_rows,
    _more_columns,
    _wide_numbers,
    _counts,
    _wide_sparse,
    _many_classes,
    _interpolating,
    _blobs,
)
