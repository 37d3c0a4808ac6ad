"""Rows encoded by one set of features in the terms of another: what a store holds as a model needs it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.encoders import Category, Encoder, Moment, Number
from descend.features.features import Features
from descend.types import is_sparse


class Translation:
    """From rows as ``stored`` encodes them to rows as ``wanted`` would have: other columns, another scaling.

    Raises ``ColumnError`` naming a column of ``wanted`` that cannot be had from the stored ones.
    """

    def __init__(self, stored: Features, wanted: Features, where: str) -> None:
        if stored.takes_sparse != wanted.takes_sparse:
            kinds = ("sparse", "dense") if stored.takes_sparse else ("dense", "sparse")
            raise ColumnError(
                f"{where} holds {kinds[0]} rows, but the model was trained on {kinds[1]} ones; ingest the data as "
                "it was trained on"
            )
        places = {name: place for place, name in enumerate(stored.names)}
        theirs = {encoder.name: encoder for _, encoder in stored.encoders}
        for _, encoder in wanted.encoders:
            _refuse_other(encoder, theirs.get(encoder.name), where)
        lacking = [name for name in wanted.names if name not in places]
        if lacking:
            raise ColumnError(
                f"{where} lacks column {shorten(lacking[0])!r}, which the model needs; ingest data with the columns "
                "that the model was trained on"
            )
        self.columns = np.array([places[name] for name in wanted.names], dtype=np.intp)
        self.factor = stored.scale[self.columns] / wanted.scale
        self.shift = (stored.mean[self.columns] - wanted.mean) / wanted.scale
        in_order = np.array_equal(self.columns, np.arange(len(stored.names)))
        self.changes_nothing = in_order and bool((self.factor == 1.0).all() and (self.shift == 0.0).all())

    def __call__(self, X: Any) -> Any:
        """Rows (r, d) of the store in the other terms; float32."""
        if self.changes_nothing:
            return X
        if is_sparse(X):
            return X[:, self.columns].multiply(self.factor).tocsr().astype(X.dtype)
        found: NDArray[Any] = X[:, self.columns] * self.factor + self.shift
        return found.astype(X.dtype)


def _refuse_other(wanted: Encoder, stored: Encoder | None, where: str) -> None:
    """Refuses a column that was left out of the store, or made into other numbers."""
    name = shorten(wanted.name)
    if stored is None:
        raise ColumnError(
            f"{where} lacks column {name!r}, which the model needs; ingest data with the columns that the model was "
            "trained on"
        )
    if isinstance(wanted, Category) and isinstance(stored, Category):
        same = (wanted.levels, wanted.has_other, wanted.has_missing) == (
            stored.levels,
            stored.has_other,
            stored.has_missing,
        )
    elif isinstance(wanted, Moment) and isinstance(stored, Moment):
        same = (wanted.kind, wanted.cycles) == (stored.kind, stored.cycles) and _fills_alike(wanted, stored)
    else:
        same = isinstance(wanted, Number) and isinstance(stored, Number) and _fills_alike(wanted, stored)
    if not same:
        raise ColumnError(
            f"column {name!r} of {where} was encoded from other values than the model was trained on (other levels, "
            "or other gaps); give the data that was ingested, or train on the store"
        )


def _fills_alike(wanted: Number | Moment, stored: Number | Moment) -> bool:
    """Whether gaps, where there are any, were filled with the same number."""
    gaps = wanted.tells_missing or stored.tells_missing
    return not gaps or (wanted.fill == stored.fill and wanted.tells_missing == stored.tells_missing)
