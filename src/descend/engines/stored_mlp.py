"""The compiled engine for networks over rows of a block store, a window of them at a time."""

from __future__ import annotations

from typing import Any

from descend.engines.base import AverageWindows, Rule, State
from descend.engines.decoding import blocks, near_rows
from descend.engines.mlp import ALL_ONE, LARGE, NetworkEngine, kernel_rows
from descend.engines.mlp_passes import BLOCK
from descend.engines.windows import Windows
from descend.types import Dataset, FloatArray, IntArray


class StoredNetworkEngine(NetworkEngine):
    """``NetworkEngine`` where ``data.X`` are ``StoredRows``; steps are those of rows in memory to the last bit."""

    def __init__(self, data: Dataset, *args: Any, **options: Any) -> None:
        super().__init__(data, *args, **options)
        X: Any = data.X
        self.windows = Windows(X)
        few = Dataset(X[:2], data.y[:2])
        self.near = NetworkEngine(few, *args, **options | {"threads": 1, "weights": None})
        """The dense engine; its rows are those of the moment."""
        self.near.pool = self.pool
        self.most_rows = self.windows.most_rows
        if X.code is not None:  # as rows that are coded in memory are added up
            self.most_rows = max(BLOCK, near_rows(data.num_columns) // BLOCK * BLOCK)
            self.near.large = self.large = min(LARGE, self.most_rows + 1)

    def close_windows_of(self, tail: AverageWindows) -> None:
        super().close_windows_of(tail)
        self.near.close_windows_of(tail)

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        whole = self.most_rows if self.data.X.code is None else self.large - 1  # type: ignore[attr-defined]
        if order is None or batch_size > whole:
            super().run(state, rule, order, batch_size)
            return
        near = self.near
        beside = (self.visit_weights,) if self.visit_weights.size else ()
        for window in self.windows.of(order, batch_size, self.data.y, beside):
            near.rows = kernel_rows(window.X, window.y, ALL_ONE)
            if self.visit_weights.size:
                near.visit_weights = window.beside[0]
            near.run(state, rule, window.places, batch_size)

    def _sums_of(
        self,
        order: IntArray,
        part: slice,
        weights: FloatArray,
        parameters: FloatArray,
        gradient: FloatArray,
        with_loss: bool,
    ) -> tuple[float, float]:
        loss = weight = 0.0
        for rows, X in self._pieces(order, part):
            some = self._sums(
                kernel_rows(X, self.data.y[rows], weights[rows] if weights.size else weights),
                order[:0],
                slice(0, len(X)),
                parameters,
                gradient,
                with_loss,
            )
            loss, weight = loss + some[0], weight + some[1]
        return loss, weight

    def _pieces(self, order: IntArray, part: slice) -> Any:
        """Rows order[part], or rows ``part`` where it is empty, some whole blocks of them at a time."""
        X: Any = self.data.X
        step = max(BLOCK, self.most_rows // BLOCK * BLOCK)
        if not order.size:
            yield from X.windows(part.start, part.stop, min(step, X.window_rows))
            return
        for start in range(part.start, part.stop, step):
            rows = order[start : min(start + step, part.stop)]
            yield from ((rows, some) for _, some in blocks(X.part(rows)))
