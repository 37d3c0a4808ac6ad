"""What all estimators share: their parameters, training, and what they say about it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from descend.batch_size.plan import Plan, plan_of_run
from descend.checkpoint import Checkpoint, opened
from descend.errors import InputError
from descend.estimators.blocks import LearnsBlocks, tell
from descend.estimators.checks import all_or_nothing, seed_of
from descend.estimators.given import TakesRows, are_counted
from descend.estimators.sources import is_readable, refuse_read_once
from descend.features import Features, Prepared, Target, prepare
from descend.features.class_weights import read_weight
from descend.features.first_pass import Learned
from descend.settings import Settings
from descend.store import Store, is_store, open_store
from descend.store.choice import check_choice, refuse_beside
from descend.store.preparing import prepare_store
from descend.types import Source, Task
from descend.watching import Callback


class Estimator(TakesRows, LearnsBlocks, BaseEstimator):  # type: ignore[misc]
    """What all estimators share: what they are given, training, and what they say about it."""

    _task: Task
    _needs_memory: str | None = "a network"
    """What cannot be trained on rows that stay in their files, where it cannot."""
    model_: Any
    batch_size_: int

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
        shuffle: bool = True,
        warm_start: bool = False,
        reduction: str = "mean",
        n_jobs: int | None = None,
        random_state: Any = None,
        callbacks: Sequence[Callback] = (),
        checkpoint: str | Path | None = None,
        verbose: int = 0,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.epsilon = epsilon
        self.quantile = quantile
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.clip = clip
        self.momentum = momentum
        self.epochs = epochs
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.average = average
        self.shuffle = shuffle
        self.warm_start = warm_start
        self.reduction = reduction
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Trains on rows ``X`` (n, d) with targets ``y`` (n,), or (n, k) numbers; returns the estimator.

        ``X`` is an array of numbers, or a table (pandas, polars, PyArrow, or anything with the Arrow PyCapsule
        interface) whose texts, booleans, dates and gaps are encoded. ``sample_weight`` (n,) is ≥ 0: weight 2
        counts like the row twice. A block store (``descend.open_store(path)``), which holds targets and weights of
        its own, comes alone: ``fit(store)``.

        Or ``X`` says where rows live: a path as the command line takes it, or a ``pyarrow.dataset.Dataset``. Then
        ``y`` and ``sample_weight`` are names of columns: ``fit("flights.parquet", "delay")``. Rows that do not fit
        into memory stay there, and a linear model reads them in every epoch.

        Raises ``ValueError`` (``descend.InputError`` where descend finds it) naming the argument, before
        anything is trained. Ctrl-C while training leaves behind what was learnt so far, before it the estimator as it
        was, and goes on as ``KeyboardInterrupt``. With ``checkpoint`` the same call goes on with what was
        ended.
        """
        settings = self._settings().checked()
        refuse_read_once(X)
        with all_or_nothing(self), self._saved() as checkpoint:
            if checkpoint is not None and checkpoint.found is not None and self.random_state is None:
                settings = replace(settings, seed=checkpoint.found.identity["options"]["seed"])
            if isinstance(X, (str, Path)) and is_store(X):
                X = open_store(X)
            if isinstance(X, Store):
                settings, prepared = self._prepare_store(X, y, sample_weight, settings)
            else:
                settings, prepared = self._prepare(X, y, sample_weight, settings)
            callbacks = [*self.callbacks, *([tell] if self.verbose else [])]
            run = self._train(prepared, settings, callbacks, checkpoint)
            self._stream = self._class_counts = None
            self._learned = prepared.learned.without_rows() if prepared.learned else None
            self._adopt(run.model)
            if is_readable(X):
                self._know_columns(run.model.features)
        self._warn()
        if prepared.train.is_in_source and (warning := prepared.train.X.warning):  # type: ignore[attr-defined]
            warnings.warn(warning, ConvergenceWarning, stacklevel=2)
        if run.stopped == "interrupted" and not self._stopped_by_callback():
            raise KeyboardInterrupt
        return self

    @property
    def plan_(self) -> Plan:
        """What was settled by itself: batch size, learning rate, optimizer, and why."""
        check_is_fitted(self)
        return plan_of_run(self.model_.summary)

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Writes the model as one file, which ``descend.load`` and ``descend predict`` read."""
        check_is_fitted(self)
        return Path(self.model_.save(path, force=force))

    def to_torch(self, encoded: bool = False) -> Any:
        """The trained model as a PyTorch module of its own, for the same X; see ``descend.models.model.Model``."""
        check_is_fitted(self)
        return self.model_.to_torch(encoded)

    def _prepare(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None, settings: Settings
    ) -> tuple[Settings, Prepared]:
        source = self._source(X, y, sample_weight)
        if settings.early_stopping != self._stops_early(X):
            settings = replace(settings, early_stopping=self._stops_early(X))
        return settings, prepare(
            source,
            task=self._target_task(),
            validation=self.validation_fraction if settings.early_stopping else 0.0,
            seed=settings.seed,
            standardize=settings.standardize,
            scale_target=self._scales_target(),
            centre=settings.fit_intercept,
            shuffle=self.shuffle,
            covariance=self._uses_products(settings, source),
            needs_no_order=partial(self._needs_no_order, settings, source),
            class_weight=getattr(self, "class_weight", None),
            in_source=None if is_readable(X) else False,
            needs_memory=self._needs_memory,
        )

    def _prepare_store(
        self, store: Store, y: Any, sample_weight: Any, settings: Settings
    ) -> tuple[Settings, Prepared]:
        """The rows of a block store, loaded where they fit."""
        refuse_beside(y, sample_weight)
        check_choice(store, standardize=self.standardize)
        if not self.fit_intercept and store.features.standardize and not store.features.takes_sparse:
            raise InputError(
                "fit_intercept is False, but the store's columns are shifted to mean 0; leave it True, or train on "
                "the data that was ingested"
            )
        self._forget()
        self._know_columns(store.features)
        settings = replace(settings, early_stopping=self._stops_early(range(store.num_rows)))
        prepared = prepare_store(
            store,
            task=self._target_task(),
            validation=self.validation_fraction if settings.early_stopping else 0.0,
            scale_target=self._scales_target(),
            class_weight=getattr(self, "class_weight", None),
        )
        if prepared.target.task == "classification":
            self.classes_ = np.asarray(prepared.target.classes)
        return settings, prepared

    # --- before training -------------------------------------------------------------------------

    def _settings(self) -> Settings:
        threads: int | Literal["auto"] = 1 if self.n_jobs is None else self.n_jobs
        return Settings(
            loss=self.loss,
            penalty=self.penalty,
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            epsilon=self.epsilon,
            quantile=self.quantile,
            fit_intercept=self.fit_intercept,
            standardize=self.standardize,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            clip=self.clip,
            momentum=self.momentum,
            epochs=self.epochs,
            tol=self.tol,
            early_stopping=self.early_stopping,
            n_iter_no_change=self.n_iter_no_change,
            average=self.average,
            shuffle=self.shuffle,
            reduction=self.reduction,
            seed=seed_of(self.random_state),
            threads="auto" if threads == -1 else threads,
        )

    def _stops_early(self, X: Any) -> bool:
        """Whether rows are held out, and training ends when these gain nothing."""
        return bool(self.early_stopping)

    def _uses_products(self, settings: Settings, source: Source) -> bool:
        """Whether training goes by the products of columns with one another, and with a target of numbers."""
        return False

    def _needs_no_order(
        self, settings: Settings, source: Source, features: Features, target: Target, learned: Learned
    ) -> bool:
        """Whether every step goes by every row, so that their order is of no interest."""
        return False

    def _target_task(self) -> Task:
        """What the target is prepared for."""
        return self._task

    def _scales_target(self) -> bool:
        return self.loss != "poisson"

    def _saved(self) -> AbstractContextManager[Checkpoint | None]:
        """The folder that a run is saved into, held while it trains."""
        return nullcontext() if self.checkpoint is None else opened(self.checkpoint, resume=True)

    def _train(
        self, prepared: Any, settings: Settings, callbacks: Sequence[Callback], checkpoint: Checkpoint | None
    ) -> Any:
        """A finished run."""
        raise NotImplementedError

    # --- after training --------------------------------------------------------------------------

    def _adopt(self, model: Any) -> None:
        """Takes the model's results as the estimator's own attributes."""
        if hasattr(self, "feature_names_in_") and are_counted(model.features.input_names):
            model.summary["named_columns"] = True
        self.model_ = model
        self.history_ = model.history
        self.batch_size_ = model.summary["batch_size"]
        self.n_iter_ = max(1, ceil(model.history.last["epoch"]))

    def _warn(self) -> None:
        for note in self.history_.notes:
            if note.startswith("not certified") and self.history_.stopped == "converged":
                continue  # it ended as it should; that there is no estimate is for the reader of the history
            warnings.warn(note, ConvergenceWarning, stacklevel=3)
        if self.epochs is None and self.history_.stopped == "epochs":
            scaled = "" if self.standardize else ", or standardize=True"
            warnings.warn(
                f"still gaining after {self.n_iter_} epochs; set epochs to go on longer{scaled}",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _stopped_by_callback(self) -> bool:
        return bool(self.history_.stopped_by_callback)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @classmethod
    def _of(cls, model: Any) -> Self:
        """An estimator around a model that was loaded."""
        estimator = cls(**cls._parameters(model.summary["asked"]))
        if "class_weight" in model.summary:
            estimator.set_params(class_weight=read_weight(model.summary["class_weight"]))
        estimator._know_columns(model.features, model.summary.get("named_columns", False))
        estimator._adopt(model)
        return estimator

    @classmethod
    def _parameters(cls, asked: dict[str, Any]) -> dict[str, Any]:
        """Settings of a run as parameters of the estimator."""
        return asked
