"""Any model out of its file."""

from __future__ import annotations

from pathlib import Path

from descend.errors import ModelFileError
from descend.models import linear, mlp
from descend.models.linear import LinearModel
from descend.models.mlp import MLPModel


def load_model(path: str | Path) -> LinearModel | MLPModel:
    """The model in ``path``; raises ``ModelFileError`` where it is damaged or something else."""
    from descend.model_file import read_model

    arrays, header = read_model(path)
    kind = header.get("kind")
    if kind == mlp.KIND:
        return MLPModel.read(arrays, header)
    if kind != linear.KIND or "parameters" not in arrays:
        raise ModelFileError(
            f"{path} holds a model of kind {kind!r}; {linear.KIND!r} and {mlp.KIND!r} are read"
        )
    return LinearModel.read(arrays, header)
