"""The stream of numbers under an epoch's order: SplitMix64 as published, scaled without bias."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from descend.engines.compiled import kernel
from descend.engines.order import STEP, below, permute_windows, write_pieces, write_runs

MASK = 2**64 - 1


@kernel
def draw(state, bound, out):
    for i in range(out.size):
        state[0] += STEP
        out[i] = below(state[0], bound)


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
def test_the_kernels_are_their_plain_twin(seed, num_places, strip, window, run):
    """Strips of runs permuted, then each window's runs, as plain Python does it with the same stream."""
    num_runs = num_places // run
    num_strips = -(-num_runs // strip)
    stream, runs, got = np.array([seed], dtype=np.uint64), np.empty(num_runs, int), np.empty(num_places, int)
    order = np.arange(num_strips)
    permute_windows(stream, max(1, num_strips), order)
    write_pieces(order, strip, runs)
    permute_windows(stream, window, runs)
    write_runs(stream, runs, run, got)

    strips = list(range(num_strips))
    state = fisher_yates(strips, seed)
    expected = [r for s in strips for r in range(s * strip, min((s + 1) * strip, num_runs))]
    for start in range(0, num_runs, window):
        part = expected[start : start + window]
        state = fisher_yates(part, state)
        expected[start : start + window] = part
    assert runs.tolist() == expected
    _, z = split_mix(state)
    turn = ((z >> 32) * num_places) >> 32
    places = [r * run + i for r in expected for i in range(run)] + list(range(num_runs * run, num_places))
    assert got.tolist() == [(p + turn) % num_places for p in places]
