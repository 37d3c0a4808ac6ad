"""RMSProp (Hinton 2012): steps over the root of a running mean of squares. α = 0.99, ε = 1e-8, as in PyTorch."""

from typing import Any

from descend.updates.like import like
from descend.updates.over_root import over_root


def rmsprop(
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
    """One step; ``second`` is the running mean of squared gradients."""
    second = like(gradient, 0.99) * second + like(gradient, 1 - 0.99) * gradient * gradient
    return parameter - over_root(rate * gradient, second, like(gradient, 1e-8)), first, second
