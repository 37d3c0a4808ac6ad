"""The history: rows in, the same rows out of JSON and frame, and nothing else read as one."""

import json
import subprocess
import sys

import pytest

from descend.errors import InputError, ModelFileError
from descend.history import COLUMNS, FORMAT, VERSION, History


def filled(num_rows=3):
    history = History()
    for i in range(num_rows):
        history.append({name: float(i) + j for j, name in enumerate(COLUMNS)} | {"validation_loss": None})
    history.stopped, history.notes = "converged", ["a note"]
    return history


def test_the_last_row_is_what_was_appended_last():
    """``last`` has every column's last value, missing ones as None."""
    history = filled()
    assert len(history) == 3
    assert set(history.last) == set(COLUMNS)
    assert history.last["seconds"] == 2.0
    assert history.last["validation_loss"] is None
    assert history["loss"] == [4.0, 5.0, 6.0]


def test_the_frame_has_the_promised_columns():
    """``to_frame`` has one row an observation and the interface's columns."""
    frame = filled().to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 3
    promised = {
        "seconds",
        "epoch",
        "rows",
        "updates",
        "loss",
        "validation_loss",
        "batch_size",
        "learning_rate",
    }
    assert promised <= set(COLUMNS)


def test_it_comes_back_from_json(tmp_path):
    """A saved history is strict JSON, and reads back equal."""
    path = filled().save(tmp_path / "h.json")
    saved = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (saved["format"], saved["version"]) == (FORMAT, VERSION)
    again = History.from_json(saved)
    assert again.to_json() == filled().to_json()


def test_two_histories_share_nothing():
    """Appending to one history leaves others, and what was read from the same JSON, as they are."""
    one, saved = filled(), filled().to_json()
    again = History.from_json(saved)
    again.append(dict.fromkeys(COLUMNS, 9.0))
    again.notes.append("more")
    assert len(one) == len(saved["columns"]["loss"]) == 3
    assert len(History()) == 0
    assert saved["notes"] == ["a note"]


@pytest.mark.parametrize(
    "change", [{"format": "descend.comparison"}, {"version": VERSION + 1}, {"format": None}]
)
def test_other_records_are_refused(change):
    """A record of another format or a later version is refused with what it is."""
    with pytest.raises(ModelFileError, match=FORMAT):
        History.from_json(filled().to_json() | change)


def test_an_existing_file_stays(tmp_path):
    """Saving over an existing file is refused unless forced."""
    path = filled().save(tmp_path / "h.json")
    with pytest.raises(InputError, match="exists"):
        filled().save(path)
    filled(5).save(path, force=True)
    assert len(History.from_json(json.loads(path.read_text()))) == 5


def test_reading_a_history_needs_no_engine():
    """Importing the history loads neither Numba nor scikit-learn."""
    code = (
        "import sys, descend.history; print([m for m in ('numba', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
