"""What ``fit`` takes beyond the rows that the caller holds already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import descend

MEASURED = """
import sys, warnings
import numpy as np
from descend import LinearClassifier, MLPClassifier
from descend.batches import order as order_rows

warnings.simplefilter("ignore")
estimator, stored, layout = eval(sys.argv[1]), sys.argv[2], sys.argv[3]
rng = np.random.default_rng(0)
if stored == "float32":
    X = np.empty((300_000, 50), dtype=np.float32, order=layout)
    X[:] = rng.standard_normal(X.shape, dtype=np.float32)
    y = X[:, 0] + rng.standard_normal(len(X), dtype=np.float32) > 0
else:
    X = rng.integers(0, 256, size=(30_000, 784), dtype=np.uint8)
    y = X[:, 0] > 127

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

few = 14_000 if stored == "float32" else 4000  # so many that columns go through kernels, too
estimator.fit(X[:few].copy(order="K"), y[:few])
order_rows(0, 0, len(X))  # kernels and libraries are there from here on
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
estimator.fit(X, y)
print((status("VmHWM") - before) / X.nbytes)
"""
IN_PLACE = "shuffle=False, standardize=False"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize(
    ("batch_size", "settings", "order", "least", "most"),
    [
        ("1", "", "C", 1.0, 1.3),
        ("32", "", "F", 1.0, 1.3),
        ("'full'", "shuffle=False", "C", 1.0, 1.3),
        ("32", IN_PLACE, "F", 1.0, 1.3),
        ("'auto'", "", "C", 0.0, 0.2),
        ("'auto'", IN_PLACE, "F", 0.0, 0.2),
        ("32", IN_PLACE, "C", 0.0, 0.3),
        ("'full'", IN_PLACE, "C", 0.0, 0.04),
        ("'full'", f"{IN_PLACE}, optimizer='sgd', epochs=3", "C", 0.0, 0.02),
    ],
)
def test_fit_takes_one_copy_of_the_rows_or_none(
    batch_size: str, settings: str, order: str, least: float, most: float
) -> None:
    """Beyond X: one copy where rows change order or scale, whatever X's own order, and none where they do not.

    By default neither is needed for two classes on so few columns.

    The rest is some 30 bytes a row, which at 50 columns are a sixth of the array, and a few megabytes; with full
    batches codes of a byte and scores.
    """
    code = f"LinearClassifier(batch_size={batch_size}, {settings})"
    assert least <= measured(code, "float32", order) <= most


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize("batch_size", [32, 4096, "full"])
def test_a_network_takes_one_copy_of_pixels_and_no_room_that_grows_with_the_batch(
    batch_size: int | str,
) -> None:
    """Beyond 30,000 × 784 bytes: a copy in the same bytes and ten megabytes, not the rows as float32.

    Nor what hidden layers make of all rows at once (36 MB).
    """
    code = f"MLPClassifier(batch_size={batch_size!r}, epochs=2, early_stopping=False)"
    assert 1.0 <= measured(code, "uint8", "C") <= 1.4


def measured(*arguments: str) -> float:
    """Bytes beyond X that ``fit`` takes at most, over those of X, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(descend.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)
