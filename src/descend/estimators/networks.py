"""The scikit-learn face of networks: ``MLPClassifier`` and ``MLPRegressor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples, column_or_1d

from descend.checkpoint import Checkpoint
from descend.errors import InputError
from descend.estimators.blocks import block_names, takes_blocks
from descend.estimators.checks import check_labels
from descend.estimators.estimator import Estimator
from descend.estimators.kinds import Classifier, Regressor
from descend.estimators.sources import is_readable
from descend.features import Target
from descend.features.target_values import labels_of
from descend.models.mlp import MLPModel
from descend.models.network import check_hidden
from descend.networks.fitting import fit_network
from descend.networks.incremental import NetworkStream, add_rows, begin
from descend.settings import Settings
from descend.stream import Rows
from descend.types import FloatArray, Task
from descend.watching import Callback

ENOUGH_ROWS = 300
"""From so many rows on ``early_stopping="auto"`` holds some out: fewer than 30 of them tell too little.

Boosted trees of scikit-learn begin at 10,000. Networks of 100 units learn a thousand rows by heart long before: of
2,100 rows of four classes the log loss of new ones was 0.64 instead of 1.21 (docs/networks.md).
"""
Hidden = int | Sequence[int]


class _Network(Estimator):
    """What the two estimators share."""

    model_: MLPModel
    classes_: NDArray[Any]
    coefs_: list[FloatArray]
    intercepts_: list[FloatArray]

    def __init__(
        self, *, hidden_layer_sizes: Hidden, activation: str, weight_decay: float, **shared: Any
    ) -> None:
        super().__init__(**shared)
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.weight_decay = weight_decay

    def _settings(self) -> Settings:
        return replace(
            super()._settings(),
            hidden=check_hidden(self.hidden_layer_sizes),
            activation=self.activation,
            weight_decay=self.weight_decay,
            early_stopping=self.early_stopping is True,
        )

    def _stops_early(self, X: Any) -> bool:
        if str(self.early_stopping) == "auto":
            return self.epochs is None and (is_readable(X) or bool(_num_samples(X) >= ENOUGH_ROWS))
        return bool(self.early_stopping)

    def _begin(self, rows: Rows, class_weight: Any) -> NetworkStream:
        model = getattr(self, "model_", None)
        target, labels = None, len(self.classes_) if self._labels_a_row() else 0
        if labels:
            target = Target("y", "regression", mean=np.zeros(labels), scale=np.ones(labels), are_labels=True)
        elif self._task == "classification":
            target = Target("y", "classification", classes=self.classes_.tolist())
        dtype = rows.X.dtype if model is None else model.parameters.dtype
        return begin(block_names(self), target, dtype, model, self._learned, labels)

    def _learn_rows(self, stream: Any, rows: Rows, settings: Settings, class_weight: Any) -> Any:
        return add_rows(stream, rows, settings, class_weight)

    def _labels_a_row(self) -> bool:
        """Whether each column of the target is a label that is there or not."""
        return False

    def _train(
        self, prepared: Any, settings: Settings, callbacks: Sequence[Callback], checkpoint: Checkpoint | None
    ) -> Any:
        initial = None
        if self.warm_start and hasattr(self, "model_"):
            initial = self._carried(prepared, settings)
        return fit_network(
            prepared, settings, callbacks, initial, self._labels_a_row(), checkpoint=checkpoint
        )

    def _carried(self, prepared: Any, settings: Settings) -> FloatArray | None:
        """The last fit's parameters in this fit's encoding; None where the shapes differ."""
        from descend.models.scaling import network_parameters_for

        if (settings.hidden, settings.activation) != (self.model_.hidden, self.model_.activation):
            return None
        return network_parameters_for(self.model_, prepared.features, prepared.target)

    def _adopt(self, model: MLPModel) -> None:
        super()._adopt(model)
        layers = model.layers()
        self.coefs_ = [weights.copy() for weights, _ in layers]
        self.intercepts_ = [bias.copy() for _, bias in layers]
        self.n_layers_ = len(layers) + 1
        self.n_outputs_ = model.target.num_outputs

    @classmethod
    def _parameters(cls, asked: dict[str, Any]) -> dict[str, Any]:
        hidden = tuple(asked["hidden"])
        return {name: value for name, value in asked.items() if name != "hidden"} | {
            "hidden_layer_sizes": hidden
        }


class MLPClassifier(Classifier, _Network):
    """Classification by a network of fully connected layers, trained by gradient descent with nothing to tune.

    Minimises mean loss + alpha · penalty over standardised columns; intercepts are free. Two classes have one score,
    more have one each (softmax of log_loss); a target of 0 and 1 in several columns is a label each.
    ``docs/networks.md`` says how the learning rate is chosen and when training ends.

    Parameters
    ----------
    hidden_layer_sizes : units of each hidden layer, such as (128, 64); () for none
    activation : "relu", "tanh", "logistic", "gelu", "identity"
    weight_decay : weights shrink by weight_decay · learning rate in every step, apart from the loss
    loss : "log_loss" or None (the same), "hinge", "squared_hinge", "modified_huber"
    penalty : "l2" (½‖w‖²), "l1" (‖w‖₁), "elasticnet" (l1_ratio of L1, the rest L2) or None; alpha : its strength
    epsilon, quantile : not used; settings of losses for numbers
    standardize : scale columns to mean 0 and deviation 1 inside
    batch_size : rows for each update: 1 (stochastic), a number, "full" (batch), "auto", or "growing": more where the
        rate would fall, while twice the rows take less than 1.3 times as long a step
    optimizer : "auto" (Adam), "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"
    learning_rate : "auto" (then it falls as nothing more is gained) or a number
    schedule : "constant", "inverse-scaling", "plateau"; "linear", "cosine", "step" need epochs
    clip : the longest gradient of a batch, penalty apart; None: any
    epochs : None (until nothing is gained) or exactly so many
    tol : a gain below this share of the loss does not count
    early_stopping : hold rows out, and keep what they like best; "auto": from 300 rows on,
        unless ``epochs`` says how long to train
    validation_fraction, n_iter_no_change : how many rows; epochs without a gain that end a phase
    average : True or "tail": the last half of the parameters; "polyak": all; "auto": the tail with the automatic
        rate, unless full batch or an L1 penalty
    class_weight : None, "balanced" (n / (K · rows of the class)), or {class: weight}
    shuffle, warm_start, random_state, verbose : as in scikit-learn
    reduction : "mean" or "sum" over the rows of a batch
    n_jobs : threads for the full batch; None: 1, -1: all. Results do not depend on it
    callbacks : called with each ``Observation``; returning True stops
    checkpoint : a folder that ``fit`` saves its run into while it trains; where it holds the run of the same rows and
        parameters, ``fit`` goes on with that one, to the same model; that of any other is refused by name

    Attributes
    ----------
    coefs_, intercepts_ : weights (inputs, units) and intercepts (units,) of each layer, for standardised columns
    classes_ : (K,), sorted; n_layers_, n_outputs_ : as in scikit-learn
    n_iter_ : epochs, rounded up; history_ : ``descend.History``; model_ : ``MLPModel``; plan_ : ``descend.Plan``
    n_features_in_, feature_names_in_ : as in scikit-learn

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from descend import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MLPClassifier(hidden_layer_sizes=(32,), epochs=20, random_state=0).fit(X[:1200], y[:1200])
    >>> bool(model.score(X[1200:], y[1200:]) > 0.9)
    True
    """

    model_: MLPModel
    _takes_outputs = True
    _labels = False

    def __init__(
        self,
        hidden_layer_sizes: Hidden = (100,),
        activation: str = "relu",
        *,
        loss: str | None = None,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        weight_decay: float = 0.0,
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
        early_stopping: bool | Literal["auto"] = "auto",
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
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            weight_decay=weight_decay,
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

    def _check_y(self, y: Any, weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        self._labels = _has_labels(y)
        if self._labels:
            if self.class_weight is not None:
                raise InputError("class_weight does not go with several labels a row; leave it at None")
            labels = np.asarray(y)
            self.classes_ = np.arange(labels.shape[1])
            plain = bool(((labels == 0) | (labels == 1)).all())
            return labels.astype(np.bool_ if plain else np.float64)
        labels = column_or_1d(y, warn=True)
        check_labels(labels)
        self.classes_ = labels_of(labels if weights is None else labels[weights > 0])
        return np.asarray(labels)

    @available_if(takes_blocks)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        classes: ArrayLike | Mapping[Any, float] | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One epoch over rows ``X`` (n, d) with labels ``y`` (n,), going on from what was learnt before.

        ``y`` (n, K) of 0 and 1 is K labels a row; then ``classes`` need not be given. As
        ``LinearClassifier.partial_fit``; the learning rate is that of the first phase of ``fit``.
        """
        self._fit_block(X, y, sample_weight, classes)
        return self

    def _see_block(self, y: Any, classes: Any) -> None:
        several = _has_labels(y)
        known = getattr(self, "classes_", None)
        if known is None:
            self._labels = several
        elif several != self._labels:
            wanted = f"{len(known)} labels a row, 0 or 1 each" if self._labels else "one label a row"
            raise InputError(f"y has shape {np.shape(y)}, but the model has {wanted}: call fit to begin anew")
        if not several:
            return
        if self.class_weight is not None:
            raise InputError("class_weight does not go with several labels a row; leave it at None")
        count = np.shape(y)[1]
        for given, what in ((known, "the model has"), (classes, "classes names")):
            if given is not None and len(given) != count:
                raise InputError(f"y has {count} labels a row, but {what} {len(given)}")
        self.classes_ = np.arange(count)

    def _tells_classes(self) -> bool:
        return not self._labels

    def _labels_a_row(self) -> bool:
        return self._labels

    def _target_task(self) -> Task:
        return "regression" if self._labels else "classification"

    def _scales_target(self) -> bool:
        return not self._labels

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each row, (n,); or labels (n, K) of 0 and 1."""
        return self.model_.predict_scores(self._scores(X)) if self._labels else super().predict(X)

    def _adopt(self, model: MLPModel) -> None:
        super()._adopt(model)
        self._labels = bool(model.labels)
        self._adopt_classes(model)
        if self._labels:
            self.classes_ = np.arange(model.labels)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self.loss in (None, "log_loss")
        return tags


class MLPRegressor(Regressor, _Network):
    """Regression by a network of fully connected layers, trained by gradient descent with nothing to tune.

    The target is standardised inside. ``loss``: "squared_error" (½ (score − y)²; also None), "huber" and
    "epsilon_insensitive" (``epsilon``, in the units of ``y``), "quantile" (``quantile``), "poisson" (``y`` ≥ 0; the
    prediction is the exponential of the score). Other parameters and attributes as in ``MLPClassifier``, without
    ``class_weight`` and ``classes_``; ``y`` is (n,) or (n, k).

    Examples
    --------
    >>> import numpy as np
    >>> from descend import MLPRegressor
    >>> X = np.random.default_rng(0).uniform(-2, 2, size=(500, 2))
    >>> y = np.sin(X[:, 0]) * X[:, 1]
    >>> bool(MLPRegressor(random_state=0).fit(X, y).score(X, y) > 0.98)
    True
    """

    model_: MLPModel

    def __init__(
        self,
        hidden_layer_sizes: Hidden = (100,),
        activation: str = "relu",
        *,
        loss: str | None = None,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        weight_decay: float = 0.0,
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
        early_stopping: bool | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        average: bool | Literal["auto", "tail", "polyak"] = "auto",
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
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            weight_decay=weight_decay,
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

    @available_if(takes_blocks)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """One epoch over rows ``X`` (n, d) with targets ``y`` (n,) or (n, k), going on from what was learnt before.

        As ``LinearRegressor.partial_fit``; the learning rate is that of the first phase of ``fit``.
        """
        self._fit_block(X, y, sample_weight)
        return self


def _has_labels(y: Any) -> bool:
    """Whether ``y`` is (n, K) of 0 and 1, several labels a row."""
    return getattr(y, "ndim", 2) != 1 and bool(type_of_target(y).startswith("multilabel"))
