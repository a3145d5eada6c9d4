"""A truth with gaps that move: all systems are scored where all have a value, and what could not be scored is said."""

from __future__ import annotations

import numpy as np
import properscoring
import pytest
import xarray as xr

from convcast.errors import MissingInputError
from convcast.metrics.neighbourhood import RADIUS
from convcast.metrics.regimes import REGIMES, UNKNOWN, sort_points
from convcast.metrics.scores.energy import energy
from convcast.metrics.scores.fractions import fraction_sums
from convcast.metrics.spatial import Scales
from convcast.metrics.sums import score_field
from convcast.notation import HOUR
from convcast.settings import VerificationSettings
from convcast.variables import REFC
from convcast.verification import evaluate
from convcast.verification.baselines.analogues import AnalogueHours
from convcast.verification.data.truth import open_truth
from convcast.verification.report.html import caveats, render_report
from convcast.verification.report.save import save

from .conftest import HOURS, INITS, MEMBERS
from .test_foreign import observed, ours, score, write  # noqa: F401


@pytest.fixture(scope="module")
def full(whole, ours):  # noqa: F811
    """The analyses of all hours, so that a climatology has a past, as somebody's file."""
    values = whole.dataset.read(HOURS)
    fields = {
        v.name: (("time", "y", "x"), values[:, i], ours[v.name].attrs)
        for i, v in enumerate(whole.dataset.variables)
        if v.name in ("refc", "t2m", "cape")
    }
    place = {name: ours[name] for name in ("y", "x", "latitude", "longitude", "spatial_ref")}
    coordinates = {"time": ("time", HOURS.astype("datetime64[ns]"), {"standard_name": "time"})} | place
    return xr.Dataset(fields, coordinates, {"title": "a radar mosaic", "simulated": 1})


def holed(data, share, names=None, seed=0):
    """Blocks of four cells that are missing, others in every hour and field."""
    made = data.copy(deep=True)
    generator = np.random.default_rng(seed)
    for name in names or data.data_vars:
        values = made[name].values
        blocks = generator.random((len(values), values.shape[1] // 4, values.shape[2] // 4)) < share
        values[np.kron(blocks, np.ones((4, 4))).astype(bool)] = np.nan
    return made


def common(truth, init, field):
    """Return where the analyses of the initial and of the valid hour both have a value."""
    at = int((init - HOURS[0]) / HOUR)
    return np.isfinite(truth[field].values[at]) & np.isfinite(truth[field].values[at + 1])


@pytest.fixture(scope="module")
def gappy(full):
    return holed(full[["refc", "t2m"]], 0.15)


@pytest.fixture(scope="module")
def paths(gappy, ours, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("gaps")
    return write(ours[["refc", "t2m"]].copy(), folder / "e.zarr"), write(gappy.copy(), folder / "t.zarr")


@pytest.fixture(scope="module")
def found(paths):
    ensemble, truth = paths
    return score([ensemble], truth)


def test_systems_are_scored_at_the_points_that_all_have(found, gappy, ours):  # noqa: F811
    assert (found.facts.cases, found.facts.left_out) == (len(INITS), {})
    for field in ("refc", "t2m"):
        crps, distance = [], []
        for number, init in enumerate(INITS):
            there, at = common(gappy, init, field), int((init - HOURS[0]) / HOUR)
            before, after = gappy[field].values[at : at + 2]
            members = ours[field].isel(init_time=number, lead_time=0).values
            crps.append(properscoring.crps_ensemble(after, members, axis=0)[there])
            distance.append(np.abs(before - after)[there])
        for system, points in (("convcast", crps), ("persistence", distance)):
            row = found.find(field, "crps", system, estimator="ensemble")
            assert row["value"] == pytest.approx(np.concatenate(points).mean(), rel=1e-6)
            assert row["points"] == sum(map(len, points))
        assert found.verdict(field, 1, "persistence") != "no interval"


def test_the_report_says_at_how_many_points_and_who_lacks_them(found):
    said = " ".join(caveats(found))
    assert "REFC is scored at the points that all systems have" in said
    assert "persistence lacks" in said
    assert "convcast lacks" not in said


def test_every_figure_and_the_report_are_made(found, tmp_path):
    made = {path.name for path in save(found, tmp_path)}
    assert {"report.html", "scores.zarr", "case.png", "relative.png", "ranks.png", "reliability.png"} <= made


@pytest.mark.usefixtures("unpainted")
def test_spectra_are_not_computed_and_the_report_says_why(found, tmp_path):
    row = found.find("t2m", "log_spectral_distance", "convcast")
    assert row["value"] is None
    assert row["n"] == 0
    page = render_report(found, [])
    assert "Spectra of REFC and T2M: not computed: every forecast has a missing point" in page
    assert "spectra.png" not in {path.name for path in save(found, tmp_path)}


def test_neighbourhoods_without_a_whole_one_are_not_computed_and_the_report_says_why(found):
    assert found.find("refc", "nmep_brier", "convcast", threshold=20.0)["value"] is None
    assert "NMEP) of REFC: not computed: no point is 39 km from any missing point" in " ".join(caveats(found))


def test_spatial_scores_are_those_of_the_points_that_all_have(found, gappy, ours):  # noqa: F811
    sums, total = np.zeros(4), []
    for number, init in enumerate(INITS):
        there, at = common(gappy, init, "refc"), int((init - HOURS[0]) / HOUR)
        members = ours["refc"].isel(init_time=number, lead_time=0).values
        after = gappy["refc"].values[at + 1]
        sums += fraction_sums(members, after, there, (20.0,), Scales((3,), periodic=False))[0, 0]
        total.append(energy(members[:, there], after[there], np.ones(there.sum(), bool))[0])
    fss = 1 - (sums[1] + sums[2] - 2 * sums[3]) / (sums[1] + sums[2])
    row = found.find("refc", "fss", "convcast", threshold=20.0, scale_km=9)
    assert row["value"] == pytest.approx(fss)
    assert 0 < sums[0] < len(INITS) * 32 * 32
    assert found.find("refc", "energy_score", "convcast", estimator="fair")["value"] == pytest.approx(np.mean(total))


def test_missing_points_change_no_neighbourhood_that_has_none():
    """Values under a gap do not matter."""
    generator = np.random.default_rng(5)
    members, truth = generator.normal(20, 15, (6, 60, 60)), generator.normal(20, 15, (60, 60))
    truth[10:12, 20] = np.nan
    scales = Scales((3, 9), periodic=False)
    expected = score_field(members, truth, REFC, scales=scales).whole_fields
    members[:, 10:12, 20] = generator.normal(40, 90, (6, 2))
    changed = score_field(members, truth, REFC, scales=scales).whole_fields
    for name in ("fractions", "near", "energy"):
        np.testing.assert_allclose(changed[name], expected[name], err_msg=name)
    inside = 60 - 2 * RADIUS
    assert 0 < expected["near"][0].sum() < (inside / 4 + 1) ** 2
    assert (expected["spectra"], expected["power"].any()) == (0, False)


def test_spectra_of_some_forecasts_say_of_how_many(ours, full, tmp_path):  # noqa: F811
    some = full[["t2m"]].copy(deep=True)
    some["t2m"].values[int((INITS[0] + HOUR - HOURS[0]) / HOUR), 3, 3] = np.nan
    found = score([write(ours[["t2m"]].copy(), tmp_path / "e.zarr")], write(some, tmp_path / "t.zarr"))
    row = found.find("t2m", "log_spectral_distance", "convcast")
    assert row["value"] > 0
    assert (row["n"], row["note"]) == (3, "of the 3 forecasts of 4 that have no missing point")


@pytest.mark.parametrize("against", [["climatology"], ["persistence", "climatology"], []])
def test_every_baseline_of_a_truth_with_gaps(paths, against):
    ensemble, truth = paths
    found = score([ensemble], truth, against=against)
    assert found.facts.left_out == {}
    counts = {row["points"] for row in found.scores if row["field"] == "t2m" and row["score"] == "rmse"}
    assert len(counts) == 1
    assert 0 < counts.pop() < len(INITS) * 32 * 32


def test_spare_hours_stand_in_for_the_gaps_of_those_drawn():
    """Make forecasts that together have gaps at every point."""
    pool = HOURS[:40]
    analogues = AnalogueHours(lambda init, lead: pool, cases=[(INITS[0], 1)], members=12, key=(0, 1))
    generator = np.random.default_rng(2)
    fields = {hour: generator.normal(size=(20, 20)) for hour in pool.tolist()}
    for field in fields.values():
        field[generator.random(field.shape) < 0.3] = np.nan
    drawn, spare = analogues.draw(INITS[0], 1), analogues.spares(INITS[0], 1)
    assert (len(drawn), len(spare), len({*drawn.tolist(), *spare.tolist()})) == (12, 12, 24)
    members = analogues.members(INITS[0], 1, lambda hour: fields[hour.item()])
    first = np.stack([fields[hour] for hour in drawn.tolist()])
    there = np.isfinite(first)
    assert there.all(0).mean() < 0.05
    assert np.isfinite(members).mean() > 0.999
    np.testing.assert_array_equal(members[there], first[there])
    allowed = np.sort([fields[hour] for hour in [*drawn.tolist(), *spare.tolist()]], axis=0)
    for y, x in ((0, 0), (7, 11)):
        values = members[:, y, x]
        assert len(set(values)) == 12
        assert set(values) <= set(allowed[:, y, x])


def test_the_control_and_all_others_of_a_dataset_with_gaps(small, monkeypatch):
    """Make gaps as convcast's own datasets may have them."""
    dataset = small.dataset
    gaps = np.random.default_rng(1).random((len(HOURS), 8, 8)) < 0.1

    def spoil(read):
        def spoiled(self, hours, *rest):
            values = read(self, hours, *rest)
            if values.dtype.kind != "f":
                return values
            for number, hour in enumerate(hours):
                at = int((np.datetime64(hour, "h") - HOURS[0]) / HOUR)
                values[number, :, np.kron(gaps[at], np.ones((4, 4))).astype(bool)] = np.nan
            return values

        return spoiled

    monkeypatch.setattr(type(dataset), "read", spoil(type(dataset).read))
    monkeypatch.setattr(
        "convcast.verification.baselines.analogues.TruthBaseline._field",
        lambda self, variable, hour: dataset.read([hour])[0, self._index(variable)],
    )
    under_way = evaluate(
        small.paths,
        dataset,
        against=["persistence", "climatology", "advection"],
        settings=small.settings(),
        workspace=None,
    )
    list(under_way)
    found = under_way.result()
    assert (found.facts.cases, found.facts.left_out) == (len(INITS), {})
    points = {row["points"] for row in found.scores if row["score"] == "rmse"}
    assert len(points) == 1
    assert 0 < points.pop() < len(INITS) * 32 * 32
    assert "advection lacks" in " ".join(found.facts.notes)


@pytest.mark.usefixtures("unpainted")
def test_a_field_that_is_all_missing_is_said_and_the_others_are_scored(ours, full, tmp_path):  # noqa: F811
    lost = full.copy(deep=True)
    lost["refc"].values[:] = np.nan
    ensemble, truth = write(ours.copy(), tmp_path / "e.zarr"), write(lost, tmp_path / "t.zarr")
    found = score([ensemble], truth, against=["persistence", "climatology"])
    sound = score(
        [ensemble], write(full.drop_vars("refc"), tmp_path / "s.zarr"), against=["persistence", "climatology"]
    )
    assert found.facts.left_out == {"refc alone, no point has a truth and a forecast of every system": len(INITS)}
    assert found.find("refc", "crps", "convcast") is None
    assert found.case.variable.name == "cape"
    mine = [row for row in found.scores if not row.get("regime")]
    assert mine == [row for row in sound.scores if not row.get("regime")]
    made = save(found, tmp_path / "out")
    assert {"case.png", "relative.png", "spectra.png", "ranks.png"} <= {path.name for path in made}
    assert "REFC" in render_report(found, [])


def test_a_field_that_is_missing_in_one_hour_loses_that_hour(ours, full, tmp_path):  # noqa: F811
    lost = full.copy(deep=True)
    lost["refc"].values[int((INITS[1] + HOUR - HOURS[0]) / HOUR)] = np.nan
    found = score([write(ours.copy(), tmp_path / "e.zarr")], write(lost, tmp_path / "t.zarr"))
    assert list(found.facts.left_out.values()) == [1]
    assert found.find("refc", "crps", "convcast")["n"] == 3
    assert found.find("t2m", "crps", "convcast")["n"] == 4


def test_gaps_that_leave_no_common_point_are_said(ours, full, tmp_path):  # noqa: F811
    halves = full[["t2m"]].copy(deep=True)
    halves["t2m"].values[::2, :16] = np.nan
    halves["t2m"].values[1::2, 16:] = np.nan
    ensemble, truth = write(ours[["t2m"]].copy(), tmp_path / "e.zarr"), write(halves, tmp_path / "t.zarr")
    with pytest.raises(MissingInputError, match="no point has a truth and a forecast of every system"):
        score([ensemble], truth)
    assert score([ensemble], truth, against=[]).facts.cases == len(INITS)


def test_members_with_gaps_narrow_the_points_of_baselines_too(ours, full, tmp_path):  # noqa: F811
    some = ours[["t2m"]].copy(deep=True)
    some["t2m"].values[:, 2, :, 5:9, :] = np.nan
    found = score([write(some, tmp_path / "e.zarr")], write(holed(full[["t2m"]], 0.1), tmp_path / "t.zarr"))
    points = {row["system"]: row["points"] for row in found.scores if row["score"] == "rmse"}
    assert points["convcast"] == points["persistence"]
    assert "convcast lacks" in " ".join(found.facts.notes)


# The stored scores are those of the points that all systems had when they were computed.


def run(paths, keep, against):
    under_way = evaluate(
        [paths[0]],
        open_truth(paths[1]),
        against=against,
        settings=VerificationSettings(resamples=100, baseline_members=5),
        workspace=None,
        foreign=True,
        keep=keep,
    )
    list(under_way)
    return under_way.result().scores, under_way.reused


def test_stored_scores_follow_the_systems_that_lack_points(paths, tmp_path):
    keep = tmp_path / "cases"
    alone, both = run(paths, None, [])[0], run(paths, None, ["persistence"])[0]
    assert run(paths, keep, []) == (alone, 0)
    assert run(paths, keep, ["persistence"]) == (both, 0)
    assert run(paths, keep, ["persistence"]) == (both, len(INITS))
    assert run(paths, keep, ["persistence", "climatology"])[0] == run(paths, None, ["persistence", "climatology"])[0]
    assert run(paths, keep, []) == (alone, 0)
    assert run(paths, keep, []) == (alone, len(INITS))


def test_a_stored_score_that_is_damaged_is_made_again_at_the_same_points(paths, tmp_path):
    keep = tmp_path / "cases"
    expected = run(paths, keep, ["persistence"])[0]
    for system in ("convcast", "persistence"):
        path = sorted((keep / system).glob("*.npz"))[0]
        with np.load(path) as stored:
            kept = {name: stored[name] for name in stored.files if not name.endswith("ranks")}
        np.savez(path, **kept)
        assert run(paths, keep, ["persistence"])[0] == expected


def test_regimes_are_open_where_the_analysis_is_missing():
    refc, cape = np.full((60, 60), -10.0), np.zeros((60, 60))
    refc[30, 5], refc[30, 40], cape[0, :] = 50, np.nan, 2000
    cape[2, 2] = np.nan
    regimes = sort_points(refc, cape)
    y, x = np.mgrid[:60, :60]
    near_echo, near_gap = np.hypot(y - 30, x - 5) <= RADIUS, np.hypot(y - 30, x - 40) <= RADIUS
    assert (regimes[near_echo] == REGIMES.index("echo")).all()
    assert (regimes[near_gap & ~near_echo] == UNKNOWN).all()
    assert regimes[2, 2] == UNKNOWN
    assert (regimes[0] == REGIMES.index("unstable")).all()
    assert (regimes == UNKNOWN).sum() == (near_gap & ~near_echo).sum() + 1


def test_an_empty_field_does_not_make_members_alike(ours, full, tmp_path):  # noqa: F811
    some = ours[["t2m", "refc"]].drop_vars("complete").copy(deep=True)
    some["refc"].values[:] = np.nan
    found = score([write(some, tmp_path / "e.zarr")], write(full[["t2m", "refc"]].copy(), tmp_path / "t.zarr"))
    assert found.facts.members == MEMBERS
    assert found.find("t2m", "crps", "convcast")["n"] == len(INITS)
    assert found.find("refc", "crps", "convcast") is None
