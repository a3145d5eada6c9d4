from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import distance_transform_edt

from convcast.conventions import on_lattice
from convcast.errors import DamagedFileError, SettingsError
from convcast.files import discard
from convcast.forecasts.open import StoredForecast
from convcast.forecasts.plot import select_maps
from convcast.forecasts.products import ANY_TIME, make_products, readable_leads
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.forecasts.summary import quantiles, summarise
from convcast.grid import Grid
from convcast.settings import ProductSettings
from convcast.variables import FIELDS
from convcast.workspace import create_workspace

GRID = Grid(30, 36, 300, 800)
REFC, CIN, T2M = (FIELDS[name] for name in ("refc", "cin", "t2m"))
DESCRIPTION = ForecastDescription(
    init=np.datetime64("2024-05-06T21", "h"),
    leads=(1, 2),
    direct=(1,),
    variables=(REFC, T2M, CIN),
    grid=GRID,
    identity={"simulated": 1, "model_sha256": "aa", "seed": 0},
    information={"title": "SIMULATED convcast ensemble", "model": "demo"},
)
SETTINGS = ProductSettings(neighbourhood=10)
MEMBERS = range(7)


def storms(seed, lead):
    generator = np.random.default_rng([seed, lead])
    refc = np.full(GRID.shape, -10.0)
    for _ in range(3):
        y, x = (generator.integers(4, side - 4) for side in GRID.shape)
        refc[y - 3 : y + 3, x - 2 : x + 3] = generator.uniform(20, 60)
    t2m, cin = generator.normal(300, 3, GRID.shape), -generator.exponential(40, GRID.shape)
    return on_lattice(T2M, np.stack([refc, t2m, cin]))


@pytest.fixture(scope="module")
def drawn():
    """Return members (member, lead, variable, y, x), on the lattice."""
    return np.stack([[storms(member, lead) for lead in (1, 2)] for member in MEMBERS])


@pytest.fixture(scope="module")
def written(tmp_path_factory, drawn):
    """The tests copy this forecast and leave it unchanged."""
    path = tmp_path_factory.mktemp("written") / "f.zarr"
    store = EnsembleStore.prepare(path, DESCRIPTION, members=len(MEMBERS))
    for member in MEMBERS:
        for place, lead in enumerate(DESCRIPTION.leads):
            store.write(member, lead, drawn[member, place])
    return path


@pytest.fixture
def ensemble(tmp_path, written):
    return shutil.copytree(written, tmp_path / "forecasts" / "f.zarr")


def make(ensemble, *, leads=(1, 2), members=MEMBERS, settings=SETTINGS, description=DESCRIPTION):
    path = ensemble.parent.parent / "products" / "f.zarr"
    done = make_products(ensemble, path, description, members=members, leads=leads, settings=settings)
    return path, done


def read(path):
    with xr.open_zarr(path, decode_timedelta=True) as opened:
        return opened.load()


class TestSummary:
    @pytest.mark.parametrize("variable", [REFC, T2M, CIN], ids=lambda variable: variable.name)
    def test_moments_and_probabilities_are_those_of_the_members(self, drawn, variable):
        fields = drawn[:, 0, [REFC, T2M, CIN].index(variable)]
        found = summarise(variable, iter(fields), radius=2)

        np.testing.assert_allclose(found.mean, fields.astype(float).mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.spread, fields.astype(float).std(0, ddof=1), rtol=1e-4, atol=1e-4)
        for k, threshold in enumerate(variable.thresholds):
            event = fields <= threshold if variable.events_below else fields >= threshold
            np.testing.assert_allclose(found.probability[k], event.mean(0), atol=1e-6)
            near = [distance_transform_edt(~e) <= 2 if e.any() else np.zeros(GRID.shape, bool) for e in event]
            np.testing.assert_allclose(found.neighbourhood[k], np.mean(near, 0), atol=1e-6)

    def test_the_matched_mean_has_the_places_of_the_mean_and_the_values_of_the_members(self, drawn):
        fields = drawn[:, 0, 0]
        found = summarise(REFC, iter(fields), radius=2).matched_mean

        pooled = np.sort(fields.ravel())[len(fields) // 2 :: len(fields)]
        np.testing.assert_allclose(np.sort(found.ravel()), pooled, atol=1e-6)
        mean = fields.astype(float).mean(0).ravel()
        assert (np.diff(found.ravel()[np.argsort(mean, kind="stable")]) >= 0).all()
        assert fields.astype(float).mean(0).max() < found.max() <= fields.max()

    def test_one_member_is_its_own_summary(self, drawn):
        one = summarise(REFC, [drawn[0, 0, 0]], radius=2)

        np.testing.assert_array_equal(one.mean, drawn[0, 0, 0])
        assert not one.spread.any()
        np.testing.assert_array_equal(np.sort(one.matched_mean.ravel()), np.sort(drawn[0, 0, 0].ravel()))

    def test_quantiles_in_bands_are_those_of_the_whole(self, drawn, monkeypatch):
        monkeypatch.setattr("convcast.forecasts.summary.BAND", 7 * 36 * 4)
        fields, asked = drawn[:, 0, 1], []

        def rows(band):
            asked.append(band)
            return list(fields[:, band])

        found = quantiles(rows, (0.1, 0.5, 0.9), GRID.shape, len(fields))

        np.testing.assert_allclose(found, np.quantile(fields, (0.1, 0.5, 0.9), axis=0), rtol=1e-6)
        assert len(asked) == 8


class TestProducts:
    def test_the_file_is_read_by_name_threshold_and_lead(self, ensemble, drawn):
        path, done = make(ensemble)
        data = read(path)

        assert done
        hour = data.sel(lead_time=np.timedelta64(2, "h")).isel(init_time=0)
        np.testing.assert_allclose(
            hour.refc_probability.sel(refc_threshold=30), (drawn[:, 1, 0] >= 30).mean(0), atol=1e-6
        )
        np.testing.assert_allclose(
            hour.cin_probability.sel(cin_threshold=-25), (drawn[:, 1, 2] <= -25).mean(0), atol=1e-6
        )
        np.testing.assert_allclose(
            hour.t2m_quantile.sel(quantile=0.9), np.quantile(drawn[:, 1, 1], 0.9, axis=0), atol=0.04
        )
        assert data.lead_method.values.tolist() == [0, 1]
        assert "refc_matched_mean" in data
        assert "t2m_matched_mean" not in data
        assert data.t2m_mean.attrs["cell_methods"] == "realization: mean"
        assert data.refc_neighbourhood_probability.attrs["long_name"].endswith("somewhere within 10 km")
        assert data.attrs["members"] == "0-6"
        assert data.attrs["simulated"] == 1
        assert data.attrs["title"].startswith("SIMULATED")

    @pytest.mark.parametrize("one_by_one", [False, True])
    def test_probabilities_at_any_time_are_shares_of_the_members_that_had_the_event_by_then(
        self, ensemble, drawn, one_by_one
    ):
        for leads in ((1,), (1, 2)) if one_by_one else ((1, 2),):
            path, _ = make(ensemble, leads=leads)
            assert ("refc_any_time_probability" in read(path)) == (len(leads) == 2), "one lead has no story"
        data = read(path).isel(init_time=0)

        fields = drawn[:, :, 0]  # (member, lead, y, x)
        for lead, by_then in ((0, fields[:, 0]), (1, fields.max(axis=1))):
            for k, threshold in enumerate(REFC.thresholds):
                event = by_then >= threshold
                at = {"lead_time": lead, "refc_threshold": k}
                found = data.refc_any_time_probability.isel(at)
                np.testing.assert_allclose(found, event.mean(0), atol=1e-6)
                near = [distance_transform_edt(~one) <= 3 if one.any() else np.zeros_like(one) for one in event]
                found = data.refc_any_time_neighbourhood_probability.isel(at)
                np.testing.assert_allclose(found, np.mean(near, axis=0), atol=1e-6)
        first = data.isel(lead_time=0)
        np.testing.assert_array_equal(first.refc_any_time_probability, first.refc_probability)
        assert data.refc_any_time_probability.attrs["long_name"].endswith("at any of the leads up to this one")
        assert "t2m_any_time_probability" not in data

    def test_without_the_members_of_an_earlier_lead_there_is_no_probability_at_any_time(self, tmp_path, drawn):
        path = tmp_path / "forecasts" / "f.zarr"
        for place, lead in enumerate((1, 2)):
            store = EnsembleStore.prepare(path, replace(DESCRIPTION, leads=(lead,)), members=len(MEMBERS))
            for member in MEMBERS:
                store.write(member, lead, drawn[member, place])
            made, done = make(path, leads=(lead,), description=replace(DESCRIPTION, leads=(lead,)))
            assert done
            discard(path)
        data = read(made)
        assert list(data.lead_time.values.astype("timedelta64[h]").astype(int)) == [1, 2]
        assert not [name for name in data if "any_time" in name]

    def test_maps_of_members_and_of_products_show_the_same_probabilities_at_any_time(self, ensemble):
        workspace = create_workspace(ensemble.parent.parent / "w")
        path, _ = make(ensemble)
        kinds = ["any-time", "any-time-neighbourhood"]
        init = DESCRIPTION.init
        found = {}
        for source in (StoredForecast(init, ensemble, None), StoredForecast(init, None, path)):
            maps = select_maps(
                workspace, source, [REFC], None, threshold=None, kinds=kinds, chosen=True, radius=SETTINGS.neighbourhood
            )
            (_, none), (shown, possible) = maps
            assert (none, possible) == ([], kinds), "the first lead is no story"
            found[source] = shown
        one, other = found.values()
        assert one.window == other.window == (1, 2)
        np.testing.assert_allclose(one.any_time, other.any_time, atol=1e-6)
        np.testing.assert_allclose(one.any_time_near, other.any_time_near, atol=1e-6)
        assert 0 < one.any_time.mean() < one.any_time_near.mean()
        with pytest.raises(SettingsError, match="no such probability over several leads"):
            list(select_maps(workspace, source, [REFC], [1], threshold=None, kinds=kinds, chosen=True))

    def test_it_takes_a_quarter_of_the_room_of_fifty_members_at_most(self, ensemble):
        sizes = [sum(f.stat().st_size for f in p.rglob("c/**/*") if f.is_file()) for p in (ensemble, make(ensemble)[0])]
        assert sizes[1] < 0.25 * sizes[0] / len(MEMBERS) * 50

    def test_leads_are_added_to_those_that_are_there(self, ensemble):
        path, _ = make(ensemble, leads=(2,))
        first = read(path)
        remade = path.stat().st_ino
        make(ensemble, leads=(1,))
        both = read(path)

        assert remade != path.stat().st_ino
        assert both.attrs["leads"] == [1, 2]
        again = both.isel(lead_time=1).assign_attrs(first.attrs).drop_vars(ANY_TIME)  # these are of both leads
        xr.testing.assert_identical(first.isel(lead_time=0), again)
        assert readable_leads(path, DESCRIPTION, MEMBERS, SETTINGS) == {1, 2}

    def test_the_same_are_not_made_twice(self, ensemble):
        path, _ = make(ensemble)
        before = path.stat().st_ino
        make(ensemble, leads=(1,))
        assert path.stat().st_ino == before

    @pytest.mark.parametrize(
        "change",
        [
            {"members": range(5)},
            {"settings": ProductSettings(neighbourhood=20)},
            {"description": replace(DESCRIPTION, identity=DESCRIPTION.identity | {"seed": 1})},
        ],
        ids=["members", "settings", "seed"],
    )
    def test_products_of_something_else_are_replaced(self, ensemble, change):
        path, _ = make(ensemble)
        before = read(path)
        make(ensemble, leads=(1,), **change)
        after = read(path)

        assert after.sizes["lead_time"] == 1
        assert before.attrs != after.attrs

    def test_products_wait_for_members_that_are_being_drawn(self, ensemble):
        store = EnsembleStore.prepare(ensemble, DESCRIPTION, members=9)
        path, done = make(ensemble, members=range(9))

        assert store.missing(range(9), 1) == [7, 8]
        assert not done
        assert not path.exists()

    def test_something_else_under_the_name_is_refused(self, ensemble):
        path = ensemble.parent.parent / "products" / "f.zarr"
        path.mkdir(parents=True)
        (path / "holiday.jpg").write_text("")
        with pytest.raises(DamagedFileError, match="is not convcast's products"):
            make(ensemble)

    def test_a_kill_leaves_the_old_products_or_the_new(self, ensemble, monkeypatch):
        path, _ = make(ensemble, leads=(1,))

        def killed(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(xr.Dataset, "to_zarr", killed)
        with pytest.raises(KeyboardInterrupt):
            make(ensemble)
        assert read(path).sizes["lead_time"] == 1
        assert [p.name for p in path.parent.iterdir() if p.name.endswith(".partial")] == []

    def test_removed_members_are_gone_at_once(self, ensemble):
        assert discard(ensemble) > 0
        assert discard(ensemble) == 0
        assert list(ensemble.parent.iterdir()) == []
