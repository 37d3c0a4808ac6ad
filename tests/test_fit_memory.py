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
from descend import LinearClassifier
from descend.batches import order as order_rows

warnings.simplefilter("ignore")
settings, order = eval(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
X = np.empty((300_000, 50), dtype=np.float32, order=order)
X[:] = rng.standard_normal(X.shape, dtype=np.float32)
y = X[:, 0] + rng.standard_normal(len(X), dtype=np.float32) > 0

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))

LinearClassifier(**settings).fit(X[:2000].copy(), y[:2000])
order_rows(0, 0, len(X))  # kernels and libraries are there from here on
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
LinearClassifier(**settings).fit(X, y)
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
        ("'auto'", IN_PLACE, "F", 1.0, 1.3),
        ("32", IN_PLACE, "C", 0.0, 0.3),
        ("'full'", IN_PLACE, "C", 0.0, 0.15),
    ],
)
def test_fit_takes_one_copy_of_the_rows_or_none(
    batch_size: str, settings: str, order: str, least: float, most: float
) -> None:
    """Beyond X: one copy where rows change order or scale, whatever X's own order, and none where they do not.

    The rest is some 40 bytes a row, which at 50 columns are a fifth of the array, and a few megabytes.
    """
    code = f"dict(batch_size={batch_size}, {settings})"
    environment = os.environ | {"PYTHONPATH": str(Path(descend.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, code, order],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert least <= float(done.stdout) <= most
