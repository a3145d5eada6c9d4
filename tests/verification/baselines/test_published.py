"""Products of REFS and HREF are compared with the same products of our members as in a plain reference."""

from __future__ import annotations

import numpy as np
import properscoring
import pytest
from neighbourhood_by_hand import near_by_hand, smooth_by_hand

from convcast.archive.locations import GribFile
from convcast.archive.reference_ensembles import products
from convcast.conventions import ensemble_dataset
from convcast.dataset import Dataset
from convcast.errors import SettingsError
from convcast.grib import encode
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.pictures.style import finish
from convcast.settings import VerificationSettings
from convcast.variables import FIELDS, REFC
from convcast.verification import evaluate
from convcast.verification.baselines.published import PublishedProducts, crps_normal, refusal
from convcast.verification.baselines.regrid import Regridder
from convcast.verification.data.truth import Analyses
from convcast.verification.report.figures import draw_figures
from convcast.verification.report.html import product_table_rows, render_report
from convcast.verification.report.product_diagram import draw_products

from ..conftest import leave_unpainted
from ..published import OURS, make_workspace, product_message, put

INITS = [np.datetime64("2026-11-20T06", "h"), np.datetime64("2026-11-21T06", "h")]
FIELDS_USED = ("refc", "t2m", "d2m", "u10", "cape")
GRID = Grid(60, 64, 500, 900)
SYSTEM = {product.name: product for product in products("refs")}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("products"), INITS, members=14, fields=FIELDS_USED, grid=GRID)


def members(real, init, name):
    import xarray as xr

    return xr.open_zarr(real.workspace.forecast(init), consolidated=False)[name].isel(init_time=0, lead_time=0).values


def publish(real, values_of, names):
    for init in real.inits:
        for product_kind, file_kind in (("probability", "prob"), ("mean", "mean"), ("spread", "sprd")):
            file = GribFile("refs", file_kind, init, 1)
            chosen = [SYSTEM[name] for name in names if SYSTEM[name].kind == product_kind]
            if chosen:
                made = {p.name: product_message(p, file, values_of(p, init), grid=GRID) for p in chosen}
                put(real.workspace, file, made)


def run(real, against=("refs",)):
    under_way = evaluate(
        [real.workspace.forecast(init) for init in real.inits],
        real.dataset,
        against=against,
        settings=VerificationSettings(resamples=100),
        workspace=real.workspace,
    )
    list(under_way)
    return under_way.result()


NAMES = ["refc_probability_40", "d2m_probability_283.15", "t2m_probability_273.15", "t2m_mean", "t2m_spread"]
NAMES += ["u10_mean", "u10_spread", "cape_mean", "cape_spread", "cape_probability_500_mixed_layer"]


@pytest.fixture(scope="module")
def same(real):
    """REFS publishes what is made of our own members, by hand."""

    def made(product, init):
        ours = members(real, init, product.variable.name)
        if product.kind != "probability":
            return ours.mean(0) if product.kind == "mean" else ours.std(0)
        limit = np.float32(product.limit.threshold)
        events = ours <= limit if product.limit.below else ours >= limit
        if product.neighbourhood is None:
            return 100 * events.mean(0)
        return 100 * smooth_by_hand(np.mean([near_by_hand(e, 13) for e in events], 0), 8)

    publish(real, made, NAMES)
    return run(real)


def rows(found, score, field="refc"):
    return [
        next(r for r in found.scores if (r["score"], r["field"], r["system"]) == (score + end, field, system))
        for end, system in (("", "convcast"), ("", "refs"), ("_difference", "convcast"))
    ]


@pytest.mark.parametrize(
    ("score", "field"),
    [("brier_nmep", "refc"), ("brier_point", "d2m"), ("crps_gaussian", "t2m"), ("crps_gaussian", "u10")],
)
def test_the_same_statement_scores_the_same(same, score, field):
    ours, theirs, difference = rows(same, score, field)
    # GRIB keeps percent in sixteenths, kelvin too.
    assert theirs["value"] == pytest.approx(ours["value"], abs=1e-3 if score.startswith("brier") else 0.02)
    assert (ours["members"], theirs["n"], difference["days"]) == (14, 2, 2)
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_an_event_that_never_happens_has_no_score(same):
    ours, theirs, _ = rows(same, "brier_point", "t2m")
    assert (ours["note"], ours["value"], theirs["value"]) == ("no events", None, None)


def test_neighbourhood_brier_score_is_that_of_the_smoothed_event_against_the_observed_one(real, same):
    losses = []
    for init in INITS:
        truth = real.dataset.read([init + HOUR])[0, 0]
        happened = near_by_hand(truth >= 40, 13)
        stated = smooth_by_hand(np.mean([near_by_hand(m >= 40, 13) for m in members(real, init, "refc")], 0), 8)
        inner = slice(24, -24), slice(24, -24)  # farther in than 13 cells and the corner of a window of 8
        losses.append(((stated - happened) ** 2)[inner])
    ours, theirs, _ = rows(same, "brier_nmep")
    assert ours["points"] == np.size(losses)
    assert ours["value"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert ours["value"] > 0.1
    assert (ours["threshold"], ours["scale_km"], theirs["reference"]) == (40.0, 39.0, "refs")


def test_gaussian_crps_is_properscoring_s(real, same):
    expected = []
    for init in INITS:
        ours, truth = members(real, init, "t2m").astype(float), real.dataset.read([init + HOUR])[0, 1]
        expected.append(properscoring.crps_gaussian(truth, ours.mean(0), ours.std(0)).mean())
    assert rows(same, "crps_gaussian", "t2m")[0]["value"] == pytest.approx(np.mean(expected), rel=1e-6)


def test_unfair_comparisons_are_refused_with_the_reason(same):
    said = "\n".join(same.facts.not_compared)
    assert "products of refs on cape, since" in said
    assert "90-0 mb above ground parcel, convcast's of the surface parcel" in said
    assert "a floor and a long tail" in said
    assert not [row for row in same.scores if row["field"] == "cape" and row["estimator"] == "as published"]


def test_ours_by_members_is_not_touched_by_what_others_publish(real, same):
    alone = run(real, ["persistence"])
    for score in ("crps", "brier", "spread_error_ratio"):
        one, other = (found.find("refc", score, "convcast", estimator="fair") for found in (same, alone))
        assert one == other


def test_the_report_says_what_was_compared_how(same, monkeypatch):
    lines = product_table_rows(same, "refs", 1)
    assert "REFC ≥ 40 dBZ within 39 km" in [line.what for line in lines]
    assert "T2M ≤ 273.15 K at the point" in [line.what for line in lines]
    drawing = draw_products(same)
    assert finish(drawing.figure, title=drawing.title, note="", simulated=False).startswith(b"\x89PNG")
    leave_unpainted(monkeypatch)
    drawn = {figure.name: figure for figure in draw_figures(same)}
    page = render_report(same, [drawn["products"]])
    assert "Beside published products" in page
    assert "Beside the products of REFS, 1 h" in page
    assert "it is compared by its products, for 2 of 2 forecasts" in page
    assert "not independent" in page


def test_a_point_probability_in_place_of_the_neighbourhood_s_scores_worse(real, tmp_path):
    """The trap itself: it must show, or the scores would not see it."""
    import shutil
    from dataclasses import replace

    from convcast.workspace import Workspace

    shutil.copytree(real.workspace.root, tmp_path / "copy", ignore=shutil.ignore_patterns("archive"))
    place = Workspace(tmp_path / "copy")
    other = replace(real, workspace=place, dataset=Dataset.open(place.dataset))
    publish(other, lambda p, init: 100 * (members(other, init, "refc") >= 40).mean(0), ["refc_probability_40"])
    ours, theirs, _ = rows(run(other), "brier_nmep")
    assert theirs["value"] > ours["value"] + 0.01


@pytest.mark.parametrize("size", [6, 13])
def test_fewer_members_than_theirs_have_no_fair_comparison(real, same, size):
    refs = PublishedProducts("refs", Analyses(real.dataset), real.workspace)
    with pytest.raises(SettingsError, match=f"an ensemble of {size} cannot be compared fairly"):
        refs.require(size)


def test_a_domain_that_no_neighbourhood_fits_into_says_so(tmp_path):
    little = make_workspace(tmp_path, INITS[:1], fields=("refc",), grid=Grid(40, 40, 500, 900))
    refs = PublishedProducts("refs", Analyses(little.dataset), little.workspace)
    assert refs.lacks(REFC) == "the neighbourhood does not fit into the domain"


def test_matched_means_winds_of_href_and_other_parcels_are_refused():
    said = {(s, p.name): refusal(s, p) for s in ("refs", "href") for p in products(s)}
    assert "one field" in said["refs", "refc_matched_mean"]
    assert "surface parcel" in said["href", "cape_probability_1000_mixed_layer"]
    assert "floor" in said["href", "cin_mean"]
    assert said["refs", "u10_mean"] is None
    assert said["href", "d2m_spread"] is None


def test_a_normal_distribution_without_spread_is_a_certainty():
    np.testing.assert_allclose(crps_normal(np.array([3.0]), np.array([1.0]), np.array([0.0])), [2.0], atol=1e-3)


def test_hrrrcast_is_compared_by_its_mean_and_spread_where_its_members_are_not_there(tmp_path):
    there = make_workspace(tmp_path, INITS[:1], members=18, fields=FIELDS_USED, grid=GRID)
    for name, kind in (("avg", "mean"), ("spr", "spread")):
        file = GribFile("hrrrcast", name, INITS[0], 1)
        values = {v: members(there, INITS[0], v) for v in ("t2m", "u10", "cape")}
        made = {
            f"{v}_{kind}": encode(
                all_of.mean(0) if kind == "mean" else all_of.std(0),
                key=FIELDS[v].grib,
                grid=GRID,
                init=INITS[0],
                lead_hours=1,
                simulated=False,
            )
            for v, all_of in values.items()
        }
        put(there.workspace, file, made)
    found = run(there, ("hrrrcast",))
    for name in ("t2m", "u10"):
        ours, theirs = (
            next(r for r in found.scores if (r["score"], r["field"], r["system"]) == ("crps_gaussian", name, system))
            for system in ("convcast", "hrrrcast")
        )
        assert theirs["value"] == pytest.approx(ours["value"], abs=0.02)
        assert ours["members"] == 18
    assert not [r for r in found.scores if r["field"] == "cape" and r["system"] == "hrrrcast"]
    assert any("HRRRCast are not in the archive: it is compared by its products" in note for note in found.facts.notes)


class TestHref:
    """Fields that are functions of latitude and longitude, so that what they are on either grid is known."""

    GRID = Grid(120, 130, 500, 900)
    PRODUCTS = {p.name: p for p in products("href")}  # noqa: RUF012

    def echo(self, latitude, longitude, east):
        blob = ((latitude - 39.3) / 0.35) ** 2 + ((longitude + 94.6 - east) / 0.45) ** 2
        return np.where(blob < 1, 45.0, -10.0).astype(np.float32)

    def warm(self, latitude, longitude, more):
        return (290 - 0.8 * (latitude - 39) + 0.3 * (longitude + 95) + more).astype(np.float32)

    @pytest.fixture(scope="class")
    def verified(self, tmp_path_factory):
        root = tmp_path_factory.mktemp("href")
        real = make_workspace(root, INITS[:1], members=2, fields=("refc", "t2m", "u10"), grid=self.GRID)
        latitude, longitude = self.GRID.latitude_longitude()
        assert latitude.min() < 39.3 < latitude.max()
        assert longitude.min() < -94.6 < longitude.max()
        shifts = np.linspace(-0.3, 0.3, 10)
        drawn = {
            "refc": np.stack([self.echo(latitude, longitude, s) for s in shifts])[:, None],
            "t2m": np.stack([self.warm(latitude, longitude, 5 * s) for s in shifts])[:, None],
            "u10": np.random.default_rng(0).normal(5, 1, (10, 1, *self.GRID.shape)),
        }
        ensemble_dataset(drawn, init=INITS[0], members=range(10), leads=[1], grid=self.GRID, attributes=OURS).to_zarr(
            real.workspace.forecast(INITS[0]), mode="w", zarr_format=3, consolidated=False
        )
        from .test_regrid import angles

        there = getattr(angles, "__wrapped__", None) or angles.__pytest_wrapped__.obj
        there = there()
        events = np.stack([self.echo(*there, s) >= 40 for s in shifts])
        box = Regridder(self.GRID).box
        near = np.zeros((1025, 1473))
        near[box] = smooth_by_hand(np.mean([near_by_hand(e[box], 8) for e in events], 0), 5)
        warm = np.stack([self.warm(*there, 5 * s) for s in shifts])
        put_product = lambda kind, values: put(  # noqa: E731
            real.workspace,
            GribFile("href", kind, INITS[0], 1),
            {n: product_message(self.PRODUCTS[n], GribFile("href", kind, INITS[0], 1), v) for n, v in values.items()},
        )
        put_product("prob", {"refc_probability_40": 100 * near})
        put_product("mean", {"t2m_mean": warm.mean(0)})
        put_product("sprd", {"t2m_spread": warm.std(0)})
        return run(real, ["href", "persistence"])

    def test_products_on_grid_227_score_as_ours_made_alike(self, verified):
        found = {
            (row["score"], row["system"]): row["value"] for row in verified.scores if row["estimator"] == "as published"
        }
        assert found["brier_nmep", "href"] == pytest.approx(found["brier_nmep", "convcast"], abs=0.004)
        assert found["crps_gaussian", "href"] == pytest.approx(found["crps_gaussian", "convcast"], rel=1e-3)

    def test_the_report_says_how_href_is_compared(self, verified):
        assert verified.facts.products == ("href",)
        assert verified.facts.systems == ("convcast", "persistence")
        assert "HREF publishes no members" in verified.facts.notes[0]
        assert "products of href on u10, since it does not publish the field" in verified.facts.not_compared
