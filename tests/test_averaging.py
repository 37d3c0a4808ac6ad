"""The tail average is the plain mean over exactly the steps that it says it covers."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.averaging import FIRST_CLOSE, GROWTH, TailAverage
from descend.engines.base import State


def take_step(state, seen, value):
    """One step of an engine that averages every step, by the definition of ``State.average``."""
    state.parameters[:] = value
    state.steps += 1
    state.num_averaged += 1
    state.average += (state.parameters - state.average) / state.num_averaged
    seen.append(state.parameters.copy())


def test_a_hand_run():
    """Of the steps 1, 2, 3 … 20 with windows closing at 8, 12 and 18, the averages are 12.5 and 16.5."""
    state, tail, seen, closes, means = State(np.zeros((1, 1))), TailAverage(), [], [], {}
    for step in range(1, 25):
        take_step(state, seen, float(step))
        before = tail.next_close
        tail.close_if_due(state)
        if tail.next_close != before:
            closes.append(step)
        means[step] = float(tail.parameters(state)[0, 0])
    assert closes == [8, 12, 18]
    assert means[5] == 3.0  # steps 1 … 5
    assert means[8] == 4.5  # 1 … 8
    assert means[11] == 6.0  # 1 … 11
    assert means[12] == 10.5  # 9 … 12: the first window is forgotten
    assert means[16] == 12.5  # 9 … 16
    assert means[18] == 15.5  # 13 … 18
    assert means[20] == 16.5  # 13 … 20


@pytest.mark.parametrize(("growth", "least", "most"), [(1.25, 0.20, 0.36), (GROWTH, 1 / 3, 5 / 9)])
def test_windows_that_grow_more_slowly_cover_less(growth, least, most):
    """The average covers between (g − 1) / g and 1 − 1 / g² of all steps, where windows grow by the factor g."""
    state, tail, covered = State(np.zeros((1, 1))), TailAverage(growth), []
    for step in range(1, 3001):
        take_step(state, [], 0.0)
        tail.close_if_due(state)
        covered.append((tail.num_closed + state.num_averaged) / step)
    assert min(covered[300:]) == pytest.approx(least, abs=0.01)
    assert max(covered[300:]) == pytest.approx(most, abs=0.01)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 100))
def test_it_is_the_mean_over_the_last_two_windows(parts, seed):
    """However often the run is looked at, the average is the plain mean since the last close but one."""
    rng = np.random.default_rng(seed)
    state, tail, seen, closes = State(np.zeros((2, 3))), TailAverage(), [], [0, 0]
    for part in parts:
        for _ in range(part):
            take_step(state, seen, rng.normal(size=(2, 3)))
        due = tail.next_close
        tail.close_if_due(state)
        if tail.next_close != due:
            closes.append(state.steps)
        expected = np.mean(seen[closes[-2] :], axis=0)
        np.testing.assert_allclose(tail.parameters(state), expected, rtol=1e-10, atol=1e-12)


@given(st.integers(FIRST_CLOSE, 3000))
def test_it_covers_a_third_to_56_percent_of_the_steps(num_steps):
    """Looked at after every step, the average holds a third to 56 % of all steps (from the second close on)."""
    state, tail = State(np.zeros((1, 1))), TailAverage()
    state.average[:] = 0.0
    for _ in range(num_steps):
        state.steps += 1
        state.num_averaged += 1
        tail.close_if_due(state)
    if num_steps >= ceil(GROWTH * FIRST_CLOSE):
        share = (tail.num_closed + state.num_averaged) / num_steps
        assert 0.32 <= share <= 0.57


def test_nothing_to_average_is_none():
    """Before the first averaged step there is no average."""
    assert TailAverage().parameters(State(np.zeros((1, 2)))) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_comes_in_the_parameters_dtype(dtype):
    """The average has the dtype of the parameters, and the state is left as it was."""
    state, tail = State(np.zeros((1, 2), dtype=dtype)), TailAverage()
    take_step(state, [], 3.0)
    average = tail.parameters(state)
    assert average.dtype == dtype
    average[:] = 7.0
    assert state.average.tolist() == [[3.0, 3.0]]


def test_a_closed_window_does_not_follow_the_state():
    """Closing copies: later steps do not change what is closed."""
    state, tail = State(np.zeros((1, 1))), TailAverage()
    for _ in range(FIRST_CLOSE):
        take_step(state, [], 2.0)
    tail.close_if_due(state)
    take_step(state, [], 100.0)
    assert tail.closed[0, 0] == 2.0
    assert state.num_averaged == 1
