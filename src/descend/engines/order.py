"""The permutation of an epoch, compiled: NumPy's costs a third of an epoch of the compiled loop at batch size 1.

The numbers come from SplitMix64 (Steele, Lea and Flood 2014), so the same seed gives the same order with
every version of NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines.compiled import inline, kernel
from descend.types import IntArray

STEP = np.uint64(0x9E3779B97F4A7C15)


@inline
def below(count: Any, bound: int) -> int:
    """The number of the stream at ``count`` (uint64), in 0 … bound − 1; ``bound`` below 2³².

    Multiplied and shifted instead of divided (Lemire, https://arxiv.org/abs/1805.10941); without his rejection
    step a number is off its share by at most bound / 2³², which no order of rows can show.
    """
    z = count
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.int64(((z >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))  # type: ignore[return-value]


@kernel
def write_pieces(wholes: IntArray, count: int, pieces: IntArray) -> None:
    """Overwrites ``pieces`` (N,) with the numbers below N: of each whole its pieces, one whole behind the other.

    Each of ``wholes`` (ceil(N / count),) has ``count`` pieces, that with the highest number maybe fewer.
    """
    filled = 0
    for i in range(wholes.size):
        start = int(wholes[i]) * count
        some = min(count, pieces.size - start)
        for k in range(some):
            pieces[np.uintp(filled + k)] = start + k
        filled += some


@kernel
def permute_windows(state: Any, window: int, places: IntArray) -> None:
    """Permutes ``places`` (N,) inside each window of so many, the last of them maybe a shorter one."""
    count = state[0]  # kept in a register: through memory the next number had waited for it
    for start in range(0, places.size, window):
        for i in range(min(start + window, places.size) - start - 1, 0, -1):
            count += STEP
            one, other = np.uintp(start + i), np.uintp(start + below(count, i + 1))
            places[one], places[other] = places[other], places[one]
    state[0] = count


@kernel
def write_runs(state: Any, runs: IntArray, run: int, places: IntArray) -> None:
    """Overwrites ``places`` (N,) with ``run`` neighbours for each of ``runs``, and what is left over at the end.

    The whole is turned by a random number of places, so that other rows are neighbours in every epoch.
    """
    num_places = places.size
    state[0] += STEP
    turn = below(state[0], num_places)
    for i in range(runs.size):
        first = turn + run * int(runs[i])
        for k in range(run):
            place = first + k
            places[np.uintp(run * i + k)] = place if place < num_places else place - num_places
    for i in range(run * runs.size, num_places):
        place = turn + i
        places[i] = place if place < num_places else place - num_places
