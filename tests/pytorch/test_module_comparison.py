"""``descend.torch.compare``: a module compared as networks of a table are, on a copy, from the same starts."""

import copy
import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

import descend.torch as dt
from descend.engines.base import Rule, State
from descend.errors import InputError
from descend.features import prepare
from descend.networks.fitting import fit_network
from descend.report import render_page
from descend.settings import Settings
from descend.sources import open_source
from descend.torch.module_data import ModuleData, fill, vector_of
from descend.torch.module_engine import ModuleEngine
from descend.torch.module_runs import own_optimizer, run_module
from descend.torch.module_terrain import ModuleTerrain
from descend.updates import OPTIMIZERS

LOSS = nn.CrossEntropyLoss()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Steps so small take many times as long with two threads on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32), y


def network(dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3))


@pytest.fixture(scope="module")
def found(iris):
    return dt.compare(network(), LOSS, iris, batch_sizes=(5, 32, "full"), epochs=40, seeds=2, seed=3)


def data_of(iris, module=None, optimizer=torch.optim.SGD, loss=LOSS, **options):
    return ModuleData(module or network(), loss, iris, optimizer, **options)


def test_the_record_holds_what_a_networks_does(found):
    """Strict JSON with 22 claims; a sharpness for each seed, a wall for each pair of ends; a page and a frame."""
    record = found.record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert len(record["claims"]) == 22
    assert [len(run["sharpness_found"]) for run in record["runs"]] == [2, 2, 2]
    assert len(record["valleys"]["walls"]) == 3
    assert record["settings"]["optimizer"] == "SGD"
    assert record["settings"]["loss"] == "CrossEntropyLoss"
    page = render_page(record)
    assert "the plane through the places where the runs" in page
    assert "stays" in page
    assert list(found.to_frame()["kind"]) == ["mini-batch", "mini-batch", "batch"]


def test_a_seed_moves_the_start_and_all_kinds_share_it(found, iris):
    """The first seed starts at the module's own weights, another elsewhere, and all kinds where the seed says."""
    starts = [[h["columns"]["loss"][0] for h in run["histories"]] for run in found.runs]
    assert starts[0] == starts[1] == starts[2]
    assert starts[0][0] != starts[0][1]
    with torch.no_grad():
        own = LOSS(network()(torch.from_numpy(iris[0])), torch.from_numpy(iris[1]))
    assert starts[0][0] == pytest.approx(float(own), rel=1e-5)


def test_nothing_of_the_callers_is_changed(iris):
    """Module, modes, gradients, buffers, random numbers and threads are the same to the bit."""
    module = network(dropout=0.2).eval()
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(5)
    np.random.seed(5)
    state, numbers, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    dt.compare(module, LOSS, iris, torch.optim.AdamW, (32, "full"), epochs=2, seeds=2)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not module.training
    assert torch.equal(module[0].weight.grad, torch.ones_like(module[0].weight))
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numbers, np.random.get_state()[1])
    assert threads == torch.get_num_threads()


def test_the_same_seed_is_the_same_comparison(iris):
    """With a number of epochs ends, their sharpness and walls repeat to the last bit, dropout and all."""
    one, other = (
        dt.compare(network(0.2), LOSS, iris, batch_sizes=(16, "full"), epochs=4, seeds=2) for _ in range(2)
    )
    assert [run["final_loss"] for run in one.runs] == [run["final_loss"] for run in other.runs]
    assert [run["sharpness_found"] for run in one.runs] == [run["sharpness_found"] for run in other.runs]
    assert one.record["valleys"] == other.record["valleys"]


def test_a_module_goes_the_way_of_the_network_of_a_table():
    """Batch gradient descent of the same network, from the same weights at the same rate, has the same losses."""
    ready = prepare(open_source("sklearn:iris"), validation=0.0)
    settings = Settings(
        hidden=(5,), activation="tanh", penalty=None, optimizer="sgd", batch_size="full", learning_rate=0.3, epochs=30
    )  # fmt: skip
    theirs = fit_network(ready, settings, keep_path=True)
    module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    start = theirs.model.network.parts(theirs.path[0])
    with torch.no_grad():
        for layer, (W, b) in zip((module[0], module[2]), start, strict=True):
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T)))
            layer.bias.copy_(torch.from_numpy(np.ascontiguousarray(b)))
    data = data_of((ready.train.X, ready.train.y.ravel().astype(np.int64)), module)
    ours = run_module(data, settings, 30)
    assert ours.history["epoch"] == theirs.history["epoch"]
    assert ours.history["loss"] == pytest.approx(theirs.history["loss"], rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.1}])
def test_steps_are_the_optimizers_own(iris, options):
    """Steps of the engine, in three calls, end where a loop by hand over the same rows does."""
    data = data_of(iris, options=options)
    engine = ModuleEngine(data, data.train)
    state, order = State(data.own_start.copy()), np.random.default_rng(0).permutation(150)
    for part in (order[:60], order[60:120], order[120:]):
        engine.run(state, Rule(own_optimizer(data), 0.1), part, 7)
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, **options)
    X, y = (torch.from_numpy(part)[torch.from_numpy(data.train_order)] for part in iris)
    for part in (order[:60], order[60:120], order[120:]):
        for start in range(0, len(part), 7):
            rows = torch.from_numpy(part[start : start + 7])
            optimizer.zero_grad()
            LOSS(module(X[rows]), y[rows]).backward()
            optimizer.step()
    assert torch.allclose(
        torch.from_numpy(state.parameters), torch.from_numpy(vector_of(module.parameters())), atol=1e-6
    )
    assert (state.steps, state.visits) == (23, 150)


def test_an_optimizer_forgets_where_somebody_moved_the_parameters(iris):
    """What momentum remembers goes on from call to call, and is gone when a phase goes back to its best."""
    data = data_of(iris, options={"momentum": 0.9})
    engine = ModuleEngine(data, data.train)
    rule, order = Rule(own_optimizer(data), 0.1), np.arange(30)

    def end(moved):
        state = State(data.own_start.copy())
        engine.run(state, rule, order, 10)
        if moved:
            state.parameters[:] = data.own_start
        engine.run(state, rule, order, 10)
        return state.parameters

    fresh = State(data.own_start.copy())
    ModuleEngine(data, data.train).run(fresh, rule, order, 10)
    assert np.array_equal(end(moved=True), fresh.parameters)
    assert not np.array_equal(end(moved=False), fresh.parameters)


def test_sums_over_rows_add_up(iris):
    """Loss and gradient of two halves make those of the whole, which is autograd's, dropout off."""
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]))
    for criterion in (LOSS, loss):
        data = data_of(iris, network(dropout=0.5), loss=criterion)
        engine = ModuleEngine(data, data.train)
        whole = engine.loss_and_gradient(data.own_start, slice(None))
        module = network(dropout=0.5).eval()
        value = criterion(module(torch.from_numpy(iris[0])), torch.from_numpy(iris[1]))
        value.backward()
        gradient = torch.cat([p.grad.flatten() for p in module.parameters()]).numpy()
        value = float(value.detach())
        assert whole.loss / whole.weight == pytest.approx(value, rel=1e-5)
        assert whole.gradient / whole.weight == pytest.approx(gradient, rel=1e-4, abs=1e-6)
        assert engine.mean_loss(data.own_start) == pytest.approx(value, rel=1e-5)
    plain = data_of(iris)
    halves = [
        ModuleEngine(plain, plain.train).loss_and_gradient(plain.own_start, r)
        for r in (slice(70), slice(70, None))
    ]
    both = ModuleEngine(plain, plain.train).loss_and_gradient(plain.own_start, slice(None))
    assert sum(half.loss for half in halves) == pytest.approx(both.loss, rel=1e-6)
    assert halves[0].gradient + halves[1].gradient == pytest.approx(both.gradient, rel=1e-4, abs=1e-5)


def test_sharpness_is_the_largest_eigenvalue(iris):
    """Of the whole Hessian, made by PyTorch; where a layer has no second derivative, of differences of gradients."""
    data = data_of(iris)
    terrain = ModuleTerrain(data, Settings())
    module = network().double().eval()
    X, y = torch.from_numpy(iris[0]).double(), torch.from_numpy(iris[1])

    def loss_at(vector):
        fill_in = dict(
            zip([n for n, _ in module.named_parameters()], vector.split([24, 6, 18, 3]), strict=True)
        )
        shaped = {
            name: part.view_as(p)
            for (name, p), part in zip(module.named_parameters(), fill_in.values(), strict=True)
        }
        return LOSS(torch.func.functional_call(module, shaped, (X,)), y)

    vector = torch.from_numpy(data.own_start).double()
    hessian = torch.autograd.functional.hessian(loss_at, vector)
    assert terrain.sharpness(data.own_start).value == pytest.approx(
        float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-3
    )
    assert terrain.height(data.own_start) == pytest.approx(float(loss_at(vector)), rel=1e-9)
    once = data_of(iris, nn.Sequential(network(), Once()))
    assert ModuleTerrain(once, Settings()).sharpness(once.own_start).value == pytest.approx(
        float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-3
    )


class Once(nn.Module):
    """The same out again, with a gradient that has none of its own."""

    class Same(torch.autograd.Function):
        """Its gradient is no function that PyTorch can take the gradient of."""

        @staticmethod
        def forward(ctx, X):
            return X.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient

    def forward(self, X):
        return self.Same.apply(X)


def test_directions_have_the_lengths_of_the_units(iris):
    """A direction's rows are as long as the weights of their units, and nothing goes along the intercepts."""
    data = data_of(iris)
    made = ModuleTerrain(data, Settings()).with_lengths_of(
        np.random.default_rng(0).normal(size=51), data.own_start
    )
    rows, own = made[:24].reshape(6, 4), data.own_start[:24].reshape(6, 4)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.linalg.norm(own, axis=1))
    assert not made[24:30].any()


def test_batch_goes_back_to_where_it_stays(iris):
    """From near a place of rest plain steps over all rows lead back: the loss there is no higher than nearby."""
    data = data_of(iris)
    settings = Settings(optimizer="sgd", batch_size="full", epochs=200)
    run = run_module(data, settings, 200)
    terrain = ModuleTerrain(data, settings)
    walker = terrain.walker(run, 0, 60)
    place = run.model.parameters.astype(np.float64)
    near = place + 0.05 * np.random.default_rng(0).normal(size=len(place))
    assert terrain.height(walker.settle(near)) < terrain.height(near)
    away = walker.wander(place, 5)
    assert np.isfinite(away).all()
    assert not np.array_equal(away, place)


class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(0.1 * torch.randn(4, 6))
        self.last = nn.Linear(6, 3)

    def forward(self, X):
        return self.last(torch.tanh(X @ self.weights))


def test_parameters_that_nobody_draws_anew_are_named(iris):
    """What every seed starts with is a note; with ``same_start`` every seed has the module's own weights."""
    data = data_of(iris, Raw())
    assert any("the same weights: no reset_parameters draws them" in note for note in data.notes)
    one, other = data.start(0), data.start(1)
    assert np.array_equal(one[:24], other[:24])
    assert not np.array_equal(one[24:], other[24:])
    same = data_of(iris, same_start=True)
    assert np.array_equal(same.start(0), same.start(7))
    attention = data_of(
        iris,
        nn.Sequential(
            nn.Unflatten(1, (1, 4)),
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
    )
    assert not [note for note in attention.notes if "reset_parameters" in note]


def test_frozen_layers_stay_as_they_are(iris):
    """Batch normalisation that is frozen is taken, and its statistics are the module's own with every seed."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    module(torch.randn(50, 4))
    module[1].eval()
    data = data_of(iris, module)
    data.start(5)
    assert torch.equal(data.module[1].running_mean, module[1].running_mean)
    found = dt.compare(module, LOSS, iris, batch_sizes=(30, "full"), epochs=2, seeds=2)
    assert all(run["final_loss"] < found.record["first_loss"] for run in found.runs)


def test_a_rate_that_is_too_high_is_told():
    """Runs whose loss is no number end as diverged, with a note, in a record that is still strict JSON."""
    X = torch.linspace(-1.0, 1.0, 60).reshape(-1, 1)
    found = dt.compare(
        nn.Linear(1, 1), nn.MSELoss(), (X, 2.0 * X), batch_sizes=(4, "full"), epochs=30, seeds=1, learning_rate=1e9
    )  # fmt: skip
    json.dumps(found.record, allow_nan=False)
    for run in found.runs:
        assert run["stopped"] == ["diverged"]
        assert "take a lower rate" in run["note"]


def test_optimizers_of_which_nothing_is_known_have_a_ladder_of_their_own_steps(iris):
    """A class of the caller's own learns at a rate that was found, and Adam's is that of the rule."""

    class Signs(torch.optim.Optimizer):
        def __init__(self, parameters, lr=0.1):
            super().__init__(parameters, {"lr": lr})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p -= group["lr"] * p.grad.sign()

    settings = Settings(optimizer="sgd", batch_size=32, epochs=10)
    signs = run_module(data_of(iris, optimizer=Signs), settings, 10)
    assert "ladder" in signs.rate.reason
    assert 1e-4 < signs.rate.value < 1.0
    assert signs.history.last["loss"] < 0.7 * signs.history["loss"][0]
    adam = run_module(data_of(iris, optimizer=torch.optim.Adam), settings, 10)
    assert adam.rate.value == pytest.approx(1e-3)
    assert own_optimizer(data_of(iris)).code != OPTIMIZERS["sgd"].code


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))},
         r"layer '1' \(BatchNorm1d\) normalises by the batch, so each batch size would have an objective"),
        ({"optimizer": torch.optim.LBFGS}, "optimizer LBFGS remembers how gradients change"),
        ({"optimizer": torch.optim.SGD(network().parameters(), lr=0.1)}, "optimizer is an instance"),
        ({"module": nn.Linear}, r"make one of it: Linear\("),
        ({"batch_sizes": ()}, "batch sizes are empty"),
        ({"batch_sizes": ("auto",)}, '"auto" cannot be compared'),
        ({"seeds": 0}, "seeds"),
        ({"loss": nn.MSELoss()}, "this loss needs the same"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(iris, options, message):
    """Each refusal names the argument or the layer, and what is needed."""
    given = {"module": network(), "loss": LOSS, "data": iris, "epochs": 1} | options
    with pytest.raises(InputError, match=message):
        dt.compare(**given)


def test_a_vector_is_written_and_read():
    """What is filled in is read again, in the order of the module's parameters."""
    module = network()
    vector = np.arange(51, dtype=np.float32)
    fill(list(module.parameters()), vector)
    assert np.array_equal(vector_of(module.parameters()), vector)
    assert module[0].weight[1, 0] == 4.0


def test_a_schedule_on_plateaus_falls(iris):
    """Where the loss stops falling the rate does, in a comparison of modules as in one of networks."""
    found = dt.compare(
        network(), LOSS, iris, batch_sizes=(4,), seeds=1, epochs=60, learning_rate=1.0, schedule="plateau"
    )
    rates = found.runs[0]["histories"][0]["columns"]["learning_rate"]
    assert rates[0] == 1.0
    assert rates[-1] <= 0.1
