"""Penalties: what is added to the mean loss. The intercept is never penalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from descend.errors import InputError, one_of
from descend.types import FloatArray

PENALTIES = ("l2", "none")


@dataclass(frozen=True, slots=True)
class Penalty:
    """alpha · ½‖w‖²; ``alpha`` is 0 for no penalty.

    >>> Penalty(0.5).value(np.array([[3.0, 4.0, 100.0]]))      # the last number is the intercept
    6.25
    """

    alpha: float

    def value(self, parameters: FloatArray) -> float:
        """The penalty of ``parameters`` (k, d + 1)."""
        weights = parameters[:, :-1].astype(np.float64)
        return 0.5 * self.alpha * float(np.sum(weights * weights))


def find_penalty(name: str | None, alpha: float) -> Penalty:
    """The penalty called ``name``; raises ``InputError`` for an unknown name or an impossible alpha."""
    name = "none" if name is None else name
    if name not in PENALTIES:
        raise one_of("penalty", name, PENALTIES)
    if not (np.isfinite(alpha) and alpha >= 0):
        raise InputError(f"alpha is {alpha!r}; a number ≥ 0 is needed, such as 1e-4 (0 means no penalty)")
    return Penalty(0.0 if name == "none" else float(alpha))
