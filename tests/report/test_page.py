"""The page: complete, offline, and unmoved by what names contain."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from descend.errors import InputError, ModelFileError
from descend.report import comparison_text, fit_text, render_page, write_page
from descend.report.schema import SCHEMAS

HOSTILE = "</script><img src=x onerror=document.title='pwned'>"
EMPTY = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """Elements, script texts and words of a page, as a browser would find them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.words, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def _hostile(run):
    """The run with every text of the data replaced by ones that try to break out."""
    run["data"] |= {
        "name": HOSTILE, "target": "\x1b[31m" + "x" * 10_000, "task_reason": HOSTILE,
        "classes": [HOSTILE, "y" * 10_000, "\x1b[2Jred", "소득이 많음", "{{ 7 * 7 }}"],
        "notes": [HOSTILE * 300],
    }  # fmt: skip
    run["verdict"] = f"On {HOSTILE} it is {'w' * 10_000}"
    run["settings"]["command"] = f"descend compare {HOSTILE}"
    run["machine"]["cpu"] = HOSTILE
    return run


@pytest.fixture(scope="module")
def page(_comparison):
    return Page(render_page(_comparison))


def test_the_page_says_what_was_found(page, comparison):
    """Verdict, every claim with its evidence, and the command stand in the page as text."""
    assert comparison["verdict"] in page.text
    for claim in comparison["claims"]:
        assert claim["claim"] in page.text
        assert claim["evidence"] in page.text
    assert comparison["settings"]["command"] in page.text
    assert "Of 9 claims 7 hold on this data, 1 does not, 1 cannot be told here." in page.text


def test_the_numbers_are_there_without_scripts(page):
    """Tables of the losses against all four axes are there and open; what needs scripts is hidden."""
    for axis in ("seconds", "epochs", "rows", "updates"):
        assert f"Loss by {axis}" in page.text
    details = [attrs for tag, attrs in page.elements if tag == "details"]
    assert details
    assert all("open" in attrs for attrs in details)
    assert all("hidden" in a for t, a in page.elements if a.get("class") in ("chart", "controls", "bar"))


def test_the_page_asks_no_network(page):
    """No element refers to anything outside the page."""
    for _, attrs in page.elements:
        assert not attrs.get("src")
        assert attrs.get("href", "data:,") == "data:,"


def test_only_the_scripts_of_the_page_may_run(page):
    """The policy allows nothing but data images, inline styles, and scripts whose hash it names."""
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    code = page.scripts[1:]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in code]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert len(hashes) == 2


def test_the_data_of_the_page_can_be_read(page):
    """The embedded JSON holds the views and the surface, and no character that could end a script."""
    charts = json.loads(page.scripts[0])
    assert set(charts) == {"curves", "surface"}
    assert len(charts["curves"]["views"]) == 12
    assert not set("<>&\u2028\u2029") & set(page.scripts[0])


def test_hostile_names_add_no_element(comparison):
    """Names made of markup, template code or control characters leave the structure of the page as it was."""
    plain = Page(render_page(comparison | {"data": comparison["data"] | {"classes": ["a"] * 5}}))
    page = Page(render_page(_hostile(comparison)))
    count = {tag: sum(t == tag for t, _ in plain.elements) for tag in ("img", "script", "p", "table", "li")}
    assert count["img"] == 0
    assert count["script"] == 3
    for tag in ("img", "script", "table"):
        assert sum(t == tag for t, _ in page.elements) == count[tag]
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert "{{ 7 * 7 }}" in page.text
    assert "소득이 많음" in page.text
    assert not page.open


def test_long_and_unprintable_names_are_cut_and_made_visible(comparison):
    """No word of 400 characters is shown, and no control character gets into the page."""
    text = render_page(_hostile(comparison))
    assert "\x1b" not in text
    assert "\\x1b[2Jred" in text
    assert max(len(word) for word in Page(text).text.split()) < 400


def test_hostile_coefficients_are_literal(fit):
    """Names of columns in figures carry no markup for plotly.js to read."""
    fit["coefficients"][0]["name"] = HOSTILE
    fit["coefficients"][1]["name"] = "z" * 10_000
    charts = json.loads(Page(render_page(_hostile(fit))).scripts[0])
    labels = charts["coefficients"]["figure"]["layout"]["yaxis"]["ticktext"]
    assert labels[0].startswith("&lt;/script&gt;&lt;img")
    assert not any("<" in label for label in labels)


def test_equal_runs_give_equal_pages(fit):
    """Nothing in the page depends on when it is made."""
    assert render_page(fit) == render_page(json.loads(json.dumps(fit)))


def test_a_fit_shows_its_metrics(fit):
    """Metrics on both sets of rows and the settings of the training stand in the page of a fit."""
    text = Page(render_page(fit)).text
    for words in ("accuracy 0.8532 0.8541", "Batch size 256", "early stopping", fit["verdict"]):
        assert words in text


def test_a_figure_that_no_rows_have_has_no_line(fit):
    """A metric that is null on every set of rows is left out of page and terminal; one that some rows have is not."""
    fit["train"]["log_loss"] = fit["validation"]["log_loss"] = None
    fit["train"]["roc_auc"] = None
    for text in (Page(render_page(fit)).text, fit_text(fit)):
        assert "log loss" not in text
        assert "roc auc" in text
        assert "accuracy" in text


def test_the_figures_of_a_fit_fill_their_lines(fit):
    """Eight figures stand in two lines of four in the page's width, and a note keeps its distance from them."""
    style = render_page(fit)
    inside = int(re.search(r"main { max-width: (\d+)px", style)[1]) - 2 * 32
    least, gap = map(
        int, re.search(r"\.glance\.compact { .*minmax\((\d+)px, 1fr\)\); gap: \d+px (\d+)px", style).groups()
    )
    assert (inside + gap) // (least + gap) == 4
    assert int(re.search(r"\.glance \+ \.note { margin-top: (\d+)px", style)[1]) >= 16


def test_a_fit_without_validation_has_a_page(fit):
    """Null validation, no coefficients and no optional figure still give a page."""
    columns = fit["history"]["columns"]
    fit |= {"validation": None, "coefficients": [], "seconds": None}
    fit["history"] = {"columns": columns | {"validation_loss": [None] * len(columns["loss"])}}
    text = Page(render_page(fit)).text
    assert "Validation loss" not in text
    assert "Largest coefficients" not in text


def test_a_run_that_did_not_arrive_says_so(comparison):
    """A kind without a time to the target shows ``not reached`` and the reason."""
    comparison["runs"][2] |= {
        "target_reached": 0, "note": "its budget ended first", "seconds_to_target": None,
        "epochs_to_target": None, "rows_to_target": None, "updates_to_target": None,
    }  # fmt: skip
    text = Page(render_page(comparison)).text
    assert "not reached" in text
    assert "Batch: its budget ended first" in text


def _required(value, schema):
    """The value without anything that its schema calls optional."""
    if isinstance(schema, dict):
        return {k: _required(value[k], inner) for k, inner in schema.items() if not k.endswith("?")}
    return [_required(item, schema[0]) for item in value] if isinstance(schema, list) else value


@pytest.mark.parametrize("name", ["comparison", "fit"])
def test_what_is_optional_may_be_absent(request, name):
    """A run with the required fields alone has a page and a text."""
    run = request.getfixturevalue(name)
    least = _required(run, SCHEMAS[run["format"]]) | {"format": run["format"], "version": 1}
    assert run["verdict"] in Page(render_page(least)).text
    show = comparison_text if name == "comparison" else fit_text
    assert run["verdict"] in show(least, width=300)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_run_that_broke_at_once_has_a_page(comparison, rows):
    """Histories with one observation or none, no surface and null figures still give a page."""
    for run in comparison["runs"]:
        run["histories"] = [
            {"columns": {k: v[:rows] for k, v in h["columns"].items()}} for h in run["histories"]
        ]
    nothing = dict.fromkeys(["surface", "best_loss", "target_loss", "first_loss"])
    Page(render_page(comparison | nothing | {"claims": []}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "descend.other"}, "'descend.other' has no page here"),
        ({"format": None}, "not a saved run"),
        ({"version": 2}, "version 2 of descend.comparison"),
        ({"verdict": 3}, "verdict of the saved run"),
        ({"best_loss": float("nan")}, "best_loss of the saved run must be finite"),
        ({"best_loss": 10**400}, "best_loss of the saved run must be finite"),
        ({"target_loss": 1e308}, "target_loss of the saved run must be finite"),
        ({"runs": [{"kind": "batch"}]}, r"runs\[0\].batch_size of the saved run must be given"),
        ({"claims": [{"claim": "x", "kind": "batch", "holds": "yes", "evidence": ""}]}, "holds"),
    ],
)
def test_what_is_no_run_is_refused_by_name(comparison, change, message):
    """Another format, another version or a damaged field raises InputError that names it."""
    with pytest.raises(InputError, match=message):
        render_page(comparison | change)


def test_columns_of_different_lengths_are_damage(fit):
    """A history with a column cut short is refused."""
    fit["history"] = {"columns": fit["history"]["columns"] | {"loss": [1.0]}}
    with pytest.raises(ModelFileError, match="different lengths"):
        render_page(fit)


def test_a_page_is_replaced_only_by_force(fit, tmp_path):
    """An existing file stays as it was without ``force``, and nothing is left beside it."""
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"page\.html"):
        write_page(fit, path)
    assert path.read_text() == "mine"
    assert write_page(fit, path, force=True) == path
    assert path.read_bytes().decode() == render_page(fit)
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_needs_no_engine_and_no_plotly(fit, tmp_path):
    """Making a page imports neither an engine, NumPy, rich nor the plotly package."""
    (tmp_path / "run.json").write_text(json.dumps(fit))
    code = (
        "import json, sys; from descend.report import write_page; "
        "write_page(json.load(open(sys.argv[1])), sys.argv[2]); "
        "heavy = ('numpy', 'numba', 'rich', 'plotly', 'pyarrow', 'sklearn', 'descend.engines'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "run.json"), str(tmp_path / "page.html")]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
