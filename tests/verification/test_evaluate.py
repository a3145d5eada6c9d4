from __future__ import annotations

import json

import numpy as np
import properscoring
import pytest
import xarray as xr

from convcast.errors import DamagedFileError, MissingInputError, NotPublishedError, SettingsError
from convcast.notation import HOUR
from convcast.variables import T2M
from convcast.verification import evaluate
from convcast.verification.report.save import save

from .conftest import HOURS, INITS, MEMBERS, copied, write_forecast

NETWORK_FREE = ["persistence", "climatology", "advection"]


def verify(small, against=(), paths=None, **settings):
    under_way = evaluate(
        paths or small.paths,
        small.dataset,
        against=against,
        settings=small.settings(**settings),
        workspace=small.workspace,
    )
    scored = list(under_way)
    return under_way.result(), scored


@pytest.fixture
def small(few, tmp_path):
    return copied(few, tmp_path / "workspace")


@pytest.fixture(scope="module")
def verification(whole):
    return verify(whole, NETWORK_FREE)[0]


def test_crps_is_that_of_properscoring_over_all_cases(whole, verification):
    expected = []
    for path, init in zip(whole.paths, INITS, strict=True):
        forecasts = xr.open_zarr(path, consolidated=False)["t2m"].isel(init_time=0, lead_time=0).values
        truth = whole.dataset.read([init + HOUR])[0, 1]
        expected.append(properscoring.crps_ensemble(truth, forecasts, axis=0).mean())
    row = verification.find("t2m", "crps", "convcast", estimator="ensemble")
    assert row["value"] == pytest.approx(np.mean(expected), rel=1e-6)


def test_every_score_says_of_what_it_is(verification):
    for row in verification.scores:
        assert {"field", "lead_hours", "score", "estimator", "system", "value", "low", "high", "n"} <= set(row)
        assert (row["lead_hours"], row["n"], row["days"]) == (1, 4, 2)
    assert set(verification.facts.systems) == {row["system"] for row in verification.scores}


def test_a_calibrated_ensemble_beats_persistence_and_the_paired_interval_says_so(verification):
    assert verification.verdict("t2m", 1, "persistence") == "better"
    assert verification.find("t2m", "crpss", "convcast")["value"] > 0.2
    assert verification.find("t2m", "spread_error_ratio", "convcast")["value"] == pytest.approx(1, abs=0.15)


def test_persistence_is_the_last_analysis(whole, verification):
    expected = np.mean([np.abs(np.subtract(*whole.dataset.read([init, init + HOUR])[:, 1])).mean() for init in INITS])
    assert verification.find("t2m", "crps", "persistence", estimator="fair")["value"] == pytest.approx(expected)


def test_properscoring_agrees_on_points_drawn_from_every_field(verification):
    assert verification.agreement.points > 50_000
    assert verification.agreement.largest < 1e-9


def test_events_that_never_happen_are_no_perfect_score(verification):
    row = verification.find("t2m", "brier", "convcast", threshold=T2M.thresholds[-1])
    expected = ("no events", None) if row["events"] == 0 else (None, row["value"])
    assert (row.get("note"), row["value"]) == expected


def test_finished_units_name_their_case(small):
    _, scored = verify(small)
    assert [unit.init for unit in scored] == list(INITS)
    assert set(scored[0].crps) == {v.name for v in small.dataset.variables}


def test_the_order_of_files_does_not_matter(small):
    expected, _ = verify(small, ["persistence"])
    found, _ = verify(small, ["persistence"], paths=small.paths[::-1])
    assert expected.scores == found.scores


@pytest.mark.usefixtures("unpainted")
def test_other_programs_can_read_the_results(verification, tmp_path):
    paths = save(verification, tmp_path)
    assert all(path.exists() for path in paths)
    said = json.loads((tmp_path / "scores.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert said["scores"] == verification.scores
    by_case = xr.open_zarr(tmp_path / "scores.zarr", consolidated=False)
    expected = verification.find("cape", "crps", "advection", estimator="fair")["value"]
    assert float(by_case["crps"].sel(system="advection", field="cape").mean()) == pytest.approx(expected)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))
    assert {
        *("case", "members", "reliability", "ranks", "spread-error", "relative"),
        *("discrimination", "scales", "regimes", "spectra"),
    } == {path.stem for path in tmp_path.glob("*.png")}


def test_forecasts_from_the_training_period_are_left_out_and_counted(small):
    early = np.datetime64("2024-05-02T12", "h")
    write_forecast(small.workspace.forecast(early), early, MEMBERS)
    found, _ = verify(small, paths=[small.workspace.forecast(early), *small.paths])
    assert found.facts.left_out == {"initial time within the model's training period": 1}
    assert found.facts.cases == 4


def test_only_forecasts_from_the_training_period_are_refused(small):
    early = np.datetime64("2024-05-02T12", "h")
    path = write_forecast(small.workspace.forecast(early), early, MEMBERS)
    with pytest.raises(MissingInputError, match="within their model's training period"):
        verify(small, paths=[path])


def test_members_that_are_not_complete_are_not_scored(small):
    with_hole = xr.open_zarr(small.paths[0], consolidated=False).load()
    with_hole["complete"][0, 2] = 0
    with_hole.to_zarr(small.paths[0], mode="w", zarr_format=3, consolidated=False)
    found, _ = verify(small)
    assert found.facts.left_out == {f"fewer than {MEMBERS} members complete": 1}
    assert found.facts.cases == 3


def test_one_member_is_refused(small):
    path = write_forecast(small.paths[0], INITS[0], 1)
    with pytest.raises(SettingsError, match="has 1 complete members"):
        verify(small, paths=[path])


def test_a_forecast_whose_hour_has_not_come_is_not_published_yet(small):
    last = HOURS[-1]
    path = write_forecast(small.workspace.forecast(last), last, MEMBERS)
    with pytest.raises(NotPublishedError, match="2024-05-05T00"):
        verify(small, paths=[path])
    found, _ = verify(small, paths=[path, *small.paths])
    assert found.facts.left_out == {"valid time not analysed yet": 1}


def test_simulated_and_real_weather_are_not_mixed(small):
    path = write_forecast(small.paths[0], INITS[0], MEMBERS, simulated=False)
    with pytest.raises(SettingsError, match="forecasts real weather and the truth holds simulated weather"):
        verify(small, paths=[path])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda data: data.assign_coords(x=data["x"] + 3000), "another grid"),
        (lambda data: data.isel(y=slice(1, None)), "another grid"),
        (lambda data: data.drop_vars("refc"), "does not hold refc"),
        (lambda data: data.isel(number=0), "no dimension number"),
        (lambda data: data.assign(t2m=data["t2m"].assign_attrs(units="m")), "t2m in m, not in K"),
    ],
)
def test_ensembles_of_something_else_are_named(small, spoil, expected):
    data = spoil(xr.open_zarr(small.paths[0], consolidated=False).load())
    data.to_zarr(small.paths[0], mode="w", zarr_format=3, consolidated=False)
    with pytest.raises(DamagedFileError, match=expected):
        verify(small, paths=small.paths[:1])


def test_a_file_that_is_no_zarr_is_named(small, tmp_path):
    (tmp_path / "junk.zarr").mkdir()
    with pytest.raises(DamagedFileError, match=r"junk\.zarr"):
        verify(small, paths=[tmp_path / "junk.zarr"])


def verify_with(small, **changes):
    under_way = evaluate(
        small.paths,
        small.dataset,
        against=["persistence"],
        settings=small.settings(**changes),
        workspace=small.workspace,
    )
    list(under_way)
    return under_way.result()


def test_every_system_is_scored_by_events_scales_regimes_and_spectra(small):
    found = verify_with(small, neighbourhoods=(9, 27))
    for system in ("convcast", "persistence"):
        assert {row["scale_km"] for row in found.scores if row["score"] == "fss" and row["system"] == system} == {9, 27}
        for score in ("brier_skill", "brier_resolution", "roc_area", "csi", "frequency_bias"):
            assert found.find("refc", score, system, threshold=20.0) is not None, score
        assert found.find("refc", "nmep_brier", system, threshold=30.0)["scale_km"] == 39
        assert found.find("t2m", "energy_score", system, estimator="fair")["value"] > 0
        assert found.find("t2m", "log_spectral_distance", system)["units"] == "dB"
    regimes = [row for row in found.scores if row.get("regime") and row["score"] == "crps" and row["field"] == "t2m"]
    points = sum(row["points"] for row in regimes if row["system"] == "convcast")
    assert points == found.find("t2m", "crps", "convcast")["points"]
    assert "regime" not in found.find("t2m", "crps", "convcast")  # the whole comes before its parts
    np.testing.assert_allclose(
        found.find("t2m", "energy_score", "persistence", estimator="fair")["value"],
        found.find("t2m", "rmse", "persistence")["value"],
        rtol=0.1,  # the mean of roots, not the root of the mean
    )


def test_the_simulated_world_has_no_rim(small):
    assert verify_with(small, rim=5).find("t2m", "crps", "convcast")["points"] == 4 * 32 * 32


def test_the_rim_of_a_real_domain_is_left_out_for_all(small, monkeypatch):
    from convcast.grid import Grid

    place = small.dataset.grid
    edged = Grid(place.ny, place.nx, place.y0, place.x0)
    monkeypatch.setattr(type(small.dataset), "grid", property(lambda self: edged))
    found = verify_with(small, rim=5)
    for system in ("convcast", "persistence"):
        assert found.find("t2m", "crps", system)["points"] == 4 * 22 * 22
    with pytest.raises(SettingsError, match="no point is left"):
        verify_with(small, rim=16)


def test_a_forecast_that_lost_values_is_named_and_the_others_are_scored(small):
    lost = small.paths[1] / "t2m" / "c" / "0" / "0" / "0" / "0" / "0"
    assert lost.is_file()
    lost.unlink()

    under_way = evaluate(small.paths, small.dataset, against=(), settings=small.settings(), workspace=small.workspace)
    scored = list(under_way)

    assert [str(one.init) for one in scored] == [str(init) for init in (INITS[0], *INITS[2:])]
    lost = f"{small.paths[1]} has lost values of member 0-7 at lead 1 h, which it marks as complete"
    assert [str(error) for error in under_way.damaged] == [f"{lost}: t2m/c/0/0/0/0/0 is gone"]
    assert "a file is damaged" in under_way.result().facts.left_out


def test_a_damaged_forecast_alone_is_an_error(small):
    (small.paths[1] / "t2m" / "c" / "0" / "0" / "0" / "0" / "0").unlink()
    with pytest.raises(DamagedFileError, match="lost values of member 0-7"):
        verify(small, paths=[small.paths[1]])
