"""Every public score gives, for values of any type, what it gives for the same values as float64."""

from __future__ import annotations

from functools import partial

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from convcast.errors import SettingsError
from convcast.metrics import kernels, xarray_api
from convcast.metrics.scores.fractions import fraction_sums
from convcast.metrics.spatial import Scales
from convcast.metrics.sums import score_field
from convcast.variables import REFC

TYPES = ["?", "i1", "u1", "<i2", ">i2", "u2", "i4", ">i4", "i8", "f2", ">f2", ">f4", "<f4", ">f8", "g"]
SCORES = {
    "crps": xarray_api.crps_ensemble,
    "crps, ensemble": partial(xarray_api.crps_ensemble, estimator="ensemble"),
    "spread/error": xarray_api.spread_error_ratio,
    "spread-error correlation": xarray_api.spread_error_correlation,
    "brier": partial(xarray_api.brier_score, threshold=20.5),
    "brier, below": partial(xarray_api.brier_score, threshold=20.5, fair=False, events_below=True),
    "ranks": xarray_api.rank_histogram,
    "reliability": partial(xarray_api.reliability, threshold=20.5),
    "roc": partial(xarray_api.roc_area, threshold=20.5),
    "fss": partial(xarray_api.fractions_skill_score, threshold=20.5, width=3),
    "energy": xarray_api.energy_score,
    "energy, ensemble": partial(xarray_api.energy_score, estimator="ensemble"),
}
CASES, MEMBERS, NY, NX = 2, 5, 8, 9


def drawn(dtype, seed=0):
    """Observations (time, y, x) and forecasts (number, time, y, x) over much of what the type holds, ties included."""
    generator = np.random.default_rng(seed)
    shapes = (CASES, NY, NX), (MEMBERS, CASES, NY, NX)
    if np.dtype(dtype).kind == "b":
        return [generator.random(shape) < 0.5 for shape in shapes]
    low, high = (0, 250) if np.dtype(dtype).kind == "u" else (-120, 120)
    return [generator.integers(low, high, shape).astype(dtype) for shape in shapes]


def arrays(observed, members):
    return xr.DataArray(observed, dims=("time", "y", "x")), xr.DataArray(members, dims=("number", "time", "y", "x"))


@pytest.fixture(params=SCORES.values(), ids=SCORES.keys())
def score(request):
    return request.param


@pytest.mark.parametrize("dtype", TYPES)
def test_scores_are_those_of_the_same_values_as_float64(score, dtype):
    if np.dtype(dtype).kind == "b" and "threshold" in getattr(score, "keywords", {}):
        score = partial(score, threshold=0.5)
    observed, members = drawn(dtype)
    expected = score(*arrays(observed.astype(float), members.astype(float)))
    xr.testing.assert_allclose(expected, score(*arrays(observed, members)), rtol=1e-6)
    xr.testing.assert_allclose(expected, score(*arrays(observed.astype(float), members)), rtol=1e-6)
    xr.testing.assert_allclose(expected, score(*arrays(observed, members.astype(float))), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "f2", ">f4"])
def test_layout_in_memory_and_dask_change_nothing(score, dtype):
    observed, members = drawn(dtype)
    expected = score(*arrays(observed.astype(float), members.astype(float)))
    wide = np.zeros((MEMBERS, CASES, NY, 3 * NX), dtype)
    wide[..., ::3] = members
    turned = np.asfortranarray(observed)[:, ::-1]
    xr.testing.assert_allclose(expected, score(*arrays(turned[:, ::-1], wide[..., ::3])), rtol=1e-6)
    one, many = arrays(observed, members)
    lazy = score(one.chunk(time=1, y=4), many.chunk(number=2, x=5))
    xr.testing.assert_allclose(expected, lazy.compute(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
@pytest.mark.parametrize("lazy", [False, True])
def test_masked_points_are_missing(score, dtype, lazy):
    observed, members = drawn(dtype)
    hidden, lost = np.zeros(observed.shape, bool), np.zeros(members.shape, bool)
    hidden[:, 2, 3] = lost[1, 0, 4, 4] = True
    expected = score(
        *arrays(np.where(hidden, np.nan, observed.astype(float)), np.where(lost, np.nan, members.astype(float)))
    )
    pair = np.ma.array(observed, mask=hidden), np.ma.array(members, mask=lost)
    if lazy:
        pair = tuple(da.from_array(one, chunks=4, asarray=False) for one in pair)
    xr.testing.assert_allclose(expected, score(*arrays(*pair)).compute(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["c8", "O", "M8[h]", "m8[h]", "U3"])
@pytest.mark.parametrize("which", ["observations", "forecasts"])
def test_types_other_than_numbers_are_refused(score, dtype, which):
    pair = dict(zip(("observations", "forecasts"), arrays(*drawn("i4")), strict=True))
    pair[which] = pair[which].copy(data=np.zeros(pair[which].shape).astype("i8").astype(dtype))
    with pytest.raises(SettingsError, match="cannot be scored"):
        score(pair["observations"], pair["forecasts"])


def test_arrays_without_names_are_refused(score):
    with pytest.raises(SettingsError, match="the forecasts are ndarray"):
        score(arrays(*drawn("f4"))[0], drawn("f4")[1])


@pytest.mark.parametrize("dtype", TYPES[1:])
def test_kernels_convert_what_they_are_given(dtype):
    observed, members = (array.reshape(*array.shape[:-3], -1) for array in drawn(dtype))
    exact = observed.astype(float), members.astype(float)
    for name in ("absolute", "pairs", "error", "variance", "below", "equal"):
        found, expected = (getattr(kernels.score_points(f, o), name) for o, f in ((observed, members), exact))
        np.testing.assert_allclose(found, expected, err_msg=name)
    np.testing.assert_allclose(
        kernels.crps_points(members, observed, "fair"), kernels.crps_points(*exact[::-1], "fair")
    )
    np.testing.assert_array_equal(kernels.exceedances(members, 20.5), (exact[1] >= 20.5).sum(0))
    assert kernels.present_points(members, observed).all()


@pytest.mark.parametrize("dtype", TYPES[1:])
def test_statistics_of_fields_convert_what_they_are_given(dtype):
    scales = Scales((1, 3), periodic=False)
    observed, members = (array[..., 0, :, :] for array in drawn(dtype))
    found = score_field(members, observed, REFC, scales=scales)
    expected = score_field(members.astype(float), observed.astype(float), REFC, scales=scales)
    for name, total in expected.sums.items():
        np.testing.assert_allclose(found.sums[name], total)
    np.testing.assert_array_equal(found.tables, expected.tables)
    np.testing.assert_allclose(found.whole_fields["energy"], expected.whole_fields["energy"], rtol=1e-6)
    np.testing.assert_allclose(found.whole_fields["power"], expected.whole_fields["power"], rtol=1e-5)
    np.testing.assert_array_equal(found.whole_fields["fractions"], expected.whole_fields["fractions"])
    np.testing.assert_array_equal(found.whole_fields["near"], expected.whole_fields["near"])
    there = np.ones(observed.shape, bool)
    sums = fraction_sums(members, observed, there, (20.5,), scales)
    np.testing.assert_array_equal(
        sums, fraction_sums(members.astype(float), observed.astype(float), there, (20.5,), scales)
    )


@pytest.mark.parametrize("threshold", [273.15, np.float64(273.15), np.float32(273.15)])
def test_a_threshold_is_reached_by_the_value_that_is_stored_for_it(threshold):
    stored = np.full((2, 3), 273.15, np.float32)
    assert kernels.happens(stored, threshold).all()
    np.testing.assert_array_equal(kernels.exceedances(stored, threshold), [2, 2, 2])
    observed, members = xr.DataArray(stored[0], dims="x"), xr.DataArray(stored, dims=("number", "x"))
    assert float(xarray_api.brier_score(observed, members, threshold)) == 0
    assert float(xarray_api.brier_score(observed, members.astype(float) + 1, threshold)) == 0
