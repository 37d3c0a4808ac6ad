"""How fast data become a block store: ``python -m benchmarks.ingest``.

A table of random numbers is written as CSV. PyArrow alone parses it, and ``descend ingest`` makes a store of it, in
turns; printed are the medians of each, in wall and processor time, their ratio, and the peak memory of ingesting.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from descend.machine import describe_machine

PARSE = """
import sys, time
import pyarrow.csv
start, used = time.perf_counter(), time.process_time()
rows = pyarrow.csv.read_csv(sys.argv[1]).num_rows
print(rows, time.perf_counter() - start, time.process_time() - used, 0)
"""
INGEST = """
import sys, time
from descend.cli import run
from descend.machine import peak_bytes
start, used = time.perf_counter(), time.process_time()
words = ["ingest", sys.argv[1], "--target", "y", "--output", sys.argv[2], "--force", "--quiet"]
assert run([*words, "--memory-limit", sys.argv[3]]) == 0
print(0, time.perf_counter() - start, time.process_time() - used, peak_bytes())
"""


def write_csv(path: Path, rows: int, columns: int) -> None:
    """Numbers with four digits behind the point, and a target of two classes."""
    import pyarrow as pa
    import pyarrow.csv

    random = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, 100_000):
        X = random.standard_normal((min(100_000, rows - start), columns)).round(4)
        table = pa.table({f"c{i}": X[:, i] for i in range(columns)} | {"y": (X[:, 0] > 0).astype(int)})
        writer = writer or pyarrow.csv.CSVWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def measure(code: str, *words: str) -> list[float]:
    """Rows, seconds, processor seconds and peak bytes of a fresh process."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--limit", default="auto", help="--memory-limit of the ingest")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write_csv(path, given.rows, given.columns)
        pairs = [
            (measure(PARSE, str(path)), measure(INGEST, str(path), str(Path(folder) / "store"), given.limit))
            for _ in range(given.repeats)
        ]
    found = {"rows": given.rows, "columns": given.columns, "limit": given.limit}
    for at, name in ((1, "seconds"), (2, "processor_seconds")):
        found[f"parse_{name}"] = statistics.median(parse[at] for parse, _ in pairs)
        found[f"ingest_{name}"] = statistics.median(ingest[at] for _, ingest in pairs)
        found[f"ratio_{name}"] = statistics.median(parse[at] / ingest[at] for parse, ingest in pairs)
    found["peak_bytes"] = max(ingest[3] for _, ingest in pairs)
    machine = describe_machine()
    print(json.dumps(found | {"cores": machine["cores"], "load": machine["load"]}, indent=2))


if __name__ == "__main__":
    main()
