"""Which rows are the longest, where items of a dataset differ in size: memory is told by those."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from descend.torch.rows import DatasetRows, TensorRows
from descend.types import IntArray

MOST_WEIGHED = 2000


def longest_first(
    rows: TensorRows | DatasetRows, places: Any, seed: int, seconds: float
) -> tuple[IntArray | None, int]:
    """Numbers of rows in descending order of size, and how many were weighed; None where all are alike.

    ``places``: the rows that are trained on; None: all. Up to 2,000 of them are looked at, within ``seconds``.
    Raises ``TrainingError`` naming a row that the dataset cannot give.
    """
    if not isinstance(rows, DatasetRows):
        return None, 0
    end = time.perf_counter() + seconds
    numbers = np.arange(rows.num_rows) if places is None else np.asarray(places)
    mixed = np.random.default_rng([seed, 5]).permutation(numbers)[:MOST_WEIGHED]
    sizes: list[float] = []
    for number in mixed.tolist():
        sizes.append(size_of(rows.item(number)))
        if time.perf_counter() >= end:
            break
    if len(set(sizes)) < 2:
        return None, len(sizes)
    order = np.argsort(np.negative(sizes), kind="stable")
    return np.asarray(mixed[order]), len(sizes)


def size_of(item: Any) -> float:
    """How many numbers (of texts: letters) an item holds.

    >>> size_of((torch.zeros(3, 4), 1)), size_of({"ids": [5, 6, 7], "mask": [1, 1, 0]})
    (13.0, 6.0)
    """
    if isinstance(item, torch.Tensor):
        return float(item.numel())
    if isinstance(item, np.ndarray):
        return float(item.size)
    if isinstance(item, dict):
        return sum((size_of(value) for value in item.values()), 0.0)
    if isinstance(item, (tuple, list)):
        return sum((size_of(part) for part in item), 0.0)
    return float(len(item)) if hasattr(item, "__len__") else 1.0
