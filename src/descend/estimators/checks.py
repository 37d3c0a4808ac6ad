"""What the estimators are given, checked the way scikit-learn checks it; nothing is left behind by a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _num_samples, check_non_negative

from descend.coded_rows import SMALL
from descend.errors import InputError
from descend.features.target_values import are_texts
from descend.sources.tables import arrow_table

FLOATS = (np.float64, np.float32)
NUMBERS = (*FLOATS, *SMALL)
"""What ``fit`` takes as it is; of another type, rows become the first."""


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Whatever ends the inside, Ctrl-C too, leaves the estimator's attributes as they were.

    Ctrl-C in the midst of training does not come here: it ends the run with what was learnt.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def seed_of(random_state: Any) -> int:
    """A seed for descend, drawn as scikit-learn draws: the same each time from a number, else the next one."""
    if type(random_state) is int:
        return _seed_of_number(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


@lru_cache
def _seed_of_number(random_state: int) -> int:
    """A generator of NumPy's takes 0.1 ms to begin, and searches fit hundreds of times with the same number."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def are_plain(X: Any, y: Any) -> bool:
    """Whether rows and targets are arrays of finite numbers, one a row: all that scikit-learn would ask of them.

    To hear so from scikit-learn takes 0.3 ms.
    """
    if type(X) is not np.ndarray or type(y) is not np.ndarray or X.ndim != 2 or y.ndim != 1:
        return False
    if not X.size or len(X) != len(y) or y.dtype.kind not in "fiub":
        return False
    is_whole = X.dtype in SMALL and X.dtype.kind in "iu"
    return (is_whole or are_finite(X)) and bool(np.isfinite(y).all())


def are_finite(X: Any) -> bool:
    """Whether an array of floats is at a glance seen to hold finite numbers alone: then their squares add up to one.

    scikit-learn sums float32 in float64, which takes five times as long.
    """
    if type(X) is not np.ndarray or X.dtype not in FLOATS or X.ndim != 2:
        return False
    if not (X.flags.c_contiguous or X.flags.f_contiguous):
        return False
    numbers = X.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(numbers, numbers)))


def refuse_no_columns(X: Any) -> None:
    """A table of no columns, which scikit-learn refuses without naming it."""
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if hasattr(X, "__arrow_c_stream__") and len(shape) == 2 and shape[1] == 0:
        raise InputError(f"X has 0 feature(s) (shape={tuple(shape)}) while a minimum of 1 is required")


def refuse_a_name(y: Any) -> None:
    """The name of a column as ``y``, which goes with rows in files, not with a table at hand."""
    if isinstance(y, str):
        raise InputError(
            f"y is the name {y!r}: names go with a path; of a table in memory give the column itself, "
            f"as in fit(X.drop(columns={y!r}), X[{y!r}])"
        )


def as_numbers(y: Any) -> NDArray[Any]:
    """A regression's target as an array of numbers in their own type, or an ``InputError`` naming ``y``."""
    numbers = np.asarray(y)
    if numbers.dtype.kind in "mM":
        raise InputError(
            f"y holds {numbers.dtype} values; numbers are needed: turn them into days or seconds first"
        )
    if numbers.ndim not in (1, 2):
        raise InputError(f"y has shape {numbers.shape}; give one target a row: (n,), or (n, k) for k numbers")
    if numbers.dtype.kind in "fiu":
        return numbers
    try:
        return numbers.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"y holds values that are no numbers: {error}") from None


def check_labels(labels: NDArray[Any]) -> None:
    """Labels (n,) that are classes, or a ``ValueError`` naming ``y``."""
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        row = int(np.argmin(np.isfinite(labels)))
        raise InputError(f"y holds {float(labels[row])} in row {row}; every row needs a class: leave it out")
    cells = labels.tolist() if labels.dtype.kind in "OUT" else []
    if are_texts(cells) and 0 < 2 * len(set(cells)) <= len(cells):
        return  # scikit-learn would sort them all, twice, and warn where most differ
    try:
        check_classification_targets(labels)
    except TypeError as error:
        raise InputError(
            f"y holds labels that are no classes: {error}; give text alone, or numbers alone"
        ) from None


def is_sparse_table(X: Any) -> bool:
    """Whether ``X`` is a pandas table of sparse columns alone, which scikit-learn takes for a sparse matrix."""
    return hasattr(X, "__arrow_c_stream__") and hasattr(X, "sparse")


def is_mixed_table(X: Any) -> bool:
    """Whether ``X`` is a table with columns other than plain numbers, or with gaps: the features stage is needed."""
    if not hasattr(X, "__arrow_c_stream__") or is_sparse_table(X):
        return False
    import pyarrow as pa

    table = arrow_table(X, "X")
    return any(
        not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) or column.null_count
        for column in table.columns
    )


def naming_the_column(error: ValueError, X: Any) -> ValueError:
    """scikit-learn's refusal of a number in ``X`` that is no number or infinite, with the column's name."""
    if not any(word in str(error) for word in ("infinity", "NaN")):
        return error
    try:
        values = np.asarray(getattr(X, "values", X), dtype=np.float64)
        places = np.argwhere(~np.isfinite(values))
    except (TypeError, ValueError):
        return error
    if values.ndim != 2 or not len(places):
        return error
    row, column = (int(i) for i in places[0])
    names = [str(name) for name in getattr(X, "columns", ())]
    name = repr(names[column]) if column < len(names) else f"number {column}"
    return ValueError(f"{error}\nThe first is {values[row, column]} in row {row} of column {name}.")


def check_weights(sample_weight: ArrayLike, X: Any) -> NDArray[np.float64]:
    """Weights (n,) ≥ 0 with some above 0, or a ``ValueError`` naming ``sample_weight``."""
    try:
        weights = _check_sample_weight(sample_weight, np.empty((_num_samples(X), 0)), dtype=np.float64)
        check_non_negative(weights, "`sample_weight`")
    except (TypeError, ValueError) as error:
        if "sample_weight" in str(error):
            raise
        raise InputError(f"sample_weight cannot be used: {error}") from None
    if not weights.any():  # versions of scikit-learn differ in whether they look
        raise InputError("sample_weight cannot be used: every weight is 0")
    return np.asarray(weights)
