"""The promises of sampling, with the real architecture, small and untrained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from gaussian import FAST

from convcast.dataset import Dataset, HourStatus
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.store import Store
from convcast.ensemble import latest_init, sample
from convcast.grid import Grid
from convcast.model import Forecaster
from convcast.model.training.preparation import describe
from convcast.notation import HOUR
from convcast.settings.load import load_settings
from convcast.variables import FIELDS

START = np.datetime64("2024-05-06T00", "h")
GRIDS = {"torus": Grid(32, 32, 400, 900, periodic=True), "odd": Grid(45, 38, 400, 900)}
SETTINGS = {
    "split": {"validation_days": 0.2, "test_days": 0, "gap_hours": 1},
    "model": {
        "leads": [1, 2],
        "base": 16,
        "multipliers": [1, 2],
        "attention": [4],
        "window": 4,
        "embedding": 16,
        "diffusion_steps": 50,
    },
    "training": {"patch": 32},
}


@pytest.fixture(scope="module", autouse=True)
def short_fit():
    """The correction of the reference is fitted in few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convcast.model.features.correction.MAX_STEPS", 2)
        yield


def weather(hour, grid):
    generator = np.random.default_rng(5)
    typical = np.array([[10, 295, 285, 5, -3, 900, -80], [4, 3, 3, 2, 2, 150, 15]], np.float32)[:, :, None, None]
    noise = generator.normal(size=(7, *grid.shape))
    smooth = sum(np.roll(noise, (i, j), (1, 2)) for i in range(-2, 3) for j in range(-2, 3)) / 5
    moved = np.roll(smooth, (hour, 2 * hour), (1, 2)) * np.cos(hour / 5)
    return (typical[0] + typical[1] * moved).astype(np.float32)


@pytest.fixture(scope="module", params=GRIDS)
def made(request, tmp_path_factory):
    """A dataset, and a forecaster of it."""
    grid = GRIDS[request.param]
    path = tmp_path_factory.mktemp("real") / "dataset.zarr"
    store = Store.create(
        path, DatasetDescription(tuple(FIELDS.values()), grid, True, 0), np.ones((2, *grid.shape), np.float32)
    )
    times = START + np.arange(18) * HOUR
    for hour, valid in enumerate(times):
        store.write_hour(valid, weather(hour, grid))
        if hour:
            store.write_tendencies(valid)
    store.write_status(times, HourStatus.OK, [])
    dataset = Dataset.open(path)
    description = describe(dataset, load_settings(flags=SETTINGS, preset="demo"))
    torch.manual_seed(0)
    network = description.network()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return dataset, lambda precision: Forecaster(description, network, "0123", precision=precision)


def draw(dataset, forecaster, path, members, *, leads=(1, 2), **settings):
    for _ in sample(
        forecaster,
        dataset,
        path,
        init=latest_init(dataset, forecaster),
        members=members,
        leads=leads,
        settings=FAST.model_copy(update={"tile": 32, "overlap": 12, "steps": 2, **settings}),
    ):
        pass
    with xr.open_zarr(path) as opened:
        return opened.load()


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_member_is_the_same_bit_for_bit_in_any_company(made, tmp_path, precision):
    dataset, forecaster = made

    alone = draw(dataset, forecaster(precision), tmp_path / "a.zarr", (11,), batch=1, precision=precision)
    among = draw(dataset, forecaster(precision), tmp_path / "b.zarr", range(10, 13), precision=precision)

    for name in FIELDS:
        np.testing.assert_array_equal(among[name].sel(number=11), alone[name].sel(number=11))


def test_members_spread_and_stay_within_their_bounds(made, tmp_path):
    dataset, forecaster = made

    drawn = draw(dataset, forecaster("float32"), tmp_path / "f.zarr", range(3), guidance=0.7)

    for name, variable in FIELDS.items():
        values = drawn[name].values
        assert variable.bounds[0] <= values.min() <= values.max() <= variable.bounds[1]
        assert values.std(axis=1).mean() > 0


def test_tiles_and_the_whole_domain_are_the_same_where_no_border_reaches(tmp_path):
    """Two steps of the solver, on a domain of two tiles and as one."""
    grid = Grid(16, 608, 400, 900)
    store = Store.create(
        tmp_path / "d", DatasetDescription(tuple(FIELDS.values()), grid, True, 0), np.ones((2, *grid.shape), np.float32)
    )
    times = START + np.arange(14) * HOUR
    for hour, valid in enumerate(times):
        store.write_hour(valid, weather(hour, grid))
        if hour:
            store.write_tendencies(valid)
    store.write_status(times, HourStatus.OK, [])
    dataset = Dataset.open(tmp_path / "d")
    flags = SETTINGS | {"model": SETTINGS["model"] | {"multipliers": [1], "unshuffle": 1, "attention": []}}
    description = describe(dataset, load_settings(flags=flags, preset="demo"))
    torch.manual_seed(0)
    network = description.network()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    forecaster = Forecaster(description, network, "0123", precision="float32")

    tiled = draw(dataset, forecaster, tmp_path / "t.zarr", (0,), leads=(2,), tile=320, overlap=32)
    whole = draw(dataset, forecaster, tmp_path / "w.zarr", (0,), leads=(2,), tile=608)

    # A step reaches as far as the network does; the wind of two hours, by which the last frame is carried, 40 cells.
    first_border = 288 - 2 * (network.receptive_radius() + 40)
    assert first_border > 60
    for name, variable in FIELDS.items():
        close = np.s_[..., :first_border]
        step = 1 / variable.scale  # of the lattice that members are stored on; a last bit may tip the rounding
        difference = np.abs(tiled[name].values - whole[name].values)[:, :, -1]  # the lead of 2 h
        assert difference[close].max() <= step
        assert (difference[close] > 0).mean() < 1e-2
        assert difference.max() > step  # near the border they do differ, or this would show nothing
