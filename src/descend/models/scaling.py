"""Parameters in another scaling of the same columns and target: other numbers, the same predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from descend.types import FloatArray

if TYPE_CHECKING:
    from descend.features import Features, Target
    from descend.models.linear import LinearModel
    from descend.models.mlp import MLPModel


@dataclass(frozen=True, slots=True)
class Scaling:
    """Encoded column = (column − mean) / scale, (d,); encoded target likewise, (k,)."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    target_mean: NDArray[np.float64]
    target_scale: NDArray[np.float64]

    @classmethod
    def of(cls, features: Features, target: Target) -> Scaling:
        """The scaling of a model's columns; classes have none."""
        if target.task == "classification":
            return cls(
                features.mean, features.scale, np.zeros(target.num_outputs), np.ones(target.num_outputs)
            )
        return cls(features.mean, features.scale, target.mean, target.scale)


def carry(parameters: FloatArray, old: Scaling, new: Scaling) -> NDArray[np.float64]:
    """Parameters (k, d + 1) of the ``old`` scaling in the ``new`` one; the predictions are the same.

    >>> one = Scaling(np.array([1.0]), np.array([2.0]), np.zeros(1), np.ones(1))
    >>> other = Scaling(np.array([3.0]), np.array([4.0]), np.zeros(1), np.ones(1))
    >>> carry(np.array([[5.0, 7.0]]), one, other)
    array([[10., 12.]])
    """
    weights, intercept = parameters[:, :-1].astype(np.float64), parameters[:, -1].astype(np.float64)
    ratio = old.target_scale / new.target_scale
    shifted = intercept + weights @ ((new.mean - old.mean) / old.scale)
    carried = np.empty(parameters.shape)
    carried[:, :-1] = weights * (new.scale / old.scale) * ratio[:, None]
    carried[:, -1] = shifted * ratio + (old.target_mean - new.target_mean) / new.target_scale
    return carried


def carry_gradient(gradient: FloatArray, old: Scaling, new: Scaling, degree: int = 2) -> NDArray[np.float64]:
    """What a gradient (or a sum of them) of the ``old`` scaling is in the ``new`` one, at the same predictions.

    ``degree`` is that of the loss: derivatives of squared error go with the target's scale, those of quantile and
    epsilon-insensitive losses do not.
    """
    weights, intercept = gradient[:, :-1].astype(np.float64), gradient[:, -1:].astype(np.float64)
    carried = np.empty(gradient.shape)
    carried[:, :-1] = (weights * old.scale + intercept * (old.mean - new.mean)) / new.scale
    carried[:, -1:] = intercept
    return carried * _of_derivatives(old, new, degree)


def carry_squares(squares: FloatArray, old: Scaling, new: Scaling, degree: int = 2) -> NDArray[np.float64]:
    """Squared gradients of single parameters; the shift of the mean is left out, for it needs their products."""
    carried = squares.astype(np.float64) * np.square(_of_derivatives(old, new, degree))
    carried[:, :-1] *= np.square(old.scale / new.scale)
    return carried


def _of_derivatives(old: Scaling, new: Scaling, degree: int) -> NDArray[np.float64]:
    """By what the loss's derivatives grow, (k, 1); classes have a scale of 1, and so has poisson's target."""
    ratio: NDArray[np.float64] = (old.target_scale / new.target_scale)[:, None]
    return ratio ** (degree - 1)


def parameters_for(model: LinearModel, features: Features, target: Target) -> NDArray[np.float64] | None:
    """``model``'s parameters (k, d + 1) for other features of the same inputs; None where they do not fit.

    They fit where outputs and classes are the same, and the inputs are the same matrix or encoded alike. A column
    that ``model`` left out as constant has weight 0.
    """
    mine, theirs = model.features, features
    if model.target.classes != target.classes or model.target.num_outputs != target.num_outputs:
        return None
    if mine.names == theirs.names:
        return carry(model.parameters, Scaling.of(mine, model.target), Scaling.of(theirs, target))
    plain = all(f.is_matrix and not f.tells_missing for f in (mine, theirs))
    if not plain or mine.input_names != theirs.input_names:
        return None
    weights, intercept = model.in_units()
    kept = weights[:, theirs.origin]
    outputs = model.target.num_outputs
    raw = Scaling(np.zeros(kept.shape[1]), np.ones(kept.shape[1]), np.zeros(outputs), np.ones(outputs))
    return carry(np.hstack([kept, intercept[:, None]]), raw, Scaling.of(theirs, target))


def network_parameters_for(model: MLPModel, features: Features, target: Target) -> NDArray[np.float64] | None:
    """A network's parameters (P,) for other features of the same columns; None where they do not fit.

    The first layer takes in the columns' scaling, the last one the target's; the predictions are the same.
    """
    if model.target.classes != target.classes or model.target.num_outputs != target.num_outputs:
        return None
    if model.features.names != features.names:
        return None
    old, new = Scaling.of(model.features, model.target), Scaling.of(features, target)
    carried = model.parameters.astype(np.float64)
    parts = model.network.parts(carried)
    weights, bias = parts[0]
    bias += ((new.mean - old.mean) / old.scale) @ weights
    weights *= (new.scale / old.scale)[:, None]
    weights, bias = parts[-1]
    ratio = old.target_scale / new.target_scale
    weights *= ratio
    bias *= ratio
    bias += (old.target_mean - new.target_mean) / new.target_scale
    return carried
