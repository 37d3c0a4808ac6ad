"""From gradient to new parameters: one optimizer per file, each one elementwise formula.

Every optimizer has the same signature, so that a kernel can call any of them by code:

    (parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
        → (parameter, first, second)

``first`` and ``second`` are what it remembers between steps. The same function runs on whole NumPy
arrays (reference engine) and on single numbers (compiled kernels).

To add an optimizer: write its file, add an entry to ``OPTIMIZERS`` and a line to ``update``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.errors import one_of
from descend.updates.adagrad import adagrad
from descend.updates.adam import adam
from descend.updates.adamw import adamw
from descend.updates.momentum import momentum
from descend.updates.nesterov import nesterov
from descend.updates.rmsprop import rmsprop
from descend.updates.sgd import sgd

SGD = 0
MOMENTUM = 1
NESTEROV = 2
ADAM = 3
SAGA = 4
LBFGS = 5
NEWTON = 6
ADAGRAD = 7
RMSPROP = 8
ADAMW = 9


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An update rule as the engines and the learning-rate formula see it."""

    name: str
    code: int
    uses_momentum: bool = False
    scale_free: bool = False
    """The step's length does not follow the gradient's: curvature cannot set the rate."""
    scale_free_rate: float = 1e-3
    """The rate at batch size 1 where curvature cannot set it."""
    elementwise: bool = True
    """Its formula stands in this folder; the others need more than a gradient and live with the engines."""


OPTIMIZERS = {
    "sgd": Optimizer("sgd", SGD),
    "momentum": Optimizer("momentum", MOMENTUM, uses_momentum=True),
    "nesterov": Optimizer("nesterov", NESTEROV, uses_momentum=True),
    "adam": Optimizer("adam", ADAM, scale_free=True),
    "adagrad": Optimizer("adagrad", ADAGRAD, scale_free=True, scale_free_rate=1e-2),
    "rmsprop": Optimizer("rmsprop", RMSPROP, scale_free=True),
    "adamw": Optimizer("adamw", ADAMW, scale_free=True),
    "saga": Optimizer("saga", SAGA, elementwise=False),
    "lbfgs": Optimizer("lbfgs", LBFGS, elementwise=False),
    "newton": Optimizer("newton", NEWTON, elementwise=False),
}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer called ``name``; raises ``InputError`` when there is none."""
    if name not in OPTIMIZERS:
        raise one_of("optimizer", name, ["auto", *OPTIMIZERS])
    return OPTIMIZERS[name]


def update(
    code: int,
    parameter: Any,
    gradient: Any,
    first: Any,
    second: Any,
    rate: Any,
    beta1: Any,
    beta2: Any,
    correction1: Any,
    correction2: Any,
) -> Any:
    """One step of the optimizer with this code."""
    if code == MOMENTUM:
        return momentum(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
    if code == NESTEROV:
        return nesterov(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
    if code == ADAM:
        return adam(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
    if code == ADAMW:
        return adamw(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
    if code == ADAGRAD:
        return adagrad(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
    if code == RMSPROP:
        return rmsprop(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
    return sgd(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)


def reach(code: int, rate: Any, second: Any, beta1: Any, correction2: Any) -> Any:
    """How far a gradient of 1 that stays the same moves a parameter in one step: L1's own step is as long.

    With another length the weights would settle where L1 and the loss do not balance.

    >>> round(reach(MOMENTUM, 0.1, 0.0, 0.9, 1.0), 12)
    1.0
    """
    if code in (MOMENTUM, NESTEROV):
        return rate / (1.0 - beta1)
    if code in (ADAM, ADAMW):
        return rate / (np.sqrt(second / correction2) + 1e-8)
    if code == ADAGRAD:
        return rate / (np.sqrt(second) + 1e-10)
    if code == RMSPROP:
        return rate / (np.sqrt(second) + 1e-8)
    return rate


FORMULAS = (sgd, momentum, nesterov, adam, adamw, adagrad, rmsprop, update, reach)
"""What a kernel may call."""
