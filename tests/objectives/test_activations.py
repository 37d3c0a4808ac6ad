"""Activations: hand values, slopes by finite differences, and the kernels' own loops."""

import numpy as np
import pytest

from descend.engines.compiled import kernel
from descend.engines.fast_math import normal_share, tangent
from descend.errors import InputError
from descend.objectives.activations import ACTIVATIONS, activate, find_activation, slope_of


@kernel
def write_fast(z, out, shares):
    for i in range(z.size):
        out[i] = tangent(z[i])
        shares[i] = normal_share(z[i])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_finite_differences(name):
    """The slope at any score away from a corner is the difference of the values around it."""
    code = ACTIVATIONS[name].code
    z = np.linspace(-6, 6, 101) + 0.013
    found = slope_of(code, z, activate(code, z))
    np.testing.assert_allclose(found, (activate(code, z + 1e-6) - activate(code, z - 1e-6)) / 2e-6, atol=1e-8)


def test_hand_values():
    """relu(2) = 2, tanh(1) = 0.76159, logistic(0) = ½, gelu(-1) = -0.15866, identity(3) = 3; none overflows."""
    values = {
        "relu": (2, 2),
        "tanh": (1, 0.7615942),
        "logistic": (0, 0.5),
        "gelu": (-1, -0.1586553),
        "identity": (3, 3),
    }
    for name, (z, expected) in values.items():
        assert activate(ACTIVATIONS[name].code, np.array([float(z)]))[0] == pytest.approx(expected, abs=1e-7)
        assert np.isfinite(activate(ACTIVATIONS[name].code, np.array([-1e4, 1e4]))).all()


def test_kernels_functions_are_right_to_float32():
    """Tangent and normal share inside kernels are within 3e-7 of the library's in float32, 1e-15 in float64."""
    z = np.concatenate([np.linspace(-12, 12, 4001), [-80.0, 80.0]])
    expected = np.tanh(z), activate(ACTIVATIONS["gelu"].code, np.where(z == 0, 1, z)) / np.where(z == 0, 1, z)
    for dtype, error in ((np.float32, 3e-7), (np.float64, 1e-15)):
        out, shares = np.empty(z.size, dtype=dtype), np.empty(z.size, dtype=dtype)
        write_fast(z.astype(dtype), out, shares)
        exact = np.tanh(z.astype(dtype).astype(np.float64))
        np.testing.assert_allclose(out, exact, rtol=0, atol=error)
        keep = z != 0
        np.testing.assert_allclose(
            shares[keep], expected[1][keep], rtol=0, atol=2 * error + 1e-7 * (dtype == np.float32)
        )


def test_an_unknown_activation_is_named():
    """What is not known is refused with what is."""
    with pytest.raises(InputError, match="did you mean 'tanh'"):
        find_activation("tahn")
