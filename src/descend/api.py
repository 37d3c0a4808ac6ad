"""``compare``, ``configure_batch_size`` and ``load``: the functions that people call from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from descend.comparing.compared import MODELS
from descend.comparing.comparison import Comparison, Progress, compare_prepared
from descend.errors import InputError, one_of, shorten
from descend.features import Prepared, prepare
from descend.models.network import check_hidden
from descend.settings import Settings, whole_number
from descend.sources import array_source, open_source, table_source
from descend.sources.tables import refuse_lazy
from descend.store.choice import check_choice, refuse_beside, store_of
from descend.store.preparing import prepare_store
from descend.types import Source, Task

if TYPE_CHECKING:
    from descend.batch_size.findings import Findings
    from descend.batch_size.plan import Plan
    from descend.estimators.linear import LinearClassifier, LinearRegressor
    from descend.estimators.networks import MLPClassifier, MLPRegressor


def compare(
    X: Any,
    y: Any = None,
    *,
    model: str = "linear",
    hidden_layer_sizes: int | Sequence[int] | None = None,
    activation: str | None = None,
    weight_decay: float | None = None,
    batch_sizes: int | str | Sequence[int | str] = (1, 32, "full"),
    seeds: int = 3,
    target: str | None = None,
    task: Task | None = None,
    loss: str | None = None,
    penalty: str | None = "l2",
    alpha: float = 1e-4,
    l1_ratio: float = 0.15,
    epsilon: float = 0.1,
    quantile: float = 0.5,
    clip: float | None = None,
    optimizer: str = "sgd",
    learning_rate: float | Literal["auto"] = "auto",
    schedule: str = "constant",
    momentum: float = 0.9,
    epochs: int | None = None,
    seconds: float | None = None,
    target_loss: float | None = None,
    validation_fraction: float = 0.1,
    standardize: bool = True,
    reduction: str = "mean",
    sample_weight: Any = None,
    random_state: int = 0,
    n_jobs: int | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Stochastic, mini-batch and batch gradient descent on the same rows, with the same budget.

    Every batch size gets the learning rate that its curvature allows (``learning_rate="auto"``) and runs with
    ``seeds`` seeds until nothing is gained, or until ``seconds`` or ``epochs`` are over. The target is
    ``target_loss``, or 1 % of the gap between the first and the best loss.

    Networks get the rate that their own ladder finds. There a seed moves the starting point as well as the order of
    the rows, and all kinds start at the same place with the same seed.

    Parameters
    ----------
    X : array (n, d), CSR or CSC matrix, table (pandas, polars, PyArrow), or what the command line takes: a path, of a
        block store too, or ``sklearn:NAME``
    y : array (n,); or None, and ``target`` names a column of ``X``
    sample_weight : array (n,); of a path or a table also the name of a column
    model : "linear" or "mlp"; with "mlp": ``hidden_layer_sizes`` (100,), ``activation`` "relu", ``weight_decay`` 0
    clip : the longest gradient of a batch, penalty apart; None: any
    memory_limit : bytes that the process may come to hold; a store that does not fit is read in every epoch

    Raises ``InputError`` (a ``ValueError``) naming what cannot be used.

    Examples
    --------
    >>> import descend
    >>> comparison = descend.compare("sklearn:iris", batch_sizes=(1, "full"), seeds=1, epochs=20)
    >>> [run["kind"] for run in comparison.runs]
    ['stochastic', 'batch']
    """
    if memory_limit is not None:
        memory_limit = whole_number("memory_limit", memory_limit, at_least=1)
    random_state = whole_number("random_state", random_state, at_least=0)
    settings = Settings(
        **_network(model, hidden=hidden_layer_sizes, activation=activation, weight_decay=weight_decay),
        loss=loss,
        penalty=penalty,
        alpha=alpha,
        l1_ratio=l1_ratio,
        epsilon=epsilon,
        quantile=quantile,
        clip=clip,
        standardize=standardize,
        optimizer=optimizer,
        learning_rate=learning_rate,
        schedule=schedule,
        momentum=momentum,
        epochs=epochs,
        seconds=seconds,
        reduction=reduction,
        seed=random_state,
        threads="auto" if n_jobs in (None, -1) else n_jobs,
    ).checked()
    seeds = whole_number("seeds", seeds, at_least=1)
    prepared, name = _prepared(
        X,
        y,
        target,
        sample_weight,
        memory_limit,
        task=task,
        loss_task=settings.loss_task,
        validation=validation_fraction,
        seed=random_state,
        standardize=standardize,
        scale_target=loss != "poisson",
    )
    return compare_prepared(
        prepared,
        settings,
        batch_sizes=(batch_sizes,) if isinstance(batch_sizes, (int, str)) else batch_sizes,
        seeds=seeds,
        target_loss=target_loss,
        data_name=name,
        progress=progress,
        model=model,
    )


def configure_batch_size(
    X: Any,
    y: Any = None,
    *,
    model: Literal["linear", "mlp"] = "linear",
    seconds: float | None = None,
    target_loss: float | None = None,
    target: str | None = None,
    task: Task | None = None,
    loss: str | None = None,
    penalty: str | None = "l2",
    alpha: float = 1e-4,
    l1_ratio: float = 0.15,
    epsilon: float = 0.1,
    quantile: float = 0.5,
    optimizer: str = "auto",
    momentum: float = 0.9,
    standardize: bool = True,
    hidden_layer_sizes: int | Sequence[int] = (100,),
    activation: str = "relu",
    weight_decay: float = 0.0,
    sample_weight: Any = None,
    random_state: int = 0,
    n_jobs: int | None = None,
    memory_limit: int | None = None,
    progress: Callable[[Findings], object] | None = None,
) -> Plan:
    """Which batch size, with which learning rate, and why: measured on these rows and this machine.

    Times steps of every size, trains at some sizes until the loss is ``target_loss`` (default: 1 % of the gap between
    the first and the best loss is left), each with a rate of its own, and takes the fastest. ``docs/batch-size.md``
    says how, and what the plan holds.

    Parameters
    ----------
    X : array (n, d), table (pandas, polars, PyArrow), or what the command line takes: a path, of a block store too,
        or ``sklearn:NAME``
    y : array (n,) or (n, k); or None, and ``target`` names a column of ``X``
    model : "linear" or "mlp", a network of ``hidden_layer_sizes``
    seconds : about how long it may take; 30 by default
    optimizer : "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"; "auto": sgd, for networks adam
    memory_limit : bytes that the process may come to hold, None: what there is; a store that does not fit is read in
        every epoch
    progress : called with the findings as they grow

    Raises ``InputError`` (a ``ValueError``) naming what cannot be used, or a target that is met before the first step
    or that nothing can reach, or a memory limit that runs do not keep to.

    Examples
    --------
    >>> import descend
    >>> plan = descend.configure_batch_size("sklearn:iris", seconds=5)
    >>> plan.equivalent[0] <= plan.batch_size <= plan.equivalent[1], plan.optimizer, len(plan.record["explanation"])
    (True, 'sgd', 3)
    """
    from descend.configuring import configure_prepared

    if memory_limit is not None:
        memory_limit = whole_number("memory_limit", memory_limit, at_least=1)
    random_state = whole_number("random_state", random_state, at_least=0)
    if model not in MODELS:
        raise one_of("model", model, list(MODELS))
    settings = Settings(
        loss=loss,
        penalty=penalty,
        alpha=alpha,
        l1_ratio=l1_ratio,
        epsilon=epsilon,
        quantile=quantile,
        standardize=standardize,
        optimizer=optimizer,
        momentum=momentum,
        seconds=seconds,
        hidden=check_hidden(hidden_layer_sizes),
        activation=activation,
        weight_decay=weight_decay,
        seed=random_state,
        threads="auto" if n_jobs in (None, -1) else n_jobs,
    ).checked()
    prepared, name = _prepared(
        X,
        y,
        target,
        sample_weight,
        memory_limit,
        task=task,
        loss_task=settings.loss_task,
        validation=0.0,
        seed=random_state,
        standardize=standardize,
        scale_target=loss != "poisson",
    )
    return configure_prepared(
        prepared,
        settings,
        model,
        settings.seconds,
        target_loss,
        name,
        progress=progress,
        memory_limit=memory_limit,
    )


def load(path: str | Path) -> LinearClassifier | LinearRegressor | MLPClassifier | MLPRegressor:
    """The estimator saved in ``path`` by ``.save`` or by ``descend fit``.

    Nothing in the file is executed. Raises ``ModelFileError`` where it is damaged or something else.
    """
    from descend.models.linear import LinearModel
    from descend.models.loading import load_model

    model = load_model(path)
    if isinstance(model, LinearModel):
        from descend.estimators.linear import LinearClassifier, LinearRegressor

        return (LinearClassifier if model.target.task == "classification" else LinearRegressor)._of(model)
    from descend.estimators.networks import MLPClassifier, MLPRegressor

    tells_classes = model.target.task == "classification" or model.labels
    return (MLPClassifier if tells_classes else MLPRegressor)._of(model)


def _network(model: str, **given: Any) -> dict[str, Any]:
    """What was said of a network's shape; it goes with ``model="mlp"`` alone."""
    if model not in MODELS:
        raise one_of("model", model, list(MODELS))
    said = {name: value for name, value in given.items() if value is not None}
    if said and model != "mlp":
        name = next(iter(said)).replace("hidden", "hidden_layer_sizes")
        raise InputError(f'{name} describes a network: give model="mlp" with it, or leave it out')
    if "hidden" in said:
        said["hidden"] = check_hidden(said["hidden"])
    return said


def _prepared(
    X: Any, y: Any, target: str | None, sample_weight: Any, memory_limit: int | None, **options: Any
) -> tuple[Prepared, str]:
    """Rows ready to be trained on, and what a person would call them."""
    store = store_of(X)
    if store is None:
        source = _source(X, y, target, sample_weight)
        if isinstance(X, (str, Path)):
            options |= {"memory_limit": memory_limit, "in_source": None, "needs_memory": "this"}
        return prepare(source, **options), source.name
    refuse_beside(y, sample_weight)
    check_choice(store, target=target, standardize=options.pop("standardize"))
    del options["seed"]
    return prepare_store(store, memory_limit=memory_limit, **options), store.name


def _source(X: Any, y: Any, target: str | None, sample_weight: Any) -> Source:
    is_path, is_table = isinstance(X, (str, Path)), hasattr(X, "__arrow_c_stream__")
    if isinstance(y, str) and target is None and (is_path or is_table):  # a name, as estimators take it
        y, target = None, y
    if is_path:
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None and not isinstance(value, str):
                raise InputError(
                    f"{name} is a {type(value).__name__}, but X is a path: give the name of the column that holds "
                    f"{'the target, as target' if name == 'y' else 'the weights'}"
                )
        if y is not None:
            raise InputError(
                f"y is {shorten(y)!r}, and target {shorten(str(target))!r} too: give one of them"
            )
        return open_source(X, target=target, weights=sample_weight)
    if is_table:
        return table_source(X, y=y, weights=sample_weight, target=target, require_target=True)
    refuse_lazy(X)
    if target is not None:
        raise InputError(
            f"target is {shorten(target)!r}, but X is a {type(X).__name__}, whose columns have no names: give y"
        )
    if y is None:
        raise InputError("y is missing: give one target a row, or a table and the name of its target column")
    import numpy as np

    rows = X if hasattr(X, "tocsr") else np.asarray(X)
    return array_source(rows, np.asarray(y), sample_weight)
