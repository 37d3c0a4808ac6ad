"""AdaGrad (Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html): rates fall as gradients add up.

ε = 1e-10 outside the root, as in PyTorch.
"""

from typing import Any

from descend.updates.like import like
from descend.updates.over_root import over_root


def adagrad(
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
    """One step; ``second`` is the sum of squared gradients."""
    second = second + gradient * gradient
    return parameter - over_root(rate * gradient, second, like(gradient, 1e-10)), first, second
