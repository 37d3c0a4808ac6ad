"""Python's values as JSON and named arrays, and back to the last bit: what a checkpoint is made of.

Numbers that JSON has no word for, tuples, queues and the program's own small classes are objects with one key that
says what they are; arrays stand apart, in their own type and with the order that their memory has, because sums go
along the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class Packer:
    """Packs values that are made of ``classes`` (dataclasses, named tuples) and of what Python has.

    >>> packer = Packer()
    >>> tree, arrays = packer.pack({"rate": float("inf"), "steps": (1, 2), "w": np.ones(2, dtype=np.float32)})
    >>> packer.unpack(tree, arrays)
    {'rate': inf, 'steps': (1, 2), 'w': array([1., 1.], dtype=float32)}
    """

    def __init__(self, classes: Sequence[type[Any]] = ()) -> None:
        self._classes = {one.__name__: one for one in classes}

    def pack(self, value: Any) -> tuple[Any, Arrays]:
        """JSON and arrays; TypeError for a value of a class that was not named."""
        arrays: Arrays = {}
        return self._pack(value, arrays), arrays

    def unpack(self, tree: Any, arrays: Arrays) -> Any:
        """What ``pack`` was given. Raises KeyError, TypeError or ValueError for anything else."""
        if isinstance(tree, list):
            return [self.unpack(item, arrays) for item in tree]
        if not isinstance(tree, dict):
            return tree
        ((kind, inner),) = tree.items()
        match kind:
            case "array":
                return arrays[inner]
            case "columns":
                return arrays[inner].T
            case "scalar":
                return arrays[inner][()]
            case "number":
                return float(inner)
            case "dict":
                return {name: self.unpack(item, arrays) for name, item in inner.items()}
            case "tuple":
                return tuple(self.unpack(item, arrays) for item in inner)
            case "queue":
                return deque(self.unpack(inner[1], arrays), maxlen=inner[0])
        return self._classes[kind](**{name: self.unpack(item, arrays) for name, item in inner.items()})

    def _pack(self, value: Any, arrays: Arrays) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, np.ndarray | np.generic):
            return _pack_array(np.asarray(value), isinstance(value, np.generic), arrays)
        if isinstance(value, float):
            return value if isfinite(value) else {"number": repr(value)}
        if type(value).__name__ in self._classes:
            names = [f.name for f in fields(value)] if is_dataclass(value) else value._fields
            return {type(value).__name__: {name: self._pack(getattr(value, name), arrays) for name in names}}
        if isinstance(value, dict):
            return {"dict": {name: self._pack(item, arrays) for name, item in value.items()}}
        if isinstance(value, deque):
            return {"queue": [value.maxlen, [self._pack(item, arrays) for item in value]]}
        if type(value) is tuple:
            return {"tuple": [self._pack(item, arrays) for item in value]}
        if isinstance(value, list):
            return [self._pack(item, arrays) for item in value]
        raise TypeError(f"a value of {type(value).__name__} cannot be packed")


def _pack_array(value: NDArray[Any], scalar: bool, arrays: Arrays) -> Any:
    name = str(len(arrays))
    columns = not scalar and value.flags.f_contiguous and not value.flags.c_contiguous
    arrays[name] = value.T if columns else value
    return {"scalar" if scalar else "columns" if columns else "array": name}
