"""Forecasts between hours are named and left out, and nothing is counted twice."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.settings import VerificationSettings
from convcast.verification.data.truth import open_truth

from .conftest import INITS
from .test_foreign import crps, observed, ours, score, write  # noqa: F401

HALF = np.timedelta64(30, "m")


@pytest.fixture
def truth(observed, tmp_path):  # noqa: F811
    return write(observed[["refc", "t2m"]].copy(), tmp_path / "t.zarr")


@pytest.fixture
def first(ours):  # noqa: F811
    return ours.isel(init_time=[0])


def at(data, times):
    return data.drop_vars("valid_time").assign_coords(init_time=np.array(times, "datetime64[ns]"))


def ahead(data, hours):
    """The forecast, said to be for these hours ahead; the values are those of the first lead."""
    leads = (np.array(hours, float) * 3600).astype("timedelta64[s]").astype("timedelta64[ns]")
    return data.drop_vars("valid_time").isel(lead_time=[0] * len(hours)).assign_coords(lead_time=leads)


def joined(*parts):
    return xr.concat(parts, "init_time", data_vars="minimal", coords="minimal", compat="override", join="outer")


def test_a_start_between_hours_is_left_out_and_named(ours, first, truth, tmp_path):  # noqa: F811
    odd = at(first, [INITS[0] + HALF])
    both = joined(odd, ours.drop_vars("valid_time"))
    found = score([write(both, tmp_path / "both.zarr")], truth)
    alone = score([write(ours.copy(), tmp_path / "alone.zarr")], truth)
    assert found.facts.left_out == {"initial time between hours (2024-05-03T06:30)": 1}
    assert found.scores == alone.scores


def test_the_same_in_files_of_their_own(ours, first, truth, tmp_path):  # noqa: F811
    odd = write(at(first, [INITS[0] - HALF]), tmp_path / "odd.zarr")
    sound = write(ours.copy(), tmp_path / "sound.zarr")
    expected = score([sound], truth).scores
    for paths in ([odd, sound], [sound, odd]):
        found = score(paths, truth)
        assert found.facts.left_out == {"initial time between hours (2024-05-03T05:30)": 1}
        assert found.scores == expected


def test_only_starts_between_hours_are_refused_by_name(first, truth, tmp_path):
    path = write(at(first, [INITS[0] + HALF]), tmp_path / "e.zarr")
    with pytest.raises(MissingInputError, match=r"initial time between hours \(2024-05-03T06:30\)"):
        score([path], truth)


def test_many_are_counted_and_the_first_are_named(first, truth, tmp_path):
    odd = [at(first, [INITS[0] + HALF + np.timedelta64(n, "m")]) for n in range(5)]
    found = score([write(joined(first.drop_vars("valid_time"), *odd), tmp_path / "e.zarr")], truth)
    ((reason, count),) = found.facts.left_out.items()
    assert count == 5
    assert reason.endswith("(2024-05-03T06:30, 2024-05-03T06:31, 2024-05-03T06:32 and 2 more)")


def test_leads_that_cannot_be_scored_are_named(first, truth, tmp_path):
    found = score([write(ahead(first, [-1, 0, 0.5, 1, 1.75]), tmp_path / "e.zarr")], truth)
    assert found.facts.left_out == {"lead between hours (0.5 h, 1.75 h)": 2, "lead of 0 h or less (-1 h, 0 h)": 2}
    assert (found.facts.leads, found.facts.cases) == ((1,), 1)


def test_no_lead_of_whole_hours_is_refused_by_name(first, truth, tmp_path):
    with pytest.raises(MissingInputError, match=r"lead between hours \(0\.5 h\)"):
        score([write(ahead(first, [0.5]), tmp_path / "e.zarr")], truth)


def test_times_that_were_rounded_are_their_hours(ours, truth, tmp_path):  # noqa: F811
    """Times as in files that count days in floating point."""
    late, early = np.timedelta64(300, "ms"), np.timedelta64(-300, "ms")
    rounded = at(ours, ours["init_time"].values + np.array([late, early, early, late]))
    found = score([write(rounded, tmp_path / "e.zarr")], truth)
    assert found.facts.left_out == {}
    assert found.facts.inits == tuple(str(init) for init in INITS)
    assert found.scores == score([write(ours.copy(), tmp_path / "exact.zarr")], truth).scores


def test_the_order_of_times_and_leads_does_not_matter(ours, truth, tmp_path):  # noqa: F811
    two = ahead(ours, [1, 2])
    expected = score([write(two, tmp_path / "e.zarr")], truth)
    turned = two.isel(init_time=[2, 0, 3, 1], lead_time=[1, 0], number=slice(None, None, -1))
    found = score([write(turned, tmp_path / "turned.zarr")], truth)
    assert crps(found) == pytest.approx(crps(expected))
    assert [row["n"] for row in found.scores] == [row["n"] for row in expected.scores]


@pytest.mark.parametrize(
    ("twice", "said"),
    [
        (lambda data: data.isel(init_time=[0, 1, 0]), "the initial time 2024-05-03T06 twice"),
        (lambda data: ahead(data, [1, 2, 1]), "the lead 1 h twice"),
        (lambda data: data.isel(number=[0, 1, 2, 1]), "member 1 twice"),
    ],
    ids=["init", "lead", "member"],
)
def test_repeated_coordinates_of_a_file_are_refused_by_name(ours, truth, tmp_path, twice, said):  # noqa: F811
    path = write(twice(ours), tmp_path / "e.zarr")
    with pytest.raises(DamagedFileError, match=said) as caught:
        score([path], truth)
    assert "drop_duplicates" in caught.value.advice


def test_a_file_given_twice_is_refused(ours, truth, tmp_path):  # noqa: F811
    path = write(ours.copy(), tmp_path / "e.zarr")
    (tmp_path / "link.zarr").symlink_to(path)
    for other in (path, tmp_path / "." / "e.zarr", tmp_path / "link.zarr"):
        with pytest.raises(SettingsError, match="is given twice"):
            score([path, other], truth)


def test_one_start_in_two_files_is_refused_and_another_lead_is_not(first, truth, tmp_path):
    one, other = write(first.copy(), tmp_path / "a.zarr"), write(first + 0.0, tmp_path / "b.zarr")
    with pytest.raises(SettingsError, match=r"a\.zarr and .*b\.zarr both hold the forecast of 2024-05-03T06 for 1 h"):
        score([one, other], truth)
    later = write(ahead(first, [2]), tmp_path / "c.zarr")
    assert score([one, later], truth).facts.leads == (1, 2)


def test_an_hour_of_truth_twice_is_refused_by_name(observed, tmp_path):  # noqa: F811
    path = write(observed.isel(time=[0, 1, 2, 1]), tmp_path / "t.zarr")
    with pytest.raises(DamagedFileError, match="the hour 2024-05-03T01 twice"):
        open_truth(path)


def test_truth_between_hours_is_not_taken_for_that_of_an_hour(ours, observed, truth, tmp_path):  # noqa: F811
    observed = observed[["refc", "t2m"]]  # as in the truth
    false = observed.copy(deep=True)
    for name in false.data_vars:
        false[name] += 1
    halves = false.assign_coords(time=false["time"] + HALF)
    mixed = write(
        xr.concat([halves, observed], "time", data_vars="minimal", coords="minimal", compat="override"),
        tmp_path / "m.zarr",
    )
    ensemble = write(ours.copy(), tmp_path / "e.zarr")
    assert score([ensemble], mixed).scores == score([ensemble], truth).scores
    with pytest.raises(MissingInputError, match="no whole hour"):
        score([ensemble], write(halves, tmp_path / "h.zarr"))


def test_times_that_are_no_dates_are_refused(ours, truth, tmp_path):  # noqa: F811
    numbers = ours.drop_vars(["valid_time", "init_time"]).assign_coords(init_time=[0, 1, 2, 3])
    with pytest.raises(DamagedFileError, match="times of type int64"):
        score([write(numbers, tmp_path / "e.zarr")], truth)


def test_an_age_given_twice_is_refused():
    with pytest.raises(ValueError, match="each once"):
        VerificationSettings(lagged_ages=(1, 2, 1))
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        VerificationSettings(lagged_ages=(-1, 2))
