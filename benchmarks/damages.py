"""What becomes of damaged files: models, checkpoints, and all files of block stores."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy.sparse as sp

from descend import checkpoint
from descend.errors import ModelFileError, SourceError
from descend.features import prepare
from descend.fitting import fit
from descend.models.loading import load_model
from descend.settings import Settings
from descend.sources import array_source
from descend.store import ingest, ingesting, open_store
from descend.store.preparing import prepare_store
from descend.types import is_sparse

ROWS, COLUMNS, BLOCK_ROWS = 1_500, 16, 512
"""Of stores: three blocks, of which the later two begin with a hole where rows are float32."""


@dataclass
class Victim:
    """Files of a folder, and what reading them all gives."""

    kind: str
    files: list[Path]
    read: Callable[[], object]

    def __post_init__(self) -> None:
        self.expected = self.read()


def damages(count: int, seed: int, train: Callable[[Path], object]) -> dict[str, Any]:
    """What became of so many damaged files, by what they are of; ``train`` leaves a checkpoint in a folder."""
    rng = random.Random(seed)
    outcomes = ("noticed", "harmless", "silent", "unnamed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, two, stores = victims(folder, train)
        told = {victim.kind: dict.fromkeys(outcomes, 0) for victim in (one, two, *stores)}
        for number in range(count):
            victim = (one, two, stores[number // 3 % len(stores)])[number % 3]
            told[victim.kind][outcome(victim, rng)] += 1
    total = {what: sum(counts[what] for counts in told.values()) for what in outcomes}
    return {"damages": count, **total, "by kind": told}


def outcome(victim: Victim, rng: random.Random) -> str:
    """``harmless``: what is read is what it was; ``unnamed``: an error that does not say which file it is."""
    path = rng.choice(victim.files)
    whole = path.read_bytes()
    path.write_bytes(damage(whole, rng))
    try:
        return "harmless" if victim.read() == victim.expected else "silent"
    except (ModelFileError, SourceError) as error:
        return "noticed" if str(path) in str(error) else "unnamed"
    finally:
        path.write_bytes(whole)


def damage(content: bytes, rng: random.Random) -> bytes:
    """One byte changed, or the end cut off."""
    place = rng.randrange(len(content))
    if rng.random() < 0.25:
        return content[:place]
    changed = bytearray(content)
    changed[place] ^= rng.randrange(1, 256)
    return bytes(changed)


def victims(folder: Path, train: Callable[[Path], object]) -> tuple[Victim, Victim, list[Victim]]:
    """A checkpoint, a model, and stores: float32 in place and read, small integers, sparse rows."""
    train(folder / "run")
    kept = sorted(folder.glob("run/*.checkpoint"))[:1]
    for other in set(folder.glob("run/*.checkpoint")) - {*kept}:
        other.unlink()  # it would be taken in the place of the damaged one
    X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS))
    y, weights = X[:, 0] > 0, 1.0 + X[:, 1] ** 2
    model = fit(prepare(array_source(X[:300, :4], y[:300])), Settings()).model.save(folder / "model")
    small = np.clip(100 + 30 * X, 0, 255).astype(np.uint8)
    thin = sp.csr_array(np.where(X > 0.8, X, 0.0))
    sources = {
        "dense": array_source(X.astype(np.float32), y),
        "small": array_source(small, X[:, :2], weights),
        "sparse": array_source(thin, y, weights),
    }
    with patch.multiple(ingesting, rows_of_block=lambda _: BLOCK_ROWS, FEWEST_CODED=0):
        for name, source in sources.items():
            ingest(source, folder / name)
    shutil.copytree(folder / "dense", folder / "read")

    def store(kind: str, name: str, memory_limit: int | None = None) -> Victim:
        return Victim(
            kind, sorted((folder / name).iterdir()), partial(read_store, folder / name, memory_limit)
        )

    return (
        Victim("checkpoint", kept, partial(read_checkpoint, folder / "run")),
        Victim("model", [model], partial(read_model, model)),
        [
            store("store, in place", "dense"),
            store("store, read", "read", memory_limit=1),
            store("store of small integers", "small"),
            store("store, sparse", "sparse"),
        ],
    )


def read_checkpoint(folder: Path) -> str:
    return repr(checkpoint.find(folder)[0])


def read_model(path: Path) -> bytes:
    return bytes(load_model(path).parameters.tobytes())


def read_store(folder: Path, memory_limit: int | None) -> str:
    """A digest of all that training is given: rows as they are used where they stay, targets, weights, products."""
    store = open_store(folder)
    train = prepare_store(store, validation=0.0, stream=True, memory_limit=memory_limit).train
    digest = hashlib.sha256(repr(store.manifest).encode())
    for _, rows in train.X.windows():
        for part in (rows.indptr, rows.indices, rows.data) if is_sparse(rows) else (rows,):
            digest.update(part.tobytes())
    products = () if train.known is None else train.known.products[:3]
    for part in (train.y, train.weights, *products):
        digest.update(b"none" if part is None else part.tobytes())
    return digest.hexdigest()
