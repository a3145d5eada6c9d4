from __future__ import annotations

import itertools
import multiprocessing
import time
from typing import get_args

import numpy as np
import pytest
import torch
import xarray as xr
from gaussian import FAST, INIT, SPREAD, START, VARIABLES, GaussianForecaster, Still, draw_members, make_dataset

from convcast.dataset import Dataset, HourStatus, window
from convcast.dataset.store import Store
from convcast.ensemble import MemberDone, latest_init, sample
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.settings import SolverName
from convcast.variables import FIELDS, select

MEMBERS = range(25)
FORKS = multiprocessing.get_context("forkserver")
"""Makes processes of one that has already imported what takes seconds each."""
FORKS.set_forkserver_preload(["convcast.ensemble", "cv2", "dask.array", "scipy.ndimage"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset.zarr")


def draw(dataset, path, *, members=MEMBERS, leads=(1,), forecaster=None, init=INIT, **settings):
    return list(
        sample(
            forecaster or GaussianForecaster(),
            dataset,
            path,
            init=init,
            members=members,
            leads=leads,
            settings=FAST.model_copy(update=settings),
        )
    )


def read(path):
    with xr.open_zarr(path) as opened:
        return opened.load()


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """All members at all leads, in one run."""
    path = tmp_path_factory.mktemp("whole") / "forecast.zarr"
    draw(dataset, path, leads=(1, 3))
    return read(path)


def test_every_member_and_lead_is_reported_once_as_it_is_finished(dataset, tmp_path):
    done = draw(dataset, tmp_path / "f.zarr", members=(1, 4), leads=(3, 1))

    assert [(d.member, d.lead) for d in done] == [(1, 1), (4, 1), (1, 3), (4, 3)]
    assert all(isinstance(d, MemberDone) and d.init == INIT and d.seconds > 0 for d in done)


def test_a_member_is_complete_when_it_is_reported(dataset, tmp_path):
    path = tmp_path / "f.zarr"
    run = sample(GaussianForecaster(), dataset, path, init=INIT, members=range(12), leads=(1,), settings=FAST)
    for done in itertools.islice(run, 3):
        assert int(read(path).complete[0, done.member, 0]) == 1


def test_members_are_of_the_predictive_distribution_of_a_world_where_it_is_known(dataset, tmp_path):
    draw(dataset, tmp_path / "f.zarr", steps=50)
    drawn = read(tmp_path / "f.zarr")

    for i, name in enumerate(("t2m", "cape"), start=1):
        ahead = window(dataset, INIT, 1).advected[i]
        residuals = (drawn[name][0, :, 0].values - ahead) / float(SPREAD[i])
        assert abs(residuals.mean() - 0.5) < 5 / np.sqrt(residuals.size)
        assert abs(residuals.var(axis=0, ddof=1).mean() - 1) < 0.03


def test_member_17_alone_is_member_17_of_all(dataset, whole, tmp_path):
    draw(dataset, tmp_path / "f.zarr", members=(17,))

    alone = read(tmp_path / "f.zarr")

    for variable in VARIABLES:
        np.testing.assert_array_equal(
            whole[variable.name].sel(number=17)[0, 0], alone[variable.name].sel(number=17)[0, 0]
        )
    assert int(alone.complete.sum()) == 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_it_is_so_for_a_network_whose_last_bits_depend_on_the_batch(dataset, tmp_path, threads, precision):
    weight = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(1))

    class Convolving(GaussianForecaster):
        def predict_noise(self, x, t, condition, *, guidance=1.0):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
                h = torch.nn.functional.silu(torch.nn.functional.conv2d(x, weight, padding=1))
                h = torch.nn.functional.conv_transpose2d(h, weight, padding=1)
            return super().predict_noise(x, t, condition) + 0.1 * torch.tanh(h.float())

    draw(dataset, tmp_path / "all.zarr", forecaster=Convolving(), threads=threads, members=range(12))
    draw(dataset, tmp_path / "some.zarr", forecaster=Convolving(), threads=threads, members=(3, 7, 11))

    everything, some = read(tmp_path / "all.zarr"), read(tmp_path / "some.zarr")
    xr.testing.assert_identical(
        everything.isel(number=[3, 7, 11]).drop_vars("complete"), some.isel(number=[3, 7, 11]).drop_vars("complete")
    )


def test_members_do_not_depend_on_the_batch_or_the_order(dataset, whole, tmp_path):
    path = tmp_path / "f.zarr"
    draw(dataset, path, members=(24, 3), batch=1)
    draw(dataset, path, members=(7, 3, 0), batch=4)
    draw(dataset, path, members=list(reversed(MEMBERS[:20])), batch=7)
    draw(dataset, path, members=MEMBERS, leads=(3, 1), batch=50)

    xr.testing.assert_identical(whole, read(path))


def test_members_cycles_leads_and_seeds_differ(dataset, whole, tmp_path):
    draw(dataset, tmp_path / "next.zarr", init=INIT + HOUR, members=(0, 1))
    draw(dataset, tmp_path / "seed.zarr", seed=1, members=(0, 1))

    def texture(forecast, member, lead):
        values = forecast.t2m[0, member, lead].values
        return (values - values.mean()).ravel()

    first = texture(whole, 0, 0)
    following, seeded = read(tmp_path / "next.zarr"), read(tmp_path / "seed.zarr")
    others = [texture(whole, 1, 0), texture(whole, 0, 1), texture(following, 0, 0), texture(seeded, 0, 0)]
    # The weather itself is the same smooth wave, of a fifth of the spread's variance at most.
    assert all(np.corrcoef(first, other)[0, 1] < 0.6 for other in others)
    assert not any(np.array_equal(first, other) for other in others)


def test_complete_members_are_not_drawn_again(dataset, tmp_path):
    path, again = tmp_path / "f.zarr", GaussianForecaster()
    draw(dataset, path, members=range(5))

    assert draw(dataset, path, members=range(5), forecaster=again) == []
    assert again.calls == []


def test_only_missing_members_are_drawn(dataset, tmp_path):
    path = tmp_path / "f.zarr"
    draw(dataset, path, members=(0, 2))

    assert [done.member for done in draw(dataset, path, members=range(4))] == [1, 3]


def test_a_member_that_lost_values_is_drawn_again_to_the_same_bits(dataset, tmp_path):
    path = tmp_path / "f.zarr"
    draw(dataset, path, members=range(5))
    whole = read(path)
    (path / "t2m" / "c" / "0" / "1" / "0" / "0" / "0").unlink()
    damaged = path / "refc" / "c" / "0" / "3" / "0" / "0" / "0"
    damaged.write_bytes(damaged.read_bytes()[:-5] + b"12345")

    assert [done.member for done in draw(dataset, path, members=range(5))] == [1, 3]

    xr.testing.assert_identical(whole, read(path))


def start_drawing(dataset, path, members):
    """A process that draws members, and the pipe that tells of each."""
    drawn, said = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=draw_members, args=(dataset.path, path, members, said))
    process.start()
    said.close()
    return process, drawn


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_what_an_undisturbed_one_makes(dataset, whole, tmp_path):
    path = tmp_path / "f.zarr"
    counts = []
    for turn in range(4):
        process, drawn = start_drawing(dataset, path, len(MEMBERS))
        for _ in range(3 * turn + 1):
            drawn.recv()
        time.sleep(0.003 * turn)
        process.kill()
        process.join()
        counts.append(int(read(path).complete.sum()))

    draw(dataset, path, leads=(1, 3))

    assert 0 < counts[0] < counts[-1] < 2 * len(MEMBERS)
    assert sorted(counts) == counts
    xr.testing.assert_identical(whole, read(path))


@pytest.mark.slow
def test_two_processes_may_draw_the_same_ensemble_at_once(dataset, whole, tmp_path):
    path = tmp_path / "f.zarr"
    both = [start_drawing(dataset, path, members) for members in (9, len(MEMBERS))]
    for process, _ in both:
        process.join(60)

    assert [process.exitcode for process, _ in both] == [0, 0]
    xr.testing.assert_identical(whole, read(path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed 0, this is seed 1"),
        ({"solver": "ddpm"}, "solver exponential, this is solver ddpm"),
        ({"steps": 7}, "steps 6, this is steps 7"),
        ({"guidance": 0.5}, "guidance 1.0, this is guidance 0.5"),
        ({"forecaster": GaussianForecaster(sha256="4567")}, "model_sha256 0123, this is model_sha256 4567"),
        ({"tile": 16, "overlap": 4}, "tiles one tile, this is tiles 2 x 2 tiles of 16 x 16 cells"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_ensemble_made_otherwise_is_refused_with_the_difference(dataset, tmp_path, changed, message):
    draw(dataset, tmp_path / "f.zarr", members=(0,))

    with pytest.raises(DamagedFileError, match=message):
        draw(dataset, tmp_path / "f.zarr", members=(1,), **changed)


def test_a_tile_setting_that_changes_nothing_is_not_refused(dataset, tmp_path):
    draw(dataset, tmp_path / "f.zarr", members=(0,))

    assert len(draw(dataset, tmp_path / "f.zarr", members=(0, 1), tile=512)) == 1


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"leads": (2,), "forecaster": GaussianForecaster(leads=(3,))},
            SettingsError,
            "not trained for a lead of 2 h",
        ),
        ({"members": ()}, SettingsError, "at least one member"),
        ({"members": (-1,)}, SettingsError, "numbered from 0"),
        ({"members": (40_000,)}, SettingsError, "numbered from 0"),
        ({"steps": 51}, SettingsError, "has 50 steps, but 51 were requested"),
        ({"init": START}, MissingInputError, "2024-05-05T21"),
        ({"init": INIT + 10 * HOUR}, MissingInputError, "2024-05-06T13"),
        ({"forecaster": GaussianForecaster(simulated=True)}, DamagedFileError, "trained on simulated weather"),
        (
            {"forecaster": GaussianForecaster(variables=select(["refc", "cape", "t2m"]))},
            DamagedFileError,
            "has the fields",
        ),
        ({"forecaster": GaussianForecaster(variables=select(["refc", "t2m"]))}, DamagedFileError, "has the fields"),
        ({"forecaster": GaussianForecaster(analysis_lead=1)}, DamagedFileError, "analyses of lead 1"),
        ({"forecaster": GaussianForecaster(spacing=1000.0)}, DamagedFileError, "cells of 1000 m"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_sampling_is_one_sentence_and_leaves_no_files(dataset, tmp_path, changed, error, message):
    with pytest.raises(error, match=message) as caught:
        draw(dataset, tmp_path / "f.zarr", **{"members": (0,), **changed})

    assert caught.value.advice
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_real_weather_is_refused_on_a_simulated_dataset(tmp_path):
    simulated = make_dataset(tmp_path / "d.zarr", simulated=True)

    with pytest.raises(DamagedFileError, match="trained on real weather"):
        draw(simulated, tmp_path / "f.zarr", members=(0,))


def test_values_that_are_not_finite_are_the_models_fault(dataset, tmp_path):
    with pytest.raises(DamagedFileError, match="refc values that are not finite"):
        draw(dataset, tmp_path / "f.zarr", members=(0,), forecaster=GaussianForecaster(mean=np.nan))


def test_the_file_says_what_made_it(whole):
    expected = {
        "model": "0123",
        "model_sha256": "0123",
        "seed": 0,
        "solver": "exponential",
        "steps": 6,
        "guidance": 1.0,
        "simulated": 0,
        "training_hours": "2024-05-06T00/2024-05-06T00",
        "Conventions": "CF-1.11",
    }

    assert expected == {name: whole.attrs[name] for name in expected}
    assert {"convcast_version", "settings_hash", "source", "title", "precision"} <= set(whole.attrs)


def test_simulated_is_in_the_title(tmp_path):
    simulated = make_dataset(tmp_path / "d.zarr", Grid(20, 24, 300, 800, periodic=True), simulated=True)
    draw(simulated, tmp_path / "f.zarr", members=(0,), forecaster=GaussianForecaster(simulated=True))

    attributes = read(tmp_path / "f.zarr").attrs

    assert attributes["title"].startswith("SIMULATED")
    assert attributes["simulated"] == 1


def test_fields_stay_within_their_bounds(dataset, tmp_path):
    draw(dataset, tmp_path / "f.zarr", members=(0,), forecaster=GaussianForecaster(mean=-50.0))

    cape = read(tmp_path / "f.zarr").cape.isel(number=0, lead_time=0)

    # A residual of 50 standard deviations below 1000 J/kg would be -9000.
    assert float(cape.min()) == 0
    assert float(cape.max()) < 100


@pytest.mark.parametrize("solver", get_args(SolverName))
def test_every_solver_draws_the_same_member_again(dataset, tmp_path, solver):
    for name, members in (("a", (11,)), ("b", range(10, 13))):
        draw(dataset, tmp_path / name, solver=solver, members=members)

    first, second = (read(tmp_path / name).isel(number=11, lead_time=0) for name in "ab")
    xr.testing.assert_identical(first.drop_vars("complete"), second.drop_vars("complete"))


def test_the_latest_init_is_the_last_hour_with_all_its_history(tmp_path):
    path = make_dataset(tmp_path / "d.zarr", hours=5).path
    Store.open(path, writing=True).write_status([START + 8 * HOUR], HourStatus.OK, [])

    actual = latest_init(Dataset.open(path), GaussianForecaster())

    assert actual == START + 4 * HOUR


def test_no_latest_init_without_enough_hours(tmp_path):
    with pytest.raises(MissingInputError, match="4 consecutive hours"):
        latest_init(make_dataset(tmp_path / "d.zarr", hours=3), GaussianForecaster())


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("larger") / "dataset.zarr", Grid(50, 70, 300, 800))


@pytest.mark.parametrize(("solver", "steps"), [("unipc", 6), ("exponential", 50)])
def test_tiles_of_a_local_model_give_what_the_whole_domain_gives(larger, tmp_path, solver, steps):
    """`exponential` needs many steps here: few integrate a mean of several standard deviations to some percent only."""

    class Local(GaussianForecaster):
        """Knows how the coming fields are distributed; another reference in each tile must change nothing."""

        offset = 0.0

        def condition(self, windows, *, periodic):
            (window,) = windows
            self.offset += 0.4
            made = super().condition(windows, periodic=periodic)
            made.reference = torch.from_numpy(window.history[-1]) + self.offset * SPREAD
            made.mean = (torch.from_numpy(window.history[-2]) - made.reference) / SPREAD
            return made

        def predict_noise(self, x, t, condition, *, guidance=1.0):
            signal, noise = float(self.schedule.signal[t]), float(self.schedule.noise[t])
            return noise * (x - signal * condition.mean)

    how = {"members": (0,), "solver": solver, "steps": steps}
    draw(larger, tmp_path / "tiled.zarr", **how, forecaster=Local(), tile=24, overlap=8)
    draw(larger, tmp_path / "whole.zarr", **how, forecaster=Local(), tile=70)

    tiled, whole = (read(tmp_path / name).isel(number=0, lead_time=0) for name in ("tiled.zarr", "whole.zarr"))
    for variable in VARIABLES:
        # The noise that sampling starts from has a thousandth of the state in it. References differ by up to 4 SPREAD.
        spread = float(SPREAD[VARIABLES.index(variable)])
        close = 0.01 * spread + 1 / variable.scale
        np.testing.assert_allclose(whole[variable.name], tiled[variable.name], atol=close)


def test_tiles_meet_without_a_seam(larger, tmp_path):
    # The reference is the same in all tiles, so that nothing but the border of a tile can leave a mark.
    draw(larger, tmp_path / "tiled", forecaster=Still(border=1.0), tile=30, overlap=12, members=(0,))
    draw(larger, tmp_path / "whole", forecaster=Still(), tile=70, members=(0,))
    tiled, whole = (read(tmp_path / name).t2m[0, 0, 0].values for name in ("tiled", "whole"))

    mark = (tiled - whole)[3:-3, 3:-3] / float(SPREAD[VARIABLES.index(FIELDS["t2m"])])

    # The network errs by a whole standard deviation of the noise where a tile ends.
    assert np.abs(np.diff(mark, axis=0)).max() < 0.1
    assert np.abs(np.diff(mark, axis=1)).max() < 0.1


def test_tiles_have_one_size_and_no_call_is_larger(larger, tmp_path):
    forecaster = GaussianForecaster()

    draw(larger, tmp_path / "f.zarr", members=(0,), forecaster=forecaster, tile=30, overlap=12)

    assert {(30, 30)} == {shape[-2:] for shape in forecaster.calls}
