"""Tables of a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from descend.report import comparison_table, comparison_text, fit_text


def test_table_verdict_and_claims_are_printed(comparison):
    """Every kind has its row, the verdict and each claim with its evidence follow."""
    text = " ".join(comparison_text(comparison, width=200).split())
    for words in ("Stochastic 1 ", "Mini-batch 32 ", "Batch full ", comparison["verdict"]):
        assert words in text
    assert all(c["claim"] in text and c["evidence"] in text for c in comparison["claims"])


@pytest.mark.parametrize("width", [60, 66, 72, 80, 120])
def test_text_keeps_to_the_width(comparison, fit, width):
    """No line is longer than the width; a narrow terminal has fewer columns, and none of them is cut."""
    comparison["runs"][0] |= {"rows_per_second": 1.91e6, "seconds_to_target": None}
    text = comparison_text(comparison, width=width)
    assert max(len(line) for line in (text + fit_text(fit, width)).splitlines()) <= width
    rows = re.findall(r"^(?:Stochastic|Mini-batch|Batch) .*$", text, re.MULTILINE)
    assert "not reached" in rows[0]
    assert not any("…" in row for row in rows)
    assert rows[0].endswith(" MB") is (width == 120)


def test_text_has_no_colour_and_a_terminal_has(comparison):
    """Escape sequences appear on a terminal only."""
    assert "\x1b" not in comparison_text(comparison)
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system="256", no_color=False)
    terminal.print(comparison_table(comparison))
    assert "\x1b[" in terminal.file.getvalue()


def test_names_from_the_data_have_no_effect(comparison, fit):
    """Control characters are made visible, markup of the library is literal, long names are cut."""
    for run in (comparison, fit):
        run["data"]["name"] = "[red]x[/red]\x1b[2J" + "n" * 10_000
        run["verdict"] = "\x1b]0;pwned\x07 [bold]best[/bold]"
    comparison["claims"][0] |= {"claim": "\x1b[31mred", "evidence": "e\r\n" * 10_000, "kind": "batch"}
    comparison["runs"][0]["note"] = "\x1b[31m[/nothing] 소득"
    text = comparison_text(comparison) + fit_text(fit)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "[red]x[/red]\\x1b[2J" in text
    assert "[bold]best[/bold]" in text
    assert "[/nothing] 소득" in text
    assert len(text) < 10_000


def test_a_fit_names_its_validation_figures_first(fit):
    """The metrics of the validation rows stand before those of the training rows."""
    assert re.search(r"^accuracy +0\.8532 +0\.8541$", fit_text(fit), re.MULTILINE)
