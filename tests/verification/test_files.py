"""Files as people have them: by cfgrib, earth2studio and dynamical.org, GRIB2 itself, members in files apart."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from contextlib import suppress

import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

from convcast import grib
from convcast.archive.simulated.publisher import simulated_grid as world
from convcast.cli.main import app
from convcast.errors import DamagedFileError, SettingsError
from convcast.forecasts.export import to_grib, to_netcdf
from convcast.variables import FIELDS
from convcast.verification.data.ensembles import open_ensembles
from convcast.verification.data.gridded_files.fields import describe, find_fields
from convcast.verification.data.gridded_files.files import expand
from convcast.verification.data.gridded_files.gather import gather_ensembles
from convcast.verification.data.gridded_files.units import conversion
from convcast.verification.data.truth import Analyses, open_truth

from .conftest import HOURS, INITS, MEMBERS, SIZE

GRID = world(SIZE)


@pytest.fixture(scope="module")
def ours(whole):
    """The first forecast, in memory."""
    return xr.open_zarr(whole.paths[0], consolidated=False).load()


@pytest.fixture(scope="module")
def truth(whole):
    return Analyses(whole.dataset)


@pytest.fixture(scope="module")
def sampled(whole, tmp_path_factory):
    """The first forecast as `sample` leaves it."""
    path = tmp_path_factory.mktemp("sampled") / "forecast.zarr"
    shutil.copytree(whole.paths[0], path)
    zarr.open_group(path, mode="r+").attrs.update({"format": "convcast ensemble", "simulated": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that consolidated metadata is no part of Zarr's third format yet
        zarr.consolidate_metadata(path)
    return path


@pytest.fixture(scope="module")
def exported(sampled, tmp_path_factory):
    """Our own GRIB2 of the first forecast."""
    path = tmp_path_factory.mktemp("exported") / "ens.grib2"
    list(to_grib(sampled, path, fields=None, leads=None))
    return path


def encode(values, name, *, init=INITS[0], lead=1, member=None):
    ensemble = None if member is None else grib.EnsembleSpec(MEMBERS, member=member)
    key = FIELDS[name].grib
    return grib.encode(values, key=key, grid=GRID, init=init, lead_hours=lead, simulated=True, ensemble=ensemble)


def opened(paths, truth, foreign=True):
    sources = gather_ensembles(expand(paths if isinstance(paths, list) else [paths], "--ensemble"))
    return [
        open_ensembles(source, fields=truth.variables, points=truth.points, simulated=truth.simulated, foreign=foreign)
        for source in sources
    ]


def assert_reads(found, ours, names=tuple(FIELDS), rtol=0.0):
    """Check that an ensemble has the values of our forecast."""
    (ensemble,) = found.ensembles
    assert ensemble.init == INITS[0]
    assert [v.name for v in found.fields] == list(names)
    for name in names:
        values = ensemble.read(FIELDS[name], 1, ensemble.members(1))
        np.testing.assert_allclose(values, ours[name].values[0, :, 0], rtol=rtol, atol=1e-4 if rtol else 0)


def as_cfgrib_writes(exported, attributes=True):
    """Make a file as `cfgrib to_netcdf` and merges of cfgrib's datasets do: scalars time, step and valid_time."""
    import cfgrib

    parts = cfgrib.xarray_store.open_variable_datasets(str(exported), backend_kwargs={"indexpath": "", "squeeze": True})
    parts = [part.drop_vars(["heightAboveGround", "surface", "atmosphere"], errors="ignore") for part in parts]
    data = xr.merge([part.load() for part in parts], compat="override", combine_attrs="override")
    if not attributes:
        for name in data.variables:
            units = {k: v for k, v in data[name].attrs.items() if k == "units"}
            data[name].attrs = units
    return data.assign_attrs(simulated=1)


def test_our_own_grib2_export_is_read_back_exactly(exported, ours, truth):
    (found,) = opened(exported, truth)
    assert_reads(found, ours)
    assert not list(exported.parent.glob("*.idx.*"))
    assert {path.name for path in exported.parent.iterdir()} == {"ens.grib2", "ens.grib2.idx"}


def test_our_own_netcdf_export_is_read_back_exactly(sampled, ours, truth, tmp_path):
    to_netcdf(sampled, tmp_path / "ens.nc", fields=None, leads=None)
    (found,) = opened(tmp_path / "ens.nc", truth)
    assert_reads(found, ours)


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_one_time_and_one_step_of_cfgrib_are_scalars(exported, ours, truth, tmp_path, kind):
    data, path = as_cfgrib_writes(exported), tmp_path / f"e.{kind}"
    assert data["time"].ndim == data["step"].ndim == data["valid_time"].ndim == 0
    assert data["refc"].standard_name == "unknown"
    assert data["refc"].units == "dB"
    data.to_netcdf(path) if kind == "nc" else data.to_zarr(path, zarr_format=3, consolidated=False)
    (found,) = opened(path, truth)
    assert_reads(found, ours)


def test_cfgrib_without_attributes_goes_by_names(exported, ours, truth, tmp_path):
    data = as_cfgrib_writes(exported, attributes=False)
    data["step"].attrs.clear()
    data.to_netcdf(tmp_path / "e.nc")
    (found,) = opened(tmp_path / "e.nc", truth)
    assert_reads(found, ours)


@pytest.mark.parametrize("numbered", [True, False], ids=["numbered", "by file"])
def test_a_member_a_grib2_file(ours, truth, tmp_path, numbered):
    for member in range(MEMBERS):
        messages = [encode(ours[n].values[0, member, 0], n, member=member if numbered else None) for n in FIELDS]
        # Where they are numbered, the order of the files says nothing.
        (tmp_path / f"mem{MEMBERS - member if numbered else member}.grib2").write_bytes(b"".join(messages))
        (tmp_path / f"mem{member}.grib2.idx").write_text("1:0:d=2024050306:REFC\n")
    (found,) = opened(tmp_path / "mem*", truth)
    assert_reads(found, ours)
    assert found.field_report["files"] == MEMBERS


def test_members_leads_and_initial_times_in_files_apart(ours, truth, tmp_path):
    for init in INITS[:2]:
        for member in range(3):
            for lead in (1, 2) if member else (1,):
                values = ours["t2m"].values[0, member, 0] + lead
                path = tmp_path / f"{init}.{member}.f{lead:02d}.grib2"
                path.write_bytes(encode(values, "t2m", init=init, lead=lead, member=member))
    found = opened(tmp_path / "*.grib2", truth)
    assert [[e.init for e in one.ensembles] for one in found] == [[INITS[0]], [INITS[1]]]
    (ensemble,) = found[0].ensembles
    assert ensemble.leads == (1, 2)
    assert ensemble.members(1).tolist() == [0, 1, 2]
    assert ensemble.members(2).tolist() == [1, 2]
    np.testing.assert_array_equal(
        ensemble.read(FIELDS["t2m"], 2, ensemble.members(2)), ours["t2m"].values[0, 1:3, 0] + 2
    )


def test_the_digits_of_a_file_s_ensemble_change_with_it(ours, truth, tmp_path):
    path = tmp_path / "e.grib2"
    path.write_bytes(b"".join(encode(ours["t2m"].values[0, m, 0], "t2m", member=m) for m in range(2)))
    before = opened(path, truth)[0].ensembles[0].fingerprint
    assert opened(path, truth)[0].ensembles[0].fingerprint == before
    path.write_bytes(b"".join(encode(ours["t2m"].values[0, m, 0], "t2m", member=m) for m in range(3)))
    assert opened(path, truth)[0].ensembles[0].fingerprint != before


@pytest.fixture
def stormcast(ours, tmp_path):
    """Write as earth2studio's ZarrBackend writes a `run.ensemble` of StormCast: no attributes, hrrr_y and hrrr_x."""
    coordinates = {
        "ensemble": np.arange(MEMBERS),
        "time": INITS[:1].astype("datetime64[ns]"),
        "lead_time": np.arange(2) * np.timedelta64(1, "h"),
        "hrrr_y": GRID.y,
        "hrrr_x": GRID.x,
    }
    root = zarr.group(zarr.storage.LocalStore(tmp_path / "stormcast.zarr"), overwrite=False)
    root.attrs["simulated"] = 1  # as the truth of this test is
    for name, values in coordinates.items():
        root.create_array(
            name, shape=values.shape, chunks=values.shape, dtype=values.dtype, dimension_names=[name], fill_value=None
        )
        root[name][:] = values
    shape = tuple(map(len, coordinates.values()))
    theirs = {"u10": "u10m", "v10": "v10m", "t2m": "t2m", "refc": "refc", "msl": "msl", "u1hl": "u1hl"}
    for name, their in theirs.items():
        array = root.create_array(
            their,
            shape=shape,
            chunks=(1, 1, 1, *shape[3:]),
            dtype="float32",
            dimension_names=list(coordinates),
            fill_value=None,
        )
        array[:] = 0
        if name in ours:
            array[:, 0, 1] = ours[name].values[0, :, 0]
    return tmp_path / "stormcast.zarr"


def test_stormcast_as_earth2studio_writes_it(stormcast, ours, truth):
    (found,) = opened(stormcast, truth)
    assert_reads(found, ours, ("refc", "t2m", "u10", "v10"))
    assert found.field_report["scored"]["u10"] == "u10m by its name"
    assert set(found.field_report["fields_not_scored"]) == {"d2m", "cape", "cin"}
    assert set(found.field_report["variables_not_scored"]) == {"msl", "u1hl"}


SAID_OF_HRRR = {
    "composite_reflectivity": ("refc", "equivalent_reflectivity_factor", "dBZ", "Maximum/Composite radar reflectivity"),
    "derived_radar_reflectivity_1000m": ("refd", "equivalent_reflectivity_factor", "dBZ", "Derived radar reflectivity"),
    "temperature_2m": ("2t", "air_temperature", "degree_Celsius", "2 metre temperature"),
    "temperature_surface": ("t", "air_temperature", "degree_Celsius", "Temperature"),
    "dew_point_temperature_2m": ("2d", "dew_point_temperature", "degree_Celsius", "2 metre dewpoint temperature"),
    "wind_u_10m": ("10u", "eastward_wind", "m s-1", "10 metre U wind component"),
    "wind_v_10m": ("10v", "northward_wind", "m s-1", "10 metre V wind component"),
    "wind_u_80m": ("80u", "eastward_wind", "m s-1", "80 metre U wind component"),
    "convective_available_potential_energy_surface": (
        "cape", "atmosphere_convective_available_potential_energy", "J kg-1", "Convective available potential energy",
    ),
    "convective_available_potential_energy_90_0mb": (
        "cape", "atmosphere_convective_available_potential_energy", "J kg-1", "Convective available potential energy",
    ),
    "relative_humidity_2m": ("2r", "relative_humidity", "percent", "2 metre relative humidity"),
}  # fmt: skip
"""Attributes of dynamical.org's HRRR (templates of its reformatters): short_name, standard_name, units, long_name."""


@pytest.fixture
def dynamical(whole, ours):
    """dynamical.org's HRRR analysis: rows from the north, degrees Celsius, HRRR's own winds called eastward."""
    values = dict(zip(FIELDS, whole.dataset.read(HOURS[48:72]).swapaxes(0, 1), strict=True))
    fields = {}
    for name, (short, standard, units, long_name) in SAID_OF_HRRR.items():
        source = {"10u": "u10", "10v": "v10", "2t": "t2m", "2d": "d2m", "t": "t2m"}.get(short, short)
        its = values.get(source, values["refc"]) - (273.15 if units == "degree_Celsius" else 0)
        attributes = {"short_name": short, "standard_name": standard, "units": units, "long_name": long_name}
        fields[name] = (("time", "y", "x"), its.astype("f4"), attributes | {"step_type": "instant"})
    place = {name: ours[name] for name in ("y", "x", "latitude", "longitude", "spatial_ref")}
    time = ("time", HOURS[48:72].astype("datetime64[ns]"), {"standard_name": "time"})
    attributes = {"name": "NOAA HRRR analysis", "dataset_id": "noaa-hrrr-analysis", "simulated": 1}
    return xr.Dataset(fields, place | {"time": time}, attributes).isel(y=slice(None, None, -1))


def store(data, path):
    for name in data.variables:
        data[name].encoding.clear()
    data.to_zarr(path, zarr_format=3, consolidated=False)
    return path


def test_dynamical_org_s_hrrr_is_a_truth(dynamical, truth, tmp_path):
    theirs = open_truth(store(dynamical, tmp_path / "hrrr.zarr"))
    assert [v.name for v in theirs.variables] == ["refc", "t2m", "d2m", "cape"]
    for name in ("refc", "t2m", "d2m", "cape"):
        expected = truth.read(FIELDS[name], HOURS[50])[::-1]
        np.testing.assert_allclose(theirs.read(FIELDS[name], HOURS[50]), expected, atol=1e-4)
    said = theirs.field_report(theirs.variables)
    assert said["scored"]["t2m"] == "temperature_2m by its standard name, converted from degree_Celsius"
    assert "convective_available_potential_energy_surface" in said["scored"]["cape"]
    assert 'data["wind_u_10m"].attrs["GRIB_uvRelativeToGrid"] to 1 or to 0' in said["fields_not_scored"]["u10"]
    assert {"wind_u_80m", "temperature_surface", "relative_humidity_2m"} <= set(said["variables_not_scored"])
    assert "u10 (it is eastward_wind" in describe(said)


def test_winds_are_scored_once_they_say_which_way_they_point(dynamical, truth, tmp_path):
    for name in ("wind_u_10m", "wind_v_10m"):
        dynamical[name].attrs["GRIB_uvRelativeToGrid"] = 1
    theirs = open_truth(store(dynamical, tmp_path / "hrrr.zarr"))
    np.testing.assert_array_equal(theirs.read(FIELDS["u10"], HOURS[50])[::-1], truth.read(FIELDS["u10"], HOURS[50]))


def test_winds_towards_east_and_north_are_turned_to_the_grid(dynamical, ours, truth, tmp_path):
    """Return steps to the east and to the north on the grid, by a projection of pyproj."""
    from pyproj import Geod

    from convcast.grid import PROJECTION, projection

    south = dynamical.isel(y=slice(None, None, -1))
    for name, (u, v) in {"wind_u_10m": (3.0, 0), "wind_v_10m": (0, 4.0)}.items():
        south[name][:] = u or v
        south[name].attrs["GRIB_uvRelativeToGrid"] = 0
    theirs = open_truth(store(south, tmp_path / "hrrr.zarr"))
    found = [theirs.read(FIELDS[name], HOURS[50])[3, 5] for name in ("u10", "v10")]
    latitude, longitude = (float(ours[name][3, 5]) for name in ("latitude", "longitude"))
    there = Geod(a=6371229, b=6371229).fwd(longitude, latitude, np.degrees(np.arctan2(3, 4)), 10.0)
    step = np.subtract(projection()(*there[:2]), projection()(longitude, latitude))
    assert "lcc" in PROJECTION
    np.testing.assert_allclose(found, 5 * step / np.hypot(*step), atol=2e-3)


def test_grib2_analyses_of_many_hours_are_a_truth(whole, truth, tmp_path):
    for hour in HOURS[48:51]:
        values = whole.dataset.read([hour])[0]
        messages = [encode(v, n, init=hour, lead=0) for n, v in zip(FIELDS, values, strict=True)]
        (tmp_path / f"{hour}.grib2").write_bytes(b"".join(messages))
    theirs = open_truth(tmp_path / "*.grib2")
    assert theirs.hours.tolist() == HOURS[48:51].tolist()
    assert theirs.simulated
    for variable in theirs.variables:
        np.testing.assert_array_equal(theirs.read(variable, HOURS[49]), truth.read(variable, HOURS[49]))


def test_a_truth_of_forecasts_says_their_lead(ours, tmp_path):
    path = tmp_path / "f01.grib2"
    path.write_bytes(encode(ours["t2m"].values[0, 0, 0], "t2m", lead=1))
    theirs = open_truth(path)
    assert theirs.analysis_lead == 1
    assert theirs.hours.tolist() == [(INITS[0] + 1).item()]


@pytest.mark.slow
@pytest.mark.usefixtures("unpainted")
def test_members_in_grib2_by_a_zarr_end_to_end(ours, dynamical, tmp_path, monkeypatch):
    """Progress, JSON and report tell what is scored and what is not."""
    for member in range(MEMBERS):
        messages = [encode(ours[name].values[0, member, 0], name) for name in FIELDS]
        (tmp_path / f"mem{member}.grib2").write_bytes(b"".join(messages))
    store(dynamical, tmp_path / "hrrr.zarr")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.delenv("CONVCAST_WORKSPACE", raising=False)
    words = ["verify", "--ensemble", "mem*.grib2", "--truth", "hrrr.zarr", "--output", "out", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)["facts"]
    truth, ensemble = said["files"]
    assert (ensemble["file"], ensemble["files"]) == ("mem0.grib2", MEMBERS)
    assert ensemble["fields_not_scored"] == dict.fromkeys(["u10", "v10", "cin"], "the other file does not hold it")
    assert "t2m is temperature_2m by its standard name, converted from degree_Celsius" in result.stderr
    assert "u10 (it is eastward_wind" in result.stderr
    assert truth["variables_not_scored"]["wind_u_80m"]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "wind_u_10m" in report
    assert "relative_humidity_2m" in report


def test_an_ensemble_of_files_goes_to_a_worker(exported, ours, truth):
    (found,) = opened(exported, truth)
    (ensemble,) = pickle.loads(pickle.dumps(found.ensembles))
    np.testing.assert_array_equal(
        ensemble.read(FIELDS["refc"], 1, ensemble.members(1)[2:4]), ours["refc"].values[0, 2:4, 0]
    )


def test_the_classic_formats_of_netcdf(ours, truth, tmp_path):
    data = ours[["t2m"]].drop_vars(["complete", "valid_time", "spatial_ref"])
    for name in data.variables:
        data[name].encoding.clear()
    data = data.assign_attrs(simulated=1).assign_coords(number=ours["number"].astype("i4"))
    data.to_netcdf(tmp_path / "e.nc", format="NETCDF3_64BIT")
    (found,) = opened(tmp_path / "e.nc", truth)
    assert_reads(found, ours, ["t2m"])
    (tmp_path / "e.nc").write_bytes(b"CDF\x05" + bytes(100))
    with pytest.raises(DamagedFileError, match="CDF-5") as caught:
        opened(tmp_path / "e.nc", truth)
    assert "nccopy -k nc4" in caught.value.advice


@pytest.mark.parametrize(
    ("given", "wanted", "of", "becomes"),
    [
        ("degC", "K", 20, 293.15),
        ("degree_Celsius", "K", -5, 268.15),
        ("°F", "K", 50, 283.15),
        ("kelvin", "K", 280, 280),
        ("kt", "m s-1", 10, 5.14444),
        ("m s**-1", "m s-1", 7, 7),
        ("m.s^-1", "m s-1", 7, 7),
        ("J kg**-1", "J kg-1", 900, 900),
        ("kJ/kg", "J kg-1", 0.9, 900),
        ("dB", "dBZ", 35, 35),
    ],
)
def test_units_are_converted(given, wanted, of, becomes):
    assert conversion(given, wanted)(np.float32([of]))[0] == pytest.approx(becomes, rel=1e-6)


@pytest.mark.parametrize(
    ("given", "wanted"), [("%", "K"), ("mm/h", "dBZ"), ("percent", "J kg-1"), ("K", "m s-1"), ("", "K")]
)
def test_other_units_are_not(given, wanted):
    assert conversion(given, wanted) is None


def two_temperatures(data):
    return data.assign(T_2M=data["t2m"], tas=data["t2m"]).drop_vars("t2m")


@pytest.mark.parametrize(
    ("change", "said", "edit"),
    [
        (two_temperatures, "T_2M and tas, each of which may be t2m", 'data.rename(T_2M="t2m")'),
        (lambda d: d.assign(refc=d["refc"].assign_attrs(units="percent")), "refc in percent", 'drop_vars("refc")'),
        (lambda d: d.assign(refc=d["refc"].drop_attrs()), "units of refc", '.attrs["units"] = "dBZ"'),
        (lambda d: d.expand_dims(level=[1, 2]), "with the dimensions level", "data.isel(level=0)"),
        (lambda d: d.drop_vars(["init_time"]).isel(init_time=0), "no dimension init_time", "forecast_reference_time"),
    ],
    ids=["ambiguous", "percent", "no units", "levels", "no initial time"],
)
def test_a_refusal_names_the_edit_that_helps(ours, truth, tmp_path, change, said, edit):
    path = store(change(ours.drop_vars(["complete", "valid_time"])), tmp_path / "e.zarr")
    with pytest.raises(DamagedFileError, match=said) as caught:
        opened(path, truth)
    assert edit in caught.value.advice
    assert "delete" not in caught.value.advice


def test_a_temperature_of_another_level_or_of_a_period_is_not_taken(ours, tmp_path):
    """A variable called air temperature may be of any height."""
    high = ours["t2m"].isel(init_time=0, number=0, lead_time=0)
    data = xr.Dataset({"t850": high, "tx": high.assign_attrs(step_type="max")})
    matches = find_fields(data, tmp_path)
    assert not matches.found
    assert "another level" in matches.unscored["t850"]
    at_80_m = find_fields(xr.Dataset({"t": high.assign_coords(height=80.0)}), tmp_path)
    assert "its height is 80" in at_80_m.unscored["t"]
    assert "a period (max)" in matches.unscored["tx"]
    assert "t850" in matches.lacking["t2m"]


def test_wind_that_says_east_alone_is_left_out_and_said(ours, truth, tmp_path):
    data = ours.assign(u10=ours["u10"].assign_attrs(standard_name="eastward_wind"))
    (found,) = opened(store(data, tmp_path / "e.zarr"), truth)
    assert "u10" not in [v.name for v in found.fields]
    assert "it is eastward_wind" in found.field_report["fields_not_scored"]["u10"]


@pytest.mark.parametrize(
    ("spoil", "said", "advice"),
    [
        (lambda p: p.write_bytes(b"not weather"), "neither a Zarr store nor a NetCDF or GRIB2 file", "to_netcdf"),
        (lambda p: p.write_bytes(p.read_bytes()[:-7]), "cannot be read after byte", "copy it again"),
        (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(400)), "does not open as a NetCDF file", "copy it again"),
        (lambda p: p.write_bytes(p.read_bytes() * 2), "refc of member 0 twice", "keep one"),
        (lambda p: (p.unlink(), p.mkdir()), "is a folder and not a Zarr store", "/*.grib2"),
    ],
    ids=["text", "cut", "netcdf", "twice", "folder"],
)
def test_a_file_that_is_none_is_named(exported, truth, tmp_path, spoil, said, advice):
    path = tmp_path / "e.grib2"
    path.write_bytes(exported.read_bytes())
    spoil(path)
    for open_it in (lambda: opened(path, truth), lambda: open_truth(path)):
        with pytest.raises(DamagedFileError, match=said) as caught:
            open_it()
        assert advice in caught.value.advice


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(SettingsError, match=r"there is no .*mem\*.grib2"):
        expand([tmp_path / "mem*.grib2"], "--ensemble")
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(SettingsError, match="given twice"):
        expand([tmp_path / "a", tmp_path / "." / "a"], "--ensemble")
    with pytest.raises(SettingsError, match="files on this machine"):
        expand([tmp_path.__class__("s3://bucket/e.zarr")], "--truth")


def test_the_same_member_in_two_files_is_refused(ours, truth, tmp_path):
    for name in "ab":
        messages = [encode(ours["t2m"].values[0, m, 0], "t2m", member=m) for m in range(2)]
        (tmp_path / f"{name}.grib2").write_bytes(b"".join(messages))
    with pytest.raises(DamagedFileError, match=r"a.grib2 and .*b.grib2 both hold member 0 of t2m, 1 h after"):
        opened(tmp_path / "*.grib2", truth)


def test_one_run_is_no_ensemble(ours, truth, tmp_path):
    (tmp_path / "a.grib2").write_bytes(encode(ours["t2m"].values[0, 0, 0], "t2m"))
    with pytest.raises(DamagedFileError, match="no dimension number"):
        opened(tmp_path / "a.grib2", truth)


def test_no_advice_about_a_file_of_others_is_to_delete_it(whole, tmp_path):
    """Neither of a damaged store, nor of a damaged dataset of ours that --truth names."""
    advice = []
    for number, source in enumerate((whole.paths[0], whole.dataset.path)):
        for spoilt in ("zarr.json", "**/zarr.json"):
            path = tmp_path / f"{number}{len(spoilt)}.zarr"
            shutil.copytree(source, path)
            sorted(path.glob(spoilt))[-1].write_text("{")
            for reader in (lambda path=path: opened(path, Analyses(whole.dataset)), lambda path=path: open_truth(path)):
                with suppress(DamagedFileError):
                    try:
                        reader()
                    except DamagedFileError as error:
                        advice.append(error.advice)
                        raise
    assert len(advice) >= 6
    assert not [one for one in advice if "delete" in one or "remove" in one]
