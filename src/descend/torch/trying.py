"""The module tried on a few rows before anything is trained: what would fail later, or change the caller's data."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from descend.errors import InputError, TrainingError
from descend.torch.coupling import Trial
from descend.torch.criterion import Criterion
from descend.torch.devices import spread
from descend.torch.examine import examine
from descend.torch.modes import modes_kept
from descend.torch.nested import mapped, tensors_of
from descend.torch.rows import named

FEW = 2
TWO_TYPES = re.compile(
    r"same dtype, but got \w+ and (\w+)|Input type \([^)]*\) and (?:bias|weight) type \(([^)]*)\) should be"
)
"""What PyTorch's layers say of rows whose type is not their own, which comes second."""
CASTS = {"float": "float", "double": "double", "half": "half", "bfloat16": "bfloat16"}


def materialise(module: Any, few: Callable[[], Any]) -> None:
    """Gives lazy layers their parameters, by a pass of some rows; ``few()`` is an X of these."""
    if not any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        return
    with modes_kept(module), torch.no_grad():
        module.eval()
        try:
            spread(module)(few())
        except (InputError, TrainingError):
            raise
        except Exception as error:
            raise InputError(
                f"the module has lazy layers, and a pass of {FEW} rows, which gives them their parameters, raised "
                f"{named(error)}; call it on some rows of yours before"
            ) from error


def try_first(module: Any, criterion: Criterion, batch: tuple[Any, ...], rows: Any) -> None:
    """Raises ``InputError`` where module or loss cannot take the first rows, ``batch``; ``rows``: all of them."""
    doing = "the module"
    with modes_kept(module), torch.no_grad():
        module.eval()
        try:
            output = spread(module)(batch[0])
            examine(criterion, output, batch[1], rows)
            doing = "the loss"
            criterion(output, *batch[1:])
        except (InputError, TrainingError):
            raise
        except Exception as error:
            advice = advice_on(str(error)) or "Try it on these rows alone."
            raise InputError(f"{doing} raised {named(error)} on the first rows. {advice}") from error


def advice_on(text: str) -> str:
    """What to try, of what PyTorch says."""
    if "not enough memory" in text or "out of memory" in text:
        return "Take a smaller microbatch (the gradient stays that of the batch), or a smaller batch_size."
    if types := TWO_TYPES.search(text):
        cast = CASTS.get(str(types[1] or types[2]).removeprefix("c10::").lower(), "float")
        return f"Give X the module's type: X.{cast}()."
    if "expected scalar type" in text or "expected m1" in text:
        return "Give X the module's type: X.float()."
    if "more than 1 value per channel" in text:
        return "The batch has one row, and a layer normalises by the batch: take a batch_size that leaves none over."
    if "does not support sparse gradients" in text:
        return "Pass optimizer_options={'fused': False}."
    if "linalg_vector_norm" in text and "Sparse" in text:
        return (
            "clip does not go with sparse gradients: leave it out, or make the embedding with sparse=False."
        )
    return ""


def refuse_single(module: Any, num_rows: int, batch_size: int, first: Callable[[], Any]) -> None:
    """Raises ``InputError`` where an epoch has a batch of one row and a layer cannot normalise by that.

    ``first()`` is an X of one row. It would be found out at the end of the first epoch.
    """
    if batch_size > 1 and num_rows % batch_size != 1:
        return
    norms = [
        (name, type(layer).__name__)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training
    ]
    if not norms:
        return
    try:
        with Trial(module) as trial:
            trial.outputs(first(), lambda layers, X: spread(layers)(X))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            return
        other = next((size for size in range(batch_size + 1, num_rows) if num_rows % size != 1), num_rows)
        last = "batches have" if batch_size == 1 else f"the last batch of {num_rows} has"
        raise InputError(
            f"batch_size {batch_size}: {last} one row, and layer {norms[0][0]!r} ({norms[0][1]}) normalises by the "
            f"batch; take another, such as {other}"
        ) from error
    except Exception:  # it will be told with its step
        return


def writes_into(module: Any, X: Any) -> bool:
    """Whether the module changes what it is given, an X of some rows; False where that cannot be seen."""
    copy = mapped(torch.Tensor.clone, X)
    before = [leaf._version for leaf in tensors_of(copy)]
    try:
        with Trial(module) as trial:
            trial.outputs(copy, lambda layers, given: spread(layers)(given))
    except Exception:  # it will be told with its step
        return False
    return [leaf._version for leaf in tensors_of(copy)] != before
