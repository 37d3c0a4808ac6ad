"""The table of a comparison and its numbers."""

from __future__ import annotations

import pytest

from descend.report import formatting
from descend.report.measures import measures
from descend.report.series import comparison_series


def _rows(comparison):
    groups = measures(comparison, comparison_series(comparison))
    return {measure.name: measure.cells for _, rows in groups for measure in rows}


def test_the_best_of_a_row_is_marked_once(comparison):
    """The fastest run is marked as such, and a row in which all are alike has no best."""
    rows = _rows(comparison)
    assert [cell.best for cell in rows["Time"]] == [False, True, False]
    assert [cell.best for cell in rows["Rows a second"]] == [False, False, True]
    assert not any(cell.best for cell in rows["Peak memory of the process"])


def test_a_run_that_lost_a_seed_is_never_the_fastest(comparison):
    """A time that not every seed reached does not win."""
    comparison["runs"][1]["target_reached"] = 2
    assert [cell.best for cell in _rows(comparison)["Time"]] == [False, False, True]
    assert _rows(comparison)["Reached it"][1].text == "2 of 3 seeds"


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (formatting.duration, 0.9999, "1 s"),
        (formatting.duration, 59.96, "60 s"),
        (formatting.duration, 119.6, "2 min"),
        (formatting.duration, 7199.8, "2 h"),
        (formatting.duration, 1e-9, "0.001 µs"),
        (formatting.number, 9.9999e-5, "1e-4"),
        (formatting.number, -0.5, "-0.5"),
        (formatting.number, 99999.6, "100,000"),
        (formatting.loss, 0.99999, "1.0000"),
        (formatting.count, 999_999, "999,999"),
        (formatting.count, 1_234_567, "1.23 million"),
        (formatting.size, 999_950, "1 MB"),
        (formatting.size, 0, "0 B"),
    ],
)
def test_numbers_at_the_edge_of_a_unit(show, value, text):
    """Values near a change of unit are rounded before the unit is chosen, or read well all the same."""
    assert show(value) == text
