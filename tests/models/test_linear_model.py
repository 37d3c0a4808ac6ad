"""The linear model: scores, probabilities, and weights in the units of the columns as they came."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import start

from descend.errors import InputError, ModelFileError
from descend.features import prepare
from descend.model_file import read_model, write_model
from descend.models.linear import LinearModel, initialise
from descend.models.loading import load_model
from descend.sources import array_source, table_source

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)) * [1, 10, 100, 0.01] + [0, 5, -300, 1]
LABELS = np.array(["b", "a", "c"])[RNG.integers(3, size=60)]


def model_of(y, task=None, X=X, dtype=np.float64, **options):
    prepared = prepare(array_source(X.astype(dtype), y), task=task, validation=0.0, **options)
    parameters = start(prepared.train, prepared.target.num_outputs, spread=1.0).parameters
    loss = "log_loss" if prepared.target.task == "classification" else "squared_error"
    return LinearModel(prepared.features, prepared.target, parameters, loss)


TARGETS = {
    "two classes": LABELS == "a",
    "three classes": LABELS,
    "numbers": X @ [1.0, 0.1, 0.01, 100.0] * 1000 + 5e6,
    "two numbers": np.stack([X[:, 0], 1e4 * X[:, 1]], axis=1),
}


def test_it_begins_at_zero():
    """Parameters begin at zero, one row of weights and intercept for each output, in the wanted dtype."""
    parameters = initialise(3, 5, np.float32)
    assert parameters.shape == (3, 6)
    assert parameters.dtype == np.float32
    assert not parameters.any()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("standardize", [True, False])
def test_weights_in_units_give_the_same_scores(name, standardize):
    """X · weights + intercept for raw columns equals the scores of the encoded ones."""
    model = model_of(TARGETS[name], standardize=standardize)
    weights, intercept = model.in_units()
    np.testing.assert_allclose(X @ weights.T + intercept, model.scores(X), rtol=1e-9, atol=1e-9)
    assert weights.shape == (len(model.parameters), 4)


def test_a_constant_column_has_weight_zero():
    """A column that was left out has its place in the weights, and weight 0."""
    wide = np.insert(X, 1, 7.0, axis=1)
    weights, intercept = model_of(TARGETS["numbers"], X=wide).in_units()
    assert weights.shape == (1, 5)
    assert weights[0, 1] == 0.0
    assert (weights[0, [0, 2, 3, 4]] != 0).all()
    moved = wide.copy()
    moved[:, 1] = 1e6
    model = model_of(TARGETS["numbers"], X=wide)
    np.testing.assert_allclose(moved @ weights.T + intercept, model.scores(wide), rtol=1e-9)


def test_probabilities_add_up_and_belong_to_the_classes():
    """Probabilities of each row add up to 1, and the predicted class has the largest."""
    for name in ("two classes", "three classes"):
        model = model_of(TARGETS[name])
        scores = model.scores(X)
        probabilities = model.probabilities(scores)
        assert probabilities.shape == (60, len(model.target.classes))
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-14)
        assert (probabilities >= 0).all()
        likeliest = np.array(model.target.classes, dtype=object)[probabilities.argmax(axis=1)]
        assert (model.predict_scores(scores) == likeliest).all()


@given(st.floats(-800, 800))
def test_far_off_scores_keep_their_small_probability(score):
    """The less likely of two classes keeps its probability where 1 − p would be 0."""
    model = model_of(TARGETS["two classes"])
    low, high = np.sort(model.probabilities(np.array([[score]]))[0])
    expected = np.exp(-abs(score)) / (1 + np.exp(-abs(score)))
    assert low == pytest.approx(expected, rel=1e-12, abs=5e-324)
    assert high == pytest.approx(1 - expected)


def test_a_score_of_zero_is_the_first_class():
    """A tie goes to the first class, as with argmax."""
    model = model_of(TARGETS["two classes"])
    assert model.predict_scores(np.array([[0.0]]))[0] == model.target.classes[0]


def test_one_column_of_numbers_comes_flat():
    """Predicted numbers are (rows,) for one output and (rows, k) for k, in the target's units."""
    one, two = model_of(TARGETS["numbers"]), model_of(TARGETS["two numbers"])
    assert one.predict_scores(one.scores(X)).shape == (60,)
    assert two.predict_scores(two.scores(X)).shape == (60, 2)
    mean = TARGETS["numbers"].mean()
    one.parameters[:] = 0.0
    np.testing.assert_allclose(one.predict_scores(one.scores(X)), mean, rtol=1e-12)


def test_numbers_have_no_probabilities():
    """Asking a regression for probabilities is refused."""
    model = model_of(TARGETS["numbers"])
    with pytest.raises(InputError, match="probabilities"):
        model.probabilities(model.scores(X))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_model_is_the_same(name, dtype, tmp_path):
    """Loaded from its file, a model has equal scores to the last bit, and its history and summary."""
    model = model_of(TARGETS[name], dtype=dtype)
    model.summary = {"alpha": 0.1, "note": "</script>"}
    model.history.append(dict.fromkeys(model.history.columns, 1.0))
    model.history.stopped = "epochs"
    again = load_model(model.save(tmp_path / "m.descend"))
    assert again.parameters.dtype == dtype
    np.testing.assert_array_equal(again.scores(X), model.scores(X))
    np.testing.assert_array_equal(
        again.predict_scores(again.scores(X)), model.predict_scores(model.scores(X))
    )
    assert again.summary == model.summary
    assert again.history.to_json() == model.history.to_json()
    assert (again.loss, again.target.classes) == (model.loss, model.target.classes)


def test_a_table_with_gaps_goes_by_name(tmp_path):
    """A model of a table takes the columns by name, in any order, and encodes texts and gaps the same."""
    import pandas as pd

    frame = pd.DataFrame({"n": [1.0, None, 3.0, 4.0] * 10, "t": ["x", "y", "x", None] * 10})
    prepared = prepare(table_source(frame, y=np.arange(40) % 3 > 0), validation=0.0)
    parameters = start(prepared.train, 1, spread=1.0).parameters
    model = LinearModel(prepared.features, prepared.target, parameters, "log_loss")
    again = load_model(model.save(tmp_path / "m.descend"))
    block = next(iter(table_source(frame).blocks())).columns
    turned = next(iter(table_source(frame[["t", "n"]]).blocks())).columns
    np.testing.assert_array_equal(model.scores(block), again.scores(turned))
    weights, _ = model.in_units()
    assert weights.shape == (1, len(prepared.features.names))


def test_another_kind_of_model_is_refused(tmp_path):
    """A model file of another kind is refused with its kind."""
    path = write_model(tmp_path / "m.descend", {"parameters": np.zeros((1, 2))}, {"kind": "forest"})
    with pytest.raises(ModelFileError, match="'forest'"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda arrays, header: arrays.pop("parameters"), "KeyError: 'parameters'"),
        (lambda arrays, header: arrays.update(parameters=np.zeros((1, 2))), "parameters are"),
        (lambda arrays, header: header.pop("target"), "KeyError: 'target'"),
        (lambda arrays, header: header["target"].pop("scale"), "the stored target is damaged"),
        (lambda arrays, header: header.update(history=3), "AttributeError"),
    ],
)
def test_parts_that_do_not_fit_are_a_damaged_model(change, told, tmp_path):
    """A file with a right checksum whose parts are missing or do not fit is refused by its name."""
    path = model_of(TARGETS["numbers"]).save(tmp_path / "m.descend")
    arrays, header = read_model(path)
    change(arrays, header)
    write_model(path, arrays, header, force=True)
    with pytest.raises(ModelFileError, match=rf"m.descend' does not fit together \(.*({told})"):
        load_model(path)


def test_an_existing_file_stays(tmp_path):
    """Saving over an existing file is refused unless forced."""
    model = model_of(TARGETS["numbers"])
    path = model.save(tmp_path / "m.descend")
    before = path.read_bytes()
    model.parameters[:] = 0.0
    with pytest.raises(InputError, match="exists"):
        model.save(path)
    assert path.read_bytes() == before
    model.save(path, force=True)
    assert path.read_bytes() != before
