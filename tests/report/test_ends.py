"""Where a network's runs ended: the section of the page, its figures, and the table of the terminal."""

from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest

from descend.errors import InputError
from descend.report import comparison_text, render_page
from descend.report.comparison import surface_words
from descend.report.ends import ends_measures, walls_text, why_not_tried
from descend.report.ends_figures import ends_figures
from descend.report.figures import figures
from descend.report.series import comparison_series


def cells(run):
    """Texts of the table by the name of their row."""
    groups = ends_measures(run, comparison_series(run))
    return {measure.name: [cell.text for cell in measure.cells] for _, rows in groups for measure in rows}


def test_plotly_accepts_the_figures_of_the_ends(networks):
    """Both have one trace for each kind with a point for each seed, and no key that plotly.js does not know."""
    drawn = ends_figures(networks, comparison_series(networks))
    assert list(drawn) == ["spread", "sharpness"]
    for figure in drawn.values():
        go.Figure(
            data=json.loads(json.dumps(figure["data"])), layout=json.loads(json.dumps(figure["layout"]))
        )
        assert [len(trace["x"]) for trace in figure["data"]] == [3, 3, 3]
    assert drawn["sharpness"]["layout"]["xaxis"]["type"] == "log"
    assert list(figures(networks)) == ["curves", "surface", "spread", "sharpness"]


def test_the_points_are_the_ends_of_the_histories(networks):
    """The spread shows each seed's last loss, and the sharpness each seed's eigenvalue."""
    drawn = ends_figures(networks, comparison_series(networks))
    for place, run in enumerate(networks["runs"]):
        lasts = [history["columns"]["loss"][-1] for history in run["histories"]]
        assert drawn["spread"]["data"][place]["x"] == lasts
        assert drawn["sharpness"]["data"][place]["x"] == [one["value"] for one in run["sharpness_found"]]
    assert drawn["spread"]["data"][0]["text"][2].endswith("seed 2")


def test_the_table_says_what_was_found(networks):
    """Ranges with their unit once, signs of changes, and the valleys that each kind came to."""
    found = cells(networks)
    assert found["Largest eigenvalue there"] == ["0.11", "0.33", "0.99"]
    assert found["Products it took"] == ["20 to 22"] * 3
    assert found["Wall before where batch stays"] == ["0 to 3\u00a0%"] * 3
    assert found["Change of the loss, of the gap"] == ["−0.2 to +0.05\u00a0%"] * 3
    assert found["So it came to"] == [
        "the same valley ×1, another valley ×1",
        "the same valley ×1, cannot be told ×1",
        "the same valley ×1, cannot be told ×1",
    ]


def test_walls_are_told_two_by_two(networks):
    """A wall with its height, no wall as such, and nothing where a loss was no number; of many the highest."""
    shown = comparison_series(networks)
    text = walls_text(networks, shown)
    assert "Stochastic and mini-batch: no wall;" in text
    assert "Stochastic and batch: a wall of 3.4 % of the gap." in text
    assert "Mini-batch and batch" not in text
    many = [{"between": [1, 32], "height": height, "at": 0.5} for height in (0.01, 0.04, 0.02, 0.03, 0.05)]
    text = walls_text(networks | {"valleys": networks["valleys"] | {"walls": many}}, shown)
    assert "the 3 highest of 5 walls" in text
    assert [height in text for height in ("5 %", "4 %", "3 %", "2 %")] == [True, True, True, False]
    assert walls_text(networks | {"valleys": networks["valleys"] | {"walls": []}}, shown) == ""


def test_where_nothing_was_tried_the_reason_stands(networks):
    """Without excursions their rows are gone and the reason is told, on the page and in the terminal."""
    for run in networks["runs"]:
        run["excursions"]["found"] = []
    without = networks | {"valleys": networks["valleys"] | {"reason": "batch gradient descent diverged"}}
    assert "So it came to" not in cells(without)
    assert why_not_tried(without).endswith("could not be told: batch gradient descent diverged.")
    assert "batch gradient descent diverged" in render_page(without)
    assert "batch gradient descent diverged" in comparison_text(without, width=200)
    assert why_not_tried(networks) == ""


@pytest.mark.parametrize(("random", "words"), [(0, "three of the ends"), (1, "both ends"), (2, "two random")])
def test_the_caption_says_what_the_plane_goes_through(networks, random, words):
    """Three ends, two and a random direction, or one and two of them."""
    networks["surface"]["random_directions"] = random
    assert words in surface_words(networks, comparison_series(networks))["caption"]


def test_a_comparison_of_lines_has_no_such_section(comparison, networks):
    """The section is there for networks alone, on the page as in the terminal."""
    for shown in (render_page, lambda run: comparison_text(run, width=200)):
        assert "Where they ended" in shown(networks)
        assert "Where they ended" not in shown(comparison)
    assert "4.2" in render_page(networks)


def test_seeds_without_numbers_leave_the_rest(networks):
    """Eigenvalues and losses that are missing are left out, and a table without any still stands."""
    for run in networks["runs"]:
        for one in run["sharpness_found"]:
            one["value"] = None
    assert list(ends_figures(networks, comparison_series(networks))) == ["spread"]
    assert cells(networks)["Largest eigenvalue there"] == ["–"] * 3
    render_page(networks)


def test_names_in_the_record_stay_text(networks):
    """Markup in a reason or a batch size is shown as text."""
    networks["valleys"]["reason"] = "<img src=x>"
    networks["valleys"]["walls"][0]["between"] = ["<img src=x>", 32]
    assert "<img" not in render_page(networks)


def test_damage_is_named(networks):
    """A sharpness that is no number is refused by its place."""
    networks["runs"][1]["sharpness_found"][0]["value"] = "high"
    with pytest.raises(InputError, match=r"runs\[1\].sharpness_found\[0\].value"):
        render_page(networks)
