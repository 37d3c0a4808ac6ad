"""The page, the figures and the text of a plan."""

from __future__ import annotations

import json
import re

import plotly.graph_objects as go
import pytest
from test_page import HOSTILE, Page, _hostile, _required

from descend.batch_size.plan import Plan
from descend.errors import InputError
from descend.report import embed, figures, plan_text, render_page
from descend.report.plan import plan_glance
from descend.report.plan_evidence import steps_law
from descend.report.plan_figures import plan_figures
from descend.report.plan_sweep import size_hues
from descend.report.schema import SCHEMAS

NAMES = [
    "seconds-to-target", "steps-to-target", "step-seconds", "row-seconds", "learning-rates", "memory",
]  # fmt: skip


def _trace(figure, name):
    (trace,) = [t for t in figure["data"] if t["name"] == name and "markers" in t["mode"]]
    return dict(zip(trace["x"], trace["y"], strict=True))


def test_the_page_has_the_answer_its_reasons_and_every_number(plan):
    """Sentences, figures of the answer, and a table for each chart are there without a script, opened."""
    page = Page(render_page(plan))
    assert not page.open
    for text in (
        *plan["explanation"],
        plan["settings"]["command"],
        "momentum 0.9",
        "64 to 256",
        "statistics",
    ):
        assert text in page.text
    assert page.text.count(plan["verdict"]) == 1
    for words in ("128 32.1 ms measured 3,009 7.12 µs 0.113", "4,096 166 µs 149 µs 232 µs 0.0405 µs"):
        assert words in page.text
    for outcome in ("reached it", "clearly slower", "did not get there", "diverged", "not with every seed"):
        assert outcome in page.text
    details = [attrs for tag, attrs in page.elements if tag == "details"]
    assert len(details) == 4
    assert all("open" in attrs for attrs in details)
    assert set(json.loads(page.scripts[0])) == set(NAMES)


def test_plotly_accepts_every_figure_of_a_plan(plan, untold):
    """No figure has a key or value that plotly.js does not know; given out they have real colours."""
    given = figures(plan)
    assert list(given) == NAMES
    for figure in given.values():
        go.Figure(
            data=json.loads(json.dumps(figure["data"])), layout=json.loads(json.dumps(figure["layout"]))
        )
        assert "var(" not in json.dumps(figure)
    assert figures(untold) == {}


def test_colours_of_a_plan_are_in_the_style_sheet(plan):
    """Every colour that a figure or a size names is defined for the light and for the dark page."""
    used = set(re.findall(r"var\((--[\w-]+)\)", json.dumps(plan_figures(plan))))
    used |= set(size_hues(list(range(1, 20))).values())
    light, dark = embed.asset("report.css").split("prefers-color-scheme: dark", 1)
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark


def test_every_measured_point_is_drawn_where_it_was_measured(plan):
    """Steps, times of steps and of rows, and times to the target stand at their values, spreads around them."""
    drawn, evidence = plan_figures(plan), plan["evidence"]
    times = {int(size): value for size, value in evidence["step_seconds"].items()}
    assert _trace(drawn["step-seconds"], "measured") == times
    assert _trace(drawn["row-seconds"], "measured") == {size: t / size for size, t in times.items()}
    assert _trace(drawn["steps-to-target"], "best rate") == {
        int(size): count for size, count in evidence["steps_to_target"].items()
    }
    runs = [b for b in evidence["branches"] if b["outcome"] == "reached"]
    (each,) = [t for t in drawn["steps-to-target"]["data"] if t["name"] == "each run"]
    assert sorted(each["y"]) == sorted(b["updates"] for b in runs)
    (bars,) = [t["error_y"] for t in drawn["step-seconds"]["data"] if "error_y" in t]
    assert bars["arrayminus"] == pytest.approx([0.1 * t for t in times.values()])
    assert bars["array"] == pytest.approx([0.4 * t for t in times.values()])
    measured = _trace(drawn["seconds-to-target"], "measured")
    assert set(measured) == {8, 32, 64, 128, 1024}
    assert set(_trace(drawn["seconds-to-target"], "predicted")) == set(times)


def test_the_answer_stands_at_its_time_with_its_range(plan):
    """The diamond is at the predicted time, not on the curve, and the shade covers the sizes that do as well."""
    figure = plan_figures(plan)["seconds-to-target"]
    predicted, size = plan["predicted"], plan["batch_size"]
    assert _trace(figure, "the answer") == {size: predicted["seconds_to_target"]}
    flat, ceiling = figure["layout"]["shapes"]
    assert 32 < flat["x0"] < 64
    assert 256 < flat["x1"] < 512
    assert ceiling["x0"] == 30_000


def test_laws_are_drawn_where_they_hold(plan):
    """The dashed lines are the plan's own a, b and B_crit; without a fit, or with two sizes, there are none."""
    assert steps_law(plan) == pytest.approx((900.0, 300.0), rel=1e-3)
    drawn = plan_figures(plan)
    line = drawn["step-seconds"]["data"][0]
    assert line["y"][0] == pytest.approx(2e-6 + 40e-9, rel=0.02)
    assert line["y"][-1] == pytest.approx(2e-6 + 40e-9 * 43_957, rel=0.02)
    plan["evidence"] |= {"affine": None, "steps_to_target": {"8": 9000, "32": 4000}}
    drawn = plan_figures(plan)
    for name in ("step-seconds", "steps-to-target"):
        assert not any("dash" in t.get("line", {}) for t in drawn[name]["data"])
    text = Page(render_page(plan)).text
    assert "The critical batch size" not in text
    assert "No straight line a + b·B holds" in text
    assert "Fewer than three sizes reached the target" in text


def test_a_law_that_does_not_hold_is_not_drawn(plan):
    """Steps that rise with the size have no law through them, and the page says so."""
    plan["evidence"]["steps_to_target"] = {"8": 1400, "32": 360, "128": 2800, "1024": 1200}
    assert steps_law(plan) is None
    assert not any("dash" in t.get("line", {}) for t in plan_figures(plan)["steps-to-target"]["data"])
    assert "No law S_min · (1 + B_crit / B) holds within 25 %" in Page(render_page(plan)).text


def test_a_ceiling_above_all_rows_is_no_wall(plan):
    """Where every row fits into memory no line is drawn and none is spoken of."""
    plan["evidence"]["ceiling"] = plan["data"]["rows"]
    assert len(plan_figures(plan)["seconds-to-target"]["layout"]["shapes"]) == 1
    assert "dashed upright line" not in Page(render_page(plan)).text


def test_failures_stand_in_rows_by_their_outcome(plan):
    """A run that missed the target is in the row of how it missed it, at its rate; none is among the times."""
    figure = plan_figures(plan)["learning-rates"]
    rows = figure["layout"]["yaxis2"]["ticktext"]
    found = {}
    for trace in figure["data"]:
        if trace.get("yaxis") == "y2":
            for rate, place in zip(trace["x"], trace["y"], strict=True):
                found.setdefault(rows[place], set()).add(rate)
    assert found["diverged"] == {0.2}
    assert found["not with every seed"] == {0.2}
    assert len(found["clearly slower"]) == len(found["did not get there"]) == 5
    points = [t for t in figure["data"] if t["mode"] == "markers" and "yaxis" not in t]
    assert sum(len(trace["x"]) for trace in points) == 10


def test_only_failures_and_only_successes_have_a_figure(plan):
    """Without a run that arrived there are the rows alone, and without one that failed the times alone."""
    branches = plan["evidence"]["branches"]
    plan["evidence"]["branches"] = [b for b in branches if b["outcome"] != "reached"]
    assert "yaxis" not in plan_figures(plan)["learning-rates"]["layout"]
    plan["evidence"]["branches"] = [b for b in branches if b["outcome"] == "reached"]
    assert "yaxis2" not in plan_figures(plan)["learning-rates"]["layout"]
    plan["evidence"]["branches"] = [branches[0] | {"outcome": "eaten by a bear"}]
    assert "eaten by a bear" in Page(render_page(plan)).text


def test_memory_is_drawn_where_it_was_measured_by_size(plan):
    """One figure for all sizes is the process's and is said, not drawn; a limit is a line across."""
    assert plan_figures(plan)["memory"]["layout"]["shapes"][-1]["y0"] == 250_000_000
    assert "The line across is 250 MB, what there is room for, by ulimit -v." in Page(render_page(plan)).text
    plan["evidence"]["memory_bytes"] = dict.fromkeys(plan["evidence"]["memory_bytes"], 434_000_000)
    assert "memory" not in plan_figures(plan)
    assert "The process held 434 MB at the most" in Page(render_page(plan)).text


def test_what_cannot_be_told_is_not_shown(untold):
    """A page without a single run has no time, no equivalents, no bound and no chart, and says what to begin with."""
    text = Page(render_page(untold)).text
    for words in ("Batch size to begin with 16", "Time to the target cannot be told", "A step takes 2.6 µs"):
        assert words in text
    for words in ("Within 10 %", "Bound by", "Which learning rate", "How many steps", "of this chart"):
        assert words not in text


def test_a_flat_curve_looks_flat():
    """Where all sizes take the same time, the axis spans a decade and the curve has no slope to see."""
    from descend.report.formatting import duration
    from descend.report.plan_axes import log_axis

    low, high = log_axis([1.0, 1.02, 0.99], duration)["range"]
    assert high - low == pytest.approx(1.0)
    assert low < -0.4 < 0.4 < high


@pytest.mark.parametrize("name", ["plan", "untold"])
def test_what_is_optional_in_a_plan_may_be_absent(request, name):
    """A plan with the required fields alone has a page and a text."""
    run = request.getfixturevalue(name)
    least = _required(run, SCHEMAS["descend.plan"]) | {"format": "descend.plan", "version": 1}
    assert run["verdict"] in Page(render_page(least)).text
    assert run["verdict"] in plan_text(least, width=300)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_seconds": {"many": 1.0}}, "evidence.step_seconds"),
        ({"step_seconds": {"0": 1.0}}, "evidence.step_seconds"),
        ({"step_seconds": {"9" * 400: 1.0}}, "evidence.step_seconds"),
        ({"step_seconds": [1.0]}, "evidence.step_seconds"),
        ({"steps_to_target": {"8": "many"}}, r"evidence.steps_to_target\[8\]"),
        ({"branches": [{"batch_size": 8}]}, r"evidence.branches\[0\].learning_rate"),
    ],
)
def test_a_damaged_plan_is_refused_by_name(plan, change, message):
    """A curve that is not by batch sizes, or a number that is none, raises InputError that names it."""
    plan["evidence"] |= change
    with pytest.raises(InputError, match=message):
        render_page(plan)


def test_numbers_without_a_logarithm_are_left_out(plan):
    """Zero and negative times, rates and sizes draw nothing and break nothing."""
    plan["evidence"]["step_seconds"] |= {"2": 0.0, "4": -1.0, "8": None}
    plan["evidence"]["branches"] += [
        plan["evidence"]["branches"][0] | {"learning_rate": 0.0},
        plan["evidence"]["branches"][0] | {"batch_size": 0},
    ]
    drawn = plan_figures(plan)
    assert not {2, 4, 8} & set(_trace(drawn["step-seconds"], "measured"))
    assert Page(render_page(plan)).text


def test_hostile_names_change_nothing_in_a_plan(plan):
    """Markup in names and outcomes adds no element to the page, and none to a figure's texts."""
    plan["evidence"]["branches"][0]["outcome"] = HOSTILE
    page = Page(render_page(_hostile(plan)))
    assert not page.open
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert "<img" not in json.dumps(plan_figures(plan))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_text_of_a_plan_keeps_to_the_width(plan, untold, width):
    """No line is longer than the width; the answer and the measured sizes are each one line."""
    text = plan_text(plan, width)
    assert max(map(len, (text + plan_text(untold, width)).splitlines())) <= width
    assert re.search(rf"^Batch size +{plan['batch_size']}$", text, re.MULTILINE)
    assert re.search(r"^ +1,024 +43 µs +1,164 +0\.32 +75 ms$", text, re.MULTILINE)
    assert " ".join(plan["explanation"]) in " ".join(text.split())
    assert "\x1b" not in text


def test_parts_of_a_batch_are_said(plan):
    """A batch that is taken in parts says into how many, of how many rows."""
    plan |= {"accumulation": 4, "microbatch": 32}
    assert plan_glance(plan)[0] == ("Batch size", str(plan["batch_size"]), "in 4 parts of 32")


def test_a_plan_is_plotted_from_python(plan, untold, tmp_path):
    """``plot`` gives the time to the target; what was not measured is an error that says so."""
    assert Plan(plan).plot().data[-1].name == "the answer"
    assert "<iframe" in Plan(plan)._repr_html_()
    with pytest.raises(InputError, match="give it more time"):
        Plan(untold).plot()
    settled = {key: value for key, value in untold.items() if key != "verdict"}
    assert Plan(settled)._repr_html_() is None
    for draw in (Plan(settled).plot, lambda: Plan(settled).save_html(tmp_path / "page.html")):
        with pytest.raises(InputError, match="configure_batch_size"):
            draw()
