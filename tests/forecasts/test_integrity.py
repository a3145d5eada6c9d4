"""Values that a forecast file has lost are found without decoding any, and named."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
import zarr

from convcast.errors import DamagedFileError
from convcast.forecasts import integrity
from convcast.forecasts.products import make_products, readable_leads
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import Grid
from convcast.notation import parse_members
from convcast.settings import ProductSettings
from convcast.variables import select

INIT = np.datetime64("2024-05-06T21", "h")
DESCRIPTION = ForecastDescription(
    init=INIT,
    leads=(1, 3),
    direct=(1, 3),
    variables=select(["refc", "t2m"]),
    grid=Grid(6, 8, 300, 800),
    identity={"simulated": 0, "model_sha256": "aa", "seed": 7, "solver": "unipc", "steps": 10, "guidance": 1.0},
    information={"title": "convcast ensemble", "model": "phase1"},
)
SHARDED = replace(DESCRIPTION, grid=Grid(300, 500, 300, 800))
"""Large enough that a member's field is a shard of several chunks."""


def make(path, description=DESCRIPTION):
    store = EnsembleStore.prepare(path, description, members=3)
    for member, lead in ((0, 1), (0, 3), (1, 1), (1, 3), (2, 1)):
        noise = np.random.default_rng([member, lead]).normal(0, 3, (2, *description.grid.shape))
        store.write(member, lead, (np.array([20, 290])[:, None, None] + noise).astype(np.float32))
    return path


@pytest.fixture
def path(tmp_path):
    return make(tmp_path / "forecasts" / "20240506T21.zarr")


@pytest.fixture
def products(path, tmp_path):
    made = tmp_path / "products" / path.name
    make_products(path, made, DESCRIPTION, members=range(2), leads=(1, 3), settings=ProductSettings())
    return made


def chunk(path, name, *place):
    return path.joinpath(name, "c", "0", *map(str, place), "0", "0")


def cut_to(share):
    def spoil(file):
        values = file.read_bytes()
        file.write_bytes(values[: int(len(values) * share)])

    return spoil


def replace_by_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("description", [DESCRIPTION, SHARDED], ids=["chunk", "shard"])
@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda file: file.unlink(), "is gone"),
        (lambda file: shutil.rmtree(file.parents[1]), "is gone"),
        (cut_to(0.99), "is cut short"),
        (cut_to(0.5), "is cut short"),
        (cut_to(0), "is cut short"),
        (replace_by_folder, "is a folder"),
    ],
    ids=["gone", "folder gone", "cut at the end", "cut in the middle", "empty", "folder"],
)
def test_a_chunk_that_is_not_whole_is_damage_of_its_member(tmp_path, description, spoil, fault):
    path = make(tmp_path / "20240506T21.zarr", description)
    assert integrity.damaged_members(path) == []

    spoil(chunk(path, "t2m", 1, 1))

    assert integrity.damaged_members(path) == [integrity.DamagedMember(0, 1, 1, chunk(path, "t2m", 1, 1), fault)]


def test_members_that_are_not_complete_lack_nothing(path):
    assert not chunk(path, "t2m", 2, 1).exists()
    integrity.require_members(path)


def test_the_error_names_members_and_leads_and_the_command_that_draws_them_again(path, tmp_path):
    (tmp_path / "convcast.toml").touch()
    for member in (0, 1):
        chunk(path, "refc", member, 1).unlink()

    with pytest.raises(DamagedFileError) as caught:
        integrity.require_members(path)

    assert "values of member 0-1 at lead 3 h" in str(caught.value)
    assert "refc/c/0/0/1/0/0 is gone" in str(caught.value)
    words = "--init 2024-05-06T21 --members 0-1 --leads 3 --seed 7 --solver unipc --steps 10 --guidance 1.0"
    assert caught.value.advice == f"run `convcast sample {words} -w {tmp_path}`"


def test_the_command_for_one_member_draws_that_one(path):
    """`--members 1` would be the first one alone, number 0."""
    chunk(path, "refc", 1, 1).unlink()
    with pytest.raises(DamagedFileError) as caught:
        integrity.require_members(path)

    words = caught.value.advice.split()
    assert parse_members(words[words.index("--members") + 1]) == (1,)


@pytest.mark.parametrize("name", ["x", "latitude", "valid_time", "init_time"])
def test_a_coordinate_that_is_lost_is_damage(path, name):
    shutil.rmtree(path / name / "c")
    with pytest.raises(DamagedFileError, match=f"has lost its {name}"):
        integrity.require_members(path)


def test_a_field_that_is_lost_whole_is_damage(path):
    shutil.rmtree(path / "t2m")
    with pytest.raises(DamagedFileError, match="not a readable ensemble"):
        integrity.require_members(path)


def test_products_that_lost_a_map_lack_that_lead_alone(products):
    assert integrity.damaged_leads(products) == set()
    chunk(products, "t2m_quantile", 1, 2).unlink()

    assert integrity.damaged_leads(products) == {1}
    with pytest.raises(DamagedFileError, match="lost values of lead 3 h") as caught:
        integrity.require_products(products)
    assert "--members 0-1 --leads 3 --seed 7" in caught.value.advice
    assert "--keep products" in caught.value.advice


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), cut_to(0.5)], ids=["gone", "cut"])
def test_damaged_products_are_made_again_beside_those_that_are_whole(path, products, spoil):
    before = xr.open_zarr(products).load()
    spoil(chunk(products, "refc_mean", 1))
    where = {"members": range(2), "settings": ProductSettings()}
    assert readable_leads(products, DESCRIPTION, **where) == {1}

    assert make_products(path, products, DESCRIPTION, leads=(1, 3), **where)

    xr.testing.assert_equal(before, xr.open_zarr(products).load())


def test_products_are_not_made_of_values_that_are_lost(path, tmp_path):
    chunk(path, "t2m", 1, 0).unlink()
    with pytest.raises(DamagedFileError, match="lost values of member 1 at lead 1 h"):
        make_products(path, tmp_path / "p.zarr", DESCRIPTION, members=range(2), leads=(1,), settings=ProductSettings())
    assert not (tmp_path / "p.zarr").exists()


def test_values_that_cannot_be_decoded_are_damage_of_their_member(path):
    file = chunk(path, "t2m", 1, 0)
    values = bytearray(file.read_bytes())
    values[-20] ^= 255
    file.write_bytes(values)
    integrity.require_members(path)  # looking at the file does not tell

    with xr.open_zarr(path, chunks=None, decode_timedelta=True) as data:
        field = data.t2m.isel(init_time=0, lead_time=0)
        with pytest.raises(DamagedFileError, match="damaged values of t2m of member 1 at lead 1 h") as caught:
            integrity.read_values(field, path)
        integrity.read_values(field.isel(number=[0, 2]), path)

    assert "--members 1-1 --leads 1 " in caught.value.advice


def test_files_by_other_codecs_need_only_be_there(tmp_path):
    path = tmp_path / "e.zarr"
    group = zarr.create_group(path, attributes={"fields": "t2m", "leads": [1]})
    values = np.ones((1, 1, 1, 4, 4), np.float32)
    group.create_array("t2m", data=values, chunks=(1, 1, 1, 2, 2), shards=(1, 1, 1, 4, 4), compressors=None)
    group.create_array("complete", data=np.ones((1, 1, 1), np.int8))
    assert integrity.damaged_members(path) == []

    chunk(path, "t2m", 0, 0).unlink()
    assert len(integrity.damaged_members(path)) == 1
