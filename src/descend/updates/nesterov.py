"""Nesterov's momentum in the form of Sutskever et al. 2013, as in PyTorch: v ← β v + g;  w ← w − rate · (g + β v)."""

from typing import Any


def nesterov(
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
    return parameter - rate * (gradient + beta1 * velocity), velocity, second
