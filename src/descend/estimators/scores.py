"""``score`` of rows that stay where they live: a path, a dataset, batches, a block store; added up block by block."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from descend.errors import InputError, SourceError
from descend.estimators.sources import gives_batches, is_readable, readable_source, scored, tables_of
from descend.model_metrics import add_rows, make_sums
from descend.models.model import Model
from descend.sources.selection import NoTargetError
from descend.store import Store
from descend.store.choice import refuse_beside, store_of
from descend.store.source import StoredSource
from descend.types import Block, FloatArray, Source


class ScoresSources:
    """The part of an estimator that scores what ``fit`` and ``predict`` take; arrays are scikit-learn's to score."""

    model_: Model

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy of a classifier, R² of a regressor, on rows ``X`` with targets ``y``, as scikit-learn has them.

        ``X`` may be all that ``fit`` takes: of a path, or of what Arrow reads in parts, ``y`` and ``sample_weight``
        are names of columns (``y`` by default the one that was trained on), and a block store comes alone.
        """
        if is_readable(X) or isinstance(X, Store) or gives_batches(X):
            from sklearn.utils.validation import check_is_fitted

            check_is_fitted(self)
            return _score(self.model_, labelled(self.model_, X, y, sample_weight))
        if y is None:
            raise InputError(
                "y is missing: give one target a row; rows in a file, a dataset or a block store know theirs"
            )
        return float(super().score(X, y, sample_weight))  # type: ignore[misc]


def labelled(
    model: Model, X: Any, y: Any = None, sample_weight: Any = None
) -> Iterator[tuple[FloatArray, Block]]:
    """Scores (r, k) of some rows at a time, and the rows with their targets and weights."""
    store = store_of(X)
    if store is not None:
        refuse_beside(y, sample_weight)
        yield from scored(model.scores_of_encoded, StoredSource(store, model.features).blocks(), model)
    elif gives_batches(X):
        for source in tables_of(X, model.target.name if y is None else y, sample_weight):
            yield from scored(model.scores, source.blocks(), model)
    else:
        yield from scored(model.scores, _source(model, X, y, sample_weight).blocks(), model)


def _source(model: Model, X: Any, y: Any, sample_weight: Any) -> Source:
    """The rows with a target: the one that is named, else that of the file, else what the model calls its own."""
    try:
        source = readable_source(X, y, sample_weight)
    except NoTargetError:
        if y is not None or not model.target.name:
            raise
        source = readable_source(X, model.target.name, sample_weight)
    match_columns = getattr(source, "match_columns", None)
    if match_columns is not None:  # rows that go by number: the width is the model's
        match_columns(model.features.input_names)
    return source


def _score(model: Model, rows: Iterator[tuple[FloatArray, Block]]) -> float:
    if getattr(model, "labels", 0):
        raise InputError(
            "the model tells several labels a row, which no column holds: give X and y as arrays"
        )
    sums = make_sums(model)
    for scores, part in rows:
        add_rows(sums, model, scores, part.target, part.weights)
    if not sums.rows:
        raise SourceError("X has no rows with a target; at least 1 is needed")
    found = sums.result()["accuracy" if model.target.classes else "r2"]
    return _undefined() if found is None else found


def _undefined() -> float:
    """What scikit-learn answers where rows do not tell, and how it says so."""
    from sklearn.exceptions import UndefinedMetricWarning

    warnings.warn(
        "the score is not defined: the target is the same in all of these rows, or they weigh nothing",
        UndefinedMetricWarning,
        stacklevel=4,
    )
    return float("nan")
