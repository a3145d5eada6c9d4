from __future__ import annotations

import numpy as np
import pytest

from convcast.archive.locations import hrrr
from convcast.errors import MissingInputError
from convcast.notation import HOUR
from convcast.settings import VerificationSettings
from convcast.variables import CAPE, FIELDS, T2M
from convcast.verification import evaluate
from convcast.verification.baselines.choose import make_baselines
from convcast.verification.data.truth import Analyses

from ..conftest import copied
from ..published import INSIDE, WIDE, forecast, make_workspace, put, weather

INITS = [np.datetime64("2026-11-20T06", "h"), np.datetime64("2026-11-20T09", "h")]
AGES = (1, 3)


@pytest.fixture(scope="module")
def without_forecasts(tmp_path_factory):
    """The tests copy this workspace and leave it unchanged."""
    return make_workspace(tmp_path_factory.mktemp("hrrr"), INITS)


@pytest.fixture
def real(without_forecasts, tmp_path):
    return copied(without_forecasts, tmp_path)


def publish(real, init, lead, **options):
    file = hrrr(init, lead)
    values = {name: weather(v, WIDE, int(init.astype(int)) % 1000 + lead) for name, v in FIELDS.items()}
    return values, put(real.workspace, file, forecast(file, values, **options))


def run(real, against):
    settings = VerificationSettings(resamples=100, lagged_ages=AGES)
    under_way = evaluate(
        [real.workspace.forecast(init) for init in real.inits],
        real.dataset,
        against=against,
        settings=settings,
        workspace=real.workspace,
    )
    list(under_way)
    return under_way.result()


def test_latest_forecast_is_that_of_the_case_s_own_cycle(real):
    values = [publish(real, init, 1)[0] for init in INITS]
    found = run(real, ["hrrr"])
    errors = []
    for init, fields in zip(INITS, values, strict=True):
        truth = real.dataset.read([init + HOUR])[0, 1]
        errors.append(np.abs(fields["t2m"][INSIDE] - truth).mean())
    row = found.find("t2m", "crps", "hrrr", estimator="fair")
    assert (row["value"], row["members"]) == (pytest.approx(np.mean(errors), rel=1e-5), 1)


def test_time_lagged_members_are_older_forecasts_for_the_same_hour(real):
    init = INITS[0]
    values = [publish(real, init - age * HOUR, 1 + age)[0]["cape"][INSIDE] for age in AGES]
    (lagged,) = make_baselines(
        ["time-lagged"],
        Analyses(real.dataset),
        training=real.dataset.hours,
        cases=[(init, 1)],
        settings=VerificationSettings(lagged_ages=AGES),
        workspace=real.workspace,
    )
    np.testing.assert_array_equal(lagged.read(CAPE, init, 1), np.stack(values))


def test_cases_without_them_are_counted(real):
    for age in AGES:
        publish(real, INITS[1] - age * HOUR, 1 + age)
    publish(real, INITS[0] - AGES[0] * HOUR, 1 + AGES[0])
    found = run(real, ["time-lagged"])
    assert found.facts.left_out == {"no time-lagged for the case": 1}
    assert found.find("t2m", "crps", "time-lagged", estimator="fair")["n"] == 1


@pytest.mark.parametrize(("name", "leads"), [("hrrr", "1"), ("time-lagged", "2,4")])
def test_none_at_all_names_the_command_that_brings_them(real, name, leads):
    with pytest.raises(MissingInputError, match="the archive lacks the forecast of") as caught:
        run(real, [name])
    command = f"convcast fetch --what time-lagged --leads {leads} --start 2026-11-20T07 --end 2026-11-20T10"
    assert command in caught.value.advice


def test_a_file_of_another_hour_leaves_the_case_out_and_says_why(real):
    publish(real, INITS[0], 1)
    file = hrrr(INITS[1], 1)
    put(real.workspace, file, forecast(hrrr(INITS[1] - HOUR, 1), {n: weather(v, WIDE, 1) for n, v in FIELDS.items()}))
    (reason,) = run(real, ["hrrr"]).facts.left_out
    assert reason.startswith("hrrr cannot be read")
    assert "where the file's name says 2026-11-20T09 + 1 h" in reason


def test_where_f01_stands_for_the_analysis_the_forecast_is_of_the_cycle_before(real):
    truth = Analyses(real.dataset)
    truth.analysis_lead = 1
    values = publish(real, INITS[0] - HOUR, 2)[0]
    (latest,) = make_baselines(
        ["hrrr"],
        truth,
        training=real.dataset.hours,
        cases=[(INITS[0], 1)],
        settings=VerificationSettings(),
        workspace=real.workspace,
    )
    np.testing.assert_array_equal(latest.read(T2M, INITS[0], 1), values["t2m"][INSIDE][None])


def test_a_forecast_of_the_simulated_world_is_not_scored_against_real_weather(real):
    publish(real, INITS[0], 1)
    publish(real, INITS[1], 1, simulated=True)
    (reason,) = run(real, ["hrrr"]).facts.left_out
    assert "is of the simulated world, unlike the truth" in reason


def test_the_simulated_world_is_scored_against_its_own_forecasts(small):
    (latest,) = make_baselines(
        ["hrrr"],
        Analyses(small.dataset),
        training=small.dataset.hours,
        cases=[],
        settings=small.settings(),
        workspace=small.workspace,
    )
    init = small.dataset.hours[0]
    assert "the archive lacks the forecast" in latest.missing(init, 1)
    file, grid = hrrr(init, 1), small.dataset.grid
    values = {name: weather(v, grid, 7) for name, v in FIELDS.items()}
    put(small.workspace, file, forecast(file, values, grid=grid, simulated=True), simulated=True)
    assert latest.missing(init, 1) is None
    np.testing.assert_array_equal(latest.read(T2M, init, 1), values["t2m"][None])
