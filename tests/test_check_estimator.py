"""scikit-learn's own checks, with no expected failure."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from descend import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor

VARIANTS = [
    LinearClassifier(loss="hinge"),
    LinearClassifier(loss="squared_hinge", batch_size="full"),
    LinearClassifier(loss="modified_huber", optimizer="newton"),
    LinearClassifier(standardize=False),
    LinearRegressor(loss="huber"),
    LinearRegressor(loss="epsilon_insensitive"),
    LinearRegressor(loss="quantile"),
    LinearRegressor(loss="poisson"),
    LinearRegressor(optimizer="lbfgs"),
    MLPClassifier(),
    MLPRegressor(),
]
"""One of each loss; what depends on a random order cannot be equal for a row twice and a row of weight 2."""


@parametrize_with_checks([LinearClassifier(), LinearRegressor(), *VARIANTS])
def test_scikit_learn_checks_pass(estimator, check):
    """Every check that scikit-learn makes of an estimator passes, for every loss."""
    if check.func.__name__ == "check_regressor_multioutput" and estimator.loss == "poisson":
        pytest.skip("draws targets below 0 and does not look at the tag positive_only")
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
