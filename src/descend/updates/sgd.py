"""Plain gradient descent: w ← w − rate · g."""

from typing import Any


def sgd(
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
    """One step; remembers nothing.

    >>> sgd(1.0, 0.5, 0, 0, rate=0.1, beta1=0, beta2=0, correction1=1, correction2=1)[0]
    0.95
    """
    return parameter - rate * gradient, first, second
