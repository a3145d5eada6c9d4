from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import psutil
import pytest
import torch
import xarray as xr
import zarr
from gaussian import FAST, INIT, GaussianForecaster, make_dataset

from convcast.ensemble import cover, memory, sample
from convcast.ensemble.memory import choose_tiling
from convcast.errors import SettingsError
from convcast.grid import CONUS, Grid
from convcast.settings import SamplingSettings

TILING = cover(CONUS, tile=256, overlap=64)


@dataclass
class Large(GaussianForecaster):
    """Forecaster that takes as much memory as a network of base 64."""

    def __post_init__(self):
        super().__post_init__()
        self.variables = (*self.variables, *self.variables, self.variables[0])

    def call_bytes(self, cells):
        return 64 * 4 * 32 * cells

    def condition_bytes(self, cells):
        return 64 * 4 * cells + 35 * 4 * cells


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(memory, "_memory", lambda device: (1e9, 23e9))
    forecaster = Large()
    forecaster.device = SimpleNamespace(type="cuda")
    return forecaster


def of(forecaster, gigabytes, *, tiling=TILING, batch=None, rollout=False):
    return memory.plan(forecaster, tiling, gigabytes=gigabytes, batch=batch, rollout=rollout)


def test_a_gpu_with_more_memory_draws_more_members_together(gpu):
    drawn = [of(gpu, gigabytes).members for gigabytes in (4, 8, 16, 24)]

    assert drawn == sorted(drawn)
    assert drawn[0] < drawn[-1] <= memory.GPU_GROUP


def test_a_plan_fits_into_memory(gpu):
    for gigabytes in (3, 4, 8, 16, 24):
        found = of(gpu, gigabytes)
        states = found.members * memory.STATE_COPIES * 7 * 1059 * 1799 * 4
        taken = 1e9 + states + found.members * gpu.call_bytes(256**2) + found.cached_tiles * gpu.condition_bytes(256**2)
        assert taken < gigabytes * 1e9


def test_all_conditions_are_kept_before_more_members_are_drawn_together(gpu):
    """One that is not kept is encoded again at every step."""
    found = of(gpu, 8)
    assert found.cached_tiles == len(TILING.tiles)
    assert 1 < found.members < memory.GPU_GROUP
    gpu.condition_bytes = lambda cells: 10 * 64 * 4 * cells  # too much to keep them all
    crowded = of(gpu, 8)
    assert crowded.members >= 1
    assert crowded.cached_tiles < len(TILING.tiles)


def test_without_a_limit_most_of_the_free_memory_is_taken(gpu):
    assert of(gpu, None) == of(gpu, 1 + 0.8 * 23)


def test_members_with_pasts_of_their_own_take_more(gpu):
    one_tile = cover(Grid(256, 256, 400, 900), tile=256, overlap=64)
    assert of(gpu, 8, tiling=one_tile, rollout=True).members < of(gpu, 8, tiling=one_tile).members


def test_memory_of_a_cpu_changes_the_conditions_kept_and_never_the_members_drawn_together(monkeypatch):
    monkeypatch.setattr(memory, "_memory", lambda device: (0.5e9, 20e9))

    little, much = of(Large(), 2.5), of(Large(), 8)

    assert little.members == much.members == 1
    assert little.cached_tiles < much.cached_tiles == len(TILING.tiles)


AUTO = SamplingSettings()
WHOLE = "one tile"


def test_a_gpu_with_room_for_it_draws_the_domain_in_one_piece(gpu):
    assert str(choose_tiling(gpu, CONUS, AUTO)) == WHOLE
    for less in (AUTO.model_copy(update={"memory": 16.0}), AUTO.model_copy(update={"tile": 256})):
        assert str(choose_tiling(gpu, CONUS, less)) == str(TILING)
    gpu.device.type = "cpu"
    assert str(choose_tiling(gpu, CONUS, AUTO)) == str(TILING)
    assert str(choose_tiling(gpu, Grid(200, 250, 400, 900), AUTO)) == WHOLE


def test_a_domain_in_one_piece_fits_into_memory(gpu):
    whole = choose_tiling(gpu, CONUS, AUTO)
    assert of(gpu, None, tiling=whole).members == 1


@pytest.mark.parametrize(("first", "then"), [(24.0, 8.0), (8.0, 24.0)])
def test_a_forecast_keeps_to_the_tiles_of_its_first_members(gpu, tmp_path, first, then):
    path = tmp_path / "f.zarr"
    begun = choose_tiling(gpu, CONUS, AUTO.model_copy(update={"memory": first}), stored=(path,))
    zarr.create_group(path, attributes={"tiles": str(begun)})
    again = choose_tiling(gpu, CONUS, AUTO.model_copy(update={"memory": then}), stored=(tmp_path / "absent.zarr", path))
    assert str(again) == str(begun)


def test_too_little_for_a_tile_is_refused_with_what_it_takes(monkeypatch):
    monkeypatch.setattr(memory, "_memory", lambda device: (0.5e9, 20e9))

    with pytest.raises(
        SettingsError, match=r"needs \d\.\d GB for 1 member at once on tiles of 256 x 256.* have 1\.0 GB"
    ) as caught:
        of(Large(), 1.0)
    assert "--memory" in caught.value.advice
    assert "tile=128" in caught.value.advice


def test_members_are_the_same_bits_however_little_memory_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_memory", lambda device: (0.0, 1e9))
    dataset = make_dataset(tmp_path / "d.zarr", Grid(50, 70, 300, 800))
    fields, calls = [], []
    for name, gigabytes in (("little", 0.017), ("much", 1)):
        forecaster = GaussianForecaster()
        settings = FAST.model_copy(update={"tile": 30, "overlap": 12, "memory": gigabytes})
        path = tmp_path / name
        forecaster.call_bytes = forecaster.condition_bytes = lambda cells: 1000 * cells
        list(sample(forecaster, dataset, path, init=INIT, members=(3,), leads=(1,), settings=settings))
        with xr.open_zarr(path) as opened:
            fields.append(opened.load())
        calls.append(forecaster.conditions)

    xr.testing.assert_identical(*fields)
    assert calls[1] == len(cover(dataset.grid, tile=30, overlap=12).tiles)
    assert calls[0] > 4 * calls[1]


def test_used_and_free_memory_are_those_of_the_machine():
    used, free = memory._memory(torch.device("cpu"))

    assert used == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert 0 < free < psutil.virtual_memory().total
