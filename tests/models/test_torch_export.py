"""``to_torch``: a trained model as a PyTorch module."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from descend import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from descend.cli import run
from descend.errors import InputError
from descend.models.loading import load_model

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, [1.0, 100.0, 1e-3, 5.0], (300, 4))
SIGNAL = (X - 3.0) / [1.0, 100.0, 1e-3, 5.0]
TWO = SIGNAL[:, 0] + SIGNAL[:, 1] > 0
THREE = np.digitize(SIGNAL[:, 0] - SIGNAL[:, 2], [-0.7, 0.7])
NUMBERS = 1e4 + 50.0 * (SIGNAL @ np.arange(4.0))


def scores_of(module: Any, rows: NDArray[Any]) -> NDArray[Any]:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(rows)))


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (LinearClassifier(epochs=5), TWO),
        (LinearClassifier(epochs=5), THREE),
        (LinearClassifier(loss="hinge", epochs=5, standardize=False, learning_rate=1e-5), TWO),
        (LinearRegressor(), NUMBERS),
        (LinearRegressor(), np.column_stack([NUMBERS, -NUMBERS])),
        (LinearRegressor(loss="poisson"), np.rint(np.exp(SIGNAL[:, 0]))),
        (MLPClassifier(epochs=5), TWO),
        (MLPClassifier((8, 5), "tanh", epochs=5), THREE),
        (MLPClassifier((8,), "logistic", epochs=5), np.column_stack([TWO, ~TWO]).astype(int)),
        (MLPRegressor((8,), "gelu", epochs=5), NUMBERS),
        (MLPRegressor((), "identity", epochs=5), NUMBERS),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_module_gives_the_same_scores(estimator: Any, y: NDArray[Any], dtype: Any) -> None:
    """The module's scores of the raw rows are the model's own, to rounding, in either precision."""
    pytest.importorskip("torch")
    rows = X.astype(dtype)
    estimator.fit(rows, y)
    expected = estimator.model_.scores(rows)
    found = scores_of(estimator.to_torch(), rows)
    assert found.shape == expected.shape
    assert found.dtype == estimator.model_.parameters.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-6 if dtype == np.float32 else 1e-12, atol=1e-5)


def test_gaps_are_filled_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a table has gaps, ``nan`` in the module's rows is filled and told as the model does it."""
    pytest.importorskip("torch")
    rows = X.copy()
    rows[RNG.random(rows.shape) < 0.2] = np.nan
    names = ["a", "b", "c", "d"]
    table = pa.table(dict(zip(names, rows.T, strict=True))).append_column("y", pa.array(NUMBERS))
    # Parquet keeps nan and null apart; both are missing to descend.
    pq.write_table(table, tmp_path / "rows.parquet")
    monkeypatch.chdir(tmp_path)
    assert run(["fit", "rows.parquet", "--target", "y", "--quiet"]) == 0
    model = load_model("rows.descend")
    expected = model.scores(pa.RecordBatch.from_arrays(list(rows.T), names))
    assert model.features.tells_missing
    np.testing.assert_allclose(scores_of(model.to_torch(), rows), expected, rtol=1e-5)


def test_sparse_rows_may_be_given_dense() -> None:
    """A model of sparse rows takes the same rows dense."""
    pytest.importorskip("torch")
    rows = np.where(RNG.random(X.shape) < 0.3, X, 0.0)
    model = LinearClassifier(epochs=3).fit(csr_array(rows), TWO)
    expected = model.model_.scores(csr_array(rows))
    np.testing.assert_allclose(scores_of(model.to_torch(), rows), expected, rtol=1e-9, atol=1e-9)


def test_texts_are_refused_by_name_and_encoded_rows_taken() -> None:
    """A module takes no texts: the column is named, and ``encoded=True`` takes what ``encode`` makes of the rows."""
    pytest.importorskip("torch")
    rows = pa.RecordBatch.from_pydict({"size": X[:, 0], "town": ["here", "there", "nowhere"] * 100})
    model = LinearClassifier(epochs=3).fit(rows, TWO)
    with pytest.raises(InputError, match=r"column 'town' is no number.*encoded=True"):
        model.to_torch()
    encoded = model.model_.features.encode(rows, dtype=model.model_.parameters.dtype)
    found = scores_of(model.to_torch(encoded=True), encoded)
    np.testing.assert_allclose(found, model.model_.scores(rows), rtol=1e-6)


def test_another_number_of_columns_is_refused() -> None:
    """Rows of another width are refused with both widths, not indexed wrongly."""
    pytest.importorskip("torch")
    module = LinearRegressor().fit(X, NUMBERS).to_torch()
    with pytest.raises(ValueError, match=r"shape \(300, 5\); \(rows, 4\) is needed"):
        scores_of(module, np.column_stack([X, X[:, 0]]))


def test_float_makes_every_number_small() -> None:
    """``module.float()`` leaves no float64 for devices that have none, and the scores within its rounding."""
    pytest.importorskip("torch")
    model = MLPRegressor((8,), epochs=3).fit(X, NUMBERS)
    module = model.to_torch().float()
    found = scores_of(module, X.astype(np.float32))
    assert found.dtype == np.float32
    assert not [name for name, value in module.state_dict().items() if "float64" in str(value.dtype)]
    np.testing.assert_allclose(found, model.model_.scores(X), rtol=1e-4)


def test_without_pytorch_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyTorch the message names the extra to install."""
    model = LinearRegressor().fit(X, NUMBERS)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "descend.models.torch_export", raising=False)
    with pytest.raises(InputError, match=r"descend\[torch\]"):
        model.to_torch()


def test_the_module_is_a_copy() -> None:
    """Training the module on leaves the estimator as it is."""
    torch = pytest.importorskip("torch")
    model = MLPClassifier((8,), epochs=2).fit(X, TWO)
    before = model.model_.parameters.copy()
    module = model.to_torch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert (model.model_.parameters == before).all()
