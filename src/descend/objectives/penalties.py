"""Penalties: what is added to the mean loss. The intercept is never penalised.

L1 has a corner at zero. It is never walked over: after each step on the smooth part every weight is drawn towards
zero by as much as the step's length times L1's strength, and stops there (``shrunk``), so zeros are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.errors import InputError, one_of
from descend.types import FloatArray

PENALTIES = ("l2", "l1", "elasticnet", "none")
L1_RATIO = 0.15


@dataclass(frozen=True, slots=True)
class Penalty:
    """``alpha`` · ½‖w‖² + ``l1`` · ‖w‖₁.

    >>> Penalty(0.5).value(np.array([[3.0, 4.0, 100.0]]))      # the last number is the intercept
    6.25
    >>> Penalty(0.0, l1=0.5).value(np.array([[3.0, -4.0, 100.0]]))
    3.5
    """

    alpha: float
    l1: float = 0.0

    def value(self, parameters: FloatArray) -> float:
        """The penalty of ``parameters`` (k, d + 1)."""
        return self.of(parameters[:, :-1])

    def of(self, weights: FloatArray) -> float:
        """The penalty of weights of any shape, intercepts not among them."""
        as_it_lies = weights.T if weights.flags.f_contiguous else weights
        numbers = as_it_lies.astype(np.float64, order="C").ravel()
        total = 0.5 * self.alpha * float(np.einsum("i,i", numbers, numbers)) if self.alpha else 0.0
        return total + self.l1 * float(np.abs(numbers).sum()) if self.l1 else total


def shrunk(weight: Any, by: Any) -> Any:
    """``weight`` moved towards zero by ``by``, and no further: the proximal step of L1.

    >>> shrunk(np.array([3.0, -0.5]), 1.0).tolist()
    [2.0, 0.0]
    """
    return weight - np.minimum(np.maximum(weight, -by), by)


def find_penalty(
    name: str | None, alpha: float, l1_ratio: float = L1_RATIO, degree: int = 0, scale: float = 1.0
) -> Penalty:
    """The penalty called ``name``; raises ``InputError`` for an unknown name or an impossible alpha.

    ``scale`` is how many of the target's units make one unit of the scores, ``degree`` that of the loss: the
    strengths are turned so that weights count in the target's units, and the optimum does not move with the scale.

    >>> find_penalty("elasticnet", 1.0, l1_ratio=0.25)
    Penalty(alpha=0.75, l1=0.25)
    """
    name = "none" if name is None else name
    if name not in PENALTIES:
        raise one_of("penalty", name, PENALTIES)
    if not (np.isfinite(alpha) and alpha >= 0):
        raise InputError(f"alpha is {alpha!r}; a number ≥ 0 is needed, such as 1e-4 (0 means no penalty)")
    share = {"l2": 0.0, "l1": 1.0, "elasticnet": float(l1_ratio), "none": 0.0}[name]
    if not 0.0 <= share <= 1.0:
        raise InputError(f"l1_ratio is {l1_ratio!r}; a number from 0 (all l2) to 1 (all l1) is needed")
    if name == "none":
        return Penalty(0.0)
    squares, sizes = (scale ** (2 - degree), scale ** (1 - degree)) if degree else (1.0, 1.0)
    return Penalty(float(alpha) * (1.0 - share) * squares, float(alpha) * share * sizes)
