"""scikit-learn's own checks, with no expected failure."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from descend import LinearClassifier, LinearRegressor


@parametrize_with_checks([LinearClassifier(), LinearRegressor()])
def test_scikit_learn_checks_pass(estimator, check):
    """Every check that scikit-learn makes of an estimator passes."""
    if check.func.__name__ == "check_array_api_input":  # scikit-learn skips it without SCIPY_ARRAY_API=1
        pytest.skip("needs SCIPY_ARRAY_API=1, set before SciPy is imported")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.mark.parametrize("batch_size", [1, 32, "full"])
@pytest.mark.parametrize("rate", ["auto", 1e-12, 1e-6, 1e-2, 1.0, 1e10, 1e300])
def test_unscaled_columns_never_end_in_silence(rate, batch_size):
    """Raw breast_cancer ends in finite numbers near the best seen, or is diagnosed with a column's name."""
    X, y = load_breast_cancer(return_X_y=True)
    model = LinearClassifier(
        standardize=False, learning_rate=rate, batch_size=batch_size, epochs=20, random_state=0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.predict_proba(X)).all()
    assert np.abs(model.coef_).max() < 1e6
    told = " ".join(str(w.message) for w in caught)
    assert all(issubclass(w.category, ConvergenceWarning) for w in caught), told
    loss = model.history_.last["loss"]
    assert loss < 0.2 or "column 'x" in told, (loss, told)
