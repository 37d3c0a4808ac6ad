"""The engine that goes with the rows: dense, sparse, or kept in small numbers."""

from __future__ import annotations

from typing import Any

from descend.engines.linear import LinearEngine
from descend.objectives.losses import Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset


def make_engine(data: Dataset, loss: Loss, penalty: Penalty, **options: Any) -> LinearEngine:
    """A compiled engine for ``data``; ``options`` are those of ``LinearEngine``."""
    if data.is_coded:
        from descend.engines.coded import CodedEngine

        return CodedEngine(data, loss, penalty, **options)
    if not data.is_sparse:
        return LinearEngine(data, loss, penalty, **options)
    from descend.engines.sparse import SparseEngine

    return SparseEngine(data, loss, penalty, **options)
