"""Optimizers: each against the textbook's sequence written out, for arrays and for single numbers."""

import numpy as np
import pytest

from descend.errors import InputError
from descend.updates import (
    ADAGRAD,
    ADAM,
    ADAMW,
    MOMENTUM,
    NESTEROV,
    OPTIMIZERS,
    RMSPROP,
    SGD,
    find_optimizer,
    reach,
    update,
)

CODES = [SGD, MOMENTUM, NESTEROV, ADAM, ADAMW, ADAGRAD, RMSPROP]

GRADIENTS = [[1.0, -2.0, 0.0], [0.5, 4.0, 0.0], [-3.0, 1e-6, 0.0], [0.25, 0.25, 7.0], [1.0, 1.0, 1.0]]
RATE, BETA1, BETA2 = 0.1, 0.8, 0.95


def textbook(code: int) -> list[list[float]]:
    """The parameters after each step, one coordinate at a time, as the papers write it (and PyTorch does)."""
    w, v, m, s, path = [1.0, -1.0, 2.0], [0.0] * 3, [0.0] * 3, [0.0] * 3, []
    for t, gradient in enumerate(GRADIENTS, start=1):
        for i, g in enumerate(gradient):
            if code == SGD:
                w[i] = w[i] - RATE * g
            elif code == MOMENTUM:
                v[i] = BETA1 * v[i] + g
                w[i] = w[i] - RATE * v[i]
            elif code == NESTEROV:
                v[i] = BETA1 * v[i] + g
                w[i] = w[i] - RATE * (g + BETA1 * v[i])
            elif code == ADAGRAD:
                s[i] = s[i] + g**2
                w[i] = w[i] - RATE * g / (s[i] ** 0.5 + 1e-10)
            elif code == RMSPROP:
                s[i] = 0.99 * s[i] + (1 - 0.99) * g**2
                w[i] = w[i] - RATE * g / (s[i] ** 0.5 + 1e-8)
            elif code in (ADAM, ADAMW):
                m[i] = BETA1 * m[i] + (1 - BETA1) * g
                s[i] = BETA2 * s[i] + (1 - BETA2) * g**2
                m_hat, s_hat = m[i] / (1 - BETA1**t), s[i] / (1 - BETA2**t)
                w[i] = w[i] - RATE * m_hat / (s_hat**0.5 + 1e-8)
        path.append(list(w))
    return path


def walk(code, w, gradients):
    first = second = w * 0.0
    path = []
    for t, g in enumerate(gradients, start=1):
        w, first, second = update(code, w, g, first, second, RATE, BETA1, BETA2, 1 - BETA1**t, 1 - BETA2**t)
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("code", CODES)
def test_five_steps_of_arrays_follow_the_textbook(code):
    """Five steps on an array are the papers' five steps."""
    path = walk(code, np.array([1.0, -1.0, 2.0]), np.array(GRADIENTS))
    np.testing.assert_allclose(path, textbook(code), rtol=1e-14)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("i", range(3))
def test_single_numbers_follow_it_too(code, i):
    """A single number moves as it does inside an array."""
    path = walk(code, (1.0, -1.0, 2.0)[i], [g[i] for g in GRADIENTS])
    np.testing.assert_allclose(path, np.array(textbook(code))[:, i], rtol=1e-14)


def test_the_first_step_of_adam_is_the_rate():
    """Adam's bias-corrected first step has length rate, whatever the gradient's."""
    for g in (1e-3, 1.0, 1e6):
        assert walk(ADAM, 0.0, [g])[0] == pytest.approx(-RATE, rel=2e-5)


def test_momentum_of_zero_is_plain_descent():
    """With β = 0 both momenta are plain gradient descent."""
    for code in (MOMENTUM, NESTEROV):
        assert update(code, 1.0, 0.5, 0.7, 0.0, 0.1, 0.0, 0.0, 1.0, 1.0)[0] == 0.95


def test_nesterov_looks_ahead_of_momentum():
    """Nesterov's iterate is momentum's, one velocity further: w_N = w_M − rate·β·v, from the same start."""
    w_m = w_n = 1.0
    v_m = v_n = 0.0
    for g in (0.5, -0.2, 0.3):
        w_m, v_m, _ = update(MOMENTUM, w_m, g, v_m, 0.0, 0.1, 0.9, 0.0, 1.0, 1.0)
        w_n, v_n, _ = update(NESTEROV, w_n, g, v_n, 0.0, 0.1, 0.9, 0.0, 1.0, 1.0)
        assert v_n == v_m
        assert w_n == pytest.approx(w_m - 0.1 * 0.9 * v_m)


@pytest.mark.parametrize("code", CODES)
def test_reach_is_where_a_steady_gradient_leads(code):
    """After many steps along the same gradient a step is ``reach`` times it."""
    w = first = second = 0.0
    for t in range(1, 3001):
        before = w
        w, first, second = update(code, w, 2.0, first, second, 0.1, 0.9, 0.99, 1 - 0.9**t, 1 - 0.99**t)
    assert before - w == pytest.approx(2.0 * reach(code, 0.1, second, 0.9, 1 - 0.99**t), rel=1e-6)


def test_inputs_are_not_overwritten():
    """A step returns new arrays and leaves those it was given as they were."""
    for code in CODES:
        arrays = [np.full(2, value) for value in (1.0, 0.5, 0.25, 0.125)]
        update(code, *arrays, 0.1, 0.9, 0.999, 0.1, 0.001)
        assert [a[0] for a in arrays] == [1.0, 0.5, 0.25, 0.125]


def test_the_registry_has_each_under_its_name_and_code():
    """Names, codes and formulas belong together: the update of a name is that of its module."""
    assert {name: o.code for name, o in OPTIMIZERS.items() if o.elementwise} == {
        "sgd": SGD,
        "momentum": MOMENTUM,
        "nesterov": NESTEROV,
        "adam": ADAM,
        "adagrad": ADAGRAD,
        "rmsprop": RMSPROP,
        "adamw": ADAMW,
    }
    assert {name for name, o in OPTIMIZERS.items() if not o.elementwise} == {"saga", "lbfgs", "newton"}
    assert [o.name for o in OPTIMIZERS.values()] == list(OPTIMIZERS)
    assert {n for n, o in OPTIMIZERS.items() if o.uses_momentum} == {"momentum", "nesterov"}
    assert {n for n, o in OPTIMIZERS.items() if o.scale_free} == {"adam", "adagrad", "rmsprop", "adamw"}


def test_unknown_optimizers_are_refused():
    """An unknown optimizer is refused with the known ones, and the near miss is pointed at."""
    with pytest.raises(InputError, match=r"optimizer 'nestrov'.*auto, sgd.*did you mean 'nesterov'"):
        find_optimizer("nestrov")
