"""Times, ranges, members and lead times are parsed in all accepted notations."""

import warnings
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from convcast.errors import SettingsError
from convcast.notation import (
    DAYS_AHEAD,
    EARLIEST,
    MAX_DURATION,
    MAX_LEAD,
    MAX_MEMBERS,
    compact,
    consecutive,
    describe,
    from_compact,
    join_numbers,
    parse_duration,
    parse_hour,
    parse_hours,
    parse_leads,
    parse_members,
    parse_numbers,
    parse_time,
)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-06T21",
        "2024-05-06T21:00",
        "2024-05-06T21:00:00Z",
        "2024-05-06T21:00:00.000000000",
        " 2024-05-06T21 ",
        "2024-05-06 21:00",
        "2024050621",
        "2024050621Z",
        "202405062100",
        "20240506T21",
        "2024-05-06T15:00-06:00",
        "2024-05-06T15-06",
        "2024-05-07T02:30+05:30",
    ],
)
def test_an_hour_is_read_from_iso_text(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hour = parse_hour(text)
    assert (hour, hour.dtype) == (np.datetime64("2024-05-06T21", "h"), np.dtype("datetime64[h]"))


def test_a_date_alone_is_its_first_hour():
    assert parse_hour("2024-05-06") == parse_hour("20240506") == np.datetime64("2024-05-06T00", "h")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "yesterday",
            "2024-05-06T21:30",
            "2024-13-01",
            "NaT",
            "latest",
            "2024",
            "2024-05",
            "2024-05-06T21:00:00.5",
        ),
        *(
            "2024-05-0621",
            "20240506215",
            "2024-05-06T24",
            "2024-05-06-06:00",
            "2024-05-06T21+99:00",
            "\u0662\u0660240506",
        ),
    ],
)
def test_times_between_hours_are_refused(text):
    with pytest.raises(SettingsError, match="not a whole hour"):
        parse_hour(text)


def test_a_range_includes_both_ends():
    hours = parse_hours("2024-05-06T00/2024-05-06T12/6h")

    assert [str(h) for h in hours] == ["2024-05-06T00", "2024-05-06T06", "2024-05-06T12"]


@pytest.mark.parametrize(
    "text", ["0001-01-01", "1970-01-01T00", "2013-12-31T23", "20240506180", "9999-12-31", "2099010100"]
)
def test_a_time_that_no_file_of_hrrr_has_is_refused(text):
    for parse in (parse_hour, parse_hours, parse_time):
        with pytest.raises(SettingsError, match="is not "):
            parse(text)


def test_times_reach_from_2014_to_some_days_ahead():
    today = np.datetime64("now").astype("datetime64[D]")
    parse_hours(f"2014-01-01/{today + DAYS_AHEAD}")
    with pytest.raises(SettingsError, match=f"is not between 2014-01-01 and {today.astype(str)[:4]}"):
        parse_hour(str(today + DAYS_AHEAD + 2))


@pytest.mark.parametrize(
    "text", ["2024-05-06/2024-05-07/" + "9" * 5000 + "h", "0001-01-01/9999-12-31", "2024-05-06/" * 9]
)
def test_an_absurd_range_is_refused_in_one_short_sentence(text):
    with pytest.raises(SettingsError) as caught:
        parse_hours(text)
    assert len(str(caught.value)) < 200


@given(
    st.one_of(
        st.text(max_size=30),
        st.from_regex(
            r"[0-9]{1,40}|[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]{0,16}([+-][0-9:]{1,6}|Z)?)?", fullmatch=True
        ),
        st.datetimes(timezones=st.none() | st.timezones()).map(lambda time: time.isoformat()),
    )
)
@settings(deadline=None)
def test_any_text_is_a_time_of_hrrr_or_is_refused(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for parse in (parse_hour, parse_time):
            with suppress(SettingsError):
                assert parse(text) >= EARLIEST
        for written in (f"{text}/{text}", f"2024-05-01/{text}", f"2024-05-01/2024-05-02/{text}h"):
            with suppress(SettingsError):
                assert len(parse_hours(written)) < 200_000


@given(
    st.datetimes(min_value=EARLIEST.item(), max_value=np.datetime64("2026-01-01", "s").item()),
    st.integers(-14 * 60, 14 * 60),
)
def test_an_offset_is_taken_off(moment, minutes):
    time = np.datetime64(moment.replace(microsecond=0), "s")
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    assert parse_time(f"{time + np.timedelta64(minutes, 'm')}{sign}{hours:02d}:{rest:02d}") == time


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


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_members, "99999999999"),
        (parse_members, "0-99999999999"),
        (parse_members, "1," * 3 + "9" * 5000),
        (parse_members, "9" * 5000),
        (parse_members, "\u00b2"),
        (parse_leads, "1-99999999999"),
        (parse_leads, f"{MAX_LEAD + 1}"),
        (lambda text: parse_duration(text, "d"), "9" * 400),
        (lambda text: parse_duration(text, "d"), "36525"),
    ],
)
def test_absurd_numbers_are_refused_in_one_short_sentence(parse, text):
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert len(str(caught.value)) < 200


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9,\-. ]{1,30}[smhd]?", fullmatch=True)))
@settings(deadline=None)
def test_any_text_is_members_leads_and_a_duration_or_is_refused(text):
    with suppress(SettingsError):
        assert max(parse_members(text)) < MAX_MEMBERS
    with suppress(SettingsError):
        assert max(parse_leads(text)) <= MAX_LEAD
    with suppress(SettingsError):
        assert 0 <= parse_duration(text, "h") <= MAX_DURATION


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
def test_a_text_that_is_no_duration_is_refused(text):
    with pytest.raises(SettingsError, match="not a length of time"):
        parse_duration(text, "m")


def test_times_to_the_second():
    assert str(parse_time("2024-05-06T21:05Z")) == "2024-05-06T21:05:00"
    for text in ("", "NaT", "yesterday"):
        with pytest.raises(SettingsError, match="not a time"):
            parse_time(text)


@pytest.mark.parametrize(
    ("numbers", "text"), [([3], "3"), ([1, 0, 2], "0-2"), ([3, 17, 0], "0,3,17"), ([0, 1, 5, 8, 9], "0-1,5,8-9")]
)
def test_numbers_are_written_as_they_are_read(numbers, text):
    assert join_numbers(numbers) == text
    assert parse_numbers(text, "members") == tuple(sorted(numbers))


def test_consecutive_hours_are_split_at_gaps_and_where_they_turn_back():
    hours = np.array(["2024-05-06T21", "2024-05-06T22", "2024-05-07T00", "2024-05-06T23"], "datetime64[h]")
    assert [run.tolist() for run in consecutive(hours)] == [hours[:2].tolist(), hours[2:3].tolist(), hours[3:].tolist()]
    assert consecutive(hours[:0]) == []
