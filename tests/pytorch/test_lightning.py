"""``descend.torch.lightning``: the callback in Lightning's own trainer, and what its tuner gets wrong."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

from descend.batch_size.plan import FORMAT, VERSION, Plan
from descend.errors import InputError

pl = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")

from descend.torch import lightning as ours  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of Lightning, and of fork beside threads
    pytest.mark.usefixtures("own_time"),
]
ROWS = 600


def plan_of(batch_size, rate=0.03, microbatch=None, rows=10**6):
    part = microbatch or batch_size
    return Plan(
        {
            "format": FORMAT,
            "version": VERSION,
            "batch_size": batch_size,
            "microbatch": part,
            "accumulation": math.ceil(batch_size / part),
            "learning_rate": rate,
            "data": {"rows": rows},
        }
    )


class Module(pl.LightningModule):
    """Reads its rate from ``lr``; ``room``: rows of a step from which on memory is wanting."""

    def __init__(self, lr=0.01, room=None, schedule=None):
        super().__init__()
        self.lr, self.room, self.schedule = lr, room, schedule
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
        self.sizes, self.rates = [], []

    def training_step(self, batch, batch_idx):
        X, y = batch
        if self.room is not None and len(X) > self.room:
            raise RuntimeError("CUDA error: out of memory")
        self.sizes.append(len(X))
        loss = nn.functional.mse_loss(self.net(X), y)
        self.log("loss", loss)
        return loss

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        if self.schedule is None:
            return optimizer
        schedule = self.schedule(optimizer, self)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class WrittenIn(Module):
    """Its rates are written into it."""

    def configure_optimizers(self):
        groups = [
            {"params": self.net[0].parameters(), "lr": 0.01},
            {"params": self.net[3].parameters(), "lr": 0.1},
        ]
        optimizer = torch.optim.SGD(groups, momentum=0.9)
        warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 4))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm, "interval": "step"}}


class Rows(pl.LightningDataModule):
    def __init__(self, batch_size=5):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(rows_of(), batch_size=self.batch_size, shuffle=True)


def rows_of(count=ROWS):
    X = torch.randn(count, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(X, X[:, :1] * 2.0 - X[:, 1:2])


def trainer(callback, **options):
    settings = {
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    return pl.Trainer(callbacks=[callback], **settings | options)


def module(kind=Module, **options):
    torch.manual_seed(0)
    return kind(**options)


def weights(one):
    return torch.cat([p.detach().flatten() for p in one.parameters()])


@pytest.mark.parametrize("passed", ["loader", "datamodule"])
def test_a_plan_is_set(passed):
    """Rows of a batch, accumulation and rate are the plan's, and steps are as many as that makes."""
    plan = plan_of(64, microbatch=16)
    running = trainer(ours.ConfigureBatchSize(plan))
    one = module()
    data = Rows()
    if passed == "loader":
        running.fit(one, DataLoader(rows_of(), batch_size=7, shuffle=True))
    else:
        running.fit(one, datamodule=data)
        assert data.batch_size == 16
    assert set(one.sizes) == {16, ROWS % 16}
    assert running.accumulate_grad_batches == 4
    assert running.global_step == math.ceil(math.ceil(ROWS / 16) / 4)
    assert one.rates == [0.03] * running.global_step
    assert one.lr == 0.03


def test_what_is_measured_trains_and_nothing_else_was_changed():
    """A run that measures first ends with the weights of one that had its plan: nothing of it is seen in training."""
    measured = ours.ConfigureBatchSize(target_loss=1.0, seconds=3.0)
    ends = []
    for callback in (measured, None):
        callback = callback or ours.ConfigureBatchSize(measured.plan)
        pl.seed_everything(3, verbose=False)
        one = module()
        trainer(callback).fit(one, DataLoader(rows_of(), batch_size=7, shuffle=True))
        ends.append((weights(one), torch.get_rng_state(), random.getstate(), np.random.get_state()[1]))
    assert measured.plan.evidence["step_seconds"]
    assert measured.plan.record["model"] == "Module"
    assert measured.plan.optimizer == "SGD"
    assert torch.equal(ends[0][0], ends[1][0])
    assert torch.equal(ends[0][1], ends[1][1])
    assert ends[0][2] == ends[1][2]
    assert np.array_equal(ends[0][3], ends[1][3])


@pytest.mark.slow
@pytest.mark.parametrize(("room", "count"), [(5000, 10_000), (60, 100)])
def test_no_size_is_set_that_did_not_run(room, count):
    """Where more than ``room`` rows end in "CUDA error: out of memory", no more are trained on at once, and it ends.

    Lightning's tuner answers 8192, untried, where 5,000 fit; and where fewer rows fit than there are, it answers
    with the size that failed, or never ends.
    """
    callback = ours.ConfigureBatchSize(target_loss=1.0, seconds=3.0)
    one = module(room=room)
    trainer(callback).fit(one, DataLoader(rows_of(count), batch_size=4, shuffle=True))
    ceiling = callback.plan.evidence["ceiling"]
    assert 1 <= ceiling <= room  # how near it comes is a question of time
    assert callback.plan.microbatch <= ceiling
    assert 0 < max(one.sizes) <= room
    assert sum(one.sizes) == count


def test_a_schedule_is_made_for_the_steps_that_there_are():
    """One that counted the loader's old batches is made anew: its end is the last step, its peak the plan's rate."""

    def cycle(optimizer, one):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, one.lr, total_steps=one.trainer.estimated_stepping_batches
        )

    running = trainer(ours.ConfigureBatchSize(plan_of(60, 0.2)), max_epochs=3)
    one = module(schedule=cycle)
    running.fit(one, DataLoader(rows_of(), batch_size=7))
    assert running.global_step == len(one.rates) == 30
    assert running.lr_scheduler_configs[0].scheduler.total_steps == 30
    assert max(one.rates) == pytest.approx(0.2)
    assert one.rates[-1] == min(one.rates) < 1e-4


def test_rates_that_are_written_in_are_moved_together():
    """Groups keep their ratio, the first gets the plan's rate, and the warm-up ends there."""
    running = trainer(ours.ConfigureBatchSize(plan_of(60, 0.5)))
    one = module(WrittenIn)
    running.fit(one, DataLoader(rows_of(), batch_size=7))
    assert one.rates == pytest.approx([0.125, 0.25, 0.375] + [0.5] * 7)
    assert [group["lr"] for group in running.optimizers[0].param_groups] == pytest.approx([0.5, 5.0])


def test_groups_are_measured_with_their_ratio():
    """The optimizer of a measured copy has the module's groups, their options, and rates in the same ratio."""
    one = module(WrittenIn)
    made = one.configure_optimizers()["optimizer"]
    make = ours.optimizer_like(made, one)
    other = module(WrittenIn)
    again = make(list(other.parameters()), lr=1.0)
    assert [group["lr"] for group in again.param_groups] == pytest.approx([1.0, 10.0])
    assert [group["momentum"] for group in again.param_groups] == [0.9, 0.9]
    assert [id(p) for group in again.param_groups for p in group["params"]] == [
        id(p) for p in other.parameters()
    ]
    assert make.__name__ == "SGD"


@pytest.mark.parametrize("passed", ["loader", "module"])
@pytest.mark.parametrize(("drop", "sizes"), [(True, [70] * 8), (False, [70] * 8 + [40])])
def test_a_loader_goes_on_dropping_its_last_rows(drop, sizes, passed):
    """Rows that are left over stay out of epochs where the loader drops them, and no schedule counts their step."""

    class Own(Module):
        batch_size = 7

        def train_dataloader(self):
            return DataLoader(rows_of(), batch_size=self.batch_size, drop_last=drop)

    counted = []

    def constant(optimizer, one):
        counted.append(one.trainer.estimated_stepping_batches)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    running = trainer(ours.ConfigureBatchSize(plan_of(70)), max_epochs=2)
    if passed == "loader":
        one = module(schedule=constant)
        running.fit(one, DataLoader(rows_of(), batch_size=7, drop_last=drop))
    else:
        one = module(Own, schedule=constant)
        running.fit(one)
    assert one.sizes == sizes * 2
    assert counted[-1] == running.global_step == 2 * len(sizes)


def test_rows_that_a_loader_would_drop_are_not_all_of_them():
    """A batch of every row is not dropped by a loader that drops the last, and no epoch is empty."""
    running = trainer(ours.ConfigureBatchSize(plan_of(ROWS, rows=ROWS)))
    one = module()
    running.fit(one, DataLoader(rows_of(), batch_size=7, drop_last=True))
    assert one.sizes == [ROWS]


def test_a_run_that_goes_on_is_not_measured_again(tmp_path, monkeypatch):
    """A checkpoint holds the plan, and a new callback takes it from there."""
    first = trainer(ours.ConfigureBatchSize(plan_of(60, 0.02)))
    first.fit(module(), DataLoader(rows_of(), batch_size=7))
    first.save_checkpoint(tmp_path / "last.ckpt")
    monkeypatch.setattr(ours, "measure", None)
    callback = ours.ConfigureBatchSize()
    running = trainer(callback, max_epochs=2)
    one = module()
    running.fit(
        one, DataLoader(rows_of(), batch_size=7), ckpt_path=tmp_path / "last.ckpt", weights_only=False
    )
    assert callback.plan.batch_size == 60
    assert one.sizes == [60] * 10
    assert running.global_step == 20


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(4), torch.zeros(1)


class ByHand(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


@pytest.mark.parametrize(
    ("kind", "loader", "message"),
    [
        (Module, lambda: DataLoader(Endless()), "are an IterableDataset"),
        (
            Module,
            lambda: DataLoader(
                rows_of(),
                batch_sampler=type("Own", (BatchSampler,), {})(SequentialSampler(rows_of()), 4, False),
            ),
            "made by Own, which has no batch size to set",
        ),
        (Module, lambda: [DataLoader(rows_of()), DataLoader(rows_of())], "training loader is a list; one"),
        (ByHand, lambda: DataLoader(rows_of()), r"ByHand optimizes by hand.*ConfigureBatchSize\(plan=plan\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(kind, loader, message):
    """Each refusal comes before any step, and says what is needed."""
    one = module(kind)
    with pytest.raises(InputError, match=message):
        trainer(ours.ConfigureBatchSize(seconds=1.0)).fit(one, loader())
    assert not one.sizes


def test_a_callback_that_changes_it_again_is_told():
    """Accumulation that another callback sets anew is an error before the first step, not another batch."""
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    running = pl.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False,
        callbacks=[GradientAccumulationScheduler({0: 2}), ours.ConfigureBatchSize(plan_of(60))],
    )  # fmt: skip
    one = module()
    with pytest.raises(InputError, match="60 rows, 1 for a step, were set, but 60 and 2"):
        running.fit(one, DataLoader(rows_of(), batch_size=7))
    assert not one.sizes
