"""Verbs that train and score, given a block store instead of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command


@pytest.fixture
def data(descend: Command) -> Path:
    """A table as CSV and the store that is made of it."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 1500))
    colour = random.choice(["red", "blue"], 1500)
    y = np.where(a - b + (colour == "red") + random.normal(size=1500) > 0.5, "yes", "no")
    lines = [f"{p:.4f},{q:.4f},{c},{label}" for p, q, c, label in zip(a, b, colour, y, strict=True)]
    Path("rows.csv").write_text("\n".join(["a,b,colour,bought", *lines]) + "\n")
    assert descend("ingest", "rows.csv", "--target", "bought", "--output", "rows.store").status == 0
    return Path("rows.store")


def test_a_store_is_trained_on_and_scored_like_its_file(descend: Command, data: Path) -> None:
    """Fit on a store, and evaluate of its model on store and file, tell the same figures but for the split."""
    fitted = descend("fit", "rows.store", "--json", "--no-report", "-o", "m.descend")
    assert fitted.status == 0
    assert fitted.json["rows"] == 1350
    on_store = descend("evaluate", "m.descend", "rows.store", "--json").json
    on_file = descend("evaluate", "m.descend", "rows.csv", "--json").json
    assert on_store["rows"] == on_file["rows"] == 1500
    assert on_store["accuracy"] == pytest.approx(on_file["accuracy"], abs=0.002)
    assert on_store["log_loss"] == pytest.approx(on_file["log_loss"], rel=1e-4)
    assert on_store["accuracy"] > 0.75


def test_a_model_of_the_file_scores_the_store(descend: Command, data: Path) -> None:
    """A model that was trained on other rows of the same columns reads the store's in its own scaling."""
    assert descend("fit", "rows.csv", "--target", "bought", "--no-report", "-o", "m.descend").status == 0
    on_store = descend("evaluate", "m.descend", "rows.store", "--json").json
    on_file = descend("evaluate", "m.descend", "rows.csv", "--json").json
    assert on_store["log_loss"] == pytest.approx(on_file["log_loss"], rel=1e-3)
    predicted = descend("predict", "m.descend", "rows.store")
    assert predicted.out.count("\n") == 1501
    assert "rows come in the order of the store" in predicted.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "a"], "--target is a, but store 'rows.store' was ingested with bought"),
        (["--drop", "a"], "--drop is a, but store 'rows.store' was ingested without"),
        (["--columns", "a"], "--columns is a, but store 'rows.store' was ingested without"),
        (["--weights", "b"], "--weights is b, but store 'rows.store' was ingested without"),
        (["--task", "regression"], "--task is 'regression', but rows.store was ingested for classification"),
        (["--loss", "poisson"], "ingest the data again with --task regression"),
        (["--no-standardize"], "--no-standardize: store 'rows.store' holds standardised columns"),
        (["--memory-limit", "much"], "--memory-limit is 'much'"),
        (["--memory-limit", "20MB"], "store 'rows.store' needs more memory than the limit of 20 MB leaves"),
    ],
)
def test_what_a_store_fixes_is_refused_by_name(
    descend: Command, data: Path, options: list[str], message: str
) -> None:
    """An option that is not as the store was written is one line on stderr, exit 2, and nothing is written."""
    before = sorted(Path.cwd().iterdir())
    result = descend("fit", "rows.store", *options)
    assert result.status == 2
    assert message in result.err
    assert sorted(Path.cwd().iterdir()) == before


def test_the_same_choice_is_accepted(descend: Command, data: Path) -> None:
    """Naming target and task as they are, and a file or the store itself for validation, trains as without."""
    for held_out in ("rows.csv", "rows.store", "0"):
        result = descend("fit", "rows.store", "--target", "bought", "--task", "classification", "--validation",
                         held_out, "--epochs", "1", "--optimizer", "adam", "--no-report", "-o", "m", "--force",
                         "--json")  # fmt: skip
        assert result.status == 0, result.err
        assert (result.json["validation"] is None) == (held_out == "0")


def test_a_damaged_block_is_one_line_and_no_model(descend: Command, data: Path) -> None:
    """A store with a flipped bit is refused with the block's name, and no model is written."""
    block = data / "block-00000.bin"
    content = bytearray(block.read_bytes())
    content[100] ^= 1
    block.write_bytes(content)
    result = descend("fit", "rows.store", "-o", "m.descend")
    assert result.status == 2
    assert "block-00000.bin' is damaged" in result.err
    assert result.err.count("\n") <= 3
    assert not Path("m.descend").exists()
