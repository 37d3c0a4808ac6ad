"""What the compiled loops of linear models pass to one another, a name for each group of arrays and numbers.

n rows, d columns, k outputs. They are plain tuples, which kernels take apart where they begin: to tell the type of a
named one Numba takes 0.6 µs at every call from Python, a third of what a step of one row takes in all.
"""

from __future__ import annotations

from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray

Data = tuple[FloatArray, FloatArray, FloatArray]
"""``X`` (n, d), targets ``y`` (n, 1 or k), and ``weights`` (n,), or none where all are 1."""

SparseData = tuple[FloatArray, IntArray, IntArray, FloatArray, FloatArray]
"""CSR's ``values``, ``indices`` and ``indptr`` (``sparse_kernels.kernel_rows``), then ``y`` and ``weights``."""

Block = tuple[FloatArray, IntArray]
"""What a block of rows is worked on in: (k + 2, 64) for its scores and two rows more; (128,) numbers: of its
rows, and from the 64th on of rows to come."""

Objective = tuple[int, Shape | None, float, float, bool]
"""What is minimised: the loss's code and its numbers, ``alpha`` of L2, ``l1``, and whether intercepts move."""

Moved = tuple[FloatArray, FloatArray, FloatArray]
"""What an update moves, (k, d + 1) each: the parameters, and the optimizer's two memories of them."""

Averaging = tuple[FloatArray, int, int]
"""The mean (k, d + 1) float64 of so many parameters; to be averaged after every so many steps, 0: never."""

SparseAveraging = tuple[FloatArray, int, bool]
"""Sums (d + 1, k) float64 of parameters, or none; to be added to after every so many steps, or 0; whether the data is
so narrow that writing all weights out is cheap."""

Method = tuple[int, FloatArray, bool]
"""How gradients become steps: the optimizer's code, its numbers (β₁, β₂, the length that gradients are clipped to, or
0), and whether rows of a batch are summed up, not averaged."""

Visits = tuple[IntArray, FloatArray]
"""The order that rows are visited in, and what multiplies their gradients then: (n,), or none where all are 1."""

Table = tuple[FloatArray, FloatArray, int]
"""SAGA's memory: the last derivatives of rows, their mean gradient (k, d + 1) float64, and of how many rows it is."""

SagaPace = tuple[bool, float, int, int, float, float]
"""SAGA's rates: whether it fills its table, the curvature's share of its bound, steps taken so far, steps that it
fills the table in, and the two terms that a rate is one over."""

Piece = tuple[int, bool, float, FloatArray, FloatArray]
"""A piece of a batch of SAGA: the rows of the whole batch, or 0 where batches are whole, whether it is the last, the
share at the batch's beginning, and (k, d + 1) each: the gradient so far, and the changes of its mean."""

Pace = tuple[int, float, int, int]
"""The rate of each step: the schedule's code, the rate it starts from, steps taken so far, steps it is made for."""

Step = tuple[int, float, float, float, float]
"""One step: how many it is, its rate, what multiplies the sum over the batch, how hard L2 and L1 pull."""
