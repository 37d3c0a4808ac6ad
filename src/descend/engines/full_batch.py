"""Every row at once: the objective and its gradient, from chunks of rows that threads share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from descend.engines import row_sums
from descend.engines.linear_arguments import Data
from descend.engines.preconditioner import Preconditioner
from descend.objectives.losses import SQUARED_ERROR, Loss, losses_and_derivatives, row_derivatives, row_losses
from descend.objectives.penalties import Penalty
from descend.products import Products
from descend.types import Dataset, FloatArray, IntArray

T = TypeVar("T")

ALL_ONE = np.empty(0, dtype=np.float64)
CHUNKS = 16  # a call of a kernel takes 15 µs from Python: with 64, a pass of 12 ms was 1 ms longer
SMALLEST_CHUNK = 4096
MOST_NUMBERS = 2**18
"""With more parameters, which then do not lie near the processor, BLAS is used instead of loops over rows."""
FEWEST_QUICK = 2000
"""Rows below which a thorough look takes no longer than a quick one."""
SMALLEST_SHARED = 500_000  # numbers; handing out less to threads takes longer than reading it


class NoPassLeft(Exception):  # noqa: N818
    """A step asked for one more pass over the rows than there is left."""


class Known(NamedTuple):
    """The objective at a place; ``smooth`` is the loss that it was asked of."""

    at: FloatArray
    value: float
    gradient: FloatArray
    smooth: Loss


class FullBatch:
    """The rows of ``data``, and what is summed over all of them.

    ``weights`` (n,) multiply each row's gradient in ``run`` on top of ``data.weights``, ``average_every`` > 0
    averages the parameters of every so many steps into ``State.average``. Results do not depend on ``threads``:
    the rows are cut into chunks by their number alone, and the chunks are added up in order.
    """

    def __init__(
        self,
        data: Dataset,
        loss: Loss,
        penalty: Penalty,
        weights: FloatArray | None = None,
        average_every: int = 0,
        threads: int = 1,
        preconditioner: Preconditioner | None = None,
        precondition_steps: bool = False,
        mean_curvature: float = 1.0,
        fit_intercept: bool = True,
        in_order: bool = False,
    ) -> None:
        self.data, self.loss, self.penalty = data, loss, penalty
        self.rows: tuple[Any, ...] = (data.X,)
        """What kernels take for the rows."""
        self.smooth = loss
        """The loss as ``objective`` has it: corners rounded over the width that the rule asks for."""
        self.in_float64 = False
        """Whether ``objective`` computes so on float32 rows too: what lies in a narrow corner is lost in float32."""
        self.cut_rows = 0
        """An epoch may be cut between any two batches (``engines/base.py``)."""
        self.num_rows = self.all_rows = data.num_rows
        """``all_rows``: that there are, where ``data`` holds some of them at a time."""
        self.passes_left: int | None = None
        """How often a step may still read every row; None: as often as it likes."""
        self.only_visits = ALL_ONE if weights is None else weights
        self.preconditioner, self.mean_curvature = preconditioner, mean_curvature
        self.fit_intercept = fit_intercept
        self.in_order = in_order
        """Whether rows lie as they came, so that the first do not stand for all."""
        self.inverse = np.empty((0, 0), dtype=data.X.dtype)
        if preconditioner is not None and precondition_steps:
            self.inverse = preconditioner.inverse.astype(data.X.dtype)
        self.average_every = average_every
        self.weights = ALL_ONE if data.weights is None else data.weights
        self.visit_weights = self.weights if weights is None else _product(self.weights, weights)
        self.threads = threads
        self.lowest = -np.inf
        """The best bound so far that the objective cannot go below; kept with an L1 penalty."""
        self.few: tuple[int, tuple[IntArray | slice, FloatArray]] | None = None
        self.by_products: Products | None = None
        """Squared error's sums over all rows, from which ``objective`` is told without reading them."""
        if preconditioner is not None and loss.code == SQUARED_ERROR and data.num_rows >= FEWEST_QUICK:
            products = preconditioner.products
            self.by_products = products if products is not None and products.rounding is not None else None
        self.last: Known | None = None
        """Where ``objective`` was asked last: the next to ask, of the same place, need not read the rows."""
        self.sampled: tuple[IntArray | slice, FloatArray] | None = None
        """The rows that stand for all in a certificate, and their shares of the mean; kept once they are chosen."""
        self._cut(max(SMALLEST_CHUNK, -(-data.num_rows // CHUNKS)))

    def _cut(self, chunk: int) -> None:
        """Cuts the rows into chunks of so many, and opens threads where that pays."""
        n = self.num_rows
        self.chunks = [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]
        worthwhile = len(self.chunks) > 1 and self.data.X.size >= SMALLEST_SHARED
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 and worthwhile else None

    def _map(self, function: Callable[[slice], T], end: int | None = None) -> Iterator[T]:
        """``function`` of every chunk, in the chunks' order whatever the threads; of those before the row ``end``."""
        chunks = self.chunks
        if end is not None and end < self.num_rows:
            chunks = [slice(chunk.start, min(chunk.stop, end)) for chunk in chunks if chunk.start < end]
        return self.pool.map(function, chunks) if self.pool and len(chunks) > 1 else map(function, chunks)

    def objective(self, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Mean loss + penalty and its gradient (k, d + 1), float64; read in one pass."""
        if self.passes_left is not None:
            if self.passes_left == 0:
                raise NoPassLeft
            self.passes_left -= 1
        own = self._own(parameters)
        if self.last is not None and self.last.smooth is self.smooth and _are_same(self.last.at, own):
            return self.last.value, self.last.gradient.copy(order="K")
        value, gradient = self._told_by_products(own) or self._read_objective(own)
        gradient[:, :-1] += self.penalty.alpha * own[:, :-1]
        if not self.fit_intercept:
            gradient[:, -1] = 0.0
        value += self.penalty.value(own)
        self.last = Known(own.copy(order="K"), value, gradient.copy(order="K"), self.smooth)
        return value, gradient

    def _read_objective(self, own: FloatArray) -> tuple[float, FloatArray]:
        """The mean loss of all rows and its gradient, no penalty in them."""
        value, gradient = 0.0, np.zeros(own.shape, dtype=np.float64)
        for part_value, part in self._map(partial(self._objective_of, parameters=own)):
            value += part_value
            gradient += part
        gradient /= self.num_rows
        return value / self.num_rows, gradient

    def _told_by_products(self, own: FloatArray) -> tuple[float, FloatArray] | None:
        if self.by_products is None:
            return None
        return self.by_products.squared_error(own.astype(np.float64), self.num_rows)

    def know_start(self, parameters: FloatArray) -> None:
        """Squared error at weights of 0 is in what the preconditioner was made of: then no pass is needed for it."""
        products = None if self.preconditioner is None else self.preconditioner.products
        own = self._own(parameters)
        if products is None or self.loss.code != SQUARED_ERROR or own[:, :-1].any():
            return
        value, gradient = products.squared_error(own.astype(np.float64), self.num_rows)
        if not self.fit_intercept:
            gradient[:, -1] = 0.0
        self.last = Known(own.copy(), value, gradient, self.smooth)

    def _objective_of(self, chunk: slice, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Sums over a chunk: of the weighted losses, and of their gradients."""
        if parameters.size > MOST_NUMBERS or self.in_float64:
            return self._by_products(chunk, parameters, self.smooth)
        value, part = 0.0, np.zeros(parameters.shape, dtype=self.data.X.dtype)
        for data, start, stop in self._read(chunk):
            value = row_sums.add_objective(data, start, stop, parameters, self.smooth, part, value)
        return value, part

    def _read(self, rows: slice) -> Iterator[tuple[Data, int, int]]:
        """Where kernels find some of the rows: among which, and the first and the last of them there."""
        yield (self.data.X, self.data.y, self.weights), rows.start, rows.stop

    def _pieces(self, rows: slice) -> Iterator[tuple[slice, Any]]:
        """The same for matrix products: which rows, and they themselves."""
        yield rows, self.data.X[rows]

    def _by_products(self, chunk: slice, parameters: FloatArray, loss: Loss) -> tuple[float, FloatArray]:
        """Sums of weighted loss and gradient of a chunk's rows by matrix products, in the parameters' precision."""
        total, gradient = 0.0, np.zeros(parameters.shape, dtype=np.float64)
        for rows, X in self._pieces(chunk):
            scores = X @ parameters[:, :-1].T + parameters[:, -1]
            losses, derivatives = losses_and_derivatives(loss.code, scores, self.data.y[rows], loss.shape)
            if self.weights.size:
                weights = self.weights[rows].astype(X.dtype)
                losses, derivatives = losses * weights, derivatives * weights[:, None]
            gradient[:, :-1] += derivatives.T @ X
            gradient[:, -1] += derivatives.sum(axis=0, dtype=np.float64)
            total += float(losses.sum(dtype=np.float64))
        return total, gradient

    def _own(self, parameters: FloatArray) -> FloatArray:
        """``parameters`` in the rows' data type, or in float64 where the objective is computed so."""
        return parameters if self.in_float64 else parameters.astype(self.data.X.dtype)

    def _full_gradient(self, parameters: FloatArray) -> FloatArray:
        total = np.zeros(parameters.shape, dtype=np.float64)
        for part in self._map(partial(self._gradient_of, parameters=parameters)):
            total += part
        return total

    def _gradient_of(self, chunk: slice, parameters: FloatArray) -> FloatArray:
        """The sum over a chunk of the weighted losses' gradients."""
        if parameters.size > MOST_NUMBERS:
            return self._by_products(chunk, parameters, self.loss)[1]
        part = np.zeros(parameters.shape, dtype=self.data.X.dtype)
        for data, start, stop in self._read(chunk):
            row_sums.add_gradient(data, start, stop, parameters, self.loss, part)
        return part

    def mean_loss(
        self, parameters: FloatArray, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        is_whole = num_rows is None and self.smooth is self.loss and not self.in_float64
        if is_whole and (gradient_follows or self.by_products is not None):
            return self.objective(parameters)[0]
        last = self.last
        if (
            num_rows is None
            and last is not None
            and last.smooth is self.loss
            and _are_same(last.at, parameters)
        ):
            return last.value
        total = total_weight = 0.0
        for chunk_loss, chunk_weight in self._map(partial(self._losses_of, parameters=parameters), num_rows):
            total += chunk_loss
            total_weight += chunk_weight
        return total / total_weight + self.penalty.value(parameters)

    def _losses_of(self, rows: slice, parameters: FloatArray) -> tuple[float, float]:
        """Sums of the weighted losses of some rows, and of their weights."""
        total = weight = 0.0
        if parameters.dtype != self.data.X.dtype:  # float64 over float32 rows: kernels take one data type
            for part, X in self._pieces(rows):
                scores = X @ parameters[:, :-1].T + parameters[:, -1]
                losses = row_losses(self.loss.code, scores, self.data.y[part], self.loss.shape)
                weights = self.weights[part] if self.weights.size else np.ones(len(losses))
                total, weight = total + float(losses @ weights), weight + float(weights.sum())
            return total, weight
        for data, start, stop in self._read(rows):
            total, more = row_sums.add_losses(data, start, stop, parameters, self.loss, total)
            weight += more
        return total, weight

    def _slopes(self, parameters: FloatArray) -> FloatArray:
        """The derivative of every row's loss, corners as round as they are, with respect to its scores; (n, k)."""
        own = self._own(parameters)
        slopes = np.empty((self.num_rows, len(own)))

        def write(chunk: slice) -> None:
            for rows, X in self._pieces(chunk):
                scores = X @ own[:, :-1].T + own[:, -1]
                slopes[rows] = row_derivatives(self.smooth.code, scores, self.data.y[rows], self.smooth.shape)

        for _ in self._map(write):
            pass
        return slopes


def _are_same(one: FloatArray, other: FloatArray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _product(weights: FloatArray, more: FloatArray) -> FloatArray:
    return more if not weights.size else weights * more
