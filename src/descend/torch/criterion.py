"""The caller's loss, and how the losses of parts of a batch add up to that of the whole.

``mean`` divides by what the loss says counts: rows, or with class weights and ``ignore_index`` the weights of the
targets that are not ignored. A loss that is known here is called as it is where a batch is one piece; in parts it is
called with the same settings, and each part divided by the batch's divisor. Of a loss that is not known nothing is
assumed.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from descend.errors import InputError
from descend.torch.nested import count_rows

REDUCTIONS = ("mean", "sum", "none")
ELEMENTWISE = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
    nn.KLDivLoss,
)
"""Output and target have one shape, and each number of it a loss."""
BY_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss)
ROW_BY_ROW = (
    *ELEMENTWISE,
    *BY_CLASS,
    nn.MultiMarginLoss,
    nn.MultiLabelMarginLoss,
    nn.MultiLabelSoftMarginLoss,
)
FUNCTIONS: dict[Any, Any] = {
    functional.mse_loss: nn.MSELoss,
    functional.l1_loss: nn.L1Loss,
    functional.smooth_l1_loss: nn.SmoothL1Loss,
    functional.huber_loss: nn.HuberLoss,
    functional.binary_cross_entropy: nn.BCELoss,
    functional.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    functional.poisson_nll_loss: nn.PoissonNLLLoss,
    functional.soft_margin_loss: nn.SoftMarginLoss,
    functional.kl_div: nn.KLDivLoss,
    functional.cross_entropy: nn.CrossEntropyLoss,
    functional.nll_loss: nn.NLLLoss,
    functional.multi_margin_loss: nn.MultiMarginLoss,
    functional.multilabel_margin_loss: nn.MultiLabelMarginLoss,
    functional.multilabel_soft_margin_loss: nn.MultiLabelSoftMarginLoss,
}


@dataclass(frozen=True, slots=True)
class Criterion:
    """A loss of a batch, its parts, and what they are divided by."""

    call: Callable[..., Any]
    """As the caller gave it."""
    kind: Any = None
    """The loss module of PyTorch that it is, or None: one that is not known."""
    reduction: str | None = None
    """``mean``, ``sum`` or ``none``; None: not known."""
    of_rows: Callable[..., Any] | None = None
    """The same without a reduction; None where the loss is not known."""
    class_weights: Any = None
    ignored: int | None = None

    @property
    def adds_up(self) -> bool:
        """Whether the losses of parts make that of the whole."""
        return self.reduction is not None

    def __call__(self, output: Any, y: Any, weights: Any = None) -> torch.Tensor:
        """The loss of a batch as training minimises it, one number."""
        if weights is not None:
            return self.part(output, y, weights, self.divisor_of_batch(y, weights))
        value = self.call(output, y)
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"the loss returned a {type(value).__name__}; a tensor computed from the module's output is needed"
            )
        return value if value.dim() == 0 else value.mean()

    def part(self, output: Any, y: Any, weights: Any, divisor: Any) -> torch.Tensor:
        """The share of these rows in the loss of a batch whose divisor is ``divisor``: shares add up to that loss."""
        if self.of_rows is None and weights is None:
            value = self(output, y)
            return value if self.reduction == "sum" else value * (count_rows(y) / divisor)
        losses = (self.of_rows or self.call)(output, y)
        if not isinstance(losses, torch.Tensor) or losses.dim() == 0 or len(losses) != len(y):
            raise InputError(
                _NO_ROWS.format("one number" if getattr(losses, "ndim", 0) == 0 else tuple(losses.shape))
            )
        total = (losses if weights is None else _beside(weights.to(losses.dtype), losses) * losses).sum()
        if self.reduction == "sum":
            return total
        elements = 1.0 if self._counts_targets(y) else losses.numel() / len(losses)
        return total / (divisor * elements)

    def divisor(self, y: Any, weights: Any = None) -> Any:
        """What the loss of these rows is divided by; rows of several elements count once. A sum's is 1."""
        if self.reduction == "sum":
            return 1.0
        if self._counts_targets(y):
            counts = self._counts(y)
            return (counts if weights is None else _beside(weights, counts) * counts).sum()
        return float(count_rows(y)) if weights is None else weights.sum()

    def divisor_of_batch(self, y: Any, weights: Any = None) -> Any:
        """The same where it is divided by: rows whose weights are all 0 have the loss 0, and not 0 / 0."""
        found = self.divisor(y, weights)
        return found if weights is None or self.reduction == "sum" else torch.where(found > 0, found, 1.0)

    def _counts_targets(self, y: Any) -> bool:
        return self.reduction == "mean" and self.kind in BY_CLASS and not y.is_floating_point()

    def _counts(self, y: Any) -> torch.Tensor:
        """What each target counts: its class's weight, 0 where it is ignored."""
        kept = y != self.ignored
        if self.class_weights is None:
            return kept.to(torch.get_default_dtype())
        table = self.class_weights.to(y.device)
        return torch.where(
            kept, table[torch.where(kept, y, 0).long()], torch.zeros((), dtype=table.dtype, device=y.device)
        )


_NO_ROWS = (
    "weights need a loss for each row, and this one returned {}; pass a loss of torch.nn, or one that returns a "
    'tensor with an entry for each row (reduction="none")'
)


def as_criterion(loss: Any, reduction: str | None = None) -> Criterion:
    """What is known of ``loss``: a loss module or function of PyTorch, a ``functools.partial`` of one, or anything.

    ``reduction`` says how a loss that is not known sums up its rows: ``mean`` over rows, or ``sum``.
    """
    if not callable(loss) or isinstance(loss, type):
        hint = f"; call it: {loss.__name__}()" if isinstance(loss, type) else ""
        raise InputError(
            f"loss is {loss!r}; a callable of (output, y) is needed, such as torch.nn.CrossEntropyLoss(){hint}"
        )
    if reduction is not None and reduction not in REDUCTIONS:
        raise InputError(f"reduction {reduction!r} is not known; choose one of: {', '.join(REDUCTIONS)}")
    if type(loss) in ROW_BY_ROW:
        return _of_module(loss)
    settings: dict[str, Any] = {}
    function = loss
    if isinstance(loss, functools.partial) and not loss.args:
        function, settings = loss.func, dict(loss.keywords)
    if _hashable(function) in FUNCTIONS:
        return _of_function(loss, FUNCTIONS[function], settings)
    return Criterion(loss, reduction=reduction, of_rows=loss if reduction == "none" else None)


def _of_module(loss: Any) -> Criterion:
    own: str = loss.reduction
    by_row = copy.copy(loss)
    by_row.reduction = "none"
    if type(loss) is nn.KLDivLoss and own == "batchmean":
        return Criterion(loss, nn.KLDivLoss, "mean", lambda output, y: by_row(output, y).flatten(1).sum(1))
    return Criterion(
        loss,
        type(loss),
        own if own in REDUCTIONS else None,
        by_row,
        getattr(loss, "weight", None) if type(loss) in BY_CLASS else None,
        getattr(loss, "ignore_index", None),
    )


def _of_function(loss: Any, kind: Any, settings: dict[str, Any]) -> Criterion:
    own = settings.get("reduction", "mean")
    if own not in REDUCTIONS or {"size_average", "reduce"} & set(settings):
        return Criterion(loss)
    return Criterion(
        loss,
        kind,
        own,
        functools.partial(loss, reduction="none"),
        settings.get("weight") if kind in BY_CLASS else None,
        settings.get("ignore_index", -100) if kind in BY_CLASS else None,
    )


def _hashable(function: Any) -> Any:
    try:
        hash(function)
    except TypeError:
        return None
    return function


def _beside(weights: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """Weights (B,) shaped so that they multiply losses (B, …)."""
    return weights.reshape(-1, *[1] * (losses.dim() - 1))
