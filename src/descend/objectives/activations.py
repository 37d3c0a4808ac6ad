"""Activations: what a hidden unit makes of its score z, and the derivative of that.

Plain arithmetic on NumPy arrays: predictions, the reference engine and tests. Kernels have loops of their own
(``engines/unit_kernels.py``), because half of a step would be calls of the library's tanh and erf, and contract tests
hold the two equal. A slope takes z and what the unit made of it, whichever says it faster.

To add an activation: write its two formulas, add an entry to ``ACTIVATIONS`` and a line each to ``activate`` and
``slope_of``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np

from descend.errors import one_of
from descend.objectives.losses import sigmoid

IDENTITY = 0
RELU = 1
TANH = 2
LOGISTIC = 3
GELU = 4
ROOT_HALF = sqrt(0.5)
DENSITY = 1.0 / sqrt(2.0 * pi)


@dataclass(frozen=True, slots=True)
class Activation:
    """What an engine and the first weights need to know."""

    name: str
    code: int
    one_sided: bool = False
    """Half of the units are silent: weights start larger (He et al. 2015, https://arxiv.org/abs/1502.01852)."""
    can_die: bool = False
    """A unit can be silent on every row, and then no gradient reaches it."""


ACTIVATIONS = {
    "relu": Activation("relu", RELU, one_sided=True, can_die=True),
    "tanh": Activation("tanh", TANH),
    "logistic": Activation("logistic", LOGISTIC),
    "gelu": Activation("gelu", GELU, one_sided=True),
    "identity": Activation("identity", IDENTITY),
}


def find_activation(name: object) -> Activation:
    """The activation called ``name``; raises ``InputError`` when there is none."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise one_of("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def relu(z: Any) -> Any:
    """max(z, 0).

    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return np.maximum(z, 0.0)


def relu_slope(z: Any) -> Any:
    """1 above 0, else 0."""
    return (z > 0.0) * 1.0


def tanh_slope(a: Any) -> Any:
    """1 − tanh²(z)."""
    return 1.0 - a * a


def logistic_slope(a: Any) -> Any:
    """What the unit made of z, times 1 − that."""
    return a * (1.0 - a)


def normal_share(z: Any) -> Any:
    """The share of a normal distribution below z."""
    from scipy.special import erf

    return 0.5 + 0.5 * erf(z * ROOT_HALF)


def gelu(z: Any) -> Any:
    """The score times the normal share below z, exact (Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415).

    >>> round(float(gelu(1.0)), 6)
    0.841345
    """
    return z * normal_share(z)


def gelu_slope(z: Any) -> Any:
    """Normal share + z · normal density."""
    return normal_share(z) + z * DENSITY * np.exp(-0.5 * z * z)


def activate(code: int, z: Any) -> Any:
    """What the activation with this code makes of z."""
    if code == RELU:
        return relu(z)
    if code == TANH:
        return np.tanh(z)
    if code == LOGISTIC:
        return sigmoid(z)
    if code == GELU:
        return gelu(z)
    return z


def slope_of(code: int, z: Any, a: Any) -> Any:
    """The derivative at z of the activation with this code, which made ``a`` of it."""
    if code == RELU:
        return relu_slope(z)
    if code == TANH:
        return tanh_slope(a)
    if code == LOGISTIC:
        return logistic_slope(a)
    if code == GELU:
        return gelu_slope(z)
    return np.ones_like(z)
