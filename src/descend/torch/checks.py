"""What ``fit`` is given, checked before anything is trained; which rows are held out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from descend.errors import InputError
from descend.torch.rows import named

HELD_OUT, MOST_LOOKED_AT = 0.1, 2000
WHOLE = ("epochs", "n_iter_no_change", "microbatch", "evaluation_batch_size")


def check_module(module: Any) -> None:
    """Raises ``InputError`` for what is no module, or none that can be trained."""
    if not isinstance(module, torch.nn.Module):
        hint = f"; make one of it: {module.__name__}(…)" if isinstance(module, type) else ""
        raise InputError(f"module is {module!r}; a torch.nn.Module is needed{hint}")
    made = [(name, p) for name, p in module.named_parameters() if not torch.nn.parameter.is_lazy(p)]
    made_there = next((name for name, p in made if p.is_inference()), None)
    if made_there is not None:
        raise InputError(
            f"parameter {made_there!r} was made in torch.inference_mode(), where nothing can be trained; make the "
            "module outside of it"
        )


def check_numbers(**values: Any) -> None:
    """Raises ``InputError`` naming what is not a number above 0, or not a whole one where one is needed."""
    for name, value in values.items():
        if value is None:
            continue
        kinds = (int, np.integer) if name in WHOLE else (int, float, np.number)
        if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
            wanted = "a whole number from 1 on" if name in WHOLE else "a number above 0"
            raise InputError(f"{name} is {value!r}; {wanted} is needed")


def check_callbacks(callbacks: Any) -> None:
    """Raises ``InputError`` for what is no list of callables."""
    if not isinstance(callbacks, (list, tuple)) or not all(callable(one) for one in callbacks):
        raise InputError(f"callbacks is {callbacks!r}; a list of callables of an observation is needed")


def asks_early_stopping(early_stopping: Any, endless: bool) -> bool:
    """Whether validation ends the run: where it is asked for, or nothing else does (``endless``)."""
    if early_stopping not in (True, False, "auto"):
        raise InputError(f'early_stopping is {early_stopping!r}; True, False or "auto" is needed')
    return endless if early_stopping == "auto" else bool(early_stopping)


def float_type(module: Any) -> torch.dtype | None:
    """The type of the module's numbers, which arrays are given; None where it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def split(num_rows: int, held: Any, fraction: Any, stops_early: bool, seed: int) -> tuple[Any, Any]:
    """Numbers of the rows that train and of those held out, each ascending; None: all of them, none.

    ``held``: rows to validate on that were given, or None.
    """
    number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
    if fraction is not None and not (number and 0 <= fraction < 1):
        raise InputError(f"validation_fraction is {fraction!r}; a number from 0 on and below 1 is needed")
    if held is not None and fraction:
        raise InputError("validation and validation_fraction are both given; pass one of them")
    share = fraction if fraction is not None else HELD_OUT if stops_early else 0.0
    if held is not None or not share:
        if held is None and stops_early:
            raise InputError(
                "early_stopping needs rows to see it on; pass validation, or a validation_fraction above 0"
            )
        return None, None
    count = max(1, round(share * num_rows))
    if count >= num_rows:
        raise InputError(
            f"validation_fraction {share:g} of {num_rows} rows leaves none to train on; pass validation=(X, y)"
        )
    order = np.random.Generator(np.random.PCG64([seed, 0])).permutation(num_rows)
    return np.sort(order[count:]), np.sort(order[:count])


def copied(module: Any) -> Any:
    """A copy of the module, which runs may change."""
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise InputError(
            f"the module cannot be copied ({named(error)}), and runs must not change yours; pass one that "
            "copy.deepcopy takes"
        ) from error


def held_out_share(num_rows: int) -> float:
    """A tenth of the rows, but no more than 2,000."""
    return min(HELD_OUT, MOST_LOOKED_AT / num_rows)
