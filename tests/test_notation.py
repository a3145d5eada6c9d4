"""Times, ranges, members and leads as people type them."""

import numpy as np
import pytest

from convcast.errors import SettingsError
from convcast.notation import (
    compact,
    describe,
    from_compact,
    parse_duration,
    parse_hour,
    parse_hours,
    parse_leads,
    parse_members,
    parse_time,
)


@pytest.mark.parametrize("text", ["2024-05-06T21", "2024-05-06T21:00", "2024-05-06T21:00:00Z", " 2024-05-06T21 "])
def test_an_hour_is_read_from_iso_text(text):
    assert parse_hour(text) == np.datetime64("2024-05-06T21", "h")


@pytest.mark.parametrize("text", ["", "yesterday", "2024-05-06T21:30", "2024-13-01", "NaT", "latest"])
def test_what_is_not_a_whole_hour_is_refused(text):
    with pytest.raises(SettingsError, match="not a whole hour"):
        parse_hour(text)


def test_a_range_includes_both_ends():
    hours = parse_hours("2024-05-06T00/2024-05-06T12/6h")

    assert [str(h) for h in hours] == ["2024-05-06T00", "2024-05-06T06", "2024-05-06T12"]


@pytest.mark.parametrize("text", ["2024-05-07/2024-05-06", "2024-05-06/2024-05-07/0h", "a/b", "2024-05-06/x/1h/2"])
def test_an_impossible_range_is_refused(text):
    with pytest.raises(SettingsError):
        parse_hours(text)


def test_fifty_members_are_members_0_to_49():
    assert parse_members("50") == parse_members("0-49") == tuple(range(50))


def test_members_are_sorted_and_unique():
    assert parse_members("17,3,3,5-6") == (3, 5, 6, 17)


@pytest.mark.parametrize("text", ["0", "-1", "5-3", "a", "1,,2", "1.5"])
def test_no_members_or_nonsense_is_refused(text):
    with pytest.raises(SettingsError):
        parse_members(text)


def test_a_lead_of_no_hours_is_refused():
    assert parse_leads("1,3,6,12") == (1, 3, 6, 12)
    with pytest.raises(SettingsError, match="analysis itself"):
        parse_leads("0,1")


def test_file_names_round_trip():
    hour = np.datetime64("2024-05-06T21", "h")

    assert compact(hour) == "20240506T21"
    assert from_compact("20240506T21") == hour
    assert from_compact("notes") is None
    assert from_compact("20241306T21") is None


def test_hours_are_described_for_people():
    hours = parse_hours("2024-05-06T00/2024-05-06T02")

    assert describe(hours) == "2024-05-06T00 to 2024-05-06T02 (3 hours)"
    assert describe(hours[:1]) == "2024-05-06T00 (1 hour)"
    assert describe([]) == "no hours"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("50m", 3000), ("2h", 7200), ("1.5 h", 5400), ("7d", 604800), ("50", 3000)]
)
def test_lengths_of_time(text, seconds):
    assert parse_duration(text, "m") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1h", "1w", "h"])
def test_what_is_no_length_of_time(text):
    with pytest.raises(SettingsError, match="not a length of time"):
        parse_duration(text, "m")


def test_times_to_the_second():
    assert str(parse_time("2024-05-06T21:05Z")) == "2024-05-06T21:05:00"
    for text in ("", "NaT", "yesterday"):
        with pytest.raises(SettingsError, match="not a time"):
            parse_time(text)
