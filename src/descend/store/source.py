"""A store as a source of rows for a model that is there: encoded in its terms, with labels as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import shorten
from descend.features.features import Features
from descend.store.opening import Store
from descend.store.translation import Translation
from descend.types import Block

ORDER = "rows come in the order of the store, which is random"


class StoredSource:
    """The rows of a store, a block at a time; ``blocks()`` gives columns encoded as ``features`` would have."""

    def __init__(self, store: Store, features: Features) -> None:
        self.store = store
        self.name = store.name
        self.column_names = store.features.input_names
        self.target_name: str | None = store.target_statistics.name
        self.notes = (ORDER,)
        self._translated = Translation(store.features, features, f"store {shorten(store.name)!r}")

    def blocks(self) -> Iterator[Block]:
        """The rows, some megabytes at a time."""
        for X, y, weights in self.store.blocks():
            yield Block(self._translated(_numbers(X)), self._labels(y), weights)

    def _labels(self, y: NDArray[np.float64]) -> NDArray[Any]:
        """Targets as they were before they were coded."""
        target = self.store.target(standardize=False)
        if target.task == "classification":
            return target.decode(y[:, 0])
        return y[:, 0] if y.shape[1] == 1 else y


def _numbers(X: Any) -> Any:
    """Rows to compute with: coded ones decoded."""
    return X[:] if not isinstance(X, np.ndarray) and not hasattr(X, "indptr") else X
