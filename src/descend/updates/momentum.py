"""Heavy-ball momentum (Polyak 1964): v ← β v + g;  w ← w − rate · v. As in PyTorch, v is not scaled by 1 − β."""

from typing import Any


def momentum(
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
    """One step; ``first`` is the velocity v, ``beta1`` its β."""
    velocity = beta1 * first + gradient
    return parameter - rate * velocity, velocity, second
