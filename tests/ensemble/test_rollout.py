from __future__ import annotations

import sys
import threading
from itertools import islice

import numpy as np
import pytest
import torch
import xarray as xr
from gaussian import FAST, INIT, VARIABLES, GaussianForecaster, Still, make_dataset

from convcast.conventions import DIRECT, ROLLOUT, on_lattice
from convcast.ensemble import sample
from convcast.ensemble.noise import member_noise
from convcast.ensemble.rollout import rollout
from convcast.errors import DamagedFileError, SettingsError
from convcast.notation import HOUR

MEMBERS = range(12)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset.zarr")


def draw(dataset, path, *, leads, members=MEMBERS, forecaster=None, rank=0, world_size=1, **settings):
    settings = FAST.model_copy(update=settings)
    forecaster = forecaster or GaussianForecaster()
    where = {
        "init": INIT,
        "members": members,
        "leads": leads,
        "settings": settings,
        "rank": rank,
        "world_size": world_size,
    }
    done = list(sample(forecaster, dataset, path, **where))
    with xr.open_zarr(path) as opened:
        return opened.load(), done


@pytest.fixture(scope="module")
def rolled(dataset, tmp_path_factory):
    return draw(dataset, tmp_path_factory.mktemp("rolled") / "f.zarr", leads=(1, 2, 3, 4, 5))[0]


class TestRollout:
    def test_each_hour_goes_on_from_the_last_hours_of_the_members_themselves(self):
        past = np.zeros((4, len(VARIABLES), 2, 2), np.float32) + np.arange(4, dtype=np.float32)[:, None, None, None]
        seen = []

        def step(start, lead, pasts):
            seen.append((start, lead, None if pasts is None else pasts[:, :, 0, 0, 0].tolist()))
            return np.full((2, len(VARIABLES), 2, 2), 10.03 * lead, np.float32)

        hours = list(islice(rollout(step, INIT, past, VARIABLES), 3))

        assert [lead for lead, _ in hours] == [1, 2, 3]
        # refc (the first field) is rounded to sixteenths before the model sees it again
        one, two = on_lattice(VARIABLES[0], np.array([10.03, 20.06])).tolist()
        assert seen == [
            (INIT, 1, None),
            (INIT + HOUR, 2, [[1.0, 2.0, 3.0, one]] * 2),
            (INIT + 2 * HOUR, 3, [[2.0, 3.0, one, two]] * 2),
        ]

    def test_errors_add_up_from_hour_to_hour(self, dataset, tmp_path):
        rolled, _ = draw(dataset, tmp_path / "f.zarr", leads=(1, 2, 3, 4, 5), forecaster=Still())

        # Each hour departs by 1 ± 1 standard deviations of its own from where the member was.
        spread = rolled.t2m.isel(init_time=0).std("number").mean(["y", "x"])

        ratio = (spread.sel(lead_time=[np.timedelta64(h, "h") for h in (2, 4, 5)]) / float(spread[0])).values
        np.testing.assert_allclose(ratio, np.sqrt([2, 4, 5]), rtol=0.12)

    def test_trained_leads_are_drawn_directly_and_the_file_says_which_are(self, dataset, rolled, tmp_path):
        direct, _ = draw(dataset, tmp_path / "direct.zarr", leads=(1, 3))

        assert rolled.lead_method.values.tolist() == [DIRECT, ROLLOUT, DIRECT, ROLLOUT, ROLLOUT]
        for name in ("refc", "t2m", "cape"):
            there = rolled[name].sel(lead_time=direct.lead_time)
            np.testing.assert_array_equal(there, direct[name])

    def test_a_member_alone_is_the_member_of_all_at_every_hour(self, dataset, rolled, tmp_path):
        alone, done = draw(dataset, tmp_path / "f.zarr", leads=(4, 5), members=(11,))

        assert [(d.member, d.lead) for d in done] == [(11, 4), (11, 5)]
        for name in ("refc", "t2m", "cape"):
            theirs = rolled[name].sel(number=11, lead_time=alone.lead_time[-2:])
            np.testing.assert_array_equal(alone[name].isel(number=11)[:, -2:], theirs)

    def test_an_interrupted_rollout_is_finished_to_the_same_bits(self, dataset, rolled, tmp_path):
        path = tmp_path / "f.zarr"
        run = sample(
            GaussianForecaster(), dataset, path, init=INIT, members=MEMBERS, leads=(1, 2, 3, 4, 5), settings=FAST
        )
        for _ in islice(run, 30):
            pass
        run.close()

        finished, done = draw(dataset, path, leads=(1, 2, 3, 4, 5))

        # Yielded members are on the disk; those of a block of ten that were written behind them may be too.
        assert 60 - 30 - 10 <= len(done) <= 60 - 30
        xr.testing.assert_identical(finished, rolled)

    def test_noise_of_the_next_hour_is_drawn_while_the_network_is_busy(self, dataset, tmp_path, monkeypatch):
        begun, waited = threading.Event(), []

        def noise(seed, init, member, lead, shape, **options):
            if lead == 2:
                begun.set()
            return member_noise(seed, init, member, lead, shape, **options)

        class Slow(GaussianForecaster):
            def predict_noise(self, x, t, condition, *, guidance=1.0):
                waited.append(begun.wait(10))
                return super().predict_noise(x, t, condition, guidance=guidance)

        monkeypatch.setattr(sys.modules["convcast.ensemble.sample"], "member_noise", noise)
        draw(dataset, tmp_path / "f.zarr", leads=(2,), members=(0,), forecaster=Slow())
        assert waited[0]  # a call of the first hour

    def test_leads_of_an_ensemble_are_fixed_when_it_is_made(self, dataset, tmp_path):
        path = tmp_path / "f.zarr"
        draw(dataset, path, leads=(1, 2))
        assert draw(dataset, path, leads=(1,), members=(20,))[1][0].lead == 1

        with pytest.raises(DamagedFileError, match=r"leads \[1, 2, 3\], this is leads \[1, 3, 5\]"):
            draw(dataset, path, leads=(5,))

    def test_without_one_hour_forecasts_there_is_no_rollout(self, dataset, tmp_path):
        with pytest.raises(SettingsError, match="lead of 2 h, nor for steps of 1 h") as caught:
            draw(dataset, tmp_path / "f.zarr", leads=(2,), forecaster=GaussianForecaster(leads=(3,)))
        assert "--leads 3" in caught.value.advice


class TestLeadCorrelation:
    @pytest.mark.parametrize("wanted", [0.0, 0.5, 0.9, 1.0])
    def test_the_noise_of_two_leads_is_correlated_as_set_and_of_unit_variance(self, wanted):
        one, two = (
            member_noise(0, INIT, 3, lead, (4, 100, 100), lead_correlation=wanted).astype(float).ravel()
            for lead in (1, 6)
        )

        assert abs(np.corrcoef(one, two)[0, 1] - wanted) < 0.02
        assert abs(one.std() - 1) < 0.02

    def test_it_makes_a_members_residuals_alike_from_lead_to_lead(self, dataset, tmp_path):
        def correlation(name, value):
            drawn = draw(dataset, tmp_path / name, leads=(1, 3), lead_correlation=value)[0].t2m[0]
            off = (drawn - drawn.mean("number")).values
            return np.corrcoef(off[:, 0].ravel(), off[:, 1].ravel())[0, 1]

        assert abs(correlation("none", 0.0)) < 0.05
        assert correlation("strong", 0.8) == pytest.approx(0.8, abs=0.05)

    def test_another_correlation_is_another_ensemble(self, dataset, tmp_path):
        path = tmp_path / "f.zarr"
        draw(dataset, path, leads=(1,), lead_correlation=0.5, members=(0,))

        with pytest.raises(DamagedFileError, match="lead_correlation"):
            draw(dataset, path, leads=(1,), lead_correlation=0.8, members=(1,))


class TestProcesses:
    @pytest.mark.parametrize("leads", [(1, 3), (2,)])
    def test_processes_draw_every_member_once_and_the_same_bits(self, dataset, rolled, tmp_path, leads):
        members = range(12)
        shares = [
            {
                d.member
                for d in draw(dataset, tmp_path / "f.zarr", leads=leads, members=members, rank=r, world_size=2)[1]
            }
            for r in range(2)
        ]
        together, _ = draw(dataset, tmp_path / "f.zarr", leads=leads, members=members)
        one, _ = draw(dataset, tmp_path / "one.zarr", leads=leads, members=members)

        assert all(shares)
        assert not shares[0] & shares[1]
        assert shares[0] | shares[1] == set(members)
        xr.testing.assert_identical(together, one)

    def test_the_next_run_draws_the_members_of_a_process_that_died(self, dataset, tmp_path):
        path, members = tmp_path / "f.zarr", range(12)
        _, first = draw(dataset, path, leads=(1,), members=members, rank=0, world_size=2)

        _, rest = draw(dataset, path, leads=(1,), members=members)

        assert first
        assert rest
        assert sorted(d.member for d in (*first, *rest)) == list(members)


def test_torch_is_given_back_its_threads(dataset, tmp_path):
    before = torch.get_num_threads()
    draw(dataset, tmp_path / "f.zarr", leads=(2,), members=(0,))
    assert torch.get_num_threads() == before
