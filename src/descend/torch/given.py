"""The caller's data as rows: what is given, checked, and made tensors of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from descend.errors import InputError
from descend.torch.nested import tensors_of
from descend.torch.rows import DatasetRows, TensorRows, named

NAMES = ("X", "y", "weights")


def as_rows(
    data: Any,
    weights: Any = None,
    dtype: torch.dtype | None = None,
    name: str = "data",
    collate: Callable[[list[Any]], Any] | None = None,
    alone: bool = False,
) -> TensorRows | DatasetRows:
    """``data`` as rows: (X, y) or (X, y, weights) of tensors or arrays, or a map-style dataset.

    ``collate`` makes one batch of a list of a dataset's items, as a DataLoader's ``collate_fn`` does. ``alone``: an X
    without a y will do.

    Arrays' floats become ``dtype`` and their whole numbers in y 64 bits wide; tensors stay as they are. Raises
    ``InputError`` naming what does not fit.
    """
    from torch.utils.data import TensorDataset

    if isinstance(data, (TensorRows, DatasetRows)) and weights is None:
        return data
    if type(data) is TensorDataset:
        data = data.tensors
    parts = data.parts if isinstance(data, TensorRows) else data
    if collate is not None and not callable(collate):
        raise InputError(
            f"collate is {collate!r}; a function of a list of items is needed, as a DataLoader's"
        )
    if isinstance(parts, tuple) or _are_tables(parts):
        if collate is not None:
            raise InputError(f"collate goes with a dataset of items; {name} is tensors or arrays")
        if weights is not None:
            parts = (*parts[:2], weights)
        _check_parts(parts, name, alone)
        return _tensor_rows(parts, dtype, name)
    _check_dataset(data, name)
    if weights is not None:
        raise InputError("weights go with tensors or arrays; a dataset's items carry theirs: (x, y, weight)")
    return DatasetRows(data, collate)


def as_validation(data: Any, dtype: torch.dtype | None, collate: Any) -> TensorRows | DatasetRows:
    """Rows to validate on; ``collate`` is the trained rows', and goes with a dataset alone."""
    is_dataset = hasattr(data, "__getitem__") and not isinstance(data, (tuple, list))
    return as_rows(data, None, dtype, "validation", collate if is_dataset else None)


def _are_tables(parts: Any) -> bool:
    """Whether a list is [X, y] and not a dataset of some items."""
    return isinstance(parts, list) and 1 < len(parts) <= 3 and all(len(_shape_of(part)) for part in parts)


def _shape_of(part: Any) -> Any:
    return getattr(part, "shape", ())


def _check_parts(parts: Sequence[Any], name: str, alone: bool) -> None:
    if len(parts) > 3:
        raise InputError(
            f"{name} has {len(parts)} parts; (X, y) or (X, y, weights) is needed: several inputs of a module are one "
            "X, ((X1, X2), y)"
        )
    if not parts or (len(parts) == 1 and not alone):
        raise InputError(f"{name} has X and no y; pass a pair (X, y), or (X, X) to learn X itself")
    for part, called in zip(parts, NAMES, strict=False):
        _check_table(part, called)


def _check_table(part: Any, name: str) -> None:
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, tuple) else ()
    for one in inner:
        _check_table(one, name)
    if inner or (isinstance(part, list) and part) or len(_shape_of(part)):
        return
    raise InputError(
        f"{name} is a {type(part).__name__}; a tensor or an array with a row for each of the data is needed, or a "
        "tuple or dict of such"
    )


def _check_dataset(data: Any, name: str) -> None:
    from torch.utils.data import DataLoader, IterableDataset

    if isinstance(data, DataLoader):
        raise InputError(
            f"{name} is a DataLoader; pass its dataset (loader.dataset, and collate=loader.collate_fn where that is "
            "your own): batches are made by descend"
        )
    if isinstance(data, IterableDataset):
        raise InputError(
            f"{name} is an IterableDataset, of which no row can be picked; a map-style dataset, with __len__ and "
            "__getitem__, is needed"
        )
    if hasattr(data, "shape"):
        raise InputError(f"{name} is X alone; pass a pair (X, y), or (X, X) to learn X itself")
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise InputError(
            f"{name} is a {type(data).__name__}; a pair (X, y) of tensors or arrays, or a map-style dataset with "
            "__len__ and __getitem__, is needed"
        )
    if len(data) == 0:
        raise InputError(f"{name} has no rows; at least one is needed")


def _tensor_rows(parts: Sequence[Any], dtype: torch.dtype | None, name: str) -> TensorRows:
    whole = [_tensor(part, NAMES[place], dtype) for place, part in enumerate(parts)]
    counts = [len(leaf) for leaf in tensors_of(whole)]
    if len(set(counts)) > 1:
        said = ", ".join(f"{NAMES[place]} has {len(tensors_of(part)[0])}" for place, part in enumerate(whole))
        raise InputError(f"{name}: {said} rows; every row needs one of each")
    if counts[0] == 0:
        raise InputError(f"{name} has no rows; at least one is needed")
    if len(whole) == 3:
        whole[2] = _checked_weights(whole[2])
    return TensorRows(whole, has_weights=len(whole) == 3)


def _tensor(part: Any, name: str, dtype: torch.dtype | None) -> Any:
    if isinstance(part, torch.Tensor):
        return _as_data(part)
    if isinstance(part, tuple):
        return tuple(_tensor(one, name, dtype) for one in part)
    if isinstance(part, dict):
        return {key: _tensor(one, name, dtype) for key, one in part.items()}
    if hasattr(part, "tocsr"):
        raise InputError(
            f"{name} is a sparse matrix; pass {name}.toarray(), or a dataset that makes rows dense"
        )
    try:
        array = np.asarray(part)
    except ValueError as error:
        raise InputError(f"{name} is no array: {named(error)}; give every row the same length") from error
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{name} has the type {array.dtype}; numbers are needed: encode texts and dates before"
        )
    if array.dtype.kind in "iu" and (name == "y" or array.dtype.itemsize > 1):
        array = array.astype(np.int64, copy=False)
    tensor = torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
    if array.dtype.kind != "f":
        return tensor
    return tensor.to(torch.get_default_dtype() if dtype is None else dtype)


def _as_data(tensor: torch.Tensor) -> torch.Tensor:
    """Rows are data: no gradient goes back into them, and autograd may keep them."""
    if tensor.layout is not torch.strided:
        raise InputError(
            "a tensor of the data is sparse or nested; pass its to_dense(), or a dataset that makes rows dense"
        )
    if not tensor.is_inference():
        return tensor.detach()
    with torch.inference_mode(False):
        return tensor.clone()


def _checked_weights(weights: Any) -> torch.Tensor:
    if weights.dim() != 1:
        raise InputError(f"weights have the shape {tuple(weights.shape)}; one number a row is needed")
    weights = weights if weights.is_floating_point() else weights.to(torch.get_default_dtype())
    bad = torch.nonzero(~(torch.isfinite(weights) & (weights >= 0)))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"weights: row {row} has {float(weights[row])}; finite numbers from 0 on are needed")
    if not bool((weights > 0).any()):
        raise InputError("weights are 0 in every row; at least one has to be above 0")
    return weights
