"""Values as JSON and arrays: back as they were, to the last bit."""

import json
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from descend.packing import Packer


@dataclass
class Box:
    inside: Any


class Pair(NamedTuple):
    left: Any
    right: Any


PACKER = Packer((Box, Pair))
arrays = hnp.arrays(
    st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | arrays | arrays.map(np.transpose)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, maxlen=5))
        | st.dictionaries(st.text(), inner, max_size=3)
        | inner.map(Box)
        | st.tuples(inner, inner).map(lambda pair: Pair(*pair))
    ),
    max_leaves=12,
)


def are_same(one: Any, other: Any) -> bool:
    """The same types, values and bits, and arrays in the same order of memory."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()) and (
            one.size < 2 or one.flags.c_contiguous == other.flags.c_contiguous
        )
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, Box):
        return are_same(one.inside, other.inside)
    if isinstance(one, deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(are_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(are_same(one[name], other[name]) for name in one)
    return bool(one == other)


@given(values)
def test_what_is_packed_comes_back(value: Any) -> None:
    """Whatever is packed and goes through JSON comes back with its types, its bits and its order of memory."""
    tree, kept = PACKER.pack(value)
    tree = json.loads(json.dumps(tree, allow_nan=False))
    kept = {name: array.copy(order="C") for name, array in kept.items()}  # a file has no other order
    assert are_same(PACKER.unpack(tree, kept), value)


@pytest.mark.parametrize("number", [np.float64(1.5), np.float32(0.1), np.int64(7), np.float64(math.nan)])
def test_numbers_of_numpy_stay_such(number: Any) -> None:
    """A scalar of NumPy comes back as one of its type: it divides by zero otherwise than Python's does."""
    back = PACKER.unpack(*PACKER.pack(number))
    assert type(back) is type(number)
    assert np.array_equal(back, number, equal_nan=True)


def test_a_class_that_was_not_named_is_refused() -> None:
    """A value of a class that the packer does not know is a TypeError that names it, not a file without it."""
    with pytest.raises(TypeError, match="Box"):
        Packer().pack({"box": Box(1)})
