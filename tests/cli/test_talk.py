"""What is said, and how."""

from __future__ import annotations

import json

import numpy as np
import pytest

from descend.cli.talk import Talk
from descend.report.formatting import training_text
from descend.watching import Observation


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not finite becomes null, NumPy's numbers become JSON's, and one line is printed."""
    Talk(as_json=True).json(
        {"loss": float("nan"), "n": np.int64(3), "x": np.array([1.5, np.inf]), "k": (True,)}
    )
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"loss": None, "n": 3, "x": [1.5, None], "k": [True]}


def test_json_and_people_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json results for people are not printed; without it the object is not."""
    Talk(as_json=True).text("for people")
    Talk().json({"a": 1})
    assert capsys.readouterr().out == ""


def test_notes_are_few_unless_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    """The first notes are shown and the rest counted; --verbose shows all and --quiet none."""
    notes = [f"number {i}" for i in range(9)]
    Talk().notes(notes)
    assert "and 4 more (--verbose shows them)" in capsys.readouterr().err
    Talk(verbose=True).notes(notes)
    assert capsys.readouterr().err.count("number") == 9
    Talk(quiet=True).notes(notes)
    assert capsys.readouterr().err == ""


def test_the_first_steps_foretell_no_end() -> None:
    """Time left is said of a run that is under way; the speed of a start would make hours of a second."""
    early, late = (
        Observation(seconds, 0.001, 32, 1, 0.5, None, 700.0, 4e5 * seconds) for seconds in (0.05, 5.0)
    )
    assert training_text(early) == "epoch 0.001 · loss 0.5000 · 700 rows/s"
    assert training_text(late).startswith("epoch 0.001 · loss 0.5000 · 700 rows/s · at most ")
