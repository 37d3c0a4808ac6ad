"""Adam (Kingma and Ba, https://arxiv.org/abs/1412.6980), bias corrected, ε = 1e-8 outside the root, as in PyTorch."""

from typing import Any

import numpy as np

from descend.updates.like import like
from descend.updates.over_root import over_root


def adam(
    parameter: Any,
    gradient: Any,
    first: Any,
    second: Any,
    rate: Any,
    beta1: Any,
    beta2: Any,
    correction1: Any,
    correction2: Any,
) -> tuple[Any, Any, Any]:
    """One step; ``first`` and ``second`` are the running moments, ``correction`` 1 − βᵗ for step t."""
    one = like(gradient, 1.0)
    first = beta1 * first + (one - beta1) * gradient
    second = beta2 * second + (one - beta2) * gradient * gradient
    # Both corrections are taken out of the quotient, so that they are worked out once for all parameters.
    root = np.sqrt(correction2)
    step = over_root(first, second, like(gradient, 1e-8) * root)
    return parameter - (rate * root / correction1) * step, first, second
