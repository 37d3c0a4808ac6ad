"""The scikit-learn face: ``LinearClassifier`` and ``LinearRegressor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d

from descend.checkpoint import Checkpoint
from descend.coded_rows import SMALL
from descend.estimators.blocks import takes_blocks
from descend.estimators.checks import check_labels
from descend.estimators.estimator import Estimator
from descend.estimators.kinds import Classifier, Regressor
from descend.features import Features, Target
from descend.features.first_pass import Learned
from descend.features.target_values import labels_of
from descend.fitting import fit as run_fit
from descend.models.linear import LinearModel
from descend.models.scaling import parameters_for
from descend.planning import begins_by_sample, is_solved_at_once, uses_products
from descend.settings import Settings
from descend.source_fitting import fit_from_source
from descend.sources.limits import block_rows
from descend.types import FloatArray, Source
from descend.watching import Callback

FEWEST_IN_PLACE = 12_000
"""Of fewer rows the sample is nearly all, and shuffling them costs less than finding it."""


class _Linear(Estimator):
    """What the two linear estimators share."""

    coef_: FloatArray
    intercept_: FloatArray
    standardized_coef_: FloatArray
    model_: LinearModel
    class_weight: Mapping[Any, float] | str | None = None
    _needs_memory = None

    def _train(
        self, prepared: Any, settings: Settings, callbacks: Sequence[Callback], checkpoint: Checkpoint | None
    ) -> Any:
        initial = None
        if self.warm_start and hasattr(self, "model_"):  # the last fit's parameters in this fit's encoding
            initial = parameters_for(self.model_, prepared.features, prepared.target)
        if prepared.train.is_in_source:
            return fit_from_source(prepared, settings, callbacks, initial=initial, checkpoint=checkpoint)
        return run_fit(prepared, settings, callbacks, initial=initial, checkpoint=checkpoint)

    def _uses_products(self, settings: Settings, source: Source) -> bool:
        return not self._from_table and uses_products(settings, len(source.column_names), self._task)

    def _is_solved_at_once(self, settings: Settings, source: Source) -> bool:
        regression = self._task == "regression" and not self._from_table
        return regression and is_solved_at_once(settings, len(source.column_names))

    def _needs_no_order(
        self, settings: Settings, source: Source, features: Features, target: Target, learned: Learned
    ) -> bool:
        if self._task == "regression":
            return self._is_solved_at_once(settings, source)
        counts = learned.target.counts
        if self._from_table or features.takes_sparse or self.class_weight is not None or len(counts) != 2:
            return False
        rarer = min(counts.values()) / sum(counts.values())
        num_rows = learned.columns.num_rows
        if num_rows < FEWEST_IN_PLACE or learned.columns.stored in SMALL:
            return False
        return begins_by_sample(settings, num_rows, features.num_columns, rarer)

    def _adopt(self, model: LinearModel) -> None:
        super()._adopt(model)
        self.coef_, self.intercept_ = model.in_units()
        self.standardized_coef_ = model.in_deviations()

    def _scores_of(self, X: Any) -> FloatArray:
        weights = np.atleast_2d(self.coef_).T
        if X.dtype not in SMALL:
            return np.asarray(X @ weights + self.intercept_)
        scores = np.empty((len(X), weights.shape[1]))
        step = block_rows(X.shape[1])
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            scores[rows] = X[rows].astype(np.float64) @ weights + self.intercept_
        return scores


class LinearClassifier(Classifier, _Linear):
    """Linear classification by gradient descent: stochastic, mini-batch or batch, with nothing to tune.

    Minimises mean loss + alpha · penalty over standardised columns; the intercept is free. Two classes have one
    score, more have one each: softmax of log_loss, and of the other losses each class against the rest.

    Parameters
    ----------
    loss : "log_loss" or None (the same), "hinge", "squared_hinge", "modified_huber"
    penalty : "l2" (½‖w‖²), "l1" (‖w‖₁), "elasticnet" (l1_ratio of L1, the rest L2) or None; alpha : its strength
    epsilon, quantile : not used; settings of losses for numbers
    fit_intercept : without one the model goes through 0, and columns (and numbers to predict) are not shifted
    standardize : scale columns to mean 0 and deviation 1 inside; ``coef_`` is for columns as they came
    batch_size : rows for each update: 1 (stochastic), a number, "full" (batch; so is a number above the rows),
        "auto", or "growing": more where the rate would fall, while twice the rows take less than 1.3 times as long
    optimizer : "auto", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "saga", "lbfgs",
        "newton"
    learning_rate : "auto" (from curvature, for this batch size) or a number
    schedule : "constant", "inverse-scaling", "plateau"; "linear", "cosine", "step" need epochs
    clip : the longest gradient of a batch, penalty apart; None: any
    epochs : None (until nothing is gained) or exactly so many
    tol : "auto", "saga", "lbfgs" and "newton" end when what is left to gain is certified to be below half this share
        of what was gained, the others when the last quarter of the epochs gained less than a tenth of it; None: never
    early_stopping, validation_fraction : hold rows out; end when they gain nothing more, and keep the best
    n_iter_no_change : the least number of epochs that "the last quarter" and "nothing more" are taken for
    average : True or "tail": the mean over the last third to last 56 % of all steps; "polyak": over all; False: none.
        "auto": the tail where sgd, momentum or nesterov has the automatic rate, unless full batch or an L1 penalty.
        Anything but "auto" makes optimizer "auto" plain SGD
    class_weight : None, "balanced" (n / (K · rows of the class)), or {class: weight}
    shuffle, warm_start, random_state, verbose : as in scikit-learn
    reduction : "mean" or "sum" over the rows of a batch
    n_jobs : threads for the full batch; None: 1, -1: all. Results do not depend on it
    callbacks : called with each ``Observation``; returning True stops
    checkpoint : a folder that ``fit`` saves its run into while it trains; where it holds the run of the same rows and
        parameters, ``fit`` goes on with that one, to the same model; that of any other is refused by name

    Attributes
    ----------
    coef_ : (1 or K, d), for columns as they came; intercept_ : (1 or K,); classes_ : (K,), sorted
    standardized_coef_ : (1 or K, d): what one deviation of a column adds to the score
    n_iter_ : epochs, rounded up; batch_size_ : rows for each update, as they were taken
    history_ : ``descend.History``; model_ : ``LinearModel``; plan_ : ``descend.Plan``, what was settled by itself
    n_features_in_, feature_names_in_ : as in scikit-learn

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from descend import LinearClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = LinearClassifier(batch_size=32, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.97), model.history_.stopped
    (True, 'converged')
    """

    model_: LinearModel

    def __init__(
        self,
        *,
        loss: str | None = None,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        fit_intercept: bool = True,
        standardize: bool = True,
        batch_size: int | str = "auto",
        optimizer: str = "auto",
        learning_rate: float | Literal["auto"] = "auto",
        schedule: str = "constant",
        clip: float | None = None,
        momentum: float = 0.9,
        epochs: int | None = None,
        tol: float | None = 1e-3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        average: bool | Literal["auto", "tail", "polyak"] = "auto",
        class_weight: Mapping[Any, float] | str | None = None,
        shuffle: bool = True,
        warm_start: bool = False,
        reduction: str = "mean",
        n_jobs: int | None = None,
        random_state: Any = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: str | Path | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            loss=loss,
            penalty=penalty,
            alpha=alpha,
            l1_ratio=l1_ratio,
            epsilon=epsilon,
            quantile=quantile,
            fit_intercept=fit_intercept,
            standardize=standardize,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            schedule=schedule,
            clip=clip,
            momentum=momentum,
            epochs=epochs,
            tol=tol,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            average=average,
            shuffle=shuffle,
            warm_start=warm_start,
            reduction=reduction,
            n_jobs=n_jobs,
            random_state=random_state,
            callbacks=callbacks,
            checkpoint=checkpoint,
            verbose=verbose,
        )
        self.class_weight = class_weight

    @available_if(takes_blocks)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        classes: ArrayLike | Mapping[Any, float] | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One epoch over rows ``X`` (n, d) with labels ``y`` (n,), going on from what was learnt before.

        ``X`` may also give block after block: an iterator over tuples (X, y) or (X, y, weights), or, with ``y`` the
        name of a column, a ``pyarrow.RecordBatchReader``, a ``pyarrow.dataset.Dataset`` or a path. Each block is
        learnt as if it had been given by itself.

        ``classes`` names every label that may come; it is needed in the first call unless ``fit`` went before.
        Columns are numbers. Their scaling is that of all rows seen so far, and the parameters are carried along
        exactly. ``class_weight="balanced"`` goes by the counts of ``fit``'s rows, or by those that are given with
        ``classes={class: count}``; some of the rows alone do not tell them.

        Raises ``ValueError`` naming the argument that cannot be used; the model is then what it was.

        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = LinearClassifier(random_state=0)
        >>> for rows in np.array_split(np.random.default_rng(0).permutation(150), 5) * 10:
        ...     model = model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        >>> bool(model.score(X, y) > 0.9)
        True
        """
        self._fit_block(X, y, sample_weight, classes)
        return self

    def _check_y(self, y: Any, weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        labels = y if type(y) is np.ndarray and y.ndim == 1 else column_or_1d(y, warn=True)
        if labels.dtype.kind not in "iub":
            check_labels(labels)  # before anything is sorted: cells may not be comparable
        present = labels_of(labels)
        if labels.dtype.kind in "iub" and 2 * len(present) > len(labels):  # else it has nothing to say
            check_labels(labels)
        self.classes_ = present if weights is None else labels_of(labels[weights > 0])
        return np.asarray(labels)

    def _adopt(self, model: LinearModel) -> None:
        super()._adopt(model)
        self._adopt_classes(model)


class LinearRegressor(Regressor, _Linear):
    """Linear regression by gradient descent: stochastic, mini-batch or batch, with nothing to tune.

    Minimises mean loss + alpha · penalty over standardised columns; the intercept is free. The target is
    standardised inside as well, which changes no optimum. ``loss``: "squared_error" (½ (score − y)²; also None),
    "huber" and "epsilon_insensitive" (``epsilon``, in the units of ``y``), "quantile" (``quantile``), "poisson"
    (``y`` ≥ 0; the prediction is the exponential of the score). Other parameters as in ``LinearClassifier``, without
    ``class_weight``; ``coef_`` is (d,), or (k, d) for ``y`` (n, k).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from descend import LinearRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> round(LinearRegressor(random_state=0).fit(X, y).score(X, y), 2)
    0.52
    """

    model_: LinearModel

    @available_if(takes_blocks)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """One epoch over rows ``X`` (n, d) with targets ``y`` (n,) or (n, k), going on from what was learnt before.

        ``X`` may also give block after block, as in ``LinearClassifier.partial_fit``.

        Columns are numbers. Their scaling and the target's are those of all rows seen so far, and the parameters
        are carried along exactly. Raises ``ValueError`` naming the argument that cannot be used; the model is
        then what it was.
        """
        self._fit_block(X, y, sample_weight)
        return self

    def _adopt(self, model: LinearModel) -> None:
        super()._adopt(model)
        if self._one_output:
            self.coef_, self.standardized_coef_ = self.coef_[0], self.standardized_coef_[0]
