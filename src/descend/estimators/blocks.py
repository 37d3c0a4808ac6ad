"""``partial_fit``: what both estimators do with a block of rows, and how a block is checked."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import column_or_1d, validate_data

from descend.errors import InputError, shorten
from descend.estimators.checks import (
    FLOATS,
    all_or_nothing,
    as_numbers,
    check_labels,
    check_weights,
    is_mixed_table,
    refuse_no_columns,
)
from descend.estimators.sources import Named, blocks_of, is_read_once, is_readable
from descend.features import Target
from descend.features.first_pass import Learned
from descend.incremental import add_rows, check_settings, tell_callbacks
from descend.settings import Settings
from descend.sources.arrays import column_names
from descend.sources.sparse import as_csr
from descend.sources.tables import refuse_lazy
from descend.stream import Rows, begin
from descend.types import Task, is_sparse
from descend.updates import OPTIMIZERS
from descend.watching import Callback, Observation


class LearnsBlocks:
    """The part of an estimator that goes on from block to block."""

    _task: Task
    _stream: Any = None
    _learned: Learned | None = None
    """What ``fit`` found out about its rows; more may be added."""
    _class_counts: Mapping[Any, float] | None = None
    """Rows of each class, as given with ``classes``."""
    callbacks: Sequence[Callback]
    verbose: int

    def _settings(self) -> Settings:
        raise NotImplementedError

    def _adopt(self, model: Any) -> None:
        raise NotImplementedError

    def _fit_block(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None, classes: Any = None
    ) -> None:
        """One epoch over a block, or over block after block where ``X`` gives several."""
        if not (is_readable(X) or is_read_once(X)):
            self._fit_one(X, y, sample_weight, classes)
            return
        for rows, target, weights in blocks_of(X, y, sample_weight):
            self._fit_one(rows, target, weights, classes)

    def _fit_one(self, X: Any, y: Any, sample_weight: ArrayLike | None, classes: Any) -> None:
        with all_or_nothing(self):
            settings = self._settings().checked()
            check_settings(settings)
            class_weight = getattr(self, "class_weight", None)
            self._see_block(y, classes)
            if self._tells_classes():
                check_classes(self, classes)
                if class_weight == "balanced":
                    class_weight = balanced_weights(self, self._class_counts, self._learned)
            rows = self._check_named(X, y, sample_weight)
            stream = self._stream or self._begin(rows, class_weight)
            self._stream, trouble = self._learn_rows(stream, rows, settings, class_weight)
            self._from_table = False
            self._adopt(self._stream.model)
        tell_callbacks(self._stream, [*self.callbacks, *([tell] if self.verbose else [])])
        if trouble is not None:
            warnings.warn(trouble, ConvergenceWarning, stacklevel=3)

    def _check_named(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Rows:
        """A checked block; of one whose columns have names these are kept, and have to be those of the first."""
        if not isinstance(X, Named):
            return check_block(self, X, y, sample_weight)
        known = vars(self).pop("feature_names_in_", None)  # scikit-learn would look for names in the matrix
        if known is not None and tuple(known) != X.names:
            raise InputError(
                f"X has the columns {shorten(str(list(X.names)))}, but the model was fitted on "
                f"{shorten(str(list(known)))}; give the same in the same order"
            )
        first = not hasattr(self, "model_")
        rows = check_block(self, X.matrix, y, sample_weight)
        if first or known is not None:
            self.feature_names_in_ = np.array(X.names, dtype=object)
        return rows

    def _see_block(self, y: Any, classes: Any) -> None:
        """Tells from a block what kind of target it has, where there are several."""

    def _tells_classes(self) -> bool:
        """Whether a row has one of several classes."""
        return self._task == "classification"

    def _learn_rows(self, stream: Any, rows: Rows, settings: Settings, class_weight: Any) -> Any:
        """The stream after one epoch over ``rows``, and what to tell about a block that diverged."""
        return add_rows(stream, rows, settings, class_weight, settings.seed)

    def _begin(self, rows: Rows, class_weight: Any) -> Any:
        model = getattr(self, "model_", None)
        target = None
        if self._tells_classes():
            target = Target("y", "classification", classes=self.classes_.tolist())  # type: ignore[attr-defined]
        dtype = rows.X.dtype if model is None else model.parameters.dtype
        return begin(block_names(self), target, dtype, model, self._learned, class_weight)


def tell(observation: Observation) -> None:
    """What ``verbose`` prints of a look."""
    print(
        f"epoch {observation.epoch:.2f}  loss {observation.loss:.6g}  "
        f"{observation.rows_per_second:,.0f} rows/s",
        file=sys.stdout,
    )


def check_classes(estimator: Any, classes: ArrayLike | Mapping[Any, float] | None) -> None:
    """Sets ``classes_`` in the first call of ``partial_fit``; later ones may repeat them, and no others."""
    known = getattr(estimator, "classes_", None)
    if isinstance(classes, Mapping):
        estimator._class_counts = check_counts(classes)
        classes = list(classes)
    if classes is None:
        if known is None:
            raise InputError(
                "classes is missing: the first call of partial_fit has to name every class, such as "
                "classes=np.unique(all_labels)"
            )
        return
    given = np.asarray(unique_labels(classes))
    if known is None:
        if len(given) < 2:
            raise InputError(f"classes holds {len(given)} class; at least 2 are needed")
        estimator.classes_ = given
    elif not np.array_equal(known, given):
        raise InputError(
            f"classes is {shorten(str(given.tolist()))}, but the model has {shorten(str(known.tolist()))}: "
            "leave classes out, or call fit to begin anew"
        )


def check_counts(counts: Mapping[Any, float]) -> Mapping[Any, float]:
    """``classes`` as {class: rows of it}, finite and ≥ 0, not all 0."""
    try:
        numbers = {label: float(count) for label, count in counts.items()}
    except (TypeError, ValueError):
        numbers = {None: np.nan}
    if not all(np.isfinite(n) and n >= 0 for n in numbers.values()) or not any(numbers.values()):
        raise InputError(
            f"classes is {shorten(str(dict(counts)))}; as {{class: count}} it holds finite numbers of rows of at "
            "least 0, not all 0"
        )
    return numbers


def balanced_weights(
    estimator: Any, given: Mapping[Any, float] | None, learned: Learned | None
) -> dict[Any, float]:
    """N / (K · rows of the class) for each class, by the counts that were given or those of ``fit``'s rows."""
    counts = given if given is not None or learned is None else learned.target.counts
    if counts is None:
        raise InputError(
            'class_weight is "balanced", but partial_fit does not see all rows and cannot count them: give '
            "classes={class: rows of it} in the first call, or call fit before"
        )
    labels = estimator.classes_.tolist()
    rows = {label: float(counts.get(label, 0.0)) for label in labels}
    total = sum(rows.values())
    return {label: total / (len(labels) * n) if n else 1.0 for label, n in rows.items()}


def takes_blocks(estimator: Any) -> bool:
    """Whether the optimizer takes steps on some rows; those that need all of them have no ``partial_fit``."""
    optimizer = OPTIMIZERS.get(estimator.optimizer)
    if optimizer is None or optimizer.elementwise:
        return True
    raise AttributeError(
        f"optimizer {estimator.optimizer!r} needs every row, so there is no partial_fit: "
        'take "auto", "sgd" or another that takes steps on batches'
    )


def check_block(estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None) -> Rows:
    """The rows of ``partial_fit``: numbers, known labels, weights above 0."""
    refuse_lazy(X)
    refuse_no_columns(X)
    model = getattr(estimator, "model_", None)
    encoded = model is not None and not (model.features.is_matrix and not model.features.tells_missing)
    if encoded or is_mixed_table(X):
        raise InputError(
            "X has columns of text, booleans or dates, or gaps, whose encoding needs all rows at once: "
            "partial_fit takes columns of numbers; encode them first, or call fit"
        )
    X, y = validate_data(
        estimator,
        X,
        y,
        accept_sparse="csr",
        dtype=FLOATS,
        order="C",
        reset=model is None,
        multi_output=not estimator._tells_classes(),
        y_numeric=False,
    )
    if is_sparse(X):
        X = as_csr(X, "X")
        if model is not None and not model.features.takes_sparse:
            raise InputError(
                "X is sparse, but the model has learnt from dense rows: give X.toarray(), or call fit"
            )
    weights = None if sample_weight is None else check_weights(sample_weight, X)
    if estimator._tells_classes():
        y = _known_labels(estimator, y)
    elif estimator._task == "classification":
        y = np.asarray(y, dtype=np.float64)
    else:
        y = _numbers(estimator, as_numbers(y).astype(np.float64))
    if weights is not None and not (weights > 0).all():
        kept = weights > 0
        X, y, weights = X[kept], y[kept], weights[kept]
    return Rows(X, y, weights)


def block_names(estimator: Any) -> tuple[str, ...]:
    """The names of the columns, x0, x1 and so on where they have none."""
    return tuple(getattr(estimator, "feature_names_in_", column_names(estimator.n_features_in_)))


def _known_labels(estimator: Any, y: Any) -> NDArray[Any]:
    labels = np.asarray(column_or_1d(y, warn=True))
    check_labels(labels)
    classes = estimator.classes_
    unseen = [label for label in np.unique(labels).tolist() if label not in set(classes.tolist())]
    if unseen:
        raise InputError(
            f"y holds the label {shorten(repr(unseen[0]))}, which is none of the classes "
            f"{shorten(str(classes.tolist()))}: name every label in the first call's classes"
        )
    return labels


def _numbers(estimator: Any, y: NDArray[np.float64]) -> NDArray[np.float64]:
    model = getattr(estimator, "model_", None)
    if model is None:
        estimator._one_output = y.ndim == 1
        return y
    outputs = 1 if y.ndim == 1 else y.shape[1]
    if outputs != model.target.num_outputs or (y.ndim == 1) != estimator._one_output:
        raise InputError(
            f"y has shape {y.shape}, but the model predicts {model.target.num_outputs} number(s)"
        )
    return y
