from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

from convcast import conventions
from convcast.grid import Grid
from convcast.variables import FIELDS, STATIC

GRID = Grid(5, 7, y0=300, x0=800)
INIT = np.datetime64("2024-05-06T21", "h")
MEMBERS, LEADS = (0, 1, 2), (1, 3)


def fields():
    rng = np.random.default_rng(0)
    shape = len(MEMBERS), len(LEADS), *GRID.shape
    return {name: (rng.integers(0, 80, shape) / v.scale + v.bounds[0]).astype(np.float32) for name, v in FIELDS.items()}


def ensemble(values=None):
    return conventions.ensemble_dataset(
        fields() if values is None else values,
        init=INIT,
        members=MEMBERS,
        leads=LEADS,
        grid=GRID,
        attributes={"title": "a test", "simulated": 1},
    )


@pytest.fixture
def opened(tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        ensemble().to_zarr(tmp_path / "e.zarr", zarr_format=3)
    with xr.open_zarr(tmp_path / "e.zarr") as dataset:
        yield dataset.load()


def test_every_field_has_the_cf_name_and_units_of_the_table(opened):
    expected = {n: (v.standard_name, v.long_name, v.units) for n, v in FIELDS.items()}

    actual = {n: tuple(a.attrs[k] for k in ("standard_name", "long_name", "units")) for n, a in opened.items()}

    assert expected == actual


def test_every_field_has_the_dimensions_of_the_contract(opened):
    assert {("init_time", "number", "lead_time", "y", "x")} == {a.dims for a in opened.values()}


def test_values_on_the_lattice_come_back_exactly_and_as_float32(opened):
    for name, values in fields().items():
        assert np.float32 == opened[name].dtype
        np.testing.assert_array_equal(values[None], opened[name])


def test_valid_time_is_init_plus_lead(opened):
    expected = np.array([["2024-05-06T22", "2024-05-07T00"]], "datetime64[ns]")

    np.testing.assert_array_equal(expected, opened.valid_time.values.astype("datetime64[ns]"))
    np.testing.assert_array_equal(np.array(LEADS, "timedelta64[h]"), opened.lead_time.values)
    assert opened.valid_time.attrs["standard_name"] == "time"


def test_times_are_stored_as_seconds_whatever_the_first_value_is():
    raw = xr.conventions.encode_cf_variable(ensemble().init_time.variable, name="init_time")

    assert raw.attrs["units"] == "seconds since 1970-01-01"
    assert np.int64 == raw.dtype
    assert INIT.astype("datetime64[s]").astype(int) == raw.values[0]


@pytest.mark.parametrize(
    ("name", "standard_name"),
    [
        ("number", "realization"),
        ("init_time", "forecast_reference_time"),
        ("lead_time", "forecast_period"),
        ("y", "projection_y_coordinate"),
        ("x", "projection_x_coordinate"),
        ("latitude", "latitude"),
        ("longitude", "longitude"),
        ("complete", "status_flag"),
    ],
)
def test_coordinates_have_their_standard_names(opened, name, standard_name):
    assert standard_name == opened.coords[name].attrs["standard_name"]


def test_coordinates_are_of_the_types_of_the_contract(opened):
    expected = {"number": "int16", "latitude": "float32", "longitude": "float32", "y": "float64", "complete": "int8"}

    assert expected == {name: str(opened[name].dtype) for name in expected}


def test_fields_name_a_grid_mapping_that_leads_back_to_latitude_and_longitude(opened):
    from pyproj import CRS, Transformer

    (mapping,) = {a.attrs["grid_mapping"] for a in opened.values()}
    crs = CRS.from_cf(opened.coords[mapping].attrs)
    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)

    longitude, latitude = to_degrees.transform(*np.meshgrid(opened.x, opened.y))

    np.testing.assert_allclose(opened.latitude, latitude, atol=1e-4)
    np.testing.assert_allclose(opened.longitude, longitude, atol=1e-4)


def test_complete_says_which_members_were_made():
    values = fields()
    values["cape"][1, 0] = np.nan

    actual = ensemble(values).complete

    np.testing.assert_array_equal([[[1, 1], [0, 1], [1, 1]]], actual)
    assert actual.attrs["flag_meanings"] == "absent complete"


@pytest.mark.parametrize("variable", [*FIELDS.values(), *STATIC.values()], ids=lambda v: v.name)
def test_bounds_fit_the_packing_to_half_a_lattice_step(variable):
    values = np.array([*variable.bounds, np.mean(variable.bounds) + 0.01], np.float32)

    actual = conventions.unpack(variable, conventions.pack(variable, values))

    np.testing.assert_allclose(values, actual, atol=0.5 / variable.scale + 1e-4)


def test_values_that_cannot_be_packed_become_missing():
    values = np.array([np.nan, np.inf, -np.inf, 1e9, -1e9, 3.0], np.float32)

    actual = conventions.unpack(FIELDS["t2m"], conventions.pack(FIELDS["t2m"], values))

    np.testing.assert_array_equal([np.nan] * 5 + [3.0], actual)


def test_pack_and_on_lattice_agree():
    variable = FIELDS["cape"]
    values = np.random.default_rng(1).uniform(0, 8190, 1000).astype(np.float32)

    expected = conventions.unpack(variable, conventions.pack(variable, values))

    np.testing.assert_array_equal(expected, conventions.on_lattice(variable, values))


def test_an_ensemble_holds_values_on_the_lattice():
    values = fields() | {"t2m": np.full((3, 2, *GRID.shape), 290.04, np.float32)}

    assert ensemble(values).t2m.values.max() == 290.0625


def test_a_field_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="refc has shape"):
        ensemble({"refc": np.zeros((1, 1, 2, 2), np.float32)})
