"""The shape of a network, and where its weights lie in one flat vector of parameters.

One vector, so that the elementwise updates of ``updates/`` and the averages work on a network as on anything else.
Layer after layer it has the weights (depth, width), a row for each input, then the intercepts (width,). ``width`` is
the layer's units filled up to a multiple of 16: compiled loops then have no column left over. What fills up is zero,
gets no gradient and stays zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from descend.errors import InputError, shorten
from descend.objectives.activations import Activation, activate
from descend.types import FloatArray

FILL = 16
CONFLICT = 512
"""Rows a multiple of this many numbers apart fall into the same places of a cache, and push one another out."""
BLOCK_NUMBERS = 2**20
LAST = 0.3
"""Weights of the last layer start at this share: training begins near the constant model. With 1 kin40k ended at an
error of 0.166 instead of 0.156, with 0.1 letter at 0.959 of the rows instead of 0.961."""


class Layer(NamedTuple):
    """One layer: ``depth`` inputs, ``units`` outputs, rows of weights ``width`` apart from ``weights`` on."""

    depth: int
    units: int
    width: int
    weights: int
    bias: int

    @property
    def end(self) -> int:
        return self.bias + self.width


@dataclass(frozen=True)
class Network:
    """Numbers of units from the columns to the outputs, and what hidden units make of their scores.

    >>> from descend.objectives.activations import ACTIVATIONS
    >>> network = Network((3, 20, 1), ACTIVATIONS["relu"])
    >>> [(layer.depth, layer.units, layer.width) for layer in network.layers], network.size
    ([(3, 20, 32), (20, 1, 16)], 464)
    """

    sizes: tuple[int, ...]
    activation: Activation

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        found, start = [], 0
        for depth, units in pairwise(self.sizes):
            width = filled(units)
            layer = Layer(depth, units, width, start, start + depth * width)
            found.append(layer)
            start = layer.end
        return tuple(found)

    @property
    def size(self) -> int:
        """Numbers in the vector of parameters, those that fill up among them."""
        return self.layers[-1].end

    def parts(self, parameters: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        """Weights (depth, units) and intercepts (units,) of each layer; views, not copies."""
        return [
            (
                parameters[layer.weights : layer.bias].reshape(layer.depth, layer.width)[:, : layer.units],
                parameters[layer.bias : layer.bias + layer.units],
            )
            for layer in self.layers
        ]

    def scores(self, parameters: FloatArray, X: Any) -> FloatArray:
        """Scores (n, k) of rows ``X`` (n, d), dense or CSR."""
        *hidden, (weights, bias) = self.parts(parameters)
        for inner, shift in hidden:
            X = activate(self.activation.code, X @ inner + shift)
        return np.asarray(X @ weights + bias)

    def scores_in_blocks(self, parameters: FloatArray, X: Any) -> FloatArray:
        """``scores`` as float64, so many rows at a time that what hidden layers make of them stays small."""
        n = int(X.shape[0])
        step = max(1, BLOCK_NUMBERS // max(self.sizes[1:]))
        found = np.empty((n, self.sizes[-1]))
        for start in range(0, n, step):
            found[start : start + step] = self.scores(parameters, X[start : start + step])
        return found


def filled(units: int) -> int:
    """``units`` filled up to a multiple of 16, and past what lies badly in caches.

    >>> filled(1), filled(100), filled(1024)
    (16, 112, 1040)
    """
    width = -(-units // FILL) * FILL
    return width + FILL if width % CONFLICT == 0 else width


def initialise(network: Network, seed: int, dtype: Any) -> FloatArray:
    """First parameters: uniform weights, intercepts 0; the same seed gives the same numbers in every precision.

    The variance is 2 / inputs for relu and gelu (He et al. 2015), else 2 / (inputs + outputs) (Glorot and Bengio
    2010, https://proceedings.mlr.press/v9/glorot10a.html); the last layer's is smaller.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    parameters = aligned_zeros(network.size, dtype)
    for number, (weights, _) in enumerate(network.parts(parameters)):
        weights[:] = draw_weights(network, number, rng)
    return parameters


def draw_weights(network: Network, number: int, rng: np.random.Generator) -> FloatArray:
    """First weights (inputs, outputs) of layer ``number``."""
    inputs, outputs = network.sizes[number : number + 2]
    is_last = number + 2 == len(network.sizes)
    variance = 2.0 / inputs if network.activation.one_sided and not is_last else 2.0 / (inputs + outputs)
    if is_last and number:
        variance *= LAST**2
    drawn: FloatArray = rng.uniform(-1.0, 1.0, (inputs, outputs)) * np.sqrt(3.0 * variance)
    return drawn


def aligned_zeros(size: int, dtype: Any) -> FloatArray:
    """Zeros (size,) that begin at the edge of a cache line: a vector that lies across two costs two reads."""
    line, bytes_of_one = 64, np.dtype(dtype).itemsize
    room = np.zeros(size + line // bytes_of_one, dtype=dtype)
    skip = -room.ctypes.data % line // bytes_of_one
    return room[skip : skip + size]


def check_hidden(sizes: object) -> tuple[int, ...]:
    """Sizes of hidden layers as a tuple; one number is one layer. Raises ``InputError`` naming what cannot be used.

    >>> check_hidden(100), check_hidden([128, 64])
    ((100,), (128, 64))
    """
    needed = "whole numbers of units ≥ 1 are needed, such as (128, 64); () has no hidden layer"
    if isinstance(sizes, Integral):
        sizes = (sizes,)
    if isinstance(sizes, str) or not isinstance(sizes, (Sequence, np.ndarray)):
        raise InputError(f"hidden_layer_sizes is {shorten(repr(sizes))}; {needed}")
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, Integral) or size < 1:
            raise InputError(f"hidden_layer_sizes holds {shorten(repr(size))}; {needed}")
    return tuple(int(size) for size in sizes)
