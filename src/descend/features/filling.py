"""The second pass: rows encoded into arrays of their final size, each at its place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.coded_rows import FLOATS, SMALL, CodedRows
from descend.features.features import Features
from descend.features.sparse import SparseFiller
from descend.features.split import Chosen, Rows, Split
from descend.features.target import Target
from descend.sources.arrays import ArraySource
from descend.types import Block, Dataset, Source, is_sparse

ENCODED_VALUES = 2**20
"""Values encoded at a time before they go to their places: 4 or 8 MB."""


def random_places(num_rows: int, seed: int) -> NDArray[np.int64]:
    """Where row i goes: a random permutation that depends on ``seed`` and the number of rows alone."""
    return np.random.Generator(np.random.PCG64([seed, 1])).permutation(num_rows)


class Filler:
    """Encodes rows into preallocated arrays, each at its place; numbers of the small type ``stored`` stay so."""

    def __init__(
        self,
        num_rows: int,
        features: Features,
        target: Target,
        dtype: np.dtype[Any],
        order: NDArray[np.int64] | None,
        lengths: NDArray[Any] | None = None,
        stored: np.dtype[Any] | None = None,
    ) -> None:
        self._num_rows, self._dtype = num_rows, dtype
        self._sparse = None if lengths is None else SparseFiller(lengths, features.num_columns, dtype, order)
        self._stored = stored if stored in SMALL else None
        shape = (num_rows if lengths is None else 0, features.num_columns)
        self._X = np.empty(shape, dtype=self._stored or dtype)
        self.y = target.room(num_rows)
        self.weights: NDArray[np.float64] | None = None
        self.filled = 0
        self._changed = False
        self._features = features
        self._target = target
        self._order = order

    def add(self, rows: Rows, chosen: Chosen) -> None:
        """Encode these rows of a block; a few at a time, for one-hot columns make a block much wider."""
        block, weights, target = rows.part(chosen)
        count = Block(block).num_rows
        span = slice(self.filled, self.filled + count)
        self.filled += count
        if count == 0 or self.filled > self._num_rows:
            return
        self._changed |= self._stored is not None and block.dtype != self._stored
        places: Any = span if self._order is None else self._order[span]
        if self._sparse is not None:
            self._sparse.put(self._features.encode(block, dtype=self._dtype), places)
        else:
            self._write(block, count, span)
        self.y[places] = self._target.encode(target)
        if weights is not None:
            if self.weights is None:
                self.weights = np.ones(self._num_rows)
            self.weights[places] = weights

    def _write(self, block: Any, count: int, span: slice) -> None:
        step = max(256, ENCODED_VALUES // self._X.shape[1])
        for start in range(0, count, step):
            piece = block[start : start + step] if isinstance(block, np.ndarray) else block.slice(start, step)
            at = slice(span.start + start, min(span.start + start + step, span.stop))
            if self._stored is not None:
                self._X[at if self._order is None else self._order[at]] = piece[:, self._features.origin]
            else:
                self._features.encode_at(piece, self._X, at if self._order is None else self._order[at])

    @property
    def is_complete(self) -> bool:
        """Whether as many rows came as were counted, of the type they had."""
        return self.filled == self._num_rows and not self._changed

    def dataset(self) -> Dataset:
        X: Any = self._X if self._sparse is None else self._sparse.matrix()
        if self._stored is not None:
            X = CodedRows(X, self._features.mean, self._features.scale)
        return Dataset(X, self.y, self.weights)


def untouched(
    source: Source,
    features: Features,
    target: Target,
    split: Split,
    shuffle: bool,
    dtype: np.dtype[Any],
    scaled_in_use: bool = False,
) -> Dataset | None:
    """The user's own array where encoding would change nothing in it, or is done where rows are used.

    Small numbers are scaled there in any case, floats with ``scaled_in_use``.
    """
    if not isinstance(source, ArraySource) or shuffle or split.num_validation:
        return None
    X: Any = source.array
    if X.dtype != dtype or split.num_train != X.shape[0]:
        return None
    if not _is_as_encoded(X, features):
        if not _is_scaled_in_use(X, features, scaled_in_use):
            return None
        X = CodedRows(X, features.mean, features.scale)
    first, *more = source.blocks()
    if not more:
        return Dataset(X, target.encode(first.target), first.weights)
    y = target.room(X.shape[0])
    weights, done = [], 0
    for block in (first, *more):  # written in place: joined from parts they would be there twice
        y[done : done + block.num_rows] = target.encode(block.target)
        done += block.num_rows
        if block.weights is not None:
            weights.append(block.weights)
    return Dataset(X, y, np.concatenate(weights) if weights else None)


def _is_as_encoded(X: Any, features: Features) -> bool:
    return features.is_identity and X.dtype not in SMALL and (is_sparse(X) or X.flags.c_contiguous)


def _is_scaled_in_use(X: Any, features: Features, asked: bool) -> bool:
    if is_sparse(X) or features.num_columns != X.shape[1] or not features.is_scaling:
        return False
    if X.dtype in SMALL:
        return bool(X.flags.c_contiguous)
    return asked and X.dtype in FLOATS and bool(X.flags.c_contiguous or X.flags.f_contiguous)
