"""What the compiled loops of networks pass to one another, a name for each thing instead of its arrays.

n rows, d columns, k outputs, P parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray

DEPTH, UNITS, WIDTH, WEIGHTS, BIAS, Z, A, D = range(8)
"""The columns of ``Net.layers``."""


class Rows(NamedTuple):
    """The data: ``X`` (n, d), or CSR's three arrays and an ``X`` of one number; no ``weights`` are all 1."""

    X: FloatArray
    values: FloatArray
    columns: IntArray
    starts: IntArray
    y: FloatArray
    weights: FloatArray


class Net(NamedTuple):
    """The network and its loss, as codes.

    ``layers`` (L, 8) int64: depth, units, width, where its weights and its bias lie among the parameters
    (``models/network.py``), and where its scores, outputs and derivatives lie in ``Block.room``.
    """

    layers: IntArray
    activation: int
    loss: int
    shape: Shape | None


class Block(NamedTuple):
    """A few rows on their way through the layers.

    ``rows``: their numbers; ``places``: where each begins in ``Rows.X``; ``inner``: where the outputs of one of the
    layers begin in ``room``, which has all layers' scores, outputs and derivatives; ``scores`` (k + 2, rows): the
    last layer's, and then their derivatives, as ``row_kernels.py`` wants them.
    """

    rows: IntArray
    places: IntArray
    inner: IntArray
    room: FloatArray
    turned: FloatArray
    scores: FloatArray


class Moved(NamedTuple):
    """What an update moves: parameters (P,), and the optimizer's two memories of them."""

    parameters: FloatArray
    first: FloatArray
    second: FloatArray


class Method(NamedTuple):
    """How gradients become steps: the optimizer's code, its numbers (β₁, β₂, clip), and what pulls on weights."""

    optimizer: int
    numbers: FloatArray
    alpha: float
    l1: float
    decay: float
    fit_intercept: bool


class Pace(NamedTuple):
    """The rate of each step: a schedule's code, the rate it starts from, the steps it is made for."""

    schedule: int
    rate: float
    num_steps: int


class Step(NamedTuple):
    """The numbers of one step: what multiplies the gradient's sum, what pulls, Adam's two corrections."""

    rate: float
    scale: float
    ridge: float
    l1: float
    keep: float
    one: float
    two: float
