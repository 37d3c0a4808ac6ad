"""Any model out of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descend.errors import ModelFileError, shorten
from descend.models import linear, mlp
from descend.models.linear import LinearModel
from descend.models.mlp import MLPModel

KINDS: dict[Any, type[LinearModel] | type[MLPModel]] = {linear.KIND: LinearModel, mlp.KIND: MLPModel}


def load_model(path: str | Path) -> LinearModel | MLPModel:
    """The model in ``path``; raises ``ModelFileError`` where it is damaged or something else."""
    from descend.model_file import read_model

    arrays, header = read_model(path)
    kind = header.get("kind")
    if kind not in KINDS:
        raise ModelFileError(
            f"{path} holds a model of kind {kind!r}; {' and '.join(map(repr, KINDS))} are read"
        )
    try:
        return KINDS[kind].read(arrays, header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = str(error) if isinstance(error, ModelFileError) else f"{type(error).__name__}: {error}"
        raise ModelFileError(
            f"model {shorten(str(path), 200)!r} does not fit together ({what}); train again"
        ) from None
