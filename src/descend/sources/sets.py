"""The small sets that scikit-learn carries: ``sklearn:digits`` and so on. They work offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from descend.errors import SourceError, one_of
from descend.sources.arrays import MatrixSource, Rows, select_positions
from descend.sources.limits import block_rows
from descend.types import Task

TASKS: dict[str, Task] = {
    "digits": "classification",
    "breast_cancer": "classification",
    "iris": "classification",
    "wine": "classification",
    "diabetes": "regression",
}


def open_set(
    address: str,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    weights: str | None = None,
    require_target: bool = True,
) -> MatrixSource:
    """A bundled set by its address, ``sklearn:NAME``; its own target unless a column is named."""
    kind = address.removeprefix("sklearn:")
    if kind not in TASKS:
        raise SourceError(str(one_of("sklearn set", kind, sorted(TASKS))))
    import sklearn.datasets

    bunch: Any = getattr(sklearn.datasets, f"load_{kind}")()
    names = [str(name) for name in bunch.feature_names]
    own = target is None or target == "target"
    selection = select_positions(
        names,
        address,
        target=None if own else target,
        drop=drop,
        columns=columns,
        weights=weights,
        require_target=require_target and not own,
    )
    X, y = np.ascontiguousarray(bunch.data, dtype=np.float64), bunch.target
    step = block_rows(X.shape[1])

    def chunks() -> Iterator[Rows]:
        for start in range(0, len(X), step):
            yield X[start : start + step], y[start : start + step]

    return MatrixSource(
        address, names, chunks, selection, beside="target" if own else None, task=TASKS[kind] if own else None
    )
