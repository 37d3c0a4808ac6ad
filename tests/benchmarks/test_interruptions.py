"""Runs and ingests that are killed at random moments, and files that are damaged: a few here, many by the script."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.damages import Victim, outcome
from descend.errors import SourceError

ROOT = Path(__file__).parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def told_by(*words: str) -> dict[str, Any]:
    """What the script prints."""
    command = [sys.executable, "-m", "benchmarks.interruptions", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@needs_fork
def test_twenty_killed_runs_end_as_undisturbed_ones() -> None:
    """SIGKILL at 20 random moments, and every run that goes on ends with the same bits."""
    told = told_by("--kills", "20", "--only", "saga|adam", "--rows", "8000")["kills"]
    assert told["identical"] == 20, told["wrong"]
    assert told["had a checkpoint"] > 5


@needs_fork
def test_killed_ingests_leave_the_files_of_undisturbed_ones() -> None:
    """SIGKILL at random moments of 6 ingests, run again: the same files, byte for byte, and no others."""
    told = told_by("--ingests", "6")["ingests"]
    assert told["the same"] == 6, told["wrong"]
    assert told["kills"] >= 6


@needs_fork
def test_damaged_files_are_noticed_or_change_nothing() -> None:
    """Of 240 damaged models, checkpoints and files of stores none is read as something else; most are named."""
    told = told_by("--damages", "240")["damages"]
    assert told["noticed"] + told["harmless"] == 240
    assert told["noticed"] > 200
    assert all(counts["noticed"] for counts in told["by kind"].values())


def test_damage_that_is_read_is_silent(tmp_path: Path) -> None:
    """Whoever verifies nothing reads what is damaged: that is counted, as are errors that name no file."""
    path = tmp_path / "plain"
    path.write_bytes(bytes(100))
    careless = Victim("plain", [path], path.read_bytes)
    assert outcome(careless, random.Random(0)) == "silent"

    def refuse() -> bytes:
        if path.read_bytes() != bytes(100):
            raise SourceError("something is damaged")
        return b""

    assert outcome(Victim("plain", [path], refuse), random.Random(0)) == "unnamed"
    assert path.read_bytes() == bytes(100)
