"""A Lightning callback that sets batch size, accumulation and learning rate before training begins.

Needs ``lightning`` (or ``pytorch_lightning``), and is imported by its own name alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

try:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.utilities import rank_zero_info
    from lightning.pytorch.utilities.parsing import lightning_hasattr, lightning_setattr
except ImportError:
    try:
        from pytorch_lightning import Callback
        from pytorch_lightning.loggers.logger import DummyLogger
        from pytorch_lightning.utilities import rank_zero_info
        from pytorch_lightning.utilities.parsing import lightning_hasattr, lightning_setattr
    except ImportError as error:
        raise ImportError(
            "descend.torch.lightning needs Lightning, which is not installed; install it with: pip install lightning"
        ) from error

from descend.batch_size.plan import Plan
from descend.errors import InputError
from descend.torch.borrowed import (
    RATE_NAMES,
    StepModule,
    StepRows,
    check_plan,
    optimizer_like,
    own_loss,
    parts_of,
    rate_of,
)
from descend.torch.checks import check_numbers, copied
from descend.torch.configuring import configure_batch_size
from descend.torch.modes import numbers_kept

RATES = ("lr", "learning_rate")
"""Where modules keep their rate, as Lightning's own tuner looks for it."""
BEFOREHAND = (
    "; make the plan with descend.torch.configure_batch_size and pass it: ConfigureBatchSize(plan=plan)"
)
WITHIN = 1e-6
"""Rates that differ by no more of themselves are the same."""


class ConfigureBatchSize(Callback):
    """Works out batch size and learning rate when ``trainer.fit`` begins, and has it train with them.

    ``plan``: one that was made before; then nothing is measured. ``target_loss``, ``seconds``, ``memory_limit``: as
    for ``descend.torch.configure_batch_size``. ``seed``: the order of rows while it measures. Afterwards ``plan``
    holds what was found.

    What is measured is the module's own ``training_step`` on rows of the training loader's dataset, with the
    optimizer of ``configure_optimizers`` at a constant rate, on a copy: module, random numbers and loggers are as
    they were. Then the loader makes batches of the plan's rows (through the attribute ``batch_size`` of module or
    data module, where there is one), ``accumulate_grad_batches`` is set, and optimizers and schedules are made anew,
    at the plan's rate and with the number of steps that there will be.

    Raises ``InputError`` for what cannot be measured: no map-style dataset, batches of a sampler's own, several
    loaders, manual optimization, more than one device (pass a plan: its batch is shared among them).
    """

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        target_loss: float | None = None,
        seconds: float | None = None,
        memory_limit: int | None = None,
        seed: int = 0,
    ) -> None:
        check_numbers(seconds=seconds)
        self.plan = check_plan(plan)
        self._set: tuple[int, int] | None = None
        self._options = {
            "target_loss": target_loss,
            "seconds": seconds,
            "memory_limit": memory_limit,
            "seed": seed,
        }

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        loader = train_loader(trainer)
        if self.plan is None:
            self.plan = measure(trainer, pl_module, loader, self._options)
            rank_zero_info(self.plan.explain())
        rows, accumulation = parts_of(self.plan, len(loader.dataset), trainer.world_size)
        set_rows(trainer, pl_module, loader, rows)
        trainer.accumulate_grad_batches = accumulation
        self._set = rows, accumulation
        set_rate(trainer, pl_module, self.plan.learning_rate)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Before the first step: what trains is what was set, and it is told if it is not."""
        if self._set is None:
            return
        found = getattr(trainer.train_dataloader, "batch_size", None), trainer.accumulate_grad_batches
        if found != self._set:
            raise InputError(
                f"batches of {self._set[0]} rows, {self._set[1]} for a step, were set, but {found[0]} and {found[1]} "
                "are what trains: another callback or hook changes them; remove it, or this one"
            )
        self._set = None

    def state_dict(self) -> dict[str, Any]:
        """The plan goes into checkpoints: a run that goes on from one is not measured again."""
        return {"plan": None if self.plan is None else self.plan.record}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.plan is None and state_dict.get("plan") is not None:
            self.plan = Plan.from_json(state_dict["plan"])


def measure(trainer: Any, pl_module: Any, loader: Any, options: dict[str, Any]) -> Plan:
    """The plan for this module and its training rows, on a copy of it."""
    if trainer.world_size > 1:
        raise InputError(
            f"{trainer.world_size} devices train together, and a plan is measured on one{BEFOREHAND}; its batch is "
            "shared among them"
        )
    if not pl_module.automatic_optimization:
        raise InputError(
            f"{type(pl_module).__name__} optimizes by hand, so its steps cannot be told{BEFOREHAND}"
        )
    optimizers = trainer.strategy.optimizers
    if len(optimizers) != 1:
        raise InputError(f"{len(optimizers)} optimizers are configured, and one is needed{BEFOREHAND}")
    step = training_step(trainer, pl_module)
    with numbers_kept(), silent(trainer):
        plan = configure_batch_size(
            StepModule(silenced(pl_module), step),
            own_loss,
            StepRows(loader.dataset, loader.collate_fn),
            optimizer_like(optimizers[0], pl_module),
            optimizer_options={"lr": rate_of(optimizers[0])},
            reduction="mean",
            device=pl_module.device,
            **options,
        )
    plan.record["model"] = type(pl_module).__name__
    return plan


def training_step(trainer: Any, pl_module: Any) -> Callable[[Any, Any], Any]:
    """The module's own step, with what Lightning does to a batch before it."""
    takes_number = len(inspect.signature(pl_module.training_step).parameters) > 1

    def step(module: Any, batch: Any) -> Any:
        if module._trainer is None:
            module.trainer = trainer
        batch = module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)
        with trainer.precision_plugin.train_step_context():
            found = module.training_step(batch, 0) if takes_number else module.training_step(batch)
        return found["loss"] if isinstance(found, dict) else found

    return step


def silenced(pl_module: Any) -> Any:
    """A copy that logs nothing."""
    copy = copied(pl_module)
    for layer in copy.modules():
        if hasattr(layer, "training_step"):
            layer.log = layer.log_dict = _nothing
    return copy


def _nothing(*_: Any, **__: Any) -> None:
    return None


@contextmanager
def silent(trainer: Any) -> Iterator[None]:
    """Loggers of no kind in the place of the trainer's."""
    kept = trainer.loggers
    trainer.loggers = [DummyLogger()] if kept else []
    try:
        yield
    finally:
        trainer.loggers = kept


def train_loader(trainer: Any) -> Any:
    """The one loader of the training rows; raises ``InputError`` for what has no size to set."""
    loader = trainer.fit_loop._data_source.dataloader()
    if not isinstance(loader, DataLoader):
        raise InputError(
            f"the training loader is a {type(loader).__name__}; one torch.utils.data.DataLoader is needed"
        )
    if isinstance(loader.dataset, IterableDataset):
        raise InputError("the training rows are an IterableDataset, of which none can be picked; a map-style "
                         "dataset, with __len__ and __getitem__, is needed")  # fmt: skip
    if type(loader.batch_sampler) is not BatchSampler:
        kind = type(loader.batch_sampler or loader.dataset).__name__
        raise InputError(
            f"the training loader's batches are made by {kind}, which has no batch size to set; give it a sampler "
            "of rows (sampler=) and a batch_size"
        )
    return loader


def set_rows(trainer: Any, pl_module: Any, loader: Any, rows: int) -> None:
    """Has the training loader make batches of so many rows."""
    source = trainer.fit_loop._data_source
    if source.is_module() and lightning_hasattr(pl_module, "batch_size"):
        lightning_setattr(pl_module, "batch_size", rows)
        loader = source.dataloader()
    if loader.batch_size != rows:  # it was passed to fit, or its size is written into the hook
        source.instance = with_rows(loader, rows)
    trainer.fit_loop._combined_loader = None  # one may have been made to count the steps of a schedule


def with_rows(loader: Any, rows: int) -> Any:
    """The loader with another batch size: the same dataset, sampler, workers and generator."""
    names = ("dataset", "sampler", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout",
             "worker_init_fn", "multiprocessing_context", "generator", "prefetch_factor", "persistent_workers",
             "pin_memory_device", "in_order")  # fmt: skip
    kept = {name: getattr(loader, name) for name in names if hasattr(loader, name)}
    kept["drop_last"] = loader.drop_last and rows < len(loader.sampler)
    try:
        return type(loader)(**kept, batch_size=rows)
    except TypeError as error:
        raise InputError(
            f"the training loader, a {type(loader).__name__}, cannot be made anew with another batch size ({error}); "
            "give module or data module an attribute batch_size that train_dataloader reads"
        ) from error


def set_rate(trainer: Any, pl_module: Any, rate: float) -> None:
    """Makes optimizers and schedules anew, at this rate and for the steps that there will be."""
    for name in RATES:
        if lightning_hasattr(pl_module, name):
            lightning_setattr(pl_module, name, rate)
    trainer.strategy.setup_optimizers(trainer)
    schedulers = [config.scheduler for config in trainer.strategy.lr_scheduler_configs]
    for optimizer in trainer.strategy.optimizers[:1]:
        ratio = rate / rate_of(optimizer)
        if abs(ratio - 1.0) > WITHIN:  # the rate is not read from those attributes
            scale(optimizer, schedulers, ratio)


def scale(optimizer: Any, schedulers: list[Any], ratio: float) -> None:
    """Multiplies all rates of an optimizer, and those that its schedules go back to."""
    for group in optimizer.param_groups:
        for name in RATE_NAMES:
            if isinstance(group.get(name), (int, float, torch.Tensor)):
                group[name] = group[name] * ratio
    waiting = [scheduler for scheduler in schedulers if scheduler.optimizer is optimizer]
    while waiting:
        scheduler = waiting.pop()
        waiting += getattr(scheduler, "_schedulers", ())  # one that chains others
        for name in ("base_lrs", "max_lrs", "_last_lr"):
            if hasattr(scheduler, name):
                setattr(scheduler, name, [one * ratio for one in getattr(scheduler, name)])
