"""Figures are plain dicts that plotly accepts."""

from __future__ import annotations

import json
import re

import plotly.graph_objects as go
import pytest

from descend.report import comparison as comparison_page
from descend.report import embed
from descend.report.coefficient_figure import coefficient_figure
from descend.report.curve_figures import comparison_views, fit_views
from descend.report.figures import figures
from descend.report.series import comparison_series
from descend.report.surface_figure import surface_figure


def _validate(data, layout):
    go.Figure(data=json.loads(json.dumps(data)), layout=json.loads(json.dumps(layout)))


def test_plotly_accepts_every_curve(comparison, fit):
    """No view, on either kind of axes, has a key or value that plotly.js does not know."""
    views = comparison_views(comparison, comparison_series(comparison)) | fit_views(fit)
    assert len(views) == 12
    for view in views.values():
        for layout in view["layouts"].values():
            _validate(view["data"], layout)


def test_plotly_accepts_surface_and_coefficients(comparison, fit):
    """The surface and the bars have no key or value that plotly.js does not know."""
    for figure in (
        surface_figure(comparison, comparison_series(comparison)),
        coefficient_figure(fit["coefficients"]),
    ):
        _validate(figure["data"], figure["layout"])


def test_figures_stand_on_their_own(comparison, fit):
    """Figures given out have real colours, gaps above zero, and one legend entry for each run."""
    assert list(figures(comparison)) == ["curves", "surface"]
    assert list(figures(fit)) == ["curves", "coefficients"]
    for figure in (*figures(comparison).values(), *figures(fit).values()):
        _validate(figure["data"], figure["layout"])
        assert "var(" not in json.dumps(figure)
    traces = figures(comparison)["curves"]["data"]
    assert min(min(trace["y"]) for trace in traces) > 0
    assert [t["name"] for t in traces if t["showlegend"]] == ["Stochastic", "Mini-batch", "Batch"]


def test_a_run_of_one_step_is_seen(fit):
    """A single point beyond the start makes no line: on every axis it is a dot, and the axis has words on it."""
    columns = {name: values[:2] for name, values in fit["history"]["columns"].items()}
    for view in fit_views(fit | {"history": fit["history"] | {"columns": columns}}).values():
        assert all("markers" in trace["mode"] for trace in view["data"])
        assert len(view["layouts"]["log"]["xaxis"]["ticktext"]) > 1
    assert all("markers" not in trace["mode"] for view in fit_views(fit).values() for trace in view["data"])


def test_losses_of_some_rows_are_told_as_such(fit):
    """A point inside an epoch of batches is said to be told by some of the rows; one of every row's method is not."""
    words = "Inside an epoch the losses are those of some of the rows."
    columns = fit["history"]["columns"]
    rows = [100 * place for place in range(len(columns["epoch"]))]

    def caption(each, size):
        changed = columns | {
            "epoch": [each * place for place in range(len(rows))],
            "rows": [each * row for row in rows],
            "batch_size": [size] * len(rows),
        }
        view = fit_views(fit | {"history": fit["history"] | {"columns": changed}})["seconds loss"]
        return view["captions"]["log"]

    assert words in caption(0.5, 8)
    assert words not in caption(1, 8)
    assert words not in caption(0.5, 100)


def test_an_unknown_key_is_noticed():
    """The check of the two tests above fails for a misspelt key."""
    with pytest.raises(ValueError, match="colour"):
        _validate([{"type": "scatter", "line": {"colour": "red"}}], {})


def test_curves_are_thinned_but_keep_their_digits(comparison):
    """A curve has at most 300 points, and the gap to the best loss keeps four digits after rounding."""
    view = comparison_views(comparison, comparison_series(comparison))["seconds loss"]
    assert max(len(trace["x"]) for trace in view["data"]) <= 300
    exact = comparison["runs"][2]["histories"][0]["columns"]["loss"][-1] - comparison["best_loss"]
    lines = [t for t in view["data"] if t["meta"]["run"] == 2 and "line" in t]
    assert min(abs(t["y"][-1] - view["offset"] - exact) for t in lines) < 1e-3 * exact


def test_the_target_stands_at_its_gap_on_logarithmic_axes(comparison):
    """Line and symbols of the target are at the gap on one kind of axes and at the loss on the other."""
    view = comparison_views(comparison, comparison_series(comparison))["epoch loss"]
    target, best = comparison["target_loss"], comparison["best_loss"]
    assert view["layouts"]["linear"]["shapes"][0]["y0"] == target
    assert view["layouts"]["log"]["shapes"][0]["y0"] == pytest.approx(target - best)
    marks = [t for t in view["data"] if t["mode"] == "markers"]
    medians = [run["epochs_to_target"]["median"] for run in comparison["runs"]]
    assert [mark["x"] for mark in marks] == [[median] for median in medians]


def test_validation_loss_has_no_target(comparison):
    """The target is one of the training loss, and is not drawn among validation losses."""
    view = comparison_views(comparison, comparison_series(comparison))["seconds validation_loss"]
    assert view["offset"] == 0
    assert "shapes" not in view["layouts"]["log"]
    assert all(trace["mode"] == "lines" for trace in view["data"])


def test_losses_before_averaging_are_shown_where_they_differ(comparison):
    """Without averaging anywhere there is one choice less."""
    for run in comparison["runs"]:
        run["histories"] = [
            {"columns": h["columns"] | {"last_loss": h["columns"]["loss"]}} for h in run["histories"]
        ]
    words = [word for _, word in comparison_page.comparison_context(comparison)["losses"]]
    assert words == ["Training", "Validation"]


def test_three_kinds_and_more_have_looks_of_their_own(comparison):
    """Runs never share a colour or a symbol, and mini-batch runs are told apart by their size."""
    extra = comparison["runs"][1] | {"batch_size": 256}
    comparison["runs"].insert(2, extra)
    shown = comparison_series(comparison)
    assert len({s.colour for s in shown}) == len({s.symbol for s in shown}) == 4
    assert [s.label for s in shown] == ["Stochastic", "Mini-batch 32", "Mini-batch 256", "Batch"]


def test_bars_of_names_cut_alike_stay_apart(fit):
    """Two long names with the same beginning keep a bar each, and their markup is shown literally."""
    names = ["<b>" + "x" * 10_000 + "1", "<b>" + "x" * 10_000 + "2"]
    figure = coefficient_figure([{"name": name, "value": 1.0} for name in names])
    assert figure["data"][0]["y"] == [0, 1]
    labels = figure["layout"]["yaxis"]["ticktext"]
    assert all(label.startswith("&lt;b&gt;") and len(label) < 40 for label in labels)


def test_colours_are_variables_of_the_style_sheet(comparison, fit):
    """Every colour that a figure names is defined for the light and for the dark page."""
    import re

    charts = [comparison_views(comparison, comparison_series(comparison)), fit_views(fit)]
    charts += [
        surface_figure(comparison, comparison_series(comparison)),
        coefficient_figure(fit["coefficients"]),
    ]
    used = set(re.findall(r"var\((--[\w-]+)\)", json.dumps(charts)))
    light, dark = embed.asset("report.css").split("prefers-color-scheme: dark", 1)
    assert len(used) > 10
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark


def test_linear_axes_are_in_words_that_have_units(comparison):
    """Ticks of a linear axis are durations or counts, never 50m for fifty milliseconds or half an epoch."""
    views = comparison_views(comparison, comparison_series(comparison))
    for name, view in views.items():
        ticks = view["layouts"]["linear"]["xaxis"]["ticktext"]
        assert not any(tick.endswith(("m", "k")) for tick in ticks)
        if name.startswith("seconds "):
            assert all(tick.endswith(("s", "min", "h")) for tick in ticks)


def _contrast(one, other):
    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_from_the_paper():
    """Lines reach the contrast of 3 that WCAG asks of graphics, words 4.5, in the light page and in the dark one."""
    light, dark = embed.asset("report.css").split("@media", 2)[:2]
    for part in (light, dark):
        colours = dict(re.findall(r"(--[\w-]+): (#\w{6});", part))
        lines = [name for name in colours if name.startswith(("--series-", "--size-"))]
        assert len(lines) == 14
        for name in lines:
            assert _contrast(colours[name], colours["--paper"]) >= 3.0, name
        for name in ("--ink", "--soft", "--accent", "--yes", "--no", "--unknown"):
            assert _contrast(colours[name], colours["--paper"]) >= 4.5, name
        for name in ("--wash", "--best"):
            assert _contrast(colours["--soft"], colours[name]) >= 4.5, name
