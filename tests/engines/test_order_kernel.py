"""The stream of numbers under an epoch's order: SplitMix64 as published, scaled without bias."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from descend.engines.compiled import kernel
from descend.engines.order import below, fill_order

MASK = 2**64 - 1


@kernel
def draw(state, bound, out):
    for i in range(out.size):
        out[i] = below(state, bound)


def split_mix(state: int) -> tuple[int, int]:
    """The published generator with Python's whole numbers."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return state, z ^ (z >> 31)


def test_the_published_first_number():
    """SplitMix64 from 1234567 begins with 6457827717110365317, as its reference code does."""
    assert split_mix(1234567)[1] == 6457827717110365317


@given(st.integers(0, MASK), st.integers(1, 2**32 - 1))
def test_numbers_are_those_of_splitmix64(seed, bound):
    """The compiled stream is the published one's upper half, scaled to the bound."""
    out = np.empty(5, dtype=np.int64)
    draw(np.array([seed], dtype=np.uint64), bound, out)
    state, expected = seed, []
    for _ in range(5):
        state, z = split_mix(state)
        expected.append(((z >> 32) * bound) >> 32)
    assert out.tolist() == expected


def fisher_yates(things, state):
    for i in range(len(things) - 1, 0, -1):
        state, z = split_mix(state)
        j = ((z >> 32) * (i + 1)) >> 32
        things[i], things[j] = things[j], things[i]
    return state


@given(
    st.integers(0, MASK),
    st.integers(1, 60),
    st.integers(1, 7),
    st.integers(1, 20),
    st.sampled_from([1, 2, 3]),
)
def test_the_kernel_is_its_plain_twin(seed, num_places, strip, window, run):
    """Strips permuted, then each window's runs permuted: as plain Python does it with the same stream."""
    num_strips = -(-num_places // strip)
    got = np.empty(num_places, dtype=np.int64)
    fill_order(
        np.array([seed], dtype=np.uint64), strip, window, run, np.empty(num_strips, dtype=np.int64), got
    )
    strips = list(range(num_strips))
    state = fisher_yates(strips, seed)
    turn = 0
    if run > 1:
        state, z = split_mix(state)
        turn = ((z >> 32) * num_places) >> 32
    places = [p for s in strips for p in range(s * strip, min((s + 1) * strip, num_places))]
    places = [(p + turn) % num_places for p in places]
    expected = []
    for start in range(0, num_places, window):
        part = places[start : start + window]
        whole = len(part) // run * run
        runs = [part[i : i + run] for i in range(0, whole, run)]
        state = fisher_yates(runs, state)
        expected += [p for r in runs for p in r] + part[whole:]
    assert got.tolist() == expected
