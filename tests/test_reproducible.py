"""One seed, one model: whatever the threads, the process, and the time of day."""

import subprocess
import sys

import numpy as np
import pytest

from descend.features import prepare
from descend.fitting import fit
from descend.model_file import read_model
from descend.models.loading import load_model
from descend.settings import Settings
from descend.sources import array_source, open_source

TIMES = {"seconds", "created"}


def without_times(value):
    """A header's numbers but for those that tell the time."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in TIMES}
    return value


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 40)).astype(np.float32)
    y = (X @ rng.normal(size=40) + rng.normal(size=30_000) > 0).astype(int)
    return prepare(array_source(X, y), validation=0.1)


@pytest.mark.parametrize("how", [{}, {"batch_size": 1}, {"batch_size": "full"}, {"optimizer": "sgd"}])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(rows, how, threads):
    """Parameters and history but for the seconds are the same with one thread and with several."""
    one, several = (fit(rows, Settings(threads=n, **how)) for n in (1, threads))
    assert one.model.parameters.tobytes() == several.model.parameters.tobytes()
    assert without_times(one.history.columns) == without_times(several.history.columns)


def test_two_processes_write_the_same_model(tmp_path):
    """The command line's model files of one seed, one and two threads, differ in nothing but the times."""
    headers = []
    for threads in (1, 2):
        path = tmp_path / f"{threads}.descend"
        command = [sys.executable, "-m", "descend", "fit", "sklearn:digits", "--seed", "7", "--quiet"]
        command += ["--no-report", "--threads", str(threads), "--output", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        arrays, header = read_model(path)
        headers.append((arrays["parameters"].tobytes(), without_times(header)))
    assert headers[0] == headers[1]


def test_a_saved_model_predicts_the_same(tmp_path):
    """What a model says of rows survives its file to the last bit."""
    source = open_source("sklearn:wine")
    model = fit(prepare(source), Settings()).model
    again = load_model(model.save(tmp_path / "wine.descend"))
    for block in source.blocks():
        np.testing.assert_array_equal(model.scores(block.columns), again.scores(block.columns))
