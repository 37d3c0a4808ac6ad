"""Histories become curves."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from descend.report import curves, formatting
from descend.report.curve_axes import AXES, Line, log_ticks, log_x


def _history(seconds, loss):
    return {"columns": {"seconds": seconds, "loss": loss}}


@given(st.lists(st.floats(1e-6, 1e6), min_size=5, max_size=400, unique=True), st.integers(4, 60))
def test_thinning_keeps_the_ends_and_the_limit(xs, limit):
    """However the points lie, at most ``limit`` are kept, in order, the first and the last among them."""
    xs = [0.0, *sorted(xs)]
    kept = curves.thin(xs, limit)
    assert len(kept) <= max(limit, 4)
    assert kept[0] == 0.0
    assert kept[-1] == xs[-1]
    assert kept == sorted(set(kept) & set(xs))


def test_thinning_is_even_in_the_logarithm():
    """The first tenth of a long run keeps more than half of the points."""
    kept = curves.thin(range(1, 100_001), 300)
    assert sum(x <= 10_000 for x in kept) > 0.6 * len(kept)


def test_band_is_median_and_range_over_the_seeds():
    """At a common place the band is the lowest, middle and highest of the seeds."""
    band = curves.band([_history([0, 1], [9.0, y]) for y in (3.0, 1.0, 2.0)], "seconds", "loss")
    assert band.at(1) == (2.0, 1.0, 3.0)
    assert band.x == [0, 1]


def test_a_seed_that_stopped_keeps_its_last_value():
    """After its end a short seed counts with the loss it ended with."""
    band = curves.band([_history([0, 1], [4.0, 1.0]), _history([0, 3], [4.0, 3.0])], "seconds", "loss")
    assert band.at(3) == (2.0, 1.0, 3.0)


def test_what_was_not_measured_is_left_out():
    """Entries that are null, and seeds with none at all, do not reach the curve."""
    histories = [_history([0, 1, 2], [4.0, None, 2.0]), _history([0, 1], [None, None])]
    band = curves.band(histories, "seconds", "loss")
    assert band.x == [0, 2]
    assert curves.band(histories[1:], "seconds", "loss") is None
    assert curves.band(histories, "seconds", "validation_loss") is None


@given(st.floats(1e-9, 1e9), st.floats(1, 1e9))
def test_nice_values_lie_inside(low, ratio):
    """Round numbers never lie outside the range asked for, and are never more than asked for."""
    values = curves.nice_values(low, low * ratio, limit=6)
    assert len(values) <= 6
    assert all(low * 0.999 <= value <= low * ratio * 1.001 for value in values)


@given(low=st.floats(1e-6, 1e6), decades=st.floats(0.3, 9.0), axis=st.sampled_from(AXES))
def test_ticks_stand_apart_on_a_narrow_page(low, decades, axis):
    """On an axis of 270 pixels texts of 6.8 pixels a letter leave some room between each other, at whatever range."""
    line = Line(0, "one", "", "", curves.Band([low, low * 10**decades], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]))
    drawn = log_x([line], axis)
    if "tickvals" not in drawn:
        return
    first, last = drawn["range"]
    places = [(math.log10(v) - first) / (last - first) * 270.0 for v in drawn["tickvals"]]
    ends = [
        (place - 3.4 * len(text), place + 3.4 * len(text))
        for place, text in zip(places, drawn["ticktext"], strict=True)
    ]
    if len(ends) > 2:
        assert all(one[1] + 10 <= other[0] for one, other in pairwise(ends))


def test_a_wide_range_of_rows_keeps_some_ticks():
    """From 500 rows to 20,000 six ticks would touch: three are left, evenly apart."""
    assert log_ticks(500, 20_000, formatting.short_count)["ticktext"] == [
        "500", "1,000", "2,000", "5,000", "10,000", "20,000",
    ]  # fmt: skip
    assert log_ticks(500, 20_000, formatting.short_count, 270.0)["ticktext"] == ["1,000", "3,000", "10,000"]


@given(st.floats(1e-7, 1e9), st.integers(4, 8))
def test_even_values_start_at_nothing_and_fill_the_axis(high, limit):
    """Ticks of a linear axis are even, few, begin at 0, and none lies beyond the end; the last step is not wasted."""
    values = curves.even_values(high, limit)
    assert values[0] == 0.0
    assert 2 <= len(values) <= limit
    assert values[-1] <= high * (1 + 1e-6)
    assert values[-1] + values[1] > high * (1 - 1e-6)
