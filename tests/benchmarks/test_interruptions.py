"""Runs that are killed at random moments: a few here, two hundred by the script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_twenty_killed_runs_end_as_undisturbed_ones() -> None:
    """SIGKILL at 20 random moments, and every run that goes on ends with the same bits."""
    command = ["-m", "benchmarks.interruptions", "--kills", "20", "--only", "saga|adam", "--rows", "8000"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["kills"]
    assert told["identical"] == 20, told["wrong"]
    assert told["had a checkpoint"] > 5
