from __future__ import annotations

import json
import shutil
import subprocess
import sys

import cfgrib
import numpy as np
import pytest
import xarray as xr

from convcast.archive.messages.index import parse
from convcast.conventions import ensemble_dataset, on_lattice
from convcast.errors import DamagedFileError, SettingsError
from convcast.forecasts.export import to_grib, to_netcdf
from convcast.forecasts.products import make_products
from convcast.forecasts.store import EnsembleStore, ForecastDescription, unconsolidated_is_fine
from convcast.grib import EnsembleSpec, encode, read_messages
from convcast.grid import Grid
from convcast.settings import ProductSettings
from convcast.variables import FIELDS

GRID = Grid(20, 24, 300, 800)
INIT = np.datetime64("2024-05-06T21", "h")
VARIABLES = tuple(FIELDS.values())
DESCRIPTION = ForecastDescription(
    init=INIT,
    leads=(1, 2),
    direct=(1, 2),
    variables=VARIABLES,
    grid=GRID,
    identity={"simulated": 1, "model_sha256": "aa", "seed": 0},
    information={"title": "SIMULATED convcast ensemble", "model": "demo"},
)
MEMBERS = range(3)
CHECK = """
import json, sys
from compliance_checker.runner import CheckSuite

def failures(results):
    for result in results:
        yield from failures(result.children)
        yield from ([result.weight, message] for message in result.msgs or () if result.value[0] != result.value[1])

suite = CheckSuite()
suite.load_all_available_checkers()
results, errors = suite.run_all(suite.load_dataset(sys.argv[1]), ["cf:1.11"])["cf:1.11"]
print(json.dumps([len(results), list(errors), list(failures(results))]))
"""
REQUIRED = 3
"""Weight of what the conventions require; what they recommend weighs less."""
ACCEPTED = (
    "spatio-temporal dimensions are not in the recommended order",  # init_time, number, lead_time is the contract
    "cell_methods name component realization",  # a standard name, which CF section 7.3 allows and the checker does not
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An ensemble whose last member lacks the second lead, and products of the first two members."""
    root = tmp_path_factory.mktemp("kept")
    store = EnsembleStore.prepare(root / "f.zarr", DESCRIPTION, members=len(MEMBERS))
    middle = np.array([20, 290, 285, 1, -2, 800, -60], np.float32)[:, None, None]
    for member in MEMBERS:
        for lead in DESCRIPTION.leads:
            if (member, lead) != (2, 2):
                noise = np.random.default_rng([member, lead]).normal(0, 3, (len(VARIABLES), *GRID.shape))
                store.write(member, lead, (middle + noise).astype(np.float32))
    where = {"members": range(2), "leads": (1, 2), "settings": ProductSettings()}
    make_products(root / "f.zarr", root / "p.zarr", DESCRIPTION, **where)
    return root


def read(path):
    with xr.open_zarr(path, chunks=None, decode_timedelta=True) as opened:
        return opened.load()


def by_cfgrib(path):
    levels = ["heightAboveGround", "surface", "atmosphere"]
    opened = cfgrib.open_datasets(str(path), indexpath="")
    return xr.merge([data.drop_vars(levels, errors="ignore") for data in opened], compat="override")


def product_by_cfgrib(path, **keys):
    chosen = {"filter_by_keys": keys, "read_keys": list(keys), "indexpath": ""}
    with xr.open_dataset(path, engine="cfgrib", backend_kwargs=chosen) as opened:
        return opened.isel(step=0, missing_dims="ignore").load()


def test_members_in_grib_are_what_was_drawn_by_cfgrib(kept, tmp_path):
    target = tmp_path / "m.grib2"
    written = list(to_grib(kept / "f.zarr", target, fields=None, leads=(1,)))
    ours, theirs = read(kept / "f.zarr"), by_cfgrib(target)

    assert len(written) == 3 * 7
    assert theirs.number.values.tolist() == [0, 1, 2]
    assert theirs.valid_time.values == np.datetime64("2024-05-06T22")
    np.testing.assert_allclose(theirs.latitude, ours.latitude, atol=1e-4)
    for name in ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin"):
        np.testing.assert_allclose(theirs[name].values, ours[name][0, :, 0].values, atol=1e-4)


def test_members_that_are_not_complete_are_left_out(kept, tmp_path):
    target = tmp_path / "m.grib2"
    list(to_grib(kept / "f.zarr", target, fields=("refc",), leads=(2,)))
    assert by_cfgrib(target).number.values.tolist() == [0, 1]


def test_products_in_grib_are_mean_spread_and_percent(kept, tmp_path):
    target = tmp_path / "p.grib2"
    written = list(to_grib(kept / "p.zarr", target, fields=("refc", "cin"), leads=None))
    ours = read(kept / "p.zarr").isel(init_time=0, lead_time=0)

    mean = product_by_cfgrib(target, shortName="refc", derivedForecast=0)
    np.testing.assert_allclose(mean.refc, ours.refc_mean, atol=1e-4)
    spread = product_by_cfgrib(target, shortName="cin", derivedForecast=4)
    np.testing.assert_allclose(spread.cin, ours.cin_spread, atol=1e-4)
    above = product_by_cfgrib(
        target, shortName="refc", probabilityType=3, scaledValueOfLowerLimit=20, stepType="instant"
    )
    np.testing.assert_allclose(above.refc, 100 * ours.refc_probability.sel(refc_threshold=20), atol=1e-4)
    below = product_by_cfgrib(target, shortName="cin", probabilityType=4, scaledValueOfUpperLimit=-100)
    np.testing.assert_allclose(below.cin, 100 * ours.cin_probability.sel(cin_threshold=-100), atol=1e-4)
    assert [m.what for m in written[:3]] == ["ens mean", "ens spread", "prob >=20:prob fcst 0/2"]


def test_the_probability_at_any_time_is_that_of_the_maximum_since_the_first_lead(kept, tmp_path):
    target = tmp_path / "p.grib2"
    written = list(to_grib(kept / "p.zarr", target, fields=("refc",), leads=None))
    ours = read(kept / "p.zarr").isel(init_time=0, lead_time=1)

    found = product_by_cfgrib(
        target, shortName="refc", probabilityType=3, scaledValueOfLowerLimit=20, stepType="max", stepRange="1-2"
    )
    np.testing.assert_allclose(found.refc, 100 * ours.refc_any_time_probability.sel(refc_threshold=20), atol=1e-4)
    assert (found.refc.values > 100 * ours.refc_probability.sel(refc_threshold=20).values).any()
    assert found.valid_time.values == np.datetime64("2024-05-06T23")
    intervals = [message for message in written if message.first is not None]
    assert [(message.first, message.lead) for message in intervals] == [(1, 2)] * len(FIELDS["refc"].thresholds)
    lines = (tmp_path / "p.grib2.idx").read_text().splitlines()
    assert sum(":1-2 hour max fcst:prob >=20:prob fcst 0/2" in line for line in lines) == 1


def test_the_index_leads_to_the_messages(kept, tmp_path):
    target = tmp_path / "m.grib2"
    list(to_grib(kept / "f.zarr", target, fields=None, leads=None))
    lines = (tmp_path / "m.grib2.idx").read_text().splitlines()
    headers = [message.header for message in read_messages(target)]

    assert lines[0] == "1:0:d=2024050621:REFC:entire atmosphere:1 hour fcst:ENS=+0"
    assert [int(line.split(":")[1]) for line in lines] == [header.offset for header in headers]
    assert (headers[0].init, headers[0].lead_hours) == (INIT, 1)
    assert all(header.simulated for header in headers)
    assert len(parse("\n".join(lines))) == len(lines) == 7 * 5


@pytest.mark.parametrize("name", ["f.zarr", "p.zarr"])
def test_netcdf_is_what_was_kept(kept, tmp_path, name):
    target = tmp_path / "f.nc"
    to_netcdf(kept / name, target, fields=None, leads=None)
    with xr.open_dataset(target, decode_timedelta=True) as opened:
        theirs = opened.load()

    xr.testing.assert_equal(theirs, read(kept / name))
    assert theirs.attrs["title"].startswith("SIMULATED")
    assert theirs["refc" if name == "f.zarr" else "refc_mean"].attrs["grid_mapping"] == "spatial_ref"


@pytest.mark.parametrize("name", ["f.zarr", "p.zarr"])
def test_netcdf_keeps_the_conventions_that_it_names(kept, tmp_path, name):
    """The checker runs in a process of its own, since its libraries and ecCodes each bring a libproj."""
    to_netcdf(kept / name, tmp_path / "f.nc", fields=None, leads=None)
    run = subprocess.run([sys.executable, "-c", CHECK, tmp_path / "f.nc"], capture_output=True, text=True, check=True)
    count, errors, failures = json.loads(run.stdout.splitlines()[-1])

    assert count > 10, "checks were made"
    assert errors == []
    assert [message for weight, message in failures if weight >= REQUIRED] == []
    assert [message for _, message in failures if not any(known in message for known in ACCEPTED)] == []


def test_some_fields_and_leads_of_all(kept, tmp_path):
    to_netcdf(kept / "f.zarr", tmp_path / "f.nc", fields=("cape",), leads=(2,))
    with xr.open_dataset(tmp_path / "f.nc", decode_timedelta=True) as opened:
        assert list(opened.data_vars) == ["cape"]
        assert opened.sizes["lead_time"] == 1


def test_values_survive_grib_on_their_lattice(kept, tmp_path):
    list(to_grib(kept / "f.zarr", tmp_path / "m.grib2", fields=("cape",), leads=(1,)))
    values = by_cfgrib(tmp_path / "m.grib2").cape.values
    np.testing.assert_array_equal(values, on_lattice(FIELDS["cape"], values))


@pytest.mark.parametrize(
    ("words", "message"), [({"leads": (5,)}, "no lead of 5 h"), ({"fields": ("snow",)}, "none of the fields snow")]
)
def test_absent_fields_and_leads_are_refused_and_leave_no_files(kept, tmp_path, words, message):
    asked = {"fields": None, "leads": None} | words
    with pytest.raises(SettingsError, match=message):
        list(to_grib(kept / "f.zarr", tmp_path / "m.grib2", **asked))
    with pytest.raises(SettingsError, match=message):
        to_netcdf(kept / "f.zarr", tmp_path / "m.nc", **asked)
    assert json.dumps([p.name for p in tmp_path.iterdir()]) == "[]"


def remove(file):
    file.unlink()


def flip(file):
    values = bytearray(file.read_bytes())
    values[-20] ^= 255
    file.write_bytes(values)


@pytest.mark.parametrize("spoil", [remove, flip])
@pytest.mark.parametrize(
    ("name", "chunk", "message"),
    [
        ("f.zarr", "t2m/c/0/1/0/0/0", "values of (t2m of )?member 1 at lead 1 h"),
        ("p.zarr", "t2m_mean/c/0/1/0/0", "values of (t2m_mean at )?lead 2 h"),
    ],
)
def test_values_that_were_lost_are_refused_by_name_and_leave_nothing(kept, tmp_path, spoil, name, chunk, message):
    source, target = tmp_path / name, tmp_path / "exports"
    shutil.copytree(kept / name, source)
    spoil(source / chunk)

    with pytest.raises(DamagedFileError, match=message) as of_netcdf:
        to_netcdf(source, target / "f.nc", fields=None, leads=None)
    with pytest.raises(DamagedFileError, match=message) as of_grib:
        list(to_grib(source, target / "f.grib2", fields=None, leads=None))

    assert "convcast sample --init 2024-05-06T21 " in of_netcdf.value.advice == of_grib.value.advice
    assert not target.exists() or list(target.iterdir()) == []


def test_more_members_than_grib_numbers_are_refused_with_a_way_out(tmp_path):
    source = tmp_path / "f.zarr"
    data = ensemble_dataset(
        {"refc": np.full((256, 1, 4, 4), 20, np.float32)},
        init=INIT,
        members=range(256),
        leads=(1,),
        grid=Grid(4, 4, 300, 800),
        attributes={"format": "convcast ensemble", "fields": "refc", "leads": [1]},
    )
    with unconsolidated_is_fine():
        data.isel(number=slice(254)).to_zarr(source, zarr_format=3)
    assert len(list(to_grib(source, tmp_path / "m.grib2", fields=None, leads=None))) == 254
    assert by_cfgrib(tmp_path / "m.grib2").number.values.tolist() == list(range(254))

    with unconsolidated_is_fine():
        data.to_zarr(source, mode="w", zarr_format=3)
    with pytest.raises(SettingsError, match="has member 255, and GRIB2 numbers members in one octet") as caught:
        list(to_grib(source, tmp_path / "n.grib2", fields=None, leads=None))

    assert "--format netcdf" in caught.value.advice
    assert not (tmp_path / "n.grib2").exists()
    assert to_netcdf(source, tmp_path / "n.nc", fields=None, leads=None) == 1


def test_the_size_of_an_ensemble_that_an_octet_cannot_count_is_not_given():
    said = {"key": FIELDS["refc"].grib, "grid": GRID, "init": INIT, "lead_hours": 1, "simulated": False}
    assert encode(np.ones(GRID.shape), ensemble=EnsembleSpec(300, derived="mean"), **said).startswith(b"GRIB")
    assert EnsembleSpec(300, derived="mean").keys()["numberOfForecastsInEnsemble"] == 255
