"""The engine that goes with the rows: dense, sparse, kept in small numbers, or in a block store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.engines.linear import LinearEngine
from descend.errors import InputError
from descend.models.network import Network
from descend.objectives.losses import SOFTMAX, Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset

if TYPE_CHECKING:
    from descend.engines.mlp import NetworkEngine


def make_engine(data: Dataset, loss: Loss, penalty: Penalty, **options: Any) -> LinearEngine:
    """A compiled engine for ``data``; ``options`` are those of ``LinearEngine``."""
    if data.is_stored and data.is_sparse:
        from descend.engines.stored_sparse import StoredSparseEngine

        return StoredSparseEngine(data, loss, penalty, **options)
    if data.is_stored:
        from descend.engines.stored import StoredEngine

        return StoredEngine(data, loss, penalty, **options)
    if data.is_coded:
        from descend.engines.coded import CodedEngine

        return CodedEngine(data, loss, penalty, **options)
    if not data.is_sparse:
        return LinearEngine(data, loss, penalty, **options)
    from descend.engines.sparse import SparseEngine
    from descend.engines.wide_sparse import WideSparseEngine, is_wide

    if is_wide(data) and loss.code == SOFTMAX:
        return WideSparseEngine(data, loss, penalty, **options)
    return SparseEngine(data, loss, penalty, **options)


def make_network_engine(
    data: Dataset, loss: Loss, penalty: Penalty, network: Network, **options: Any
) -> NetworkEngine:
    """A compiled engine for a network; ``options`` are those of ``NetworkEngine``."""
    if data.is_stored and data.is_sparse:
        raise InputError(
            "a network takes sparse rows in memory, and these stay in their store because they do not fit; take a "
            "linear model, or a higher memory limit"
        )
    if data.is_stored:
        from descend.engines.stored_mlp import StoredNetworkEngine

        return StoredNetworkEngine(data, loss, penalty, network, **options)
    if data.is_coded:
        from descend.engines.coded_mlp import CodedNetworkEngine

        return CodedNetworkEngine(data, loss, penalty, network, **options)
    from descend.engines.mlp import NetworkEngine

    return NetworkEngine(data, loss, penalty, network, **options)
