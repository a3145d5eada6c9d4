from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import convcast as cc
from convcast.conventions import on_lattice
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.forecasts.products import make_products
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import Grid
from convcast.pictures import forecast as pictures
from convcast.settings import ProductSettings
from convcast.variables import FIELDS

GRID = Grid(24, 30, 300, 800)
REFC, T2M, CIN = (FIELDS[name] for name in ("refc", "t2m", "cin"))
MEMBERS, LATE = range(5), 4
"""Member LATE is not complete at 2 h."""
DESCRIPTION = ForecastDescription(
    init=np.datetime64("2024-05-06T21", "h"),
    leads=(1, 2),
    direct=(1,),
    variables=(REFC, T2M, CIN),
    grid=GRID,
    identity={"simulated": 1, "model_sha256": "ab" * 32, "seed": 0},
    information={"title": "SIMULATED convcast ensemble", "model": "demo", "convcast_version": "0"},
)


@pytest.fixture(scope="module")
def drawn():
    """Return members (member, lead, variable, y, x)."""
    generator = np.random.default_rng(3)
    shape = len(MEMBERS), 2, *GRID.shape
    storms = np.where(generator.random(shape) < 0.02, generator.uniform(30, 60, shape), -10)
    cin = -generator.exponential(40, shape)
    return on_lattice(REFC, np.stack([storms, generator.normal(300, 3, shape), cin], axis=2))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, drawn):
    """A workspace with the members, and with products of the four that are complete."""
    root = tmp_path_factory.mktemp("workspace")
    store = EnsembleStore.prepare(root / "forecasts/f.zarr", DESCRIPTION, members=len(MEMBERS))
    for member, lead in [(m, lead) for m in MEMBERS for lead in (1, 2) if (m, lead) != (LATE, 2)]:
        store.write(member, lead, drawn[member, lead - 1])
    (root / "products").mkdir()
    make_products(
        store.path,
        root / "products/f.zarr",
        DESCRIPTION,
        members=MEMBERS[:LATE],
        leads=(1, 2),
        settings=ProductSettings(neighbourhood=10),
    )
    return root


@pytest.fixture
def forecast(workspace):
    return cc.open_forecast(workspace / "forecasts/f.zarr")


@pytest.fixture
def products(workspace):
    return cc.open_forecast(str(workspace / "products/f.zarr"))


def test_the_import_is_light():
    script = (
        "import sys, convcast; print({'xarray', 'torch', 'numpy'} & set(sys.modules), 'open_forecast' in dir(convcast))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "True"]
    with pytest.raises(AttributeError, match="no attribute nothing"):
        cc.nothing  # noqa: B018


class TestOpen:
    def test_hours_select(self, forecast, drawn):
        chosen = forecast.sel(lead_time=2, number=3).refc.squeeze("init_time")

        np.testing.assert_array_equal(chosen, drawn[3, 1, 0])
        assert forecast.lead_time.attrs["units"] == "hours"

    def test_it_is_read_when_it_is_asked_for(self, forecast):
        assert not forecast.refc._in_memory

    def test_absent_and_foreign_folders_are_named(self, tmp_path, workspace):
        with pytest.raises(MissingInputError, match="does not exist"):
            cc.open_forecast(tmp_path / "f.zarr")
        (tmp_path / "g.zarr").mkdir()
        with pytest.raises(DamagedFileError, match=r"g\.zarr"):
            cc.open_forecast(tmp_path / "g.zarr")


class TestDerived:
    @pytest.mark.parametrize(("name", "threshold"), [("refc", 40), ("cin", -25)])
    def test_probability_is_the_share_of_complete_members(self, forecast, drawn, name, threshold):
        fields = drawn[:, :, [REFC, T2M, CIN].index(FIELDS[name])]
        events = fields <= threshold if name == "cin" else fields >= threshold

        found = forecast.convcast.probability(name, threshold)

        assert found.dims == ("init_time", "lead_time", "y", "x")
        np.testing.assert_allclose(found[0, 0], events[:, 0].mean(0), atol=1e-6)
        np.testing.assert_allclose(found[0, 1], events[:LATE, 1].mean(0), atol=1e-6)
        assert float(found[f"{name}_threshold"]) == threshold

    def test_labels_say_what_is_shown(self, forecast):
        probability, spread = forecast.convcast.probability("refc", 40), forecast.convcast.spread("t2m")

        assert probability.attrs["long_name"] == "probability of composite reflectivity at or above 40 dBZ"
        assert probability.attrs["units"] == "1"
        assert "standard_name" not in probability.attrs
        assert spread.attrs["long_name"] == "ensemble spread of 2 m temperature"
        assert spread.attrs["units_metadata"] == "temperature: difference"
        assert "at or below -25 J/kg" in forecast.convcast.probability("cin", -25).attrs["long_name"]
        assert forecast.convcast.maximum("cin").attrs["long_name"].startswith("ensemble minimum of")

    @pytest.mark.parametrize("what", ["mean", "spread", "matched_mean", "probability", "neighbourhood"])
    def test_members_and_products_agree(self, forecast, products, what):
        rest = {"threshold": 30.0} if what in ("probability", "neighbourhood") else {}
        rest |= {"radius": 10.0} if what == "neighbourhood" else {}

        one, other = (
            getattr(data.convcast, what)("refc", lead_time=2, **rest).transpose("init_time", "y", "x")
            for data in (forecast, products)
        )

        np.testing.assert_allclose(one, other, atol=1 / 16)
        assert one.attrs == other.attrs
        assert one.name == other.name

    def test_a_part_of_a_forecast_is_enough(self, forecast, drawn):
        part = (
            forecast.sel(lead_time=1).isel(init_time=0, number=[1, 2], y=slice(3, 9)).where(forecast.x != forecast.x[0])
        )

        found = part.convcast.mean("t2m")

        np.testing.assert_allclose(found[:, 1:], drawn[1:3, 0, 1, 3:9, 1:].mean(0), rtol=1e-6)
        assert np.isnan(found[:, 0]).all(), "what is masked stays missing"

    def test_where_no_member_is_complete_nothing_is_known(self, forecast):
        found = forecast.isel(number=[LATE]).convcast.mean("refc")

        assert np.isnan(found.sel(lead_time=2)).all()
        assert np.isfinite(found.sel(lead_time=1)).all()

    def test_leads_are_chosen_in_hours(self, forecast):
        accessor = forecast.convcast

        assert accessor.mean("refc", lead_time=[2, 1]).lead_time.values.tolist() == [2, 1]
        assert accessor.mean("refc", lead_time=np.int64(2)).dims == ("init_time", "y", "x")

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda face: face.mean("refd"), "did you mean refc"),
            (lambda face: face.mean("cape"), "it has refc"),
            (lambda face: face.mean("refc", lead_time=3), "choose from 1, 2"),
            (lambda face: face.matched_mean("t2m"), "refc, cape or cin"),
            (lambda face: face.plot("stamp"), "stamps"),
        ],
    )
    def test_a_wrong_name_is_answered_with_the_right_ones(self, forecast, call, said):
        with pytest.raises(SettingsError) as raised:
            call(forecast.convcast)
        assert said in raised.value.advice

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda face: face.probability("refc", 41), "no probability of refc at 41"),
            (lambda face: face.neighbourhood("refc", 40), "neighbourhoods of 10 km"),
            (lambda face: face.maximum("refc"), "no maximum"),
            (lambda face: face.plot("stamps"), "no members to draw"),
        ],
    )
    def test_products_say_what_they_do_not_hold(self, products, call, said):
        with pytest.raises(SettingsError, match=said):
            call(products.convcast)


class TestPlaces:
    def test_the_projection_leads_to_latitude_and_longitude(self, forecast):
        from pyproj import Transformer

        crs = forecast.convcast.crs
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
        longitude, latitude = to_degrees.transform(*np.meshgrid(forecast.x, forecast.y))

        np.testing.assert_allclose(forecast.latitude, latitude, atol=1e-4)
        np.testing.assert_allclose(forecast.longitude, longitude, atol=1e-4)

    def test_a_place_has_the_values_of_its_cell(self, forecast, drawn):
        latitude, longitude = GRID.latitude_longitude()
        at = forecast.convcast.nearest(latitude[5, 7] + 0.005, longitude[5, 7] - 0.005)

        assert at.refc.dims == ("init_time", "number", "lead_time")
        np.testing.assert_array_equal(at.t2m[0, :, 0], drawn[:, 0, 1, 5, 7])
        assert at.convcast.probability("t2m", 300, lead_time=1).dims == ("init_time",)
        with pytest.raises(SettingsError, match="no neighbourhood"):
            at.convcast.neighbourhood("refc", 40)

    def test_several_places_have_a_dimension(self, forecast, drawn):
        latitude, longitude = GRID.latitude_longitude()
        cells = [5, 0], [7, 29]

        found = forecast.convcast.nearest(latitude[cells], longitude[cells]).t2m

        np.testing.assert_array_equal(found.isel(init_time=0, lead_time=0), drawn[:, 0, 1][:, cells[0], cells[1]])

    @pytest.mark.parametrize("place", [(50, -98), (91, 0), (31.5, 261)])
    def test_a_place_elsewhere_is_refused(self, forecast, place):
        with pytest.raises(SettingsError, match="is not on the forecast's grid") as raised:
            forecast.convcast.nearest(*place)
        assert "western longitudes are negative" in raised.value.advice


class TestPlot:
    @pytest.fixture
    def shown(self, monkeypatch):
        drawn = SimpleNamespace()
        draw = pictures.draw

        def watch(kind, field):
            drawn.field = field
            return draw(kind, field)

        monkeypatch.setattr(pictures, "draw", watch)
        return drawn

    def test_a_picture_is_shown_and_saved(self, forecast, shown, tmp_path):
        picture = forecast.convcast.plot("probability", "refc", threshold=30, lead_time=2)
        picture.save(tmp_path / "map.png")

        assert (tmp_path / "map.png").read_bytes() == picture._repr_png_()
        assert picture.png.startswith(b"\x89PNG")
        assert (shown.field.lead, shown.field.threshold, shown.field.simulated) == (2, 30, True)
        assert len(shown.field.numbers) == len(MEMBERS) - 1

    def test_a_part_is_drawn_as_that_part(self, forecast, shown):
        forecast.sel(lead_time=2).isel(init_time=0, number=[0, 1], y=slice(2, 20)).convcast.plot("mean", units="us")

        assert shown.field.base_map.grid == Grid(18, 30, 302, 800)
        assert (shown.field.lead, shown.field.numbers, shown.field.system) == (2, (0, 1), "us")

    def test_products_are_drawn(self, products, shown):
        products.convcast.plot("neighbourhood")
        assert (shown.field.lead, shown.field.radius) == (1, 10)

    def test_it_warns_of_what_verification_found(self, forecast, shown, workspace):
        row = {"field": "refc", "lead_hours": 1, "system": "convcast", "score": "spread_error_ratio_centred"}
        scores = [row | {"value": 0.5, "low": 0.4, "high": 0.6}]
        folder = workspace / "verification/v"
        folder.mkdir(parents=True)
        (folder / "scores.json").write_text(json.dumps({"facts": {"models": ["ab" * 6]}, "scores": scores}))

        forecast.convcast.plot("mean")

        assert shown.field.warnings[0].startswith("REFC is over-confident")

    def test_one_initial_time_is_drawn(self, forecast):
        later = forecast.assign_coords(init_time=forecast.init_time + np.timedelta64(1, "h"))
        with pytest.raises(SettingsError, match="one initial time"):
            xr.concat([forecast, later], "init_time").convcast.plot()
