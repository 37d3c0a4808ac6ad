"""``descend.torch.huggingface``: plans for a Hugging Face ``Trainer``, and what its own search gets wrong."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from descend.batch_size.plan import FORMAT, VERSION, Plan
from descend.errors import InputError

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from descend.torch.huggingface import configure_batch_size, with_plan  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of transformers, and of fork beside threads
    pytest.mark.usefixtures("own_time"),
]
ROWS = 300


def plan_of(batch_size, rate=0.01, microbatch=None, rows=10**6):
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


class Words(Dataset):
    """Whether the second word is one of the later half; ``noisy``: rows draw random numbers of all kinds."""

    def __init__(self, count=ROWS, noisy=False):
        self.words = torch.randint(0, 40, (count, 6), generator=torch.Generator().manual_seed(0))
        self.noisy = noisy

    def __len__(self):
        return len(self.words)

    def __getitem__(self, row):
        if self.noisy:
            random.random(), np.random.rand(), torch.rand(1)
        return {"words": self.words[row], "labels": (self.words[row, 1] >= 20).long(), "unused": "text"}


class Model(nn.Module):
    """``room``: rows of a step from which on it ends as ``words_of_it`` say."""

    def __init__(self, room=None, words_of_it="CUDA error: out of memory"):
        super().__init__()
        self.room, self.words_of_it = room, words_of_it
        self.embedding, self.out = nn.Embedding(40, 4), nn.Linear(24, 2)
        self.sizes = []

    def forward(self, words, labels=None):
        if self.training:
            if self.room is not None and len(words) > self.room:
                raise RuntimeError(self.words_of_it)
            self.sizes.append(len(words))
        scores = self.out(self.embedding(words).flatten(1))
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


def model(**options):
    torch.manual_seed(0)
    return Model(**options)


def arguments(folder, **options):
    settings = {
        "report_to": [],
        "num_train_epochs": 2,
        "learning_rate": 0.02,
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "weight_decay": 0.01,
        "per_device_eval_batch_size": 17,
    }
    return transformers.TrainingArguments(str(folder), **settings | options)


class Rates(transformers.TrainerCallback):
    """The rate after each step."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, lr_scheduler=None, **kwargs):
        self.seen.append(lr_scheduler.get_last_lr()[0])


def test_a_plan_is_measured_and_nothing_is_changed(tmp_path):
    """Model, arguments, and PyTorch's, NumPy's and Python's random numbers are the same to the bit."""
    one, args = model(), arguments(tmp_path)
    before, told = copy.deepcopy(one.state_dict()), args.to_dict()
    state, numbers, own = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    plan = configure_batch_size(one, args, Words(noisy=True), target_loss=0.5, seconds=4.0)
    assert plan.record["model"] == "Model"
    assert plan.optimizer == "AdamW"
    assert plan.evidence["step_seconds"]
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())
    assert args.to_dict() == told
    assert not one.sizes
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numbers, np.random.get_state()[1])
    assert own == random.getstate()


def test_a_plan_is_set_in_a_copy_of_the_arguments(tmp_path):
    """Rows, accumulation and rate are the plan's, the search of the Trainer's own is off, and no more is changed."""
    args = arguments(tmp_path, auto_find_batch_size=True)
    told = args.to_dict()
    made = with_plan(args, plan_of(64, 0.03, microbatch=16))
    changed = {name: value for name, value in made.to_dict().items() if value != told[name]}
    assert changed == {
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 4,
        "learning_rate": 0.03,
        "auto_find_batch_size": False,
    }
    assert args.to_dict() == told


def test_the_schedule_ends_with_the_last_step(tmp_path):
    """The rate falls from the plan's to 0 over the steps that there are, and these are counted through.

    The Trainer's own search starts its schedule and its count of steps anew, or goes on with those of another size.
    """
    rates = Rates()
    made = with_plan(arguments(tmp_path), plan_of(64, 0.03, microbatch=16))
    one = model()
    running = transformers.Trainer(one, made, train_dataset=Words(), callbacks=[rates])
    running.train()
    steps = 2 * math.ceil(math.ceil(ROWS / 16) / 4)
    assert running.state.global_step == len(rates.seen) == steps
    assert rates.seen == pytest.approx([0.03 * (1 - (i + 1) / steps) for i in range(steps)])
    assert sum(one.sizes) == 2 * ROWS


@pytest.mark.slow
def test_no_size_is_set_that_did_not_run(tmp_path):
    """Where more than 40 rows end in an error that is about memory by its words alone, no more train at once.

    A larger batch is made up of parts, and evaluation keeps its own size.
    """
    words = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"
    one = model(room=40, words_of_it=words)
    plan = configure_batch_size(one, arguments(tmp_path), Words(), target_loss=0.5, seconds=2.0)
    assert 1 <= plan.evidence["ceiling"] <= 40
    made = with_plan(arguments(tmp_path), plan)
    rows, parts = made.per_device_train_batch_size, made.gradient_accumulation_steps
    assert rows <= 40
    assert rows * parts == pytest.approx(plan.batch_size, rel=0.1)
    transformers.Trainer(one, made, train_dataset=Words()).train()
    assert max(one.sizes) <= 40
    assert made.per_device_eval_batch_size == 17


def test_a_trainer_of_ones_own_is_what_is_measured(tmp_path):
    """A loss of a subclass decides: one that is constant cannot reach a target."""

    class Flat(transformers.Trainer):
        def compute_loss(self, model, inputs, **kwargs):
            return super().compute_loss(model, inputs) * 0.0 + 5.0

    with pytest.raises(InputError, match="the loss was 5 before it"):
        configure_batch_size(model(), arguments(tmp_path), Words(), seconds=1.0, trainer_class=Flat)


def test_a_plan_for_every_row_is_one_for_all_of_them(tmp_path):
    """Rows that were held out while measuring are trained on too."""
    made = with_plan(arguments(tmp_path), plan_of(270, rows=270), num_rows=ROWS)
    assert made.per_device_train_batch_size == ROWS
    assert made.gradient_accumulation_steps == 1


def test_a_batch_is_shared_among_devices(tmp_path, monkeypatch):
    """Of 4 devices each has a quarter; a batch of fewer rows than devices is refused."""
    monkeypatch.setattr(transformers.TrainingArguments, "world_size", 4)
    made = with_plan(arguments(tmp_path), plan_of(128, microbatch=16))
    assert (made.per_device_train_batch_size, made.gradient_accumulation_steps) == (16, 2)
    with pytest.raises(InputError, match="3 rows, and there are 4 devices"):
        with_plan(arguments(tmp_path), plan_of(3))


class Endless(IterableDataset):
    def __iter__(self):
        yield {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda args: configure_batch_size(model(), args, Endless()),
            "train_dataset is a Endless, of which no row",
        ),
        (lambda args: with_plan(args, None), "plan is None; configure_batch_size makes one"),
        (lambda args: with_plan(args, 32), "plan is a int; what configure_batch_size returned"),
        (lambda args: with_plan({}, plan_of(8)), "args is a dict; transformers.TrainingArguments"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, call, message):
    """Each refusal names the argument and what is needed."""
    with pytest.raises(InputError, match=message):
        call(arguments(tmp_path))
