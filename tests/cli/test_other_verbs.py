"""``descend report`` and ``descend machine``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def test_report_draws_a_model_again(descend: Command, model: Path) -> None:
    """From a model file alone come the page, named after it, and the table of its training."""
    result = descend("report", model)
    assert result.status == 0, result.err
    assert "accuracy" in result.out
    assert "page            model.html\n" in result.err
    assert "Largest coefficients" in Path("model.html").read_text(encoding="utf-8")


def test_report_replaces_nothing_unasked(descend: Command, model: Path) -> None:
    """A second page gets the next free name, and --json tells it."""
    assert descend("report", model, "--json").json == {"report": "model.html"}
    assert descend("report", model, "--json").json == {"report": "model-2.html"}


def test_machine_is_told(descend: Command) -> None:
    """The table and the JSON tell processor, cores, memory and versions."""
    text = descend("machine").out
    for word in ("processor", "cores", "memory", "numpy"):
        assert f"\n{word} " in f"\n{text}"
    found = descend("machine", "--json").json
    assert found["cores"] >= 1
    assert found["versions"]["numpy"]
