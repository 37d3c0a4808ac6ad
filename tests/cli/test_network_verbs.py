"""Networks from the command line: fitted, evaluated, used and shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def test_a_network_from_fit_to_prediction(descend: Command, table: Path) -> None:
    """``--model mlp`` writes a model that evaluate, predict and report take, and says its shape on the page."""
    fitted = descend("fit", table, "--target", "answer", "--model", "mlp", "--hidden", "12,5", "--json")
    assert fitted.status == 0, fitted.err
    assert fitted.json["optimizer"] == "adam"
    assert fitted.json["validation"]["accuracy"] > 0.6
    page = Path("table-fit.html").read_text(encoding="utf-8")
    assert "Hidden layers" in page
    assert "12, 5" in page
    assert descend("evaluate", "table.descend", table, "--json").json["accuracy"] > 0.75
    lines = descend("predict", "table.descend", table, "--probabilities").out.splitlines()
    assert lines[0] == "prediction,probability_no,probability_yes"
    assert len(lines) == 301
    assert descend("report", "table.descend", "--output", "again.html").status == 0
    assert "a rule: 0.003" in fitted.err


def test_a_network_for_numbers(descend: Command) -> None:
    """Regression, another activation, optimizer and weight decay go through as they are typed."""
    found = descend(
        "fit", "sklearn:diabetes", "--model", "mlp", "--hidden", "8", "--activation", "gelu", "--optimizer", "sgd",
        "--weight-decay", "0.01", "--epochs", "20", "--no-report", "--json",
    )  # fmt: skip
    assert found.status == 0, found.err
    assert "from a ladder" in found.err
    assert found.json["train"]["r2"] > 0.3


def test_two_fits_of_a_network_write_equal_models(descend: Command, table: Path) -> None:
    """One seed, one network: the weights in two files are the same to the last bit, whatever the threads."""
    from descend.model_file import read_model

    words = ("fit", table, "--target", "answer", "--model", "mlp", "--epochs", "5", "--no-report", "--quiet")
    for name, threads in (("one", "1"), ("two", "2")):
        assert descend(*words, "--threads", threads, "--output", f"{name}.descend").status == 0
    one, two = (read_model(f"{name}.descend")[0] for name in ("one", "two"))
    assert {name: array.tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in two.items()
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--hidden", "12"), "--hidden describes a network: give --model mlp"),
        (("--weight-decay", "0.1"), "--weight-decay describes a network"),
        (("--model", "mlp", "--hidden", "12,x"), "--hidden is '12,x'"),
        (("--model", "mlp", "--hidden", "0"), "--hidden is '0'"),
        (("--model", "mlp", "--activation", "rulu"), "--activation 'rulu' is not known"),
        (("--model", "mlp", "--weight-decay", "-1"), "--weight-decay is -1"),
        (("--model", "tree"), "--model 'tree' is not known; choose one of: linear, mlp"),
    ],
)
def test_what_does_not_fit_is_one_line(
    descend: Command, table: Path, words: tuple[str, ...], told: str
) -> None:
    """A mistake in the network's options is one line that names the option, status 2, and nothing is written."""
    result = descend("fit", table, "--target", "answer", *words)
    assert result.status == 2
    assert told in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not Path("table.descend").exists()


def test_compare_trains_networks(descend: Command, table: Path) -> None:
    """``compare --model mlp`` prints the three kinds, their ends and the claims, and leaves a page and a run."""
    words = ("--model", "mlp", "--hidden", "6", "--activation", "tanh", "--seeds", 1, "--epochs", 30)
    found = descend("compare", table, "--target", "answer", *words, "--json")
    assert found.status == 0, found.err
    assert [run["kind"] for run in found.json["runs"]] == ["stochastic", "mini-batch", "batch"]
    for run in found.json["runs"]:
        assert set(run["sharpness"]) == {"median", "low", "high"}
    assert {claim["claim"] for claim in found.json["claims"]} >= {"Its noise lets it leave local minima"}
    page = Path("table-compare.html").read_text(encoding="utf-8")
    assert "Where they ended" in page
    assert "Hidden layers" in page
    again = descend("report", "table-compare.json", "-o", "again.html")
    assert "Where they ended" in again.out
    assert Path("again.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--hidden", "12"), "--hidden describes a network: give --model mlp"),
        (("--model", "mlp", "--optimizer", "saga"), "optimizer is 'saga', which networks do not take"),
    ],
)
def test_compare_refuses_in_one_line(
    descend: Command, table: Path, words: tuple[str, ...], told: str
) -> None:
    """What does not go with the model is one line that names the option, and nothing is written."""
    result = descend("compare", table, "--target", "answer", *words, "--quiet")
    assert result.status == 2
    assert told in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not list(Path().glob("table-compare*"))
