"""AdamW (Loshchilov and Hutter, https://arxiv.org/abs/1711.05101): Adam whose L2 does not pass through the moments.

The formula is Adam's. The difference lies with whoever calls it: weights are multiplied by 1 − rate · alpha, and the
gradient comes without the penalty's. So where it settles is not the optimum of loss + L2, but near it.
"""

from typing import Any

from descend.updates.adam import adam


def adamw(
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
    """One step of Adam, on a gradient without the penalty's."""
    return adam(parameter, gradient, first, second, rate, beta1, beta2, correction1, correction2)
