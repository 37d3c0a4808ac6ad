"""Which strips of stored rows an order comes to, and where in them its rows are: compiled.

A chunk of an epoch's order comes to few strips (``batches.py``). They are read in ascending order, one after the
other, and the chunk's rows become places in what was read.
"""

from __future__ import annotations

from descend.batches import STRIP
from descend.engines.compiled import kernel
from descend.types import IntArray

SHIFT = STRIP.bit_length() - 1
"""Row numbers are divided by a power of two, without the questions that a division asks."""


@kernel
def find_strips(
    order: IntArray, start: int, most: int, batch_size: int, first: int, marks: IntArray, strips: IntArray
) -> tuple[int, int]:
    """Writes to ``strips`` those that rows of ``order`` from place ``start`` on lie in, in no order.

    Returns where the batches end that were looked at, and how many strips there are. It looks at no more than
    ``most`` rows, and stops before a batch whose strips are too many for ``strips``, even if it is the first.
    ``first`` is the store's number of row 0. ``marks`` has a −1 for every strip that there is, and has it again
    afterwards.
    """
    count, stop = 0, start
    end = min(order.size, start + most)
    while stop < end:
        above = min(stop + batch_size, end)
        before, is_full = count, False
        last = -1
        for i in range(stop, above):
            strip = (order[i] + first) >> SHIFT
            if strip == last:  # neighbours stay together in an order
                continue
            last = strip
            if marks[strip] < 0:
                if count == strips.size:
                    is_full = True
                    break
                marks[strip] = count
                strips[count] = strip
                count += 1
        if is_full:
            for i in range(before, count):
                marks[strips[i]] = -1
            count = before
            break
        stop = above
    for i in range(count):
        marks[strips[i]] = -1
    return stop, count


@kernel
def find_places(
    order: IntArray, start: int, stop: int, first: int, strips: IntArray, marks: IntArray, places: IntArray
) -> None:
    """Writes to ``places`` where each row order[start:stop] is, when ``strips`` lie one after the other."""
    for i in range(strips.size):
        marks[strips[i]] = i
    for i in range(start, stop):
        row = order[i] + first
        strip = row >> SHIFT
        places[i - start] = (marks[strip] << SHIFT) + (row - (strip << SHIFT))
    for i in range(strips.size):
        marks[strips[i]] = -1
