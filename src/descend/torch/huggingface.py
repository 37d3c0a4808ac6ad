"""Batch size, accumulation and learning rate for a Hugging Face ``Trainer``: measured, and set in its arguments.

Needs ``transformers`` and ``accelerate``, and is imported by its own name alone.
"""

from __future__ import annotations

import copy
from typing import Any

try:
    from transformers import Trainer, TrainingArguments
except ImportError as error:
    raise ImportError(
        "descend.torch.huggingface needs transformers and accelerate, which are not installed; install them with: "
        "pip install 'transformers[torch]'"
    ) from error

from torch.utils.data import IterableDataset

from descend.batch_size.plan import Plan
from descend.errors import InputError
from descend.torch.borrowed import (
    StepModule,
    StepRows,
    check_plan,
    optimizer_like,
    own_loss,
    parts_of,
    rate_of,
)
from descend.torch.checks import copied
from descend.torch.configuring import configure_batch_size as configure
from descend.torch.modes import numbers_kept

ELSEWHERE = "; make the plan with descend.torch.configure_batch_size, and set it by with_plan(args, plan)"


def configure_batch_size(
    model: Any,
    args: Any,
    train_dataset: Any,
    data_collator: Any = None,
    *,
    target_loss: float | None = None,
    seconds: float | None = None,
    memory_limit: int | None = None,
    seed: int = 0,
    trainer_class: Any = None,
    **options: Any,
) -> Plan:
    """Which batch size, with which learning rate, and why; for a ``Trainer`` with these arguments.

    ``model``, ``args``, ``train_dataset``, ``data_collator``: as ``Trainer`` takes them; ``options``: what else it is
    given (``processing_class``, ``compute_loss_func``, …); ``trainer_class``: a subclass with a ``compute_loss`` or
    an optimizer of its own. ``target_loss``, ``seconds``, ``memory_limit``, ``seed``: as in
    ``descend.torch.configure_batch_size``; the target is the mean loss over rows held out of ``train_dataset``.

    Measured is the Trainer's own loss with its own optimizer, collator and parameter groups, at a constant rate, on a
    copy: model, arguments and random numbers are as they were. ``with_plan`` sets what was found.

    Raises ``InputError`` naming what cannot be measured.
    """
    if isinstance(train_dataset, IterableDataset) or not hasattr(train_dataset, "__len__"):
        raise InputError(
            f"train_dataset is a {type(train_dataset).__name__}, of which no row can be picked; a map-style dataset, "
            "with __len__ and __getitem__, is needed"
        )
    with numbers_kept():
        trainer = (trainer_class or Trainer)(
            model=copied(model),
            args=copy.copy(args),
            train_dataset=train_dataset,
            data_collator=data_collator,
            **options,
        )
        if trainer.args.world_size > 1 or trainer.args.n_gpu > 1:
            raise InputError(f"several devices train together, and a plan is measured on one{ELSEWHERE}")
        loader = trainer.get_train_dataloader()
        made = trainer.create_optimizer()

        def step(module: Any, batch: Any) -> Any:
            with trainer.compute_loss_context_manager():
                return trainer.compute_loss(module, dict(batch))

        plan = configure(
            StepModule(trainer.model, step),
            own_loss,
            StepRows(loader.dataset, loader.collate_fn),
            optimizer_like(made, trainer.model),
            optimizer_options={"lr": rate_of(made)},
            target_loss=target_loss,
            seconds=seconds,
            memory_limit=memory_limit,
            reduction="mean",
            device=trainer.args.device,
            seed=seed,
        )
    plan.record["model"] = type(model).__name__
    return plan


def with_plan(args: Any, plan: Plan, num_rows: int | None = None) -> Any:
    """A copy of the arguments with the plan in them: rows on a device, accumulation, learning rate.

    Of several devices each gets its share of the plan's batch. ``auto_find_batch_size`` is turned off, for the size
    has been run already; what is evaluated, logged and saved, and how long it trains, stays as it was asked for.
    ``num_rows``: the rows that will be trained on, where the plan is for every row at once.
    """
    if not isinstance(args, TrainingArguments):
        raise InputError(f"args is a {type(args).__name__}; transformers.TrainingArguments are needed")
    if check_plan(plan) is None:
        raise InputError("plan is None; configure_batch_size makes one")
    devices = max(1, args.n_gpu) * max(1, args.world_size)
    rows, accumulation = parts_of(plan, num_rows or plan.batch_size, devices)
    made = copy.copy(args)
    made.per_device_train_batch_size = rows
    made.gradient_accumulation_steps = accumulation
    made.learning_rate = plan.learning_rate
    made.auto_find_batch_size = False
    return made
