from __future__ import annotations

import numpy as np
import pytest

from convcast.archive import Archive, Forcing, HrrrForecast, analyses
from convcast.archive.forcing import longest_lead
from convcast.errors import SettingsError
from convcast.notation import HOUR
from convcast.settings.load import load_settings
from convcast.variables import select

NOON = np.datetime64("2024-05-06T12", "h")


def forced(**model):
    return load_settings(flags={"model": {"forcing": "hrrr"} | model}, preset="phase1")


def test_settings_say_whether_there_is_forcing():
    assert Forcing.of(load_settings(preset="phase1").model, 0) is None
    assert Forcing.of(forced().model, 0) == Forcing((1,), (0, 1))
    assert Forcing.of(load_settings(preset="phase2").model, 1) == Forcing((1, 3, 6, 12), (0, 1), analysis_lead=1)


def test_forecasts_are_valid_at_the_target_time_whatever_their_age():
    forcing = Forcing((1, 3), (0, 2), analysis_lead=1)
    for lead in (1, 3):
        for age in (0, 2):
            forecast = forcing.forecast(NOON, lead, age)
            assert forecast == HrrrForecast(NOON - (1 + age) * HOUR, lead + 1 + age)
            assert forecast.cycle + forecast.lead * HOUR == NOON + lead * HOUR
    assert forcing.hrrr_leads == (2, 4, 6)


@pytest.mark.parametrize(("hour", "longest"), [(0, 48), (6, 48), (12, 48), (18, 48), (1, 18), (11, 18), (23, 18)])
def test_hrrr_ends_at_18_hours_except_four_times_a_day(hour, longest):
    assert longest_lead(np.datetime64("2024-05-06T00", "h") + hour) == longest


def test_a_lead_beyond_the_end_of_a_cycle_is_not_asked_for():
    forcing = Forcing((18,), (0, 1))
    assert forcing.forecast(NOON - 3 * HOUR, 18, 0) == HrrrForecast(NOON - 3 * HOUR, 18)
    assert forcing.forecast(NOON - 3 * HOUR, 18, 1) is None, "19 h from 08 UTC"
    assert forcing.forecast(NOON + HOUR, 18, 1) == HrrrForecast(NOON, 19)
    assert forcing.needed([NOON - 3 * HOUR]) == (HrrrForecast(NOON - 3 * HOUR, 18),)
    assert Forcing((48,), (0, 1)).possible_ages(48) == (0,)


def test_leads_that_no_cycle_has_are_refused():
    with pytest.raises(SettingsError, match="a lead of 48 h needs an HRRR forecast of 49 h"):
        forced(leads=[1, 48], forcing_ages=[2, 1])
    assert forced(leads=[48], forcing_ages=[1, 0]).model.forcing_ages == (0, 1)
    with pytest.raises(SettingsError, match="give each once"):
        forced(forcing_ages=[1, 1])


def test_requests_hold_each_file_once_and_a_shared_one_with_all_fields(tmp_path):
    variables, hours = select(("t2m", "d2m")), [NOON, NOON + HOUR]
    archive = Archive(tmp_path)
    requests = analyses(archive, hours, variables, 0, "previous_f01", Forcing((1,), (0, 1)))
    names = [request.name.split("/")[-1] for request in requests]
    assert len(set(names)) == len(names)
    by_name = {request.name: [spec.name for spec in request.specs] for request in requests}
    shared = "hrrr.20240506/conus/hrrr.t12z.wrfsfcf01.grib2"
    assert by_name[shared] == ["t2m", "d2m"], "it holds the dewpoint of 13 UTC, and forces the forecast from 12 UTC"
    assert by_name["hrrr.20240506/conus/hrrr.t11z.wrfsfcf01.grib2"] == ["d2m"]
    assert {name[-14:] for name in names} >= {"wrfsfcf02.grib2"[-14:]}
