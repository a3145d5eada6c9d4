"""Radar scans as truth: on the cells of the grid, with gaps, beside the analyses in one report."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

from convcast import grib
from convcast.archive import fetch_files, open_archives, open_sources, scans
from convcast.archive.simulated.scans import make_scan, scan_path
from convcast.cli.main import app
from convcast.errors import MissingInputError
from convcast.grid import CONUS, Grid, RegularGrid, projection
from convcast.metrics.regimes import REGIMES
from convcast.notation import HOUR
from convcast.settings.load import load_settings
from convcast.variables import REFC, T2M
from convcast.verification import evaluate
from convcast.verification.data.mrms import Mrms
from convcast.verification.data.radar_cells import RadarCells
from convcast.verification.data.truth import Analyses
from convcast.verification.results.warnings import warnings_of, warnings_of_map

from .conftest import INITS

PIXELS = RegularGrid(60, 80, 36.2, 262.3, 0.01)
GRID = Grid(16, 18, 418, 888)


def by_hand(scan, choice):
    """Return the pixels of each cell, found one by one by rounding their projection."""
    cells = [[[] for _ in range(GRID.nx)] for _ in range(GRID.ny)]
    for i, latitude in enumerate(PIXELS.latitudes):
        for j, longitude in enumerate(PIXELS.longitudes):
            x, y = projection()(longitude, latitude)
            row, column = round((y - GRID.y[0]) / 3000), round((x - GRID.x[0]) / 3000)
            if 0 <= row < GRID.ny and 0 <= column < GRID.nx:
                cells[row][column].append(float(scan[i, j]))
    field = np.full(GRID.shape, np.nan)
    for row in range(GRID.ny):
        for column in range(GRID.nx):
            pixels = cells[row][column]
            seen = [value for value in pixels if value != -999]
            if not pixels or len(seen) < len(pixels) / 2:
                continue
            linear = [10 ** (value / 10) if value != -99 else 0 for value in seen]
            mean = sum(linear) / len(linear)
            value = max(seen) if choice == "maximum" else 10 * np.log10(mean) if mean else -99
            field[row, column] = max(-10, value)
    return field


@pytest.mark.parametrize("choice", ["maximum", "mean"])
def test_cells_are_those_by_hand(choice):
    generator = np.random.default_rng(0)
    scan = generator.choice(np.array([-999, -99, -25, -4.5, 12.5, 51], np.float32), (60, 80))
    scan[20:50, 20:60] = generator.choice(np.array([-99, 30], np.float32), (30, 40))
    field = RadarCells(PIXELS, GRID).to_cells(scan, choice)
    expected = by_hand(scan, choice)
    assert 0 < np.isnan(expected).mean() < 0.9
    assert (expected == 30).any() or choice == "mean"
    np.testing.assert_allclose(field, expected, atol=1e-4)


def test_real_scan_on_the_hrrr_grid(shared_data):
    (path,) = (shared_data / "mrms").glob("*.grib2")
    header, scan = grib.decode(path.read_bytes())
    assert (header.key, header.simulated, scan.shape) == (scans.SCAN_KEY, False, (3500, 7000))
    cells = RadarCells(header.regular_grid(), CONUS)
    most, mean = (cells.to_cells(scan, choice) for choice in ("maximum", "mean"))
    covered = np.isfinite(most)
    assert np.array_equal(covered, np.isfinite(mean))
    assert 0.75 < covered.mean() < 0.85
    assert (most[covered] >= mean[covered] - 1e-4).all()
    assert most[covered].min() == -10
    # The strongest echo lies where the scan has it.
    i, j = np.unravel_index(scan.argmax(), scan.shape)
    x, y = projection()(header.regular_grid().longitudes[j], header.regular_grid().latitudes[i])
    row, column = np.unravel_index(np.nanargmax(most), most.shape)
    assert abs(CONUS.x[column] - x) <= 1500
    assert abs(CONUS.y[row] - y) <= 1500
    assert np.nanmax(most) == scan.max()


def test_real_scan_is_fetched_from_a_folder_in_the_buckets_layout(shared_data, tmp_path):
    (path,) = (shared_data / "mrms").glob("*.grib2")
    folder = tmp_path / "bucket/CONUS/MergedReflectivityQCComposite_00.50/20220704"
    folder.mkdir(parents=True)
    shutil.copy(path, folder)
    settings = load_settings()
    archive = open_archives(tmp_path / "archive")["mrms"]
    hour = np.datetime64("2022-07-04T11", "h")
    with open_sources([str(tmp_path / "bucket")], workspace=None, settings=settings) as sources:
        asked = scans.requests(archive, np.array([hour, hour + HOUR]))
        outcomes = list(fetch_files(asked, sources, settings=settings.archive, now=hour + 99))
    assert {outcome.valid: outcome.status for outcome in outcomes} == {hour: "ok", hour + HOUR: "gap"}
    assert archive.simulated is False


@pytest.fixture
def scanned(small, tmp_path):
    """A workspace with scans of the hours at which forecasts start, and of which they are."""
    hours = np.sort(np.concatenate([INITS, INITS + HOUR]))
    for hour in hours:
        refc = small.dataset.read([hour])[0, small.dataset.variables.index(REFC)]
        path = tmp_path / "bucket" / scan_path(hour)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_scan(refc, small.dataset.grid, hour, 1))
    settings = load_settings()
    archive = open_archives(small.workspace.archive)["mrms"]
    with open_sources([str(tmp_path / "bucket")], workspace=small.workspace, settings=settings) as sources:
        list(fetch_files(scans.requests(archive, hours), sources, settings=settings.archive, now=hours[-1] + 99))
    return small


def test_scans_stand_for_the_analyses_where_there_is_coverage(scanned):
    analyses = Analyses(scanned.dataset)
    truth = Mrms(scanned.workspace.archive, analyses, "maximum")
    assert truth.variables == (REFC,)
    np.testing.assert_array_equal(truth.hours, np.sort(np.concatenate([INITS, INITS + HOUR])))
    for hour in truth.hours[:3]:
        seen, analysed = truth.read(REFC, hour), analyses.read(REFC, hour)
        covered = np.isfinite(seen)
        assert 0.5 < covered.mean() < 1
        echo = covered & (analysed > 0)
        difference = (seen - analysed)[echo]
        assert echo.any()
        assert difference.min() > -4
        assert difference.max() <= 0.06
        assert np.mean(difference) > -1
    gaps = [np.isnan(truth.read(REFC, hour)) for hour in truth.hours[:2]]
    assert (gaps[0] != gaps[1]).any()


def test_forecasts_are_scored_by_scans_beside_baselines_of_the_analyses(scanned):
    truth = Mrms(scanned.workspace.archive, Analyses(scanned.dataset), "maximum")
    running = evaluate(
        scanned.paths,
        truth,
        against=("persistence", "advection"),
        settings=scanned.settings(),
        workspace=scanned.workspace,
    )
    assert all(scored.refused is None for scored in running)
    verification = running.result()
    assert {row["field"] for row in verification.scores} == {"refc"}
    assert {row["system"] for row in verification.scores} == {"convcast", "persistence", "advection"}
    assert {row["regime"] for row in verification.scores if "regime" in row} <= set(REGIMES)
    row = verification.find("refc", "crps", "convcast", estimator="fair")
    assert 0 < row["points"] < len(scanned.paths) * 32 * 32
    assert "maximum of the pixels" in verification.facts.truth
    # Persistence is the analysis, judged by the scan.
    init = verification.accumulator.cases["persistence", "refc", 1]
    first = next(iter(init))
    index = scanned.dataset.variables.index(REFC)
    before, seen = scanned.dataset.read([first])[0, index], truth.read(REFC, first + HOUR)
    expected = np.nanmean(np.abs(before - seen))
    assert init[first]["crps_fair"] / init[first]["points"] == pytest.approx(expected, rel=1e-5)


def test_ensemble_of_another_program_is_scored_by_scans_of_its_points(scanned, tmp_path):
    with xr.open_zarr(scanned.paths[0], consolidated=False, decode_timedelta=True) as stored:
        part = stored.isel(y=slice(4, 28), x=slice(2, 30)).load()
    part[["refc", "t2m"]].assign_attrs(simulated=1).to_netcdf(tmp_path / "part.nc")
    truth = Mrms(scanned.workspace.archive, Analyses(scanned.dataset), "mean")
    running = evaluate(
        [tmp_path / "part.nc"],
        truth,
        against=("persistence",),
        settings=scanned.settings(),
        workspace=scanned.workspace,
        foreign=True,
    )
    assert [scored.refused for scored in running] == [None]
    verification = running.result()
    assert {row["field"] for row in verification.scores} == {"refc"}
    seen = truth.read(REFC, INITS[0] + HOUR)[4:28, 2:30]
    assert verification.find("refc", "crps", "persistence", estimator="fair")["points"] == np.isfinite(seen).sum()


def test_workspace_without_scans_is_told_what_to_fetch(small):
    with pytest.raises(MissingInputError) as raised:
        Mrms(small.workspace.archive, Analyses(small.dataset), "maximum")
    assert "--what mrms" in raised.value.advice


@pytest.mark.parametrize(
    "asked",
    [("--truth", "analyses", "--truth", "mrms"), ("--set", "verification.truths=['analyses','mrms']")],
    ids=["option", "setting"],
)
def test_both_truths_are_in_one_report(scanned, whole, unpainted, asked):
    root = scanned.workspace.root
    shutil.copytree(whole.workspace.dataset, scanned.workspace.dataset)
    drawn_with = {"model": "demo", "solver": "unipc", "steps": 7, "calibration": "none"}
    zarr.open_group(scanned.workspace.forecast(INITS[1]), mode="r+").attrs.update(drawn_with)
    inits = f"{INITS[0]}/{INITS[1]}/14h"
    words = ["verify", "-w", str(root), *asked, "--against", "persistence"]
    words += ["--json", "--set", "verification.rim=0", "--set", "verification.resamples=200", "--init", inits]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    scores = json.loads((scanned.workspace.verification("latest") / "scores.json").read_text())
    by_scans = [row for row in scores["scores"] if row.get("truth") == "mrms"]
    by_analyses = [row for row in scores["scores"] if "truth" not in row]
    assert {row["field"] for row in by_scans} == {"refc"}
    assert {row["field"] for row in by_analyses} == {variable.name for variable in scanned.dataset.variables}
    assert T2M.name in {row["field"] for row in by_analyses}
    page = (scanned.workspace.verification("latest") / "report.html").read_text()
    assert "The same forecasts against scans of the simulated truth, the maximum of the pixels" in page
    certificate = json.loads((scanned.workspace.verification("latest") / "certificate.json").read_text())
    assert [one["name"] for one in certificate["judged"]] == ["analyses", "mrms"]
    sampled, verified = certificate["commands"]
    assert sampled == (
        f"convcast sample --init {inits} --members 8 --leads 1 --model demo --set sampling.solver=unipc "
        "--set sampling.steps=7 --set sampling.calibration=true"
    )
    assert f"--against persistence --truth analyses --truth mrms --init {inits} --set " in verified
    assert "--set verification.rim=0" in verified


def test_a_named_truth_does_not_go_with_a_file(small):
    words = ["verify", "-w", str(small.workspace.root), "--truth", "mrms", "--truth", "obs.nc"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2


def test_a_map_of_the_wind_carries_the_warnings_of_both_components(tmp_path):
    wrong = {"score": "brier_skill", "system": "convcast", "lead_hours": 1, "value": -1.0, "low": -1.1, "high": -0.9}
    rows = [wrong | {"field": field, "threshold": 20.0} for field in ("refc", "u10", "v10")]
    (tmp_path / "newest").mkdir()
    (tmp_path / "newest" / "scores.json").write_text(json.dumps({"facts": {"models": ["abc"]}, "scores": rows}))

    def about(kind):
        return [sentence.split()[2] for sentence in warnings_of_map(tmp_path, "abc", kind, REFC, 1)]

    assert about("wind") == ["U10", "V10"]
    assert about("mean") == ["REFC"]
    assert warnings_of_map(tmp_path, "another", "wind", REFC, 1) == ()


def test_warnings_of_a_model_are_by_the_first_truth():
    row = {"field": "refc", "lead_hours": 1, "system": "convcast", "score": "frequency_bias", "threshold": 40.0}
    off = row | {"value": 5.0, "low": 4.0, "high": 6.0}
    assert warnings_of([off], REFC, 1)
    assert warnings_of([off | {"truth": "mrms"}], REFC, 1) == []
