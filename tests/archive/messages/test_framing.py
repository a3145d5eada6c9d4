from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest

from convcast import grib
from convcast.archive.failures import Bad, Incomplete
from convcast.archive.messages import framing
from convcast.archive.messages.index import Span
from convcast.archive.messages.spec import fields
from convcast.grid import Grid
from convcast.variables import CAPE, FIELDS, LAND, T2M, GribKey

INIT = np.datetime64("2024-05-06T21", "h")
WANTED = {wanted.name: wanted for wanted in fields((T2M, LAND, CAPE))}


def message(variable=T2M, *, key=None, lead=0, init=INIT, simulated=False) -> bytes:
    values = np.full((8, 9), 290.0) + np.arange(9)
    return grib.encode(
        values, key=key or variable.grib, grid=Grid(8, 9, 300, 700), init=init, lead_hours=lead, simulated=simulated
    )


@pytest.fixture
def file(tmp_path):
    def file(data: bytes):
        path = tmp_path / "file.grib2"
        path.write_bytes(data)
        return open(path, "rb")

    return file


def test_submessages_are_counted(shared_data):
    with open(shared_data / "hrrr/nam211_submessages_20180917t00z_f00.grib2", "rb") as opened:
        assert {frame.fields for frame in framing.walk(opened)} == {1, 2}


def test_junk_between_messages_is_refused(shared_data):
    path = shared_data / "hrrr/two_apcp_windows_20201214t00z_f12_conus.grib2"
    with open(path, "rb") as opened, pytest.raises(Bad, match="no GRIB message"):
        list(framing.walk(opened))


def test_simulated_messages_read_as_such(file):
    with file(message(simulated=True)) as opened:
        assert [frame.simulated for frame in framing.walk(opened)] == [True]


def test_check_passes_what_was_asked_for(file):
    first, second = message(T2M), message(LAND)
    spans = (Span(WANTED["t2m"], 0, len(first)), Span(WANTED["lsm"], 500, 500 + len(second)))
    with file(first + second) as opened:
        assert framing.check(opened, spans, init=INIT, lead=0) is False


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(CAPE), "another field or lead"),
        (message(T2M, lead=1), "another field or lead"),
        (message(T2M, key=GribKey(0, 0, 0, 1, 0)), "another field or lead"),
        (message(T2M, key=GribKey(0, 0, 0, 103, 80)), "another field or lead"),
        (message(T2M, init=INIT + 1), "cycle of 2024-05-06T22"),
        (message(T2M) * 2, "2 messages"),
        (b"", "0 messages"),
    ],
)
def test_check_refuses_anything_else(file, data, reason):
    with file(data) as opened, pytest.raises(Bad, match=reason):
        framing.check(opened, (Span(WANTED["t2m"], 0, len(message())),), init=INIT, lead=0)


def test_check_refuses_a_mixture_of_simulated_and_real(file):
    real, simulated = message(T2M), message(CAPE, simulated=True)
    spans = (Span(WANTED["t2m"], 0, len(real)), Span(WANTED["cape"], 900, 900 + len(simulated)))
    with file(real + simulated) as opened, pytest.raises(Bad, match="simulated and real"):
        framing.check(opened, spans, init=INIT, lead=0)


def test_message_cut_short_is_incomplete(file):
    with file(message()[:-1]) as opened, pytest.raises(Incomplete, match="cut short"):
        list(framing.walk(opened))


@pytest.mark.parametrize("seed", range(5))
def test_no_damage_escapes_as_another_error(file, seed):
    """Any octets changed: the messages are read, or refused as Bad, and nothing else happens."""
    generator = np.random.default_rng(seed)
    sound = message()
    for _ in range(100):
        damaged = np.frombuffer(sound, np.uint8).copy()
        damaged[generator.integers(0, len(damaged), 6)] = generator.integers(0, 256, 6)
        with file(damaged.tobytes()) as opened, suppress(Bad):
            assert len(list(framing.walk(opened))) == 1


def test_length_of_something_else_is_refused():
    with pytest.raises(Bad):
        framing.message_length(io.BytesIO(b"<html><body>sorry").read(16))


def test_all_fields_of_the_table_are_found_again(file):
    with file(b"".join(message(v) for v in FIELDS.values())) as opened:
        frames = list(framing.walk(opened))
    assert [frame.matches(one, 0) for frame, one in zip(frames, fields(list(FIELDS.values())), strict=True)] == [
        True
    ] * 7
