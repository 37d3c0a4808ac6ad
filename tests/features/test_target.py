"""The target: the task it speaks for, codes and scales, and the values that are refused."""

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.errors import ColumnError, InputError, ModelFileError
from descend.features import Target, TargetStatistics
from descend.features.statistics_json import dump_target_statistics, load_target_statistics
from descend.features.target_statistics import MAX_NUMBERS
from descend.features.target_values import coded, labels_of


def learn(values, task=None, standardize=True):
    stats = TargetStatistics("pay")
    stats.update(values if isinstance(values, np.ndarray | pa.Array) else np.asarray(values))
    return Target.from_statistics(stats, task, standardize)


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (np.array(["u", "v"] * 10), "classification", ("u", "v")),
        (np.array(["u", "v"] * 10, dtype=object), "classification", ("u", "v")),
        (pa.array(["u", "v"] * 10), "classification", ("u", "v")),
        (pa.array(["u", "v"] * 10).dictionary_encode(), "classification", ("u", "v")),
        (pa.array([True, False] * 10), "classification", (False, True)),
        (np.arange(100) % 30, "classification", tuple(range(30))),
        (np.arange(100) % 31, "regression", ()),
        (np.arange(100) % 10 * 1.0, "classification", tuple(float(i) for i in range(10))),
        (np.arange(100) % 11 * 1.0, "regression", ()),
        (np.array([-1, 1] * 10), "classification", (-1, 1)),
        (np.array([0.5, 1.5] * 10), "regression", ()),
        (np.arange(20), "regression", ()),
        (np.random.default_rng(0).normal(size=20_000), "regression", ()),
        (np.ones((20, 2)) * np.arange(20)[:, None], "regression", ()),
    ],
)
def test_the_task_is_told_from_the_values(values, task, classes):
    """Texts, booleans and few whole numbers that come back are classes; other numbers are quantities."""
    target = learn(values)
    assert target.task == task
    assert target.classes == classes
    assert [type(c) for c in target.classes] == [type(c) for c in classes]
    assert target.reason.endswith(f": {task}")


def test_outputs():
    """Two classes have one output, more have one each, and numbers one a column."""
    assert learn(["u", "v"]).num_outputs == 1
    assert learn(["u", "v", "w"]).num_outputs == 3
    assert learn(np.random.default_rng(0).normal(size=(20, 4))).num_outputs == 4


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.arange(400) % 2, np.int8),
        ([f"{i:03}" for i in range(128)] * 3, np.int8),
        ([f"{i:03}" for i in range(129)] * 3, np.int16),
        (np.arange(2000) % 1000, np.int16),
        (np.arange(400) % 129 * 1.0, np.int16),
    ],
)
def test_codes_are_the_smallest_integers_that_hold_them(values, dtype):
    """A byte each for up to 128 classes; every code and the −1 of a label that is none come out whole."""
    target = learn(values, "classification")
    codes = target.encode(np.asarray(values))
    assert codes.dtype == dtype
    assert set(codes[:, 0].tolist()) == set(range(len(target.classes)))
    assert target.decode(codes[:, 0]).tolist() == np.asarray(values).tolist()
    stranger = "no class" if isinstance(target.classes[0], str) else 5000
    assert target.encode(np.array([stranger]), unknown="mark").tolist() == [[-1]]


def test_a_given_task_is_obeyed():
    """Whole numbers are a quantity, and a float is a class, where asked."""
    assert learn([0, 1] * 10, "regression").task == "regression"
    assert learn([0.5, 1.5] * 10, "classification").classes == (0.5, 1.5)
    with pytest.raises(InputError, match="task 'clustering' is not known"):
        learn([0, 1], "clustering")


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (["u", "v"], "regression", "holds text such as 'u'"),
        (np.random.default_rng(0).normal(size=2000), "classification", "2,000 distinct values"),
        (np.random.default_rng(0).normal(size=20_000), "classification", "more than 10,000"),
        (np.ones((5, 2)), "classification", "2 columns"),
        (["u"] * 5, None, "one class only, 'u'"),
        ([1] * 5, None, "one class|1 distinct"),
        ([1.0, np.nan], None, "holds nan in row 2"),
        ([1.0, 2.0, -np.inf], None, "holds -inf in row 3"),
        ([[1.0, 2.0], [np.inf, 1.0]], None, "holds inf in row 2"),
        (pa.array([dt.date(2024, 1, 1)]), None, "date32.* numbers, text or booleans"),
        (np.array(["u", None], dtype=object), None, "no value in row 2"),
        (np.array(["u", 1], dtype=object), None, "mixes values of types int, str"),
        ([str(i * 0.5) for i in range(100)] + ["huh"], None, "'huh' in row 101"),
        ([f"person {i}" for i in range(100)], None, "nearly every row would be a class"),
    ],
)
def test_targets_that_cannot_be_learned_are_refused(values, task, message):
    """Each is refused by name, with the value or count that is wrong."""
    with pytest.raises(ColumnError, match=f"'pay'.*({message})"):
        learn(values, task)


@pytest.mark.parametrize("weight", [1e-6, 1.0])
def test_words_among_numbers_are_classes_whatever_rows_weigh(weight):
    """A word that comes back often is a class, and one that comes once a mistake, if weights add up to 1 too."""
    grades = ["0", "1", "2", "3+"] * 10 + ["0"] * 400

    def told(labels):
        stats = TargetStatistics("pay")
        stats.update(np.array(labels), np.full(len(labels), weight))
        stats.merge(stats_of_held_out, weight=0.0)
        return Target.from_statistics(load_target_statistics(dump_target_statistics(stats))).classes

    stats_of_held_out = TargetStatistics("pay")
    stats_of_held_out.update(np.array(["0"] * 50))
    assert told(grades) == ("0", "1", "2", "3+")
    with pytest.raises(ColumnError, match="'huh' in row 441"):
        told([*("0" if label == "3+" else label for label in grades), "huh"])


@pytest.mark.parametrize("values", [np.array(["v", "u", "w"]), pa.array(["v", "u", "w"])])
def test_labels_become_codes_and_come_back(values):
    """Codes count the sorted classes, and decode gives the labels."""
    target = learn(values)
    codes = target.encode(values)
    assert codes.tolist() == [[1.0], [0.0], [2.0]]
    assert target.decode(codes[:, 0]).tolist() == ["v", "u", "w"]


def test_labels_are_found_whatever_their_type():
    """Classes 0 and 1 are found as integers, floats, booleans or text."""
    target = learn([0, 1] * 10)
    for values in (np.array([1, 0]), np.array([1.0, 0.0]), np.array([True, False]), np.array(["1", "0"])):
        assert target.encode(values).tolist() == [[1.0], [0.0]]
    assert learn(np.array(["0", "1"])).encode(np.array([1, 0])).tolist() == [[1.0], [0.0]]


@given(st.lists(st.text(st.characters(codec=None), max_size=3), min_size=1, max_size=40))
def test_texts_are_told_apart_as_sorting_them_would(texts):
    """In the same order, whatever their characters, with each one's place."""
    values = np.array(texts, dtype=object)
    labels, codes = coded(values)
    expected, places = np.unique(values, return_inverse=True)
    assert labels.tolist() == labels_of(values).tolist() == expected.tolist()
    assert codes.tolist() == places.tolist()


def test_unknown_labels_are_named_or_marked():
    """A label that is no class is refused by name, or marked with −1 where asked."""
    target = learn(["u", "v"])
    with pytest.raises(ColumnError, match="'zz', which is none of the model's classes: u, v"):
        target.encode(np.array(["u", "zz"]))
    assert target.encode(np.array(["u", "zz"]), unknown="mark").tolist() == [[0.0], [-1.0]]


@pytest.mark.parametrize("shape", [(200,), (200, 3)])
def test_numbers_are_scaled_and_come_back(shape):
    """Numbers have mean 0 by column and spread 1 over all, by one scale, and decode undoes it."""
    values = np.random.default_rng(0).normal(5, 3, size=shape)
    target = learn(values)
    codes = target.encode(values)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.mean(codes**2), 1)
    assert len(set(target.scale)) == 1
    np.testing.assert_allclose(target.decode(codes), values.reshape(200, -1))
    np.testing.assert_array_equal(learn(values, standardize=False).encode(values), values.reshape(200, -1))


@pytest.mark.parametrize("num_rows", [100, MAX_NUMBERS, MAX_NUMBERS + 1])
def test_a_block_of_numbers_is_sorted_once(num_rows, monkeypatch):
    """A block that can hold no more than the numbers told apart is counted at once; of a longer one a look may do."""
    sorts = []
    unique = np.unique
    monkeypatch.setattr(np, "unique", lambda *args, **how: sorts.append(1) or unique(*args, **how))
    record = TargetStatistics("y")
    record.update(np.arange(num_rows) + 0.5)
    assert len(sorts) == 1
    assert record.overflowed == (num_rows > MAX_NUMBERS)


def test_records_of_targets_merge():
    """Two records of disjoint rows give the same target as one of all."""
    values = np.random.default_rng(0).integers(0, 5, size=100)
    one, other = TargetStatistics("pay"), TargetStatistics("pay")
    one.update(values[:40])
    other.update(values[40:])
    one.merge(other)
    whole = TargetStatistics("pay")
    whole.update(values)
    assert one.counts == whole.counts
    np.testing.assert_allclose(one.moments.M2, whole.moments.M2)


@pytest.mark.parametrize("values", [["u", "v"], [0, 1] * 3, [True, False], [0.25, 1.5, 3.0]])
def test_json_keeps_the_target(values):
    """A target that went through JSON text is the same, its classes' types included."""
    target = learn(values)
    back = Target.from_json(json.loads(json.dumps(target.to_json(), allow_nan=False)))
    assert back.to_json() == target.to_json()
    assert [type(c) for c in back.classes] == [type(c) for c in target.classes]
    with pytest.raises(ModelFileError, match="damaged"):
        Target.from_json({})
