"""Schedules: the rate of each step, written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.errors import InputError
from descend.updates.schedules import SCHEDULES, find_schedule, rate_at


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("constant", [0.8, 0.8, 0.8, 0.8]),
        ("inverse-scaling", [0.8, 0.8 / 2**0.25, 0.8 / 3**0.25, 0.8 / 2**0.5]),
        ("linear", [0.8, 0.6, 0.4, 0.2]),
        ("cosine", [0.8, 0.4 * (1 + 0.5**0.5), 0.4, 0.4 * (1 - 0.5**0.5)]),
        ("step", [0.8, 0.8, 0.08, 0.008]),
        ("plateau", [0.8, 0.8, 0.8, 0.8]),
    ],
)
def test_hand_values(name, rates):
    """The rates of four steps of four are the formulas' values."""
    got = [rate_at(find_schedule(name), 0.8, step, 4) for step in (1, 2, 3, 4)]
    assert got == pytest.approx(rates, rel=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
@given(num_steps=st.integers(1, 10_000), share=st.floats(0, 1), rate=st.floats(1e-8, 1e3))
def test_rates_stay_positive_and_never_grow(name, num_steps, share, rate):
    """Within a run every rate is above zero, at most the first, and no more than the one before."""
    code, step = find_schedule(name), 1 + int(share * (num_steps - 1))
    now = rate_at(code, rate, step, num_steps)
    assert 0 < now <= rate
    assert now <= rate_at(code, rate, max(1, step - 1), num_steps)


def test_linear_decay_stays_at_zero_beyond_its_end():
    """After the last step the linear rate is 0 and not below it."""
    assert rate_at(SCHEDULES["linear"], 1.0, 5, 4) == 0.0
    assert rate_at(SCHEDULES["linear"], 1.0, 9, 4) == 0.0


@pytest.mark.parametrize("name", ["invscaling", "inverse_scaling", "inverse-scaling"])
def test_scikit_learns_spelling_is_understood(name):
    """All spellings of inverse scaling are one schedule."""
    assert find_schedule(name) == SCHEDULES["inverse-scaling"]


def test_unknown_schedules_are_refused():
    """An unknown schedule is refused with the known ones."""
    with pytest.raises(InputError, match=r"schedule 'cosin'.*constant, inverse-scaling, linear, cosine"):
        find_schedule("cosin")
