"""The rows that an estimator is given, to train on and to score: as a source, or as scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from descend.errors import InputError
from descend.estimators.checks import (
    FLOATS,
    NUMBERS,
    are_finite,
    are_plain,
    check_weights,
    is_mixed_table,
    is_sparse_table,
    naming_the_column,
    refuse_a_name,
    refuse_no_columns,
)
from descend.estimators.sources import (
    gives_batches,
    is_readable,
    named_columns,
    readable_source,
    refuse_other_than_numbers,
    scores_of,
)
from descend.features import Features
from descend.sources import array_source, table_source
from descend.sources.arrays import column_names, numbered
from descend.sources.tables import arrow_table, refuse_lazy
from descend.store import Store
from descend.types import FloatArray, Source


class TakesRows:
    """The part of an estimator that looks at what ``X`` and ``y`` are."""

    _takes_outputs = False
    """Whether ``y`` may have several columns."""
    _from_table: bool
    """Whether rows are a table whose columns are encoded, not a matrix of numbers."""
    model_: Any
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    def _source(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Source:
        """The rows as a source, checked the way scikit-learn checks them."""
        if are_plain(X, y):
            self._from_table, self.n_features_in_ = False, X.shape[1]
            vars(self).pop("feature_names_in_", None)
            return self._array_source(X, y, sample_weight)
        if is_readable(X):
            self._forget()
            self._from_table = True
            return readable_source(X, y, sample_weight)
        refuse_lazy(X)
        refuse_no_columns(X)
        refuse_a_name(y)
        if is_mixed_table(X):
            if y is None:
                raise InputError(
                    f"This {type(self).__name__} estimator requires y to be passed, but the target y is None"
                )
            self._from_table = True
            weights = None if sample_weight is None else check_weights(sample_weight, X)
            table = table_source(X, y=self._check_y(y, weights), weights=weights, name="X")
            self.feature_names_in_ = np.array(table.column_names, dtype=object)
            self.n_features_in_ = len(table.column_names)
            return table
        self._from_table = False
        try:
            X, y = validate_data(
                self,
                X,
                y,
                accept_sparse="csr",
                dtype=_types_for(X),
                multi_output=self._takes_outputs,
                y_numeric=False,
                ensure_all_finite=not are_finite(X),
            )
        except ValueError as error:
            raise naming_the_column(error, X) from None
        source = self._array_source(X, y, sample_weight)
        if hasattr(self, "feature_names_in_"):
            source.column_names = tuple(self.feature_names_in_)  # so that the model finds them in a file too
        return source

    def _array_source(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Source:
        weights = None if sample_weight is None else check_weights(sample_weight, X)
        return array_source(X, self._check_y(y, weights), weights, name="X")

    def _check_y(self, y: Any, weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        raise NotImplementedError

    def _forget(self) -> None:
        """What a fit before knew of columns and target: of rows that are read where they live the model will say."""
        for name in ("classes_", "_one_output", "_labels", "feature_names_in_"):
            vars(self).pop(name, None)

    def _know_columns(self, features: Features, named: bool = False) -> None:
        """The columns of rows that came from a file or a store; ``named``: such names as x0 were a table's own."""
        names = features.input_names
        self._from_table = not features.is_matrix
        self.n_features_in_ = len(names)
        if named or not are_counted(names):
            self.feature_names_in_ = np.array(names, dtype=object)

    def _scores(self, X: Any) -> FloatArray:
        """Scores (n, k) in the target's units."""
        check_is_fitted(self)
        if is_readable(X) or isinstance(X, Store) or gives_batches(X):
            return scores_of(self.model_, X)
        refuse_lazy(X)
        refuse_no_columns(X)
        if self._from_table:
            table = arrow_table(self._as_table(X), "X")
            blocks = table_source(table, name="X", columns=self._needed_columns(table)).blocks()
            scores = [self.model_.scores(block.columns) for block in blocks]
            if not scores:
                raise InputError("X has 0 sample(s), and a minimum of 1 is required: give a table with rows")
            return np.vstack(scores)
        if self.model_.features.tells_missing:  # a model of the command line, whose rows may have gaps
            X = validate_data(self, X, dtype=FLOATS, reset=False, ensure_all_finite=False)
            return np.asarray(self.model_.scores(X))
        X = validate_data(self, X, accept_sparse="csr", dtype=_types_for(X), reset=False)
        return self._scores_of(X)

    def _needed_columns(self, table: Any) -> list[str] | None:
        """The columns that the model reads, whatever else is there; None where some lack, for it will say which."""
        needed = [encoder.name for _, encoder in self.model_.features.encoders]
        return needed if set(needed) <= set(table.schema.names) else None

    def _as_table(self, X: Any) -> Any:
        """An array in the place of a table: its columns are those of the model, in their order."""
        if hasattr(X, "__arrow_c_stream__"):
            return X
        refuse_other_than_numbers(X, self.model_.features)
        X = validate_data(self, X, dtype=FLOATS, reset=False, ensure_all_finite=False)
        return named_columns(X, self.model_.features.input_names)

    def _scores_of(self, X: Any) -> FloatArray:
        """Scores (n, k) of a checked matrix."""
        return np.asarray(self.model_.scores(X))


def _types_for(X: Any) -> tuple[Any, ...]:
    """The types of numbers that are taken as they come: small ones of dense rows alone."""
    return FLOATS if hasattr(X, "tocsr") or is_sparse_table(X) else NUMBERS


def are_counted(names: tuple[str, ...]) -> bool:
    """Whether these are the names that columns without any are given."""
    return names in (column_names(len(names)), numbered(1, len(names)))
