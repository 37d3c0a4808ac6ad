"""Losses: hand values, derivatives against finite differences, and no overflow however far the scores go."""

import math
import warnings
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import fourth_order

from descend.errors import InputError
from descend.objectives import losses
from descend.objectives.losses import LOG_LOSS, SOFTMAX, SQUARED_ERROR, find_loss

getcontext().prec = 60
SCORES = [-700.0, -40.0, -5.0, -0.7, -1e-9, 0.0, 1e-9, 0.3, 2.0, 36.0, 700.0]


def exact_log_loss(score: float, target: int) -> float:
    """log(1 + exp(∓score)) with 60 digits."""
    s = Decimal(score)
    return float((1 + (s if target == 0 else -s).exp()).ln())


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("score", SCORES)
def test_log_loss_has_the_exact_value(score, target):
    """Log loss equals log(1 + e^∓s) computed with 60 digits, from −700 to 700."""
    assert losses.log_loss(score, float(target)) == pytest.approx(
        exact_log_loss(score, target), rel=4e-16, abs=2e-16 * max(1, abs(score))
    )


@pytest.mark.parametrize("score", SCORES)
def test_sigmoid_has_the_exact_value(score):
    """Sigmoid is right to rounding also where it is as small as e⁻⁷⁰⁰."""
    exact = 1 / (1 + (-Decimal(score)).exp())
    assert float(losses.sigmoid(score)) == pytest.approx(float(exact), rel=5e-16)
    derivative = losses.log_loss_derivative(score, 1.0)
    assert derivative == pytest.approx(float(exact - 1), rel=1e-12, abs=3e-16)


def test_hand_values():
    """Values worked out by hand come out: ½·2², log 2, log 3 and their derivatives."""
    assert losses.squared_error(3.0, 1.0) == 2.0
    assert losses.squared_error_derivative(3.0, 1.0) == 2.0
    assert losses.log_loss(0.0, 1.0) == pytest.approx(math.log(2))
    assert losses.log_loss_derivative(0.0, 1.0) == -0.5
    assert losses.log_loss_derivative(0.0, 0.0) == 0.5
    assert losses.log_loss(math.log(3), 0.0) == pytest.approx(math.log(4))
    assert losses.softmax_value(np.zeros(3), 2) == pytest.approx(math.log(3))
    scores = np.log([1.0, 2.0, 5.0])
    assert losses.softmax_value(scores, 1) == pytest.approx(math.log(4))
    derivatives = losses.row_derivatives(SOFTMAX, scores[None], np.array([[1.0]]))
    np.testing.assert_allclose(derivatives, [[0.125, -0.75, 0.625]], rtol=1e-15)


@pytest.mark.parametrize("code", [SQUARED_ERROR, LOG_LOSS])
@given(score=st.floats(-30, 30), target=st.sampled_from([0.0, 1.0]))
def test_derivative_is_that_of_the_value(code, score, target):
    """The derivative equals a fourth-order finite difference of the value at any score."""
    difference = fourth_order(lambda s: float(losses.value(code, s[0], target)), np.array([score]))[0]
    assert losses.derivative(code, score, target) == pytest.approx(difference, rel=1e-8, abs=1e-10)


@given(
    scores=st.lists(st.floats(-30, 30), min_size=2, max_size=6),
    target=st.integers(0, 5),
)
def test_softmax_derivative_is_that_of_its_value(scores, target):
    """Softmax's derivative equals a fourth-order finite difference in every score of the row."""
    row, target = np.array(scores), target % len(scores)
    difference = fourth_order(lambda s: losses.softmax_value(s, target), row)
    derivatives = losses.row_derivatives(SOFTMAX, row[None], np.array([[float(target)]]))
    np.testing.assert_allclose(derivatives[0], difference, rtol=1e-8, atol=1e-9)


@given(
    st.lists(st.lists(st.floats(-700, 700), min_size=4, max_size=4), min_size=1, max_size=5),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
def test_softmax_by_row_and_by_array_agree(rows, classes):
    """The form that walks a row and the one for whole arrays give the same losses."""
    scores, codes = np.array(rows), classes[: len(rows)]
    y = np.array(codes, dtype=float)[:, None]
    for row, code, expected in zip(scores, codes, losses.row_losses(SOFTMAX, scores, y), strict=True):
        assert losses.softmax_value(row, code) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.floats(-700, 700))
def test_two_class_softmax_is_log_loss(score):
    """Softmax of the scores (0, s) has the log loss of s."""
    row = np.array([0.0, score])
    assert losses.softmax_value(row, 1) == pytest.approx(losses.log_loss(score, 1.0), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("code", [SQUARED_ERROR, LOG_LOSS, SOFTMAX])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 700.0, 1e4])
def test_no_score_overflows(code, dtype, scale):
    """Far-off scores give finite losses and derivatives, without a floating-point warning."""
    scores = (scale * np.array([[-1.0, 1.0, 0.5], [1.0, -1.0, 0.0]])).astype(dtype)
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        for target in (0.0, 1.0):
            y = np.full((2, 1), target, dtype=dtype)
            assert np.isfinite(losses.row_derivatives(code, scores, y)).all()
            assert np.isfinite(losses.row_losses(code, scores, y)).all()
            if code == SOFTMAX:
                assert all(np.isfinite(losses.softmax_value(row, int(target))) for row in scores)


@pytest.mark.parametrize("code", [SQUARED_ERROR, LOG_LOSS])
def test_a_row_with_several_scores_adds_them_up(code):
    """The loss of a row with k scores is the sum of the k losses."""
    rng = np.random.default_rng(0)
    scores, y = rng.normal(size=(6, 3)), rng.integers(0, 2, size=(6, 3)).astype(float)
    each = [losses.row_losses(code, scores[:, [c]], y[:, [c]]) for c in range(3)]
    np.testing.assert_allclose(losses.row_losses(code, scores, y), sum(each), rtol=1e-14)


@pytest.mark.parametrize("code", [SQUARED_ERROR, LOG_LOSS, SOFTMAX])
def test_curvature_bounds_the_second_derivative(code):
    """No direction bends a loss more than ``curvature`` says, and some point comes within 1 % of it."""
    loss = (
        losses.SOFTMAX_LOSS if code == SOFTMAX else next(x for x in losses.LOSSES.values() if x.code == code)
    )
    steepest = 0.0
    for score in np.linspace(-6, 6, 121):
        row = np.array([score, 0.0, -50.0]) if code == SOFTMAX else np.array([score])
        h, hessian = 1e-5, np.zeros((len(row), len(row)))
        for i in range(len(row)):
            up, down = row.copy(), row.copy()
            up[i] += h
            down[i] -= h
            y = np.zeros((1, 1))
            above = losses.row_derivatives(code, up[None], y)[0]
            hessian[i] = (above - losses.row_derivatives(code, down[None], y)[0]) / (2 * h)
        steepest = max(steepest, float(np.linalg.eigvalsh(0.5 * (hessian + hessian.T)).max()))
    assert 0.99 * loss.curvature <= steepest <= loss.curvature * (1 + 1e-6)


@pytest.mark.parametrize(
    ("name", "task", "outputs", "code"),
    [
        (None, "classification", 1, LOG_LOSS),
        (None, "classification", 3, SOFTMAX),
        ("log_loss", "classification", 4, SOFTMAX),
        (None, "regression", 1, SQUARED_ERROR),
        ("squared_error", "regression", 2, SQUARED_ERROR),
    ],
)
def test_find_loss_takes_the_tasks_own(name, task, outputs, code):
    """No name means the task's own loss, and three scores turn log loss into softmax."""
    assert find_loss(name, task, outputs).code == code


@pytest.mark.parametrize(
    ("name", "task", "told"),
    [
        ("squared", "regression", "squared_error"),
        ("squared_error", "classification", "log_loss"),
        ("log_loss", "regression", "squared_error"),
        ("\x1b[31m", "regression", r"\\x1b"),
    ],
)
def test_find_loss_refuses_what_does_not_fit(name, task, told):
    """An unknown loss, or one of the other task, is refused with those that fit."""
    with pytest.raises(InputError, match=told) as caught:
        find_loss(name, task, 1)
    assert "\x1b" not in str(caught.value)
