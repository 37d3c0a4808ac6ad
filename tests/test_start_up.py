"""What a first fit compiles, and what a later process still does: nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import descend
from descend.engines import kernel_cache, rehearsal
from descend.engines.base import Rule
from descend.engines.rehearsal import Rehearsal
from descend.types import FloatArray
from descend.updates import OPTIMIZERS

COUNTED = """
import sys, warnings
import numba.core.compiler as compiler
import numpy as np
import scipy.sparse
from descend import LinearClassifier, LinearRegressor, MLPClassifier

warnings.simplefilter("ignore")
compiled = []
original = compiler.CompilerBase._compile_core

def counted(self):
    compiled.append((self.state.func_id.func_qualname, str(self.state.args)))
    return original(self)

compiler.CompilerBase._compile_core = counted
X = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
y = X[:, 0] > 0
"""
RUNS = """
import importlib, pkgutil, tempfile
import descend.engines
from descend import ingest, open_store
from descend.batches import order
from descend.engines.base import Rule, State
from descend.engines.choose import make_engine
from descend.engines.file_pieces import advise_around
from descend.engines.kernel_cache import KernelCache
from descend.engines.quoted_text import last_line_end
from descend.engines.row_sums import add_softmax_curvature
from descend.engines.svmlight_text import parse_lines
from descend.fitting import fit
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.settings import Settings
from descend.store import in_place
from descend.store.preparing import prepare_store
from descend.updates import OPTIMIZERS
stage = importlib.import_module("descend.features.prepare")

def kernels_without_a_call():
    for found in pkgutil.iter_modules(descend.engines.__path__, "descend.engines."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if isinstance(getattr(value, "_cache", None), KernelCache) and not value.signatures:
                yield f"{found.name}.{name}"

for batch_size in (1, 32, "full"):
    for rows in (X, scipy.sparse.csr_matrix(X)):
        LinearClassifier(batch_size=batch_size).fit(rows, y)
        LinearRegressor(batch_size=batch_size).partial_fit(rows, X[:, 1])
        MLPClassifier(batch_size=batch_size, epochs=2).fit(rows, y)
        for optimizer in ("sgd", "adam"):
            LinearClassifier(batch_size=batch_size, optimizer=optimizer, epochs=2).fit(rows, y)
    LinearClassifier(batch_size=batch_size, shuffle=False).fit(X, np.arange(400) % 3, sample_weight=np.full(400, 2.0))
    LinearRegressor(batch_size=batch_size, loss="quantile", penalty="l1").fit(X, X[:, 1])
LinearClassifier(batch_size=32).fit(np.tile(X, (66, 1)), np.tile(y, 66))
for rows in (X, np.asfortranarray(X)):  # are learnt where they are
    LinearRegressor(alpha=0.0).fit(rows, X[:, 1] ** 2)
LinearClassifier().fit(np.asfortranarray(np.tile(X, (70, 1))), np.tile(y, 70))  # begins at a sample
for classes in (3, 8):
    LinearClassifier(batch_size=32, optimizer="sgd", epochs=2).fit(X, np.arange(400) % classes)
    LinearClassifier(batch_size=32).fit(X, np.arange(400) % classes)
    moves = np.zeros((classes, 6), dtype=np.float32)
    add_softmax_curvature(X, np.ones((400, classes)), np.ones(400), moves, moves.copy())
stage.FEWEST_CODED = 0
small = np.rint(10 * X).astype(np.int16)
small[7] = 3000  # a row so heavy that it is visited several times
for rows in (small, small.astype(np.float16)):
    LinearClassifier(batch_size=32, standardize=False).fit(rows, y)
rows = scipy.sparse.csr_matrix(X)
LinearClassifier(batch_size=32, optimizer="sgd", epochs=2).fit(rows, np.arange(400) % 3)
LinearClassifier(batch_size=32, optimizer="sgd", penalty="l1", epochs=2).fit(rows, y)
LinearClassifier(batch_size=32).fit(scipy.sparse.csr_matrix(X * (X > 1)), y)  # so few that products go by them
with tempfile.TemporaryDirectory() as folder:
    ingest(X, y=y, output=f"{folder}/store")
    for can_map in (in_place.can_map, lambda layout: False):  # rows are used where they are, or read
        in_place.can_map = can_map
        fit(prepare_store(open_store(f"{folder}/store"), stream=True), Settings(optimizer="sgd", epochs=2))
    rows = prepare_store(open_store(f"{folder}/store"), stream=True).train
    engine = make_engine(rows, LOSSES["log_loss"], Penalty(0.1))
    state = State(np.zeros((1, 6), dtype=np.float32))
    engine.run(state, Rule(OPTIMIZERS["sgd"], 0.1), np.arange(300, dtype=np.int32), 32)
last_line_end(np.frombuffer(b"1\\n", dtype=np.uint8), 44, 0)
parse_lines(b"1 1:0.5\\n", False)
none = np.zeros(0, dtype=np.int64)
advise_around(0, 0, none, none, 4096, 0, 4096, 0, 4)
order(0, 0, 100_000)
for name in kernels_without_a_call():
    print("not called:", name)
print(*compiled, sep="\\n")
"""
ALONE = """
from descend import machine
machine.usable_cores = lambda: 1  # no other process compiles a part of it
"""
ONE_RUN = """
LinearClassifier(batch_size=BATCH_SIZE).fit(X, y)
print(*{name for name, _ in compiled})
for name in {name for name, _ in compiled if name.startswith(("run_", "add_", "gram_", "fill_"))}:
    assert len({arguments for other, arguments in compiled if other == name}) == 1, name
"""


def run(code: str, home: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": str(Path(descend.__file__).parents[1])}
    if home is not None:
        environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home), "TMPDIR": str(home)}
        environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", COUNTED + code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_second_process_compiles_nothing() -> None:
    """Every kernel there is: what one process compiled of it, the next one finds on disk."""
    # Other versions of descend that train meanwhile may push this one's kernels out of the cache: hence three more.
    for _ in range(4):
        if (said := run(RUNS)) == "":
            break
    assert said == ""


@pytest.mark.parametrize(("batch_size", "unused"), [("32", "run_steps"), ("'full'", "run_saga")])
def test_first_fit_compiles_what_it_uses_and_each_kernel_once(
    batch_size: str, unused: str, tmp_path: Path
) -> None:
    """In an empty cache: no kernel of another optimizer, and none for a second set of argument types."""
    compiled = run(ALONE + ONE_RUN.replace("BATCH_SIZE", batch_size), tmp_path).split()
    assert "add_objective" in compiled
    assert unused not in compiled


BOTH_CORES = """
from descend import machine
machine.usable_cores = lambda: 2
LinearClassifier(batch_size=32).fit(X, y)
print(*{name for name, _ in compiled}, *{"numba.np.linalg"} & set(sys.modules))
"""


def test_another_process_compiles_a_part_of_a_first_fit(tmp_path: Path) -> None:
    """With a second core this process compiles the steps and loads the certificate.

    The next compiles nothing, nor does it load what Numba compiles with, which takes as long as importing Numba.
    """
    compiled = run(BOTH_CORES, tmp_path).split()
    assert {"run_saga", "numba.np.linalg"} <= set(compiled)
    assert "add_objective" not in compiled
    assert "add_losses" not in compiled
    assert run(BOTH_CORES, tmp_path) == ""
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".lock", "") and path.is_file()]


def test_waiting_for_the_other_process_counts_as_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run waits for another process to compile is no time of its search's."""

    def asleep(rehearsal: Rehearsal) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "0.3"], stdout=subprocess.PIPE)

    class Few:
        def run(self, *_: object) -> None:
            begin = kernel_cache.before_compiling
            assert begin is not None
            begin()

        def mean_loss(self, parameters: FloatArray) -> float:
            return 0.0

    monkeypatch.setattr("descend.machine.usable_cores", lambda: 2)
    monkeypatch.setattr(rehearsal, "_begin_beside", asleep)
    before = kernel_cache.seconds_compiling()
    rehearsal.rehearse(Rehearsal(Few(), [(Rule(OPTIMIZERS["sgd"], 0.1), 1)], np.zeros((1, 3))))
    assert kernel_cache.seconds_compiling() - before > 0.25


def test_a_first_fit_goes_on_where_the_other_process_fails(tmp_path: Path) -> None:
    """An interpreter that cannot be started again, or ends at once, leaves everything to this process."""
    for program in ("/nowhere/python", "/bin/false"):
        home = tmp_path / Path(program).name
        compiled = run(f"sys.executable = {program!r}" + BOTH_CORES, home).split()
        assert {"run_saga", "add_objective", "add_losses"} < set(compiled)
