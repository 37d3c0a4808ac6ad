"""Files that older versions wrote still load, and say what they said."""

import json
from pathlib import Path

import numpy as np

from descend import load
from descend.history import History
from descend.report import render_page

GOLDEN = Path(__file__).parent / "golden"


def test_a_model_of_version_0_1_predicts_what_it_did() -> None:
    """A model file of version 0.1 loads, and its probabilities are those of the day it was saved."""
    expected = json.loads((GOLDEN / "iris-0.1.json").read_text())
    model = load(GOLDEN / "iris-0.1.descend")
    np.testing.assert_allclose(model.predict_proba(np.array(expected["rows"])), expected["probabilities"])
    assert model.history_.stopped == "converged"
    params = model.get_params()  # of settings that the file does not know there are the defaults
    assert (params["fit_intercept"], params["average"], params["class_weight"]) == (True, "auto", None)


def test_a_comparison_of_version_0_1_renders() -> None:
    """A comparison of version 0.1 makes a page with its verdict on it."""
    record = json.loads((GOLDEN / "comparison-0.1.json").read_text())
    assert record["verdict"].split(",")[0].split(" reached")[0] in render_page(record)


def test_a_history_of_version_0_1_loads() -> None:
    """A history of version 0.1 has its rows, and its end."""
    history = History.from_json(json.loads((GOLDEN / "history-0.1.json").read_text()))
    assert len(history) > 3
    assert history.last["loss"] < 0.2


def test_a_history_has_a_page(tmp_path: Path) -> None:
    """``descend report`` renders a history that was saved on its own; a damaged one is refused in one message."""
    from descend.cli import run

    page = tmp_path / "page.html"
    assert run(["report", str(GOLDEN / "history-0.1.json"), "--output", str(page), "--quiet"]) == 0
    assert "converged" in page.read_text(encoding="utf-8")
    broken = tmp_path / "broken.json"
    broken.write_text('{"format": "descend.history", "version": 1, "columns": 3}')
    assert run(["report", str(broken), "--output", str(tmp_path / "other.html")]) == 2
    assert not (tmp_path / "other.html").exists()
