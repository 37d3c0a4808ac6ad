"""``descend fit`` on files that do not fit into the memory it may take; what else needs memory refuses them."""

import re

import numpy as np
import pytest

from descend.machine import Room

ROWS = 4000


@pytest.fixture
def sorted_rows(tmp_path):
    """A file sorted by label, with text and gaps."""
    rng = np.random.default_rng(0)
    label = np.sort(rng.integers(2, size=ROWS))
    values = rng.normal(size=ROWS) + 1.5 * label
    words = np.array(["red", "green", ""])[rng.integers(3, size=ROWS)]
    lines = [f"{x:.3f},{word},{y}" for x, word, y in zip(values, words, label.tolist(), strict=True)]
    path = tmp_path / "rows.csv"
    path.write_text("x,word,y\n" + "\n".join(lines))
    return path


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut and read a file of some kilobytes as a large one is."""
    for name in ("line_ranges.READ_BYTES", "line_ranges.FEWEST_BYTES"):
        monkeypatch.setattr(f"descend.sources.{name}", 2048)
    monkeypatch.setattr("descend.sources.limits.MAX_BLOCK_ROWS", 200)
    monkeypatch.setattr("descend.sources.limits.MAX_TABLE_BYTES", 1)
    monkeypatch.setattr("descend.features.prepare_source.FEWEST_WINDOW_BYTES", 2048)


def test_fit_says_that_rows_stay_in_their_files(descend, sorted_rows):
    """Below its limit on memory the command trains from the file, says so, why, and that ingest would shuffle."""
    found = descend(
        "fit", sorted_rows, "--target", "y", "--memory-limit", "1MB", "--epochs", 4, "--json", "--no-report"
    )
    assert found.status == 0, found.err
    assert "that the limit of 1 MB leaves: rows are read from their files in every epoch" in found.err
    assert re.search(
        r"with the fewest rows at a time the process comes to hold about [\d.]+ [MG]B, so the limit is not kept",
        found.err,
    )
    assert "the target changes from one part of the file to the next" in found.err
    assert "descend ingest" in found.err
    assert found.json["optimizer"] == "sgd"
    assert found.json["rows"] + 400 == pytest.approx(ROWS, abs=80)
    assert found.json["train"]["accuracy"] > 0.7
    loaded = descend("fit", sorted_rows, "--target", "y", "--json", "--no-report", "--force")
    assert "ingest" not in loaded.err
    assert found.json["validation"]["log_loss"] < 1.03 * loaded.json["validation"]["log_loss"]
    scored = descend("evaluate", "rows.descend", sorted_rows, "--json")
    assert scored.json["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("words", "who"),
    [
        (["compare"], "compare"),
        (["batch-size"], "batch-size"),
        (["fit", "--model", "mlp"], "a network"),
        (["fit", "--optimizer", "lbfgs"], "optimizer 'lbfgs'"),
    ],
)
def test_what_needs_memory_refuses_with_the_way_out(descend, sorted_rows, words, who, monkeypatch):
    """One line says what does not fit, what needs it, and names ingest; nothing is written."""
    monkeypatch.setattr(
        "descend.features.prepare_source.find_rooms", lambda limit: [Room(1000, "free memory")]
    )
    found = descend(words[0], sorted_rows, *words[1:], "--target", "y", "--quiet")
    assert found.status == 2
    assert who in found.err
    assert "descend ingest" in found.err
    assert found.err.count("\n") == 1
    assert [path.name for path in sorted_rows.parent.iterdir()] == ["rows.csv"]
