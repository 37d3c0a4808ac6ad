"""The compiled engine for networks: dense or CSR rows, any number of layers and outputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from descend.batches import NO_ORDER
from descend.engines import mlp_kernels, mlp_updates
from descend.engines.awake import find_awake
from descend.engines.base import AverageWindows, KeepsNothing, Rule, State, Sums
from descend.engines.mlp_arguments import Method, Moved, Net, Pace, Rows
from descend.engines.mlp_passes import BLOCK
from descend.engines.rehearsal import Rehearsal, rehearse
from descend.models.network import Network
from descend.objectives.losses import Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset, FloatArray, IntArray
from descend.updates.schedules import rate_at

if TYPE_CHECKING:
    from descend.engines.closing import Closing

T = TypeVar("T")

ALL_ONE = np.empty(0, dtype=np.float64)
NO_PLACES = np.empty(0, dtype=np.int32)
NO_WINDOWS = np.empty(0, dtype=np.int64)
_warm: set[Hashable] = set()
"""What has been compiled or loaded in this process."""
CHUNKS = 16
LARGE = 1024
SMALLEST_SHARE = 512
SHARES = 8
"""Batches of so many rows are cut into parts of at least so many, and no more than eight, that threads may share."""
SMALLEST_CHUNK = 1024


class NetworkEngine(KeepsNothing):
    """Walks the rows of ``data`` in compiled loops; parameters are one flat vector (``models/network.py``).

    ``weights``, ``average_every`` and ``threads`` are as in ``LinearEngine``. ``weight_decay`` multiplies weights by
    1 − rate · weight_decay in every step, whatever the optimizer.
    """

    def __init__(
        self,
        data: Dataset,
        loss: Loss,
        penalty: Penalty,
        network: Network,
        weights: FloatArray | None = None,
        average_every: int = 0,
        threads: int = 1,
        weight_decay: float = 0.0,
    ) -> None:
        self.data, self.loss, self.penalty, self.network = data, loss, penalty, network
        self.num_rows, self.average_every, self.weight_decay = data.num_rows, average_every, weight_decay
        self.weights = ALL_ONE if data.weights is None else data.weights
        self.visit_weights: FloatArray = self.weights
        if weights is not None:
            self.visit_weights = weights if not self.weights.size else self.weights * weights
        self.threads = threads
        self.tail: AverageWindows | None = None
        self._last_method: tuple[Rule, Method] | None = None
        self.net = Net(layer_table(network), network.activation.code, loss.code, loss.kernel_shape)
        self.rows = kernel_rows(data.X, data.y, self.weights)
        self.large = LARGE
        self._cut()

    def _cut(self) -> None:
        """The full batch's chunks, which threads may share."""
        chunk = max(SMALLEST_CHUNK, -(-self.num_rows // CHUNKS))
        starts = range(0, self.num_rows, chunk)
        self.chunks = [slice(start, min(start + chunk, self.num_rows)) for start in starts]
        several = self.threads > 1 and self.num_rows > SMALLEST_SHARE
        self.pool = ThreadPoolExecutor(self.threads) if several else None

    def loss_and_gradient(self, parameters: FloatArray, rows: IntArray | slice) -> Sums:
        X: Any = self.data.X[rows]
        weights = self.weights[rows] if self.weights.size else ALL_ONE
        gradient = np.zeros(parameters.shape, dtype=parameters.dtype)
        loss, weight = self._sums(
            kernel_rows(X, self.data.y[rows], weights),
            NO_ORDER,
            slice(0, X.shape[0]),
            parameters,
            gradient,
            True,
        )
        return Sums(loss, gradient, weight)

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        state.visits += self.num_rows if order is None else len(order)
        if order is None:
            self._shared_step(state, rule, self.chunks, NO_ORDER, self.weights)
            return
        if batch_size >= self.large:
            self._large_batches(state, rule, order, batch_size)
            return
        tail = self.tail
        closed, windows = (ALL_ONE, NO_WINDOWS) if tail is None else tail.windows(state)
        state.steps, state.num_averaged = mlp_kernels.run_network_steps(
            self._rows_with(self.visit_weights),
            order,
            batch_size,
            self.net,
            Moved(state.parameters, state.first, state.second),
            state.average,
            state.num_averaged,
            self.average_every,
            closed,
            windows,
            1.0 if tail is None else tail.growth,
            state.steps,
            self._method(rule),
            Pace(rule.schedule, rule.rate_in(state), rule.num_steps),
            rule.sum_rows,
        )
        if tail is not None:
            tail.closed_by(closed, windows)

    def close_windows_of(self, tail: AverageWindows) -> None:
        """Has steps close the windows of this average where they are due, so that no run is cut there."""
        self.tail = tail

    def _large_batches(self, state: State, rule: Rule, order: IntArray, batch_size: int) -> None:
        """Batches so large that their rows are worth sharing; cut by their number alone, whatever the threads."""
        for start in range(0, len(order), batch_size):
            stop = min(start + batch_size, len(order))
            size = max(SMALLEST_SHARE, -(-(stop - start) // SHARES))
            chunks = [slice(low, min(low + size, stop)) for low in range(start, stop, size)]
            self._shared_step(state, rule, chunks, order, self.visit_weights)
            if self.average_every and state.steps % self.average_every == 0:
                state.num_averaged += 1
                state.average += (state.parameters - state.average) / state.num_averaged
            if self.tail is not None:
                self.tail.close_if_due(state)

    def _shared_step(
        self, state: State, rule: Rule, chunks: list[slice], order: IntArray, weights: FloatArray
    ) -> None:
        """One step from the rows of all chunks, which threads may share, a block of rows at a time."""
        total = np.zeros(state.parameters.shape)

        def gradient_of(chunk: slice) -> FloatArray:
            part = np.zeros(state.parameters.shape, dtype=state.parameters.dtype)
            self._sums_of(order, chunk, weights, state.parameters, part, False)
            return part

        for part in self._map(gradient_of, chunks):
            total += part
        state.steps += 1
        num_rows = chunks[-1].stop - chunks[0].start
        rows = 1 if rule.sum_rows else num_rows
        mlp_updates.take_network_step(
            Moved(state.parameters, state.first, state.second),
            total,
            self.net.layers,
            self._method(rule),
            rate_at(rule.schedule, rule.rate_in(state), state.steps, rule.num_steps),
            1.0 / rows,
            num_rows / rows,
            state.steps,
        )

    def mean_loss(
        self, parameters: FloatArray, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        """Mean loss + penalty over the first ``num_rows`` rows (all by default)."""
        end = self.num_rows if num_rows is None else min(num_rows, self.num_rows)
        none = parameters[:0]

        def losses_of(chunk: slice) -> tuple[float, float]:
            part = slice(chunk.start, min(chunk.stop, end))
            return self._sums_of(NO_ORDER, part, self.weights, parameters, none, True)

        if end <= self.chunks[0].stop:  # a look at a few rows takes as long as what is made ready for it
            total, total_weight = losses_of(self.chunks[0])
            return total / total_weight + self.penalty_of(parameters)
        total = total_weight = 0.0
        for loss, weight in self._map(losses_of, [chunk for chunk in self.chunks if chunk.start < end]):
            total += loss
            total_weight += weight
        return total / total_weight + self.penalty_of(parameters)

    def penalty_of(self, parameters: FloatArray) -> float:
        """The penalty of all weights; intercepts are free. What fills up a layer is 0."""
        if not self.penalty.l1:
            alpha = self.penalty.alpha
            return 0.5 * alpha * mlp_updates.sum_of_squares(parameters, self.net.layers) if alpha else 0.0
        return sum(self.penalty.of(parameters[layer.weights : layer.bias]) for layer in self.network.layers)

    def _rows_with(self, weights: FloatArray) -> Rows:
        return self.rows if weights is self.rows.weights else self.rows._replace(weights=weights)

    def _sums_of(
        self,
        order: IntArray,
        part: slice,
        weights: FloatArray,
        parameters: FloatArray,
        gradient: FloatArray,
        with_loss: bool,
    ) -> tuple[float, float]:
        """Adds the gradient of rows order[part], or of rows ``part``; returns the sums of loss and weights."""
        return self._sums(self._rows_with(weights), order, part, parameters, gradient, with_loss)

    def _sums(
        self,
        rows: Rows,
        order: IntArray,
        part: slice,
        parameters: FloatArray,
        gradient: FloatArray,
        with_loss: bool,
    ) -> tuple[float, float]:
        return mlp_kernels.add_block_sums(
            rows, order, part.start, part.stop, parameters, self.net, gradient, with_loss
        )

    def _method(self, rule: Rule) -> Method:
        """How ``rule`` makes steps of gradients, under this engine's penalty."""
        if self._last_method is None or self._last_method[0] is not rule:
            numbers = np.array([rule.beta1, rule.beta2, rule.clip])
            code, penalty = rule.optimizer.code, self.penalty
            method = Method(code, numbers, penalty.alpha, penalty.l1, self.weight_decay, rule.fit_intercept)
            self._last_method = rule, method
        return self._last_method[1]

    def warm_up(self, rules: Sequence[tuple[Rule, int]], state: State) -> None:
        """Compiles what ``rules`` at their batch sizes (0: full) need, on two rows, so that no clock counts it.

        What a run before it needed is there already: to find that out by steps takes a quarter of a millisecond.
        """
        needed = self._kernels_of(rules, state)
        if needed in _warm:
            return
        weights = None if self.data.weights is None else self.data.weights[:2]
        few = NetworkEngine(
            Dataset(self.data.X[:2], self.data.y[:2], weights),
            self.loss,
            self.penalty,
            self.network,
            average_every=self.average_every,
            weight_decay=self.weight_decay,
        )
        rehearse(Rehearsal(few, rules, state.parameters))
        _warm.add(needed)

    def ask_units(self, parameters: FloatArray) -> None:
        """Whether rows of zeros wake the last hidden units, to no end but that the kernel is there."""
        if self.network.activation.can_die and len(self.network.sizes) > 2:
            inner, bias = self.network.parts(parameters)[-2]
            inputs, awake = np.zeros((2, len(inner)), inner.dtype), np.zeros(bias.shape, np.int32)
            find_awake(inputs, np.ascontiguousarray(inner.T), bias, awake)

    def _kernels_of(self, rules: Sequence[tuple[Rule, int]], state: State) -> Hashable:
        """What decides on the kernels, and the types they are compiled for: one loop knows every optimizer."""
        arrays = (*(getattr(rows, "values", rows) for rows in self.rows), self.data.y, self.visit_weights)
        types = tuple(
            (array.dtype, array.flags.c_contiguous, array.flags.writeable)
            for array in arrays
            if hasattr(array, "flags")
        )
        ways = {
            (min(batch_size, 1), batch_size >= self.large, 0 if batch_size else rule.optimizer.code)
            for rule, batch_size in rules
        }
        loss = self.loss.code, type(self.loss.kernel_shape), state.parameters.dtype
        return type(self), frozenset(ways), loss, types

    def estimate_gap(self, state: State, enough: float, exact: bool = True) -> float:
        """Unknown: a network's objective is not convex, and nothing says how far its lowest value is."""
        return np.inf

    def close(self, state: State, enough: float, move: bool) -> Closing:
        """Never asked for: there is no certificate whose step it could take."""
        raise NotImplementedError("a network has no certificate")

    def gap_bound(self, parameters: FloatArray) -> float | None:
        """None: nothing bounds it."""
        return None

    def _map(self, function: Callable[[slice], T], chunks: list[slice]) -> Iterator[T]:
        """``function`` of every chunk, in the chunks' order whatever the threads."""
        return self.pool.map(function, chunks) if self.pool and len(chunks) > 1 else map(function, chunks)


def layer_table(network: Network) -> IntArray:
    """What kernels know of the layers, (L, 8): depth, units, width, weights, bias, and places in a block's room."""
    table = np.zeros((len(network.layers), 8), dtype=np.int64)
    start = 0
    for row, layer in zip(table, network.layers, strict=True):
        piece = BLOCK * layer.width
        row[:5] = layer
        row[5:] = start, start + piece, start + 2 * piece
        start += 3 * piece
    return table


def kernel_rows(X: Any, y: FloatArray, weights: FloatArray) -> Rows:
    """Rows as kernels take them: a dense array and three empty ones, or one of a number and CSR's three."""
    if not hasattr(X, "indptr"):
        return Rows(X, np.empty(0, dtype=X.dtype), NO_PLACES, NO_PLACES, y, weights)
    return Rows(np.empty((1, 1), dtype=X.dtype), X.data, X.indices, X.indptr, y, weights)
